"""What the autoencoder sees, pixel by pixel: its features, and where its reconstruction fails."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.device import choose_device, memory_for
from napari_aeseg.autoencoder.fallback import in_memory
from napari_aeseg.autoencoder.model import NO_NUMBERS
from napari_aeseg.autoencoder.planning import places
from napari_aeseg.errors import InputError
from napari_aeseg.progress import Clock, Progress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_aeseg.autoencoder.encoding import EncodedTile, Source
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.images.intensity import Image
    from napari_aeseg.progress import StopFlag

    # An index of slices and numbers is more than numpy's stubs can follow.
    Place = tuple[Any, ...]


def error_steps(
    model: Model,
    image: Image,
    device: str = "auto",
    tile_size: int = 512,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, np.ndarray]:
    """Compare an image with its reconstruction; a generator of events that returns the error.

    Parameters
    ----------
    model : Model
    image : Image
        From `model.read`.
    device : str
        When it runs out of memory, as of `pooling_steps`.
    tile_size : int
        Pixels along each side; the result does not depend on it.
    stop : StopFlag, optional
        Checked at every tile.

    Yields
    ------
    Progress
        Of the stage "error".

    Returns
    -------
    ndarray of float32, shape of the space axes in the order of the image
        Mean over channels of the squared difference, both scaled as for the network.

    Raises
    ------
    StoppedError
        When asked to stop.
    DeviceError
        If the device is not there, or even the CPU runs out of memory.
    """

    def difference(encoded: EncodedTile, here: Place) -> np.ndarray:
        rebuilt = encoded.features[0][(slice(None), *encoded.tile.keep)]
        with torch.inference_mode():
            pixels = torch.from_numpy(image.pixels[(slice(None), *here)]).to(rebuilt.device)
            found: np.ndarray = (rebuilt.float() - pixels).square().mean(dim=0).cpu().numpy()
        return found

    work = _mapped(
        difference, model, image, (0,), "decoder", device, tile_size, stop, stage="error"
    )
    return image.axes.as_given((yield from work))


def feature_steps(
    model: Model,
    image: Image,
    levels: tuple[int, ...],
    source: Source = "encoder",
    device: str = "auto",
    tile_size: int = 512,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, np.ndarray]:
    """Encode an image at its own resolution; a generator of events that returns the features.

    Parameters are as of `error_steps` and `Model.features`; so is what is raised.

    Returns
    -------
    ndarray of float32, shape (F, *space), space in the order of the image
    """
    linear = "bilinear" if model.architecture.dimensions == 2 else "trilinear"

    def enlarged(encoded: EncodedTile, _: Place) -> np.ndarray:
        grown = [
            F.interpolate(f[None], size=encoded.tile.size, mode=linear)[0]
            for f in encoded.features.values()
        ]
        kept: np.ndarray = torch.cat(grown)[(slice(None), *encoded.tile.keep)].float().cpu().numpy()
        if not np.isfinite(kept).all():
            raise InputError(NO_NUMBERS)
        return kept

    channels = model.level_channels(source)
    shape = (sum(channels[level] for level in levels),)
    work = _mapped(enlarged, model, image, levels, source, device, tile_size, stop, shape)
    return image.axes.as_given((yield from work))


def _mapped(
    found_in: Callable[[EncodedTile, Place], np.ndarray],
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
    """Put together what is found in each tile, arrays of shape (*shape, *rows and columns)."""
    space = image.pixels.shape[1:]
    with memory_for("so many values for every pixel", "Take fewer levels, or a part of the image."):
        out = np.empty((*shape, *space), np.float32)

    def run(chosen: torch.device, tile_size: int) -> Generator[Progress, None, None]:
        total = len(places(model.architecture, space, tile_size, decoded=source == "decoder"))
        clock = Clock(total)
        # In a name of its own, so that it can be closed: nothing works on when this is stopped.
        tiles = model.encode_tiles(image, levels, source, chosen, tile_size)
        with closing(tiles):
            for done, encoded in enumerate(tiles, 1):
                here: Place = (*encoded.plane, *encoded.tile.inner)
                out[(*[slice(None)] * len(shape), *here)] = found_in(encoded, here)
                yield Progress(stage, done, total, str(chosen), clock.seconds_left(done))
                raise_if_stopped(stop, stage)

    yield from in_memory(run, choose_device(device), tile_size, stage)
    return out
