"""Tiles: which pixels to read, with how much margin, and which part of the answer to keep."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a plane.

    Parameters
    ----------
    inner : tuple of slice
        Rows and columns of the plane that this tile answers for; the tiles' inner parts cover
        the plane exactly once.
    start : tuple of int
        First row and column that are read, margin included; may be negative.
    size : tuple of int
        Rows and columns that are read.
    keep : tuple of slice
        Where `inner` lies in what is read.
    """

    inner: tuple[slice, slice]
    start: tuple[int, int]
    size: tuple[int, int]
    keep: tuple[slice, slice]


def plan_tiles(shape: tuple[int, int], tile: int, margin: int, align: int) -> list[Tile]:
    """Cut a plane into tiles with margins.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the plane.
    tile : int
        Side of the inner part, rounded up to a multiple of `align`.
    margin : int
        Pixels read on each side beyond the inner part, rounded up to a multiple of `align`.
    align : int
        Tiles start and end at multiples of this (2 to the number of poolings), so that pooling
        windows fall on the same pixels in every tiling.

    Returns
    -------
    list of Tile

    Examples
    --------
    >>> [t.inner[1] for t in plan_tiles((8, 20), tile=8, margin=3, align=4)]
    [slice(0, 8, None), slice(8, 16, None), slice(16, 20, None)]
    """
    tile, margin = (-(-n // align) * align for n in (tile, margin))
    tiles = []
    for corner in product(*(range(0, n, tile) for n in shape)):
        stop = [min(c + tile, n) for c, n in zip(corner, shape, strict=True)]
        length = [s - c for c, s in zip(corner, stop, strict=True)]
        read = [-(-n // align) * align + 2 * margin for n in length]
        tiles.append(
            Tile(
                inner=(slice(corner[0], stop[0]), slice(corner[1], stop[1])),
                start=(corner[0] - margin, corner[1] - margin),
                size=(read[0], read[1]),
                keep=(slice(margin, margin + length[0]), slice(margin, margin + length[1])),
            )
        )
    return tiles


def read_tile(plane: np.ndarray, tile: Tile) -> np.ndarray:
    """Return what a tile reads of a (C, Y, X) plane, mirrored at the borders of the plane."""
    rows, columns = tile_indices(plane.shape[1:], tile)
    return plane[:, rows[:, np.newaxis], columns]


def tile_indices(shape: Sequence[int], tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns that a tile reads of a plane, mirrored at its borders."""
    rows, columns = (
        _mirrored(start, size, n)
        for start, size, n in zip(tile.start, tile.size, shape, strict=True)
    )
    return rows, columns


def tile_view(plane: np.ndarray, tile: Tile) -> np.ndarray:
    """Return what `read_tile` returns, as a view of the plane where nothing is mirrored.

    Examples
    --------
    >>> plane = np.arange(64.0).reshape(1, 8, 8)
    >>> middle = plan_tiles((8, 8), tile=2, margin=2, align=2)[5]
    >>> tile_view(plane, middle).base is not None, tile_view(plane, middle).shape
    (True, (1, 6, 6))
    """
    window = tuple(slice(a, a + n) for a, n in zip(tile.start, tile.size, strict=True))
    inside = all(s.start >= 0 and s.stop <= n for s, n in zip(window, plane.shape[1:], strict=True))
    return plane[(slice(None), *window)] if inside else read_tile(plane, tile)


def _mirrored(start: int, size: int, n: int) -> np.ndarray:
    """Indices start .. start + size, reflected into 0 .. n - 1 without repeating the border."""
    period = max(2 * (n - 1), 1)
    index = np.abs(np.arange(start, start + size)) % period
    return np.minimum(index, period - index) if n > 1 else np.zeros(size, dtype=np.intp)


def planes(space_shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Indices of the Y-X planes of an image of shape (..., Y, X)."""
    return product(*(range(n) for n in space_shape[:-2]))
