"""Cutting an image into many small patches."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from napari_aeseg.events import raise_if_stopped
from napari_aeseg.images.threads import cores, in_threads

if TYPE_CHECKING:
    from napari_aeseg.events import StopFlag

try:  # no wheels for Linux aarch64
    from bioimage_cpp.segmentation import watershed as _fast_watershed
except ImportError:  # pragma: no cover
    _fast_watershed = None

# How much the distance from the cell's centre counts against the edge strength (as a multiple of
# its median): enough to keep patches compact where there is no edge, too little to cross one.
_COMPACTNESS = 1.0
# Standard deviations after which a Gaussian ends, and pixels that edges are found in together.
_TRUNCATE, _STRIP_PIXELS = 4.0, 131_072


def make_patches(
    pixels: np.ndarray,
    size: int,
    kind: Literal["watershed", "grid"] = "watershed",
    stop: StopFlag | None = None,
) -> np.ndarray:
    """Cut an image into patches.

    Parameters
    ----------
    pixels : ndarray of float, shape (C, *space)
        The image, two or three space axes.
    size : int
        Side of an average patch, in pixels.
    kind : {"watershed", "grid"}
        Regions that follow edges ("waterpixels" [1]_), or square cells.
    stop : StopFlag, optional
        Checked between the steps.

    Returns
    -------
    ndarray of int32, shape space
        Ids 0 .. P-1, each a connected patch.

    Raises
    ------
    StoppedError
        When asked to stop.

    References
    ----------
    .. [1] V. Machairas et al., Waterpixels, IEEE Transactions on Image Processing 24, 2015.

    Examples
    --------
    >>> make_patches(np.zeros((1, 4, 4)), size=2, kind="grid")
    array([[0, 0, 1, 1],
           [0, 0, 1, 1],
           [2, 2, 3, 3],
           [2, 2, 3, 3]], dtype=int32)
    """
    shape = pixels.shape[1:]
    cells = [max(1, round(n / size)) for n in shape]
    # Cells of nearly equal size, rather than a thin rest at the far border.
    which = [np.arange(n) * c // n for n, c in zip(shape, cells, strict=True)]
    grid = np.zeros(shape, np.int32)
    for axis, (index, number) in enumerate(zip(which, cells, strict=True)):
        grid = grid * number + _along(index, axis, len(shape)).astype(np.int32)
    if kind == "grid":
        return grid
    height = edge_strength(pixels, stop=stop)
    raise_if_stopped(stop, "patches")
    step = float(np.median(height)) or float(height.mean()) or 1.0
    height += np.float32(_COMPACTNESS * step) * _distance_to_centre(shape, cells)
    raise_if_stopped(stop, "patches")
    markers = _lowest_pixels(height, which, cells)
    raise_if_stopped(stop, "patches")
    if _fast_watershed is not None and len(shape) in (2, 3):
        labels = _fast_watershed(height, markers)
    else:  # pragma: no cover
        from skimage.segmentation import watershed

        labels = watershed(height, markers)
    return np.asarray(labels - 1, np.int32)


def edge_strength(
    pixels: np.ndarray, sigma: float = 1.0, stop: StopFlag | None = None
) -> np.ndarray:
    """Return the gradient magnitude over all channels, shape space, float32.

    Parameters
    ----------
    pixels : ndarray of float, shape (C, *space)
    sigma : float
        Standard deviation of the Gaussian derivative, in pixels.
    stop : StopFlag, optional
        Checked at every few rows.

    Raises
    ------
    StoppedError
        When asked to stop.
    """
    total = np.empty(pixels.shape[1:], np.float32)
    rows = len(total)
    reach = int(_TRUNCATE * sigma + 0.5)
    # Strips stay in the processor's cache.
    height = max(1, _STRIP_PIXELS * rows // max(total.size, 1))

    def fill(start: int) -> None:
        raise_if_stopped(stop, "patches")
        stop_row = min(start + height, rows)
        low, high = max(start - reach, 0), min(stop_row + reach, rows)
        squares = np.zeros((high - low, *total.shape[1:]), np.float32)
        for channel in pixels[:, low:high]:
            squares += (
                ndimage.gaussian_gradient_magnitude(
                    channel, sigma, output=np.float32, truncate=_TRUNCATE
                )
                ** 2
            )
        np.sqrt(squares[start - low : stop_row - low], out=total[start:stop_row])

    for _ in in_threads(fill, range(0, rows, height), cores()):
        pass
    return total


def _along(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """Reshape a vector so that it broadcasts along one axis."""
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _distance_to_centre(shape: tuple[int, ...], cells: list[int]) -> np.ndarray:
    """Distance of each pixel to the centre of its cell, 0 to about 1 at the cell's border."""
    squared = np.zeros(shape, np.float32)
    for axis, (n, c) in enumerate(zip(shape, cells, strict=True)):
        within = (np.arange(n) + 0.5) * c / n % 1
        squared += _along(((within - 0.5) * 2) ** 2, axis, len(shape)).astype(np.float32)
    return np.sqrt(squared)


def _lowest_pixels(height: np.ndarray, which: list[np.ndarray], cells: list[int]) -> np.ndarray:
    """Mark the lowest pixel in the inner part of each cell with the cell's number from 1."""
    markers = np.zeros(height.shape, np.int32)
    starts = [np.searchsorted(w, np.arange(c + 1)) for w, c in zip(which, cells, strict=True)]
    # Cells that differ in size by one pixel are searched together up to the smaller size; a margin
    # between the searched parts keeps markers of neighbouring cells apart.
    sizes = [max(1, int(np.diff(s).min())) for s in starts]
    margins = [1 if n >= 4 else 0 for n in sizes]
    offsets = [range(m, n - m) for m, n in zip(margins, sizes, strict=True)]
    corners = np.ix_(*(s[:-1] for s in starts))
    best = np.full(cells, np.inf, np.float32)
    best_at = [np.zeros(cells, np.intp) for _ in cells]
    for offset in product(*offsets):
        at = tuple(c + o for c, o in zip(corners, offset, strict=True))
        here = height[at]
        lower = here < best
        best[lower] = here[lower]
        for axis, found in enumerate(best_at):
            found[lower] = np.broadcast_to(at[axis], here.shape)[lower]
    markers[tuple(best_at)] = np.arange(1, best.size + 1).reshape(cells)
    return markers
