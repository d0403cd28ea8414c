"""Sums of features per patch, taken tile by tile on the device; features are never kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_aeseg.autoencoder.device import choose_device, is_out_of_memory
from napari_aeseg.errors import DeviceError
from napari_aeseg.events import Clock, Progress, raise_if_stopped
from napari_aeseg.images.tiles import plan_tiles

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_aeseg.autoencoder.model import EncodedTile, Model, Source
    from napari_aeseg.events import StopFlag
    from napari_aeseg.images.intensity import Image

_SMALLEST_TILE = 64


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
        Pixels along each side; the result does not depend on it.
    stop : StopFlag, optional
        Checked at every tile.

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
    DeviceError
        If even the CPU runs out of memory.
    """
    levels = model.levels(levels)
    chosen = choose_device(device)
    while True:
        try:
            return (
                yield from _pool(model, image, patches, levels, source, chosen, tile_size, stop)
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if tile_size // 2 >= _SMALLEST_TILE:
                tile_size //= 2
                message = f"{chosen} ran out of memory: going on with tiles of {tile_size}."
            elif chosen.type != "cpu":
                message = f"{chosen} ran out of memory: going on with the CPU."
                chosen, tile_size = torch.device("cpu"), 512
            else:
                raise DeviceError(
                    "The CPU ran out of memory with the smallest tiles; close other programs or "
                    "segment a part of the image."
                ) from error
        yield Progress("encode", 0, 1, str(chosen), message=message)


def _pool(
    model: Model,
    image: Image,
    patches: np.ndarray,
    levels: tuple[int, ...],
    source: Source,
    device: torch.device,
    tile_size: int,
    stop: StopFlag | None,
) -> Generator[Progress, None, PooledFeatures]:
    number = int(patches.max()) + 1
    sampled = {}
    for level in levels:
        raise_if_stopped(stop, "encode")
        sampled[level] = _SampledPatches(patches, 2 ** max(level - 1, 0), number)
    sums: dict[int, torch.Tensor] = {}
    total = len(plan_tiles(patches.shape[-2:], tile_size, 0, model.architecture.reduction))
    total *= int(np.prod(patches.shape[:-2]))
    clock = Clock(total)
    tiles = model.encode_tiles(image, levels, source, device, tile_size)
    for done, encoded in enumerate(tiles, 1):
        for level, features in encoded.features.items():
            if level not in sums:
                sums[level] = features.new_zeros((number, 2 * len(features)), dtype=torch.float32)
            ids, cells = sampled[level].of(encoded)
            with torch.inference_mode():
                # (F, H, W), channels last in memory: rows of features without a copy.
                rows = features.permute(1, 2, 0).flatten(0, 1)
                rows = rows[torch.from_numpy(cells).to(device)].float()
                sums[level].index_add_(
                    0, torch.from_numpy(ids).to(device), torch.cat([rows, rows * rows], 1)
                )
        yield Progress("encode", done, total, str(device), clock.seconds_left(done))
        raise_if_stopped(stop, "encode")
    means, seconds, level_of = [], [], []
    for level, summed in sums.items():
        moments = summed.cpu().numpy() / sampled[level].count[:, np.newaxis]
        features_here = moments.shape[1] // 2
        means.append(moments[:, :features_here])
        seconds.append(moments[:, features_here:])
        level_of.append(np.full(features_here, level))
    return PooledFeatures(
        np.concatenate(means, 1), np.concatenate(seconds, 1), np.concatenate(level_of)
    )


class _SampledPatches:
    """Patch ids at the cells of a level: the id at each cell's centre, and no patch left out."""

    def __init__(self, patches: np.ndarray, step: int, number: int) -> None:
        self.step = step
        # Pixel of each cell's centre; cells at the far border may be cut short.
        self.rows, self.columns = (
            np.minimum(np.arange(step // 2, n + step // 2, step), n - 1) for n in patches.shape[-2:]
        )
        self.patches = patches
        self.count = np.bincount(
            patches[..., self.rows[:, np.newaxis], self.columns].ravel(), minlength=number
        ).astype(np.float32)
        missing = np.flatnonzero(self.count == 0)
        last = np.zeros(number, np.intp)
        if len(missing):
            last[patches.ravel()] = np.arange(patches.size)
        self.missing = missing
        self.missing_at = np.stack(np.unravel_index(last[missing], patches.shape), 1)
        self.count[missing] = 1

    def of(self, encoded: EncodedTile) -> tuple[np.ndarray, np.ndarray]:
        """Return patch ids, and the flat index of their cells in what the tile has encoded."""
        step, tile = self.step, encoded.tile
        (y0, y1), (x0, x1) = ((s.start // step, -(-s.stop // step)) for s in tile.inner)
        margin_y, margin_x = (s.start // step for s in tile.keep)
        width = tile.size[1] // step
        ids = self.patches[encoded.plane][self.rows[y0:y1, np.newaxis], self.columns[x0:x1]]
        cells = (np.arange(y1 - y0)[:, np.newaxis] + margin_y) * width
        cells = cells + np.arange(x1 - x0) + margin_x
        if len(self.missing):
            at = self.missing_at
            y, x = at[:, -2] // step, at[:, -1] // step
            here = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
            here &= (at[:, :-2] == encoded.plane).all(axis=1)
            extra = (y[here] - y0 + margin_y) * width + x[here] - x0 + margin_x
            return (
                np.concatenate([ids.ravel(), self.missing[here]]).astype(np.int64),
                np.concatenate([cells.ravel(), extra]).astype(np.int64),
            )
        return ids.ravel().astype(np.int64), cells.ravel().astype(np.int64)
