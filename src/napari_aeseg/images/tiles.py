"""Tiles of a plane or a volume, with margins that cover the receptive field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a plane (rows, columns) or a volume (slices, rows, columns)."""

    # Place of its results: these parts of all tiles cover everything exactly once.
    inner: tuple[slice, ...]
    # First index along each axis that is read, margin included; may be negative.
    start: tuple[int, ...]
    size: tuple[int, ...]  # pixels along each axis that are read
    keep: tuple[slice, ...]  # place of `inner` in the pixels that are read


def plan_tiles(
    shape: tuple[int, ...],
    tile: int | tuple[int, ...],
    margin: int | tuple[int, ...],
    align: int | tuple[int, ...],
) -> list[Tile]:
    """Cut a plane or a volume into tiles with margins.

    The side of a tile and its margin on each side are rounded up to multiples of `align` (2 to the
    number of poolings), at which tiles start and end: pooling windows fall on the same pixels in
    every tiling. One number of `tile`, `margin` or `align` counts for every axis.
    """
    each = [(n,) * len(shape) if isinstance(n, int) else n for n in (tile, margin, align)]
    axes = [_pieces(*numbers) for numbers in zip(shape, *each, strict=True)]
    return [Tile(*zip(*pieces, strict=True)) for pieces in product(*axes)]


def _pieces(n: int, tile: int, margin: int, align: int) -> list[tuple[slice, int, int, slice]]:
    """Cut one axis; return the inner part, start, size and place of each piece."""
    tile, margin = (-(-m // align) * align for m in (tile, margin))
    pieces = []
    for start in range(0, n, tile):
        length = min(tile, n - start)
        read = -(-length // align) * align + 2 * margin
        keep = slice(margin, margin + length)
        pieces.append((slice(start, start + length), start - margin, read, keep))
    return pieces


def read_tile(plane: np.ndarray, tile: Tile) -> np.ndarray:
    """Return the pixels of a tile of a (C, [Z,] Y, X) plane or volume, mirrored at borders."""
    # numpy's stubs do not allow an index of slices and arrays.
    window: Any = (slice(None), *np.ix_(*tile_indices(plane.shape[1:], tile)))
    return plane[window]


def tile_indices(shape: Sequence[int], tile: Tile) -> tuple[np.ndarray, ...]:
    """Return the indices of a tile along each axis of a plane or volume, mirrored at borders."""
    return tuple(
        _mirrored(start, size, n)
        for start, size, n in zip(tile.start, tile.size, shape, strict=True)
    )


def tile_view(plane: np.ndarray, tile: Tile) -> np.ndarray:
    """Return the same as `read_tile`, as a view of the plane if nothing is mirrored."""
    window = tuple(slice(a, a + n) for a, n in zip(tile.start, tile.size, strict=True))
    inside = all(s.start >= 0 and s.stop <= n for s, n in zip(window, plane.shape[1:], strict=True))
    return plane[(slice(None), *window)] if inside else read_tile(plane, tile)


def _mirrored(start: int, size: int, n: int) -> np.ndarray:
    """Indices start .. start + size, reflected into 0 .. n - 1 without repeating the border."""
    period = max(2 * (n - 1), 1)  # of a single pixel: no division by 0
    index = np.abs(np.arange(start, start + size)) % period
    return np.minimum(index, period - index) if n > 1 else np.zeros(size, dtype=np.intp)


def planes(space_shape: tuple[int, ...], dimensions: int = 2) -> Iterator[tuple[int, ...]]:
    """Indices of the Y-X planes, or with 3 dimensions the Z-Y-X volumes, of an image."""
    return product(*(range(n) for n in space_shape[:-dimensions]))
