"""Sums of features per patch, taken tile by tile on the device; features are never kept."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.autoencoder.device import choose_device, dtype_of, is_accelerator
from napari_aeseg.autoencoder.device_sums import DeviceSums
from napari_aeseg.autoencoder.fallback import in_memory
from napari_aeseg.autoencoder.host_sums import HostSums
from napari_aeseg.autoencoder.model import NO_NUMBERS
from napari_aeseg.autoencoder.planning import places, usual_tile_size
from napari_aeseg.errors import InputError
from napari_aeseg.progress import Clock, Progress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch

    from napari_aeseg.autoencoder.device import Precision
    from napari_aeseg.autoencoder.encoding import Source
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.images.intensity import Image
    from napari_aeseg.progress import StopFlag

# Sums of larger ones do not fit float32.
_LARGEST_SQUARE = 1e30


@dataclass(frozen=True, slots=True)
class PooledFeatures:
    """First and second moments of features in every patch.

    Parameters
    ----------
    mean : ndarray of float32, shape (P, F)
        Mean feature vector.
    second : ndarray of float32, shape (P, F)
        Mean squared features.
    level : ndarray of int, shape (F,)
        Which level each feature comes from.
    """

    mean: np.ndarray
    second: np.ndarray
    level: np.ndarray


def pooling_steps(
    model: Model,
    image: Image,
    patches: np.ndarray,
    levels: tuple[int, ...] | None = None,
    source: Source = "encoder",
    device: str = "auto",
    tile_size: int = 512,
    stop: StopFlag | None = None,
    precision: Precision = "float32",
) -> Generator[Progress, None, PooledFeatures]:
    """Encode an image and sum its features per patch; a generator that returns the moments.

    A level of lower resolution is sampled once per cell, at the cell's centre; a patch that has no
    cell centre takes the cell of its last pixel.

    Parameters
    ----------
    model : Model
    image : Image
        From `model.read`.
    patches : ndarray of int, shape space
        Patch ids 0 .. P-1, all present.
    levels : tuple of int, optional
        All by default; 0 is the image itself.
    source : {"encoder", "decoder"}
    device : str
        When it runs out of memory, tiles are halved down to 64 pixels, then the CPU takes over;
        an event says so.
    tile_size : int
        Pixels along each side, see `tile_shape`; the result does not depend on it. CUDA devices
        with free memory take larger ones, up to 2048.
    stop : StopFlag, optional
        Checked at every tile.
    precision : {"float32", "bfloat16"}
        Of weights and activations; sums are float32. In bfloat16 regions change: one
        pixel in ten or more on texture mosaics (docs/performance.md).

    Yields
    ------
    Progress

    Returns
    -------
    PooledFeatures

    Raises
    ------
    StoppedError
        When asked to stop.
    InputError
        If features are not finite, or too large for their squares.
    DeviceError
        If even the CPU runs out of memory, or the device does not compute in the precision.
    """
    levels = model.levels(levels)
    chosen = choose_device(device)
    dtype_of(precision, chosen)
    tile_size = usual_tile_size(tile_size, chosen, model.architecture)
    run = partial(_pool, model, image, patches, levels, source, stop, precision)
    return (yield from in_memory(run, chosen, tile_size))


def _pool(
    model: Model,
    image: Image,
    patches: np.ndarray,
    levels: tuple[int, ...],
    source: Source,
    stop: StopFlag | None,
    precision: Precision,
    device: torch.device,
    tile_size: int,
) -> Generator[Progress, None, PooledFeatures]:
    number = int(patches.max()) + 1
    channels = {level: model.level_channels(source)[level] for level in levels}
    cells = {level: model.architecture.cell(level) for level in levels}
    # What `of_tile` hands on is what `add` takes.
    sums: Any = (
        DeviceSums(patches, number, channels, cells, device, stop)
        if is_accelerator(device)
        else HostSums(patches, number, channels, cells, stop)
    )
    total = len(places(model.architecture, patches.shape, tile_size))
    clock = Clock(total)
    # In a name of its own, so that it can be closed: nothing works on when this is stopped.
    tiles = model.map_tiles(sums.of_tile, image, levels, source, device, tile_size, precision)
    with closing(tiles):
        for done, found in enumerate(tiles, 1):
            sums.add(found)
            yield Progress("encode", done, total, str(device), clock.seconds_left(done))
            raise_if_stopped(stop, "encode")
    mean, second = sums.moments()
    if not (np.isfinite(mean).all() and (second <= _LARGEST_SQUARE).all()):
        raise InputError(NO_NUMBERS)
    return PooledFeatures(mean, second, np.repeat(levels, [channels[i] for i in levels]))
