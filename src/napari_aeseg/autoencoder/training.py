"""Training the autoencoder on the images, step by step, and saying how it goes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from napari_aeseg.autoencoder.device import is_out_of_memory, precision_used
from napari_aeseg.autoencoder.network import channels_last
from napari_aeseg.autoencoder.resume import check_images_to_resume, params_to_resume
from napari_aeseg.autoencoder.trainer import Trainer
from napari_aeseg.errors import DeviceError, InputError
from napari_aeseg.images.tiles import plan_tiles, read_tile
from napari_aeseg.images.windows import WindowSample
from napari_aeseg.params import TrainingParams
from napari_aeseg.progress import Pace, TrainingPreview, TrainingProgress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np

    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.autoencoder.device import Precision
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.autoencoder.network import Autoencoder
    from napari_aeseg.images.intensity import Image, IntensityRange
    from napari_aeseg.progress import StopFlag


# Rows and columns of a picture at most: a fraction of a second on a CPU.
_SIDE = 512
# The same of a volume, and how many slices are looked at for it.
_BLOCK = (16, 128, 128)


class Watcher:
    """Reconstructs the middle of an image with a network that learns.

    Parameters
    ----------
    image : Image
        The middle of its middle plane is looked at: 512 x 512 pixels at most. By a 3D network,
        128 x 128 of a few slices, without a margin, as it sees crops in training.
    architecture : Architecture
    """

    def __init__(self, image: Image, architecture: Architecture) -> None:
        self.image = image
        space = image.space_shape
        self.plane = tuple(n // 2 for n in space[:-2])
        # On the grid of the pooling windows, so that it is what a whole reconstruction has there.
        grid = architecture.total_stride
        seen = len(grid)
        self.stack = self.plane[: len(space) - seen]
        margin = architecture.receptive_radius(decoded=True) if seen == 2 else (0,) * seen
        # Two cells of the code hold the middle, wherever it lies in them.
        most = (_SIDE, _SIDE) if seen == 2 else tuple(map(max, _BLOCK, (2 * n for n in grid)))
        corner = tuple(
            max(n - m, 0) // 2 // g * g for n, m, g in zip(space[-seen:], most, grid, strict=True)
        )
        tile = plan_tiles(tuple(map(min, space[-seen:], most)), most, margin, grid)[0]
        start = tuple(a + c for a, c in zip(tile.start, corner, strict=True))
        self.tile = replace(tile, start=start)
        self.corner = corner[-2:]
        # Which of the slices looked at is shown.
        self.shown = tuple(p - c for p, c in zip(self.plane[-1:], corner[:-2], strict=False))
        self._read: np.ndarray | None = None  # of an image that is not loaded

    def picture(self, network: Autoencoder) -> TrainingPreview:
        """Return what the network makes of it now, in the units of the image."""
        device = next(network.parameters()).device
        pixels = self._pixels()
        with torch.inference_mode():
            x = torch.from_numpy(pixels).to(device)[None]
            made = network(channels_last(x))[0]
            kept = made[(slice(None), *self.tile.keep)].float().cpu().numpy()
        shown: Any = (slice(None), *self.shown)
        out = self.image.intensity.undo(kept[shown])
        if self.image.light is not None:
            inner = (slice(c, c + n) for c, n in zip(self.corner, out.shape[1:], strict=True))
            out *= self.image.light[self.plane][tuple(inner)]
        axes = self.image.axes.letters.replace("T", "").replace("Z", "")
        out = out.transpose(["CYX".index(a) for a in axes]) if "C" in axes else out[0]
        if axes == "XY":
            out = out.T
        return TrainingPreview(out, axes, self._offset())

    def _pixels(self) -> np.ndarray:
        """What is looked at."""
        if isinstance(self.image, WindowSample):
            if self._read is None:
                self._read = self.image.tile(self.stack, self.tile)
            return self._read
        # An index of slices and numbers is more than numpy's stubs can follow.
        stack: Any = (slice(None), *self.stack)
        return read_tile(self.image.pixels[stack], self.tile)

    def _offset(self) -> tuple[int, ...]:
        """Where the picture lies, one number for each axis but C."""
        letters = self.image.axes.letters
        stack = [a for a in "TZ" if a in letters]
        where = dict(zip([*stack, "Y", "X"], [*self.plane, *self.corner], strict=True))
        return tuple(where[a] for a in self.image.axes.space)


_SECONDS_BETWEEN_EVENTS = 0.1


def training_steps(
    images: Sequence[Image],
    params: TrainingParams | None,
    device: str = "auto",
    init: Model | None = None,
    stop: StopFlag | None = None,
    intensity: IntensityRange | None = None,
    *,
    resume: bool = False,
    snapshot_seconds: float | None = None,
    preview_seconds: float | None = None,
    precision: Precision = "float32",
    voxel_size: Sequence[float] | None = None,
) -> Generator[TrainingProgress, None, Model]:
    """Train an autoencoder; a generator of events that returns the model.

    Each step draws random crops from random images (an image is drawn as often as its size says),
    flips and turns them, adds noise, and takes one AdamW step on the mean squared difference
    between the reconstruction and the clean crop. The learning rate warms up over the first tenth
    and then follows a cosine to zero.

    Parameters
    ----------
    images : sequence of Image
        With equal numbers of channels.
    params : TrainingParams or None
        None for the defaults or, with `resume`, for those of `init`.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    init : Model, optional
        Weights to start from; its architecture is kept.
    stop : StopFlag, optional
        Checked at every step; the model so far is returned, and can be resumed.
    intensity : IntensityRange, optional
        Stored in the model: the range by which every later image is to be scaled.
    resume : bool
        Whether to go on with the unfinished training of `init`, on the same images; on the CPU, the
        result is that of a training that was never stopped, bit for bit.
    snapshot_seconds, preview_seconds : float, optional
        How often an event carries a `snapshot` of the model, or a `picture` of what it makes of
        the middle of the first image. Never, by default.
    precision : {"float32", "bfloat16"}
        Of activations; weights are float32 in any case.
    voxel_size : sequence of float, optional
        Length of a voxel along each axis of space (see `z_ratio`); only ratios matter. With
        `resume`, that of the training is taken up.

    Yields
    ------
    TrainingProgress
        At most ten a second, and one for the last step.

    Returns
    -------
    Model
        On the CPU. What looks wrong with the training is said in the last event's message and in
        the notes of the record. If the loss ceases to be a number, the weights are those of the
        best steps before.

    Raises
    ------
    InputError
        If all images are constant, their channels differ, or they differ from those of `init`;
        if the loss is no longer a number before there is anything to keep; or if there is nothing
        to resume, or with other params or images.
    StoppedError
        If asked to stop before the first step.
    DeviceError
        If the device is not there, does not compute in the precision, or if there was no memory
        for a single step. When memory runs out, batches are halved, then the CPU takes over; when
        that has none either, the model so far is returned, and can be resumed.

    References
    ----------
    .. [1] P. Vincent et al., Extracting and composing robust features with denoising autoencoders,
           ICML 2008.
    .. [2] I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    if resume:
        params = params_to_resume(init, params)
        assert init is not None  # noqa: S101 - has been checked
        check_images_to_resume(
            init.record, [(i.name, i.axes.shape, i.axes.letters) for i in images]
        )
    trainer = Trainer(
        images, params or TrainingParams(), device, init, intensity, resume, precision, voxel_size
    )
    reporter = _Reporter(trainer, snapshot_seconds, preview_seconds)
    if trainer.done == 0:
        raise_if_stopped(stop, "train")
    while not trainer.ended:
        if stop is not None and stop.is_set():
            trainer.notes.append(f"Stopped after {trainer.done} of {trainer.params.steps} steps.")
            break
        try:
            message = trainer.step()
        except (DeviceError, RuntimeError, MemoryError) as error:
            short = isinstance(error, DeviceError) or is_out_of_memory(error)
            if not short or trainer.done == 0:
                raise
            note = f"{error} The model is that of step {trainer.done}."
            trainer.notes.append(note)
            yield reporter.event(note)
            break
        if reporter.is_due or trainer.ended or message:
            yield reporter.event(message)
    return trainer.result()


class _Reporter:
    """Says how a training goes: at most ten events a second, some with a snapshot or a picture."""

    def __init__(
        self, trainer: Trainer, snapshot_seconds: float | None, preview_seconds: float | None
    ) -> None:
        self._trainer = trainer
        self._pace = Pace(trainer.params.steps, trainer.done)
        self._snapshots = _Timer(snapshot_seconds)
        self._pictures = _Timer(preview_seconds)
        self._watcher = Watcher(trainer.images[0], trainer.network.architecture)
        self._last = time.perf_counter()
        self._reported = trainer.done

    @property
    def is_due(self) -> bool:
        """Whether it is time for an event."""
        return time.perf_counter() - self._last > _SECONDS_BETWEEN_EVENTS

    def event(self, message: str) -> TrainingProgress:
        """Return the news since the last event."""
        trainer = self._trainer
        self._last = time.perf_counter()
        self._pace.mark(trainer.done)
        speed = self._pace.per_second
        picture = None
        if self._pictures.is_due() or (trainer.ended and self._pictures.wanted):
            picture, trouble = self._picture()
            message = f"{message} {trouble}".strip()
        snapshot = None
        # The last model is what training returns.
        if self._snapshots.is_due() and not trainer.ended:
            snapshot, trouble = self._snapshot()
            message = f"{message} {trouble}".strip()
        event = TrainingProgress(
            "train",
            trainer.done,
            trainer.params.steps,
            str(trainer.device),
            self._pace.seconds_left,
            message,
            loss=trainer.losses[-1],
            losses=tuple(trainer.losses[self._reported :]),
            steps_per_second=speed,
            images_per_second=None if speed is None else speed * trainer.batch_size,
            precision=precision_used(trainer.precision, trainer.device),
            snapshot=snapshot,
            picture=picture,
        )
        self._reported = trainer.done
        return event

    def _snapshot(self) -> tuple[Model | None, str]:
        """Return a copy of the model, or why there is none: the next time there may be."""
        try:
            return self._trainer.snapshot(), ""
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None, "There is no memory for a copy of the model: going on without."

    def _picture(self) -> tuple[TrainingPreview | None, str]:
        """Return a picture, or why there will be none: training must not end for want of it."""
        try:
            return self._watcher.picture(self._trainer.network), ""
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            trouble = f"{self._trainer.device} has no memory for pictures: going on without."
        except InputError as error:  # of an image that is not loaded
            trouble = f"{error} Going on without pictures."
        self._pictures = _Timer(None)
        return None, trouble


class _Timer:
    """Says when so many seconds have gone by; None means never."""

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not seconds >= 0:
            raise InputError(f"Every {seconds} seconds: give a number of 0 or more, or None.")
        self._seconds = seconds
        self._last = time.perf_counter()

    @property
    def wanted(self) -> bool:
        return self._seconds is not None

    def is_due(self) -> bool:
        """Return whether the time has come, and begin anew if so."""
        now = time.perf_counter()
        if self._seconds is None or now - self._last < self._seconds:
            return False
        self._last = now
        return True
