"""Cells that fill an image, such as tissue with stained membranes, foam and grains."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.flooding import flood
from napari_aeseg.regions.objects.candidates import necks_of, neighbour_slices, smoothing_of

# Standard deviation of the Gaussian in pixels, at least. Two cells are one where the wall between
# them has a gap that is less than this share of the range deeper than the shallower cell.
_SMOOTHING, _GAP = 1.0, 0.05
# A map shows walls if these are closed (depth of the deepest gap / usual depth of the wall) and
# narrow (share of a cell that is nearer to its inside than to its wall in brightness), and if there
# are no larger cells than this share of the map.
_CLOSED, _NARROW, _LARGEST = 0.5, 0.4, 0.25
# Sides of the window in the middle of a map that tells whether to search all of it, 2D and 3D.
_WINDOW = {2: 512, 3: 96}


def cells_between_walls(
    view: np.ndarray, spacing: tuple[float, ...], stop: StopFlag | None = None
) -> np.ndarray | None:
    """Return cells 1 .. n that fill a map between dark walls, or None if it shows no walls.

    Cells are basins of the watershed. In the order of the depth of the gaps in the wall between
    them, they are merged where the gap is hardly a wall (h-maxima): only what persists is a cell.

    Examples
    --------
    >>> view = np.ones((65, 65), np.float32)
    >>> view[::16] = view[:, ::16] = 0
    >>> int(cells_between_walls(view, (1.0, 1.0)).max())
    16
    """
    side = _WINDOW[view.ndim]
    middle = tuple(slice(start := max(0, (n - side) // 2), start + side) for n in view.shape)
    cells = _cells(view[middle], spacing, stop)
    if cells is None or view.size == cells.size:
        return cells
    return _cells(view, spacing, stop)


def _cells(
    view: np.ndarray, spacing: tuple[float, ...], stop: StopFlag | None
) -> np.ndarray | None:
    raise_if_stopped(stop, "objects")
    width = _SMOOTHING if view.ndim == 2 else max(_SMOOTHING, smoothing_of(view, spacing))
    smooth = ndimage.gaussian_filter(view, [width / side for side in spacing])
    peaks, _ = ndimage.label(smooth == ndimage.maximum_filter(smooth, 3))
    raise_if_stopped(stop, "objects")
    basins = flood(-smooth, peaks)
    raise_if_stopped(stop, "objects")
    low, high = np.percentile(smooth, [1, 99])
    cells = _persistent(basins, smooth, float(high - low) * _GAP)
    return cells if _are_walls(cells, smooth) else None


def _persistent(basins: np.ndarray, smooth: np.ndarray, least: float) -> np.ndarray:
    """Basins, merged where the lower of two peaks rises less than this above the neck between."""
    number = int(basins.max())
    top = np.full(number + 1, -np.inf, np.float32)
    np.maximum.at(top, basins.ravel(), smooth.ravel())
    peak, parent = top.tolist(), list(range(number + 1))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    ends, necks = necks_of(basins, smooth)
    for k in np.argsort(-necks, kind="stable").tolist():
        a, b = root(int(ends[k, 0]) + 1), root(int(ends[k, 1]) + 1)
        low, high = (a, b) if peak[a] < peak[b] else (b, a)
        if a != b and peak[low] - necks[k] < least:
            parent[low] = high
    roots = np.array([root(node) for node in range(number + 1)])
    return np.unique(roots, return_inverse=True)[1].astype(np.int32)[basins]


def _are_walls(cells: np.ndarray, smooth: np.ndarray) -> bool:
    """Whether cells have closed and narrow walls, and none is background."""
    number, size = int(cells.max()), np.bincount(cells.ravel())[1:]
    if number < 2 or size.max() > _LARGEST * cells.size:
        return False
    of_cell, height = [], []
    for pixel, neighbour in neighbour_slices(cells.ndim):
        apart = cells[pixel] != cells[neighbour]
        of_cell += [cells[pixel][apart], cells[neighbour][apart]]
        height += [np.minimum(smooth[pixel][apart], smooth[neighbour][apart])] * 2
    cell, wall = np.concatenate(of_cell), np.concatenate(height)
    order = np.lexsort((wall, cell))
    first = np.searchsorted(cell[order], np.arange(1, number + 2))
    usual = wall[order][(first[:-1] + first[1:]) // 2]
    gap = wall[order][first[1:] - 1]
    top = np.full(number + 1, -np.inf, np.float32)
    np.maximum.at(top, cells.ravel(), smooth.ravel())
    top, span = top[1:], np.maximum(top[1:] - usual, 1e-6)
    closed = np.average((top - gap) / span, weights=size)
    inside = smooth > np.append(0, (top + usual) / 2)[cells]
    return bool(closed > _CLOSED and inside.mean() > _NARROW)
