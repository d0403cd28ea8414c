"""Sums of features per patch, taken tile by tile on the device; features are never kept."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

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
    for step in {_step(level) for level in levels}:
        raise_if_stopped(stop, "encode")
        sampled[step] = _SampledPatches(patches, step, number)
    sums: dict[int, np.ndarray] = {}
    total = len(plan_tiles(patches.shape[-2:], tile_size, 0, model.architecture.reduction))
    total *= int(np.prod(patches.shape[:-2]))
    clock = Clock(total)
    # In a name of its own, so that it can be closed: nothing works on when this is stopped.
    tiles = model.map_tiles(
        lambda encoded: _tile_sums(encoded, sampled), image, levels, source, device, tile_size
    )
    with closing(tiles):
        for done, found in enumerate(tiles, 1):
            for level, (ids, summed) in found.items():
                if level not in sums:
                    sums[level] = np.zeros((number, summed.shape[1]), np.float32)
                sums[level][ids] += summed
            yield Progress("encode", done, total, str(device), clock.seconds_left(done))
            raise_if_stopped(stop, "encode")
    means, seconds, level_of = [], [], []
    for level in levels:
        moments = sums[level]
        moments /= sampled[_step(level)].count[:, np.newaxis]
        features_here = moments.shape[1] // 2
        means.append(moments[:, :features_here])
        seconds.append(moments[:, features_here:])
        level_of.append(np.full(features_here, level))
    return PooledFeatures(
        np.concatenate(means, 1), np.concatenate(seconds, 1), np.concatenate(level_of)
    )


def _step(level: int) -> int:
    """Pixels between the cells of a level."""
    return 2 ** max(level - 1, 0)


def _tile_sums(
    encoded: EncodedTile, sampled: dict[int, _SampledPatches]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Per level: the patches of a tile, and the sums of their features and of the squares."""
    runs = {step: patches.runs(encoded) for step, patches in sampled.items()}
    found = {}
    for level, features in encoded.features.items():
        ids, cells, starts = runs[_step(level)]
        # (F, H, W), channels last in memory: rows of features without a copy.
        rows = features.permute(1, 2, 0).flatten(0, 1).float()
        summed = sums_of_runs(rows, torch.from_numpy(cells), torch.from_numpy(starts))
        found[level] = ids, summed.cpu().numpy()
    return found


def sums_of_runs(rows: torch.Tensor, cells: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Sum rows of features, and their squares, over runs of cells.

    Parameters
    ----------
    rows : Tensor, shape (N, F)
        Squared in place: memory of their size would be got and given back for every tile.
    cells : Tensor of int, shape (n,), on the CPU
        Which rows, run after run.
    starts : Tensor of int, shape (R,), on the CPU
        Where in `cells` each run begins; the last one ends at the end.

    Returns
    -------
    Tensor, shape (R, 2 F), on the device of the rows

    Examples
    --------
    >>> rows = torch.tensor([[1.0], [2.0], [3.0]])
    >>> sums_of_runs(rows, torch.tensor([0, 2, 1]), torch.tensor([0, 2])).tolist()
    [[4.0, 10.0], [2.0, 4.0]]
    """
    if rows.device.type != "cpu":
        return _added_up(rows, cells, starts)
    # Gathers and adds in one go, 15 times as fast as index_add_.
    sums = F.embedding_bag(cells, rows, starts, mode="sum")
    squares = F.embedding_bag(cells, rows.square_(), starts, mode="sum")
    return torch.cat([sums, squares], 1)


def _added_up(rows: torch.Tensor, cells: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """`sums_of_runs` with what every device can do."""
    length = torch.diff(starts, append=torch.tensor([len(cells)], dtype=starts.dtype))
    run = torch.repeat_interleave(torch.arange(len(starts)), length).to(rows.device)
    rows = rows[cells.to(rows.device)]
    both = torch.cat([rows, rows * rows], 1)
    return rows.new_zeros((len(starts), both.shape[1])).index_add_(0, run, both)


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

    def runs(self, encoded: EncodedTile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the patches of a tile, their cells one patch after the other, where each begins.

        A cell is the flat index in what the tile has encoded.
        """
        ids, cells = self._of(encoded)
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        starts = np.flatnonzero(np.diff(ids, prepend=-1))
        return ids[starts], cells[order], starts

    def _of(self, encoded: EncodedTile) -> tuple[np.ndarray, np.ndarray]:
        """Return the patch of each cell of a tile, and the cell."""
        step, tile = self.step, encoded.tile
        (y0, y1), (x0, x1) = ((s.start // step, -(-s.stop // step)) for s in tile.inner)
        margin_y, margin_x = (s.start // step for s in tile.keep)
        width = tile.size[1] // step
        ids = self.patches[encoded.plane][self.rows[y0:y1, np.newaxis], self.columns[x0:x1]].ravel()
        cells = (np.arange(y1 - y0)[:, np.newaxis] + margin_y) * width
        cells = (cells + np.arange(x1 - x0) + margin_x).ravel()
        if not len(self.missing):
            return ids, cells
        at = self.missing_at
        y, x = at[:, -2] // step, at[:, -1] // step
        here = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
        here &= (at[:, :-2] == encoded.plane).all(axis=1)
        extra = (y[here] - y0 + margin_y) * width + x[here] - x0 + margin_x
        return np.concatenate([ids, self.missing[here]]), np.concatenate([cells, extra])
