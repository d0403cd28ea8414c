"""A trained autoencoder, and what it can do with an image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.architecture import Architecture  # noqa: TC001 - for examples
from napari_aeseg.autoencoder.device import choose_device, oom_as_device_error
from napari_aeseg.autoencoder.encoding import (
    NOT_FINITE,
    EncodedTile,
    Source,
    map_tiles,
    retry_on_oom,
    tiles_to_encode,
)
from napari_aeseg.autoencoder.model_file import ModelContents, read_model_file, write_model_file
from napari_aeseg.autoencoder.network import Autoencoder, move_to, with_channels
from napari_aeseg.autoencoder.resume import Checkpoint, TrainingRecord
from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import image_axes
from napari_aeseg.images.intensity import Image, IntensityRange, read_image
from napari_aeseg.progress import Clock, Progress, StopFlag, drain, raise_if_stopped

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.prototypes import Prototypes

    Place = tuple[Any, ...]


class Model:
    """A trained autoencoder, made by `napari_aeseg.train` or `napari_aeseg.load_model`.

    Parameters
    ----------
    network : Autoencoder
    intensity : IntensityRange or None
        Range by which every image is scaled; None when each is scaled by its own percentiles.
    record : TrainingRecord
    checkpoint : Checkpoint or None
        State of an unfinished training, with which it can be resumed.
    prototypes : Prototypes or None
        Classes that were found with this model, to find them again in other images. Saved with it.
    any_channels : bool
        Whether the model was made to be fitted to other numbers of channels; see `fitted`.
    """

    def __init__(
        self,
        network: Autoencoder,
        intensity: IntensityRange | None = None,
        record: TrainingRecord | None = None,
        checkpoint: Checkpoint | None = None,
        prototypes: Prototypes | None = None,
        any_channels: bool = False,
    ) -> None:
        self.network = move_to(network.eval(), next(network.parameters()).device)
        self.intensity = intensity
        self.record = record or TrainingRecord()
        self.checkpoint = checkpoint
        self.prototypes = prototypes
        self.any_channels = any_channels

    def __repr__(self) -> str:
        a = self.architecture
        return (
            f"Model({a.channels} channel(s), {a.levels} levels from {a.width} channels, "
            f"{a.decoder} decoder, {'3D, ' * (a.dimensions == 3)}"
            f"{self.record.steps} steps{', unfinished' * self.unfinished}"
            f"{', fits any number of channels' if self.any_channels else ''})"
        )

    @property
    def unfinished(self) -> bool:
        """Whether its training was stopped before the end and can be resumed."""
        return self.checkpoint is not None

    @property
    def architecture(self) -> Architecture:
        """How the network is built."""
        return self.network.architecture

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean squared reconstruction error of each training step."""
        return self.record.losses

    @property
    def fingerprint(self) -> str:
        """Short hash of architecture and weights: equal for equal models."""
        digest = hashlib.sha256(json.dumps(self.architecture.as_dict(), sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def has_fingerprint(self, fingerprint: str, channels: int) -> bool:
        """Return whether this model, for images of so many channels, has this fingerprint."""
        fitted = self.fitted(channels) if self.any_channels else self
        return fitted.fingerprint == fingerprint

    def fitted(self, channels: int) -> Model:
        """Return this model for images of so many channels.

        Returns
        -------
        Model
            The model itself when it has as many. Otherwise, for a model with `any_channels`, a copy
            whose inputs see the channels mixed: one channel goes to all inputs, of many each input
            sees the mean of a part. Level 0 still is the channels themselves.

        Raises
        ------
        InputError
            If the model has another number of channels and was not made for any number.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> aeseg.load_model("base").fitted(5).architecture.channels
        5
        """
        self._check_channels(channels, "The image")
        if channels == self.architecture.channels:
            return self
        network = with_channels(self.network, channels)
        return Model(network, self.intensity, self.record, None, self.prototypes, self.any_channels)

    def _check_channels(self, channels: int, name: str, reading: str = "") -> None:
        if channels != self.architecture.channels and not (self.any_channels and channels > 0):
            raise InputError(
                f"{name} has {channels} channel(s){reading}, but the model was trained on "
                f"{self.architecture.channels}. Choose other channels, name the axes if they were "
                "misread, or train a model on this image."
            )

    def check_space(self, axes: Axes, name: str = "The image") -> None:
        """Raise `InputError` if an image has no slices and this model sees volumes."""
        if self.architecture.dimensions == 3 and "Z" not in axes.letters:
            raise InputError(
                f"{name} has no slices, read as {axes}, but the model was trained on volumes "
                "in 3D. Name the axes if they were misread, or choose a model trained in 2D."
            )

    def read(self, image: Any, axes: str | Axes | None = None, name: str = "image") -> Image:
        """Check an image and scale it as the training images were.

        InputError if the image cannot be used, has other channels than the model (unless that fits
        any number), or no slices for a model of volumes.
        """
        reading = image_axes(image, axes, name)
        self.check_space(reading, name)
        self._check_channels(reading.channels, name, f", read as {reading}")
        return read_image(image, reading, self.intensity, name)

    def levels(self, levels: Sequence[int] | None) -> tuple[int, ...]:
        """Return the levels asked for, all of them for None; raise `InputError` for others."""
        available = tuple(range(self.architecture.levels + 1))
        if levels is None:
            return available
        levels = tuple(levels)
        wrong = [level for level in levels if level not in available]
        if wrong:
            raise InputError(f"Level(s) {wrong} are not in this model; it has levels {available}.")
        if not levels or len(set(levels)) < len(levels):
            raise InputError(
                f"levels = {list(levels)}: give distinct levels, at least one, out of {available}."
            )
        return levels

    def level_channels(self, source: Source = "encoder") -> tuple[int, ...]:
        """Return the number of features of each level, the image (0) first."""
        image, *encoder = self.architecture.level_channels
        return (image, *encoder) if source == "encoder" else (image, encoder[0], *encoder[:-1])

    def features(
        self,
        image: Any,
        levels: Sequence[int] | None = None,
        *,
        source: Source = "encoder",
        axes: str | None = None,
        device: str = "auto",
        progress: Callable[[Progress], object] | None = None,
    ) -> np.ndarray:
        """Return encoder features at image resolution.

        Parameters
        ----------
        image : array_like
            With the channels the model was trained on, or any for a model with `any_channels`.
        levels : sequence of int, optional
            1 is the finest level; 0 is the image itself, as scaled for the network. By default all
            levels from 1.
        source : {"encoder", "decoder"}
            Which half of the network; level 0 of the decoder is the reconstruction.
        axes : str, optional
            One letter per dimension, such as "CYX".
        device : str
            "auto", "cpu", "cuda", "cuda:1" or "mps". When it runs out of memory, tiles are halved,
            then the CPU takes over; a message of `progress` says so.
        progress : callable, optional
            Called with every `Progress` event.

        Returns
        -------
        ndarray of float32, shape (F, *space)
            The levels one after the other, coarse ones enlarged linearly.

        Raises
        ------
        InputError
            If the image or a level does not fit the model.
        DeviceError
            If the device is not there, or even the CPU runs out of memory.

        Examples
        --------
        >>> model = Model(Autoencoder(Architecture(channels=1, levels=2, width=4)))
        >>> model.features(np.eye(20), levels=[1], device="cpu").shape
        (4, 20, 20)
        """
        chosen = self.levels(range(1, self.architecture.levels + 1) if levels is None else levels)
        read = self.read(image, axes)
        fitted = self.fitted(len(read.pixels))
        return drain(feature_steps(fitted, read, chosen, source, device), progress)

    def reconstruct(
        self,
        image: Any,
        *,
        axes: str | None = None,
        device: str = "auto",
        progress: Callable[[Progress], object] | None = None,
    ) -> np.ndarray:
        """Return what the autoencoder makes of an image, in the units of the image.

        Intensities beyond the image's 0.5th and 99.5th percentile are compressed on the way in, so
        hot pixels do not come back. Parameters and errors are as of `features`.

        Returns
        -------
        ndarray of float32
            Same shape as `image`.

        Examples
        --------
        >>> model = Model(Autoencoder(Architecture(channels=1, levels=2, width=4)))
        >>> model.reconstruct(np.eye(20), device="cpu").shape
        (20, 20)
        """
        read = self.read(image, axes)
        fitted = self.fitted(len(read.pixels))
        scaled = drain(feature_steps(fitted, read, (0,), "decoder", device), progress)
        out = read.intensity.undo(scaled)
        if read.light is not None:
            out *= read.axes.to_image_order(read.light)
        letters = read.axes.letters
        return np.moveaxis(out, 0, letters.index("C")) if "C" in letters else out[0]

    def reconstruction_error(
        self,
        image: Any,
        axes: str | None = None,
        device: str = "auto",
        *,
        progress: Callable[[Progress], object] | None = None,
    ) -> np.ndarray:
        """Return how far the reconstruction is from the image: large where the image is unusual.

        Parameters and errors are as of `features`.

        Returns
        -------
        ndarray of float32, shape of the space axes
            Mean over channels of the squared difference, both scaled as for the network: the unit
            of the training loss.

        Examples
        --------
        >>> model = Model(Autoencoder(Architecture(channels=1, levels=2, width=4)))
        >>> model.reconstruction_error(np.eye(20), device="cpu").shape
        (20, 20)
        """
        read = self.read(image, axes)
        return drain(error_steps(self.fitted(len(read.pixels)), read, device), progress)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file, conventionally named ``*.aeseg.safetensors``.

        The write is atomic: an interruption leaves the old file or the new one. OSError if the
        folder is missing or cannot be written.
        """
        contents = ModelContents(
            self.network,
            self.intensity,
            self.record,
            self.checkpoint,
            self.prototypes,
            self.any_channels,
        )
        write_model_file(path, contents)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Model:
        """Read a model file; see `napari_aeseg.load_model`."""
        return cls(*read_model_file(path))


def error_steps(
    model: Model,
    image: Image,
    device: str = "auto",
    tile_size: int = 384,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, np.ndarray]:
    """Compare an image (from `model.read`) with its reconstruction; a generator of events.

    It returns the mean over channels of the squared difference, both scaled as for the network:
    float32, shape of the space axes in the order of the image.
    """

    def squared_difference(encoded: EncodedTile, place: Place) -> np.ndarray:
        rebuilt = encoded.features[0][(slice(None), *encoded.tile.keep)]
        pixels = torch.from_numpy(image.pixels[(slice(None), *place)]).to(rebuilt.device)
        error: np.ndarray = (rebuilt.float() - pixels).square().mean(dim=0).cpu().numpy()
        return error

    work = _assembled(
        squared_difference, model, image, (0,), "decoder", device, tile_size, stop, stage="error"
    )
    return image.axes.to_image_order((yield from work))


def feature_steps(
    model: Model,
    image: Image,
    levels: tuple[int, ...],
    source: Source = "encoder",
    device: str = "auto",
    tile_size: int = 384,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, np.ndarray]:
    """Encode an image at its own resolution; a generator of events that returns the features.

    They are float32 of shape (F, *space), space in the order of the image.
    """
    linear = "bilinear" if model.architecture.dimensions == 2 else "trilinear"

    def enlarged(encoded: EncodedTile, _: Place) -> np.ndarray:
        grown = [
            F.interpolate(f[None], size=encoded.tile.size, mode=linear)[0]
            for f in encoded.features.values()
        ]
        inner = torch.cat(grown)[(slice(None), *encoded.tile.keep)]
        features: np.ndarray = inner.float().cpu().numpy()
        if not np.isfinite(features).all():
            raise InputError(NOT_FINITE)
        return features

    channels = model.level_channels(source)
    shape = (sum(channels[level] for level in levels),)
    work = _assembled(enlarged, model, image, levels, source, device, tile_size, stop, shape)
    return image.axes.to_image_order((yield from work))


def _assembled(
    work: Callable[[EncodedTile, Place], np.ndarray],
    model: Model,
    image: Image,
    levels: tuple[int, ...],
    source: Source,
    device: str,
    tile_size: int,
    stop: StopFlag | None,
    shape: tuple[int, ...] = (),
    stage: str = "encode",
) -> Generator[Progress, None, np.ndarray]:
    """Put together the results of `work` on each tile, arrays of shape (*shape, *rows, columns)."""
    space = image.pixels.shape[1:]
    with oom_as_device_error(
        "so many values for every pixel", "Take fewer levels, or a part of the image."
    ):
        out = np.empty((*shape, *space), np.float32)

    def insert(encoded: EncodedTile) -> None:
        place: Place = (*encoded.plane, *encoded.tile.inner)
        out[(*[slice(None)] * len(shape), *place)] = work(encoded, place)

    def run(chosen: torch.device, tile_size: int) -> Generator[Progress, None, None]:
        decoded = source == "decoder"
        total = len(tiles_to_encode(model.architecture, space, tile_size, decoded=decoded))
        clock = Clock(total)
        tiles = map_tiles(model.network, insert, image.pixels, levels, source, chosen, tile_size)
        # Closed when stopped, so that no thread works on.
        with closing(tiles):
            for done, _ in enumerate(tiles, 1):
                yield Progress(stage, done, total, str(chosen), clock.seconds_left(done))
                raise_if_stopped(stop, stage)

    yield from retry_on_oom(run, choose_device(device), tile_size, stage)
    return out
