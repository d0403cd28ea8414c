"""Cutting an image into many small patches: `PATCHERS` holds the ways to do it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_aeseg.images.parallel import cores, in_threads
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.flooding import flood

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes

# How much the distance from the cell's centre counts against the edge strength (as a multiple of
# its median): enough to keep patches compact where there is no edge, too little to cross one.
_COMPACTNESS = 1.0
# Standard deviations after which a Gaussian ends, and pixels that edges are found in together.
_TRUNCATE, _STRIP_PIXELS = 4.0, 131_072  # in the cache
# Pixels that are flooded together, and rows of cells at least: a strip in one call.
_WATERSHED_PIXELS, _FEWEST_CELLS = 2**19, 8  # in the cache: 2**21 take 1.5 x the time
# Values that a median is looked for with.
_SAMPLE = 2**16
# Standard deviations in pixels below which an axis is not smoothed, and below which its slope is
# the difference of neighbours: a Gaussian's derivative at so few points is far too small.
_LEAST_SMOOTHING, _LEAST_DERIVATIVE = 0.3, 0.6


def make_patches(
    pixels: np.ndarray,
    size: int | Sequence[int],
    kind: Literal["watershed", "grid"] = "watershed",
    stop: StopFlag | None = None,
    density: float | Sequence[float] = 1.0,
) -> np.ndarray:
    """Cut an image into connected patches; return ids 0 .. P-1 of its pixels, int32, shape space.

    Patches of the kind "watershed" follow edges ("waterpixels" [1]_), those of "grid" are square.
    `pixels` are (C, *space) with two or more space axes, `size` the sides of an average patch in
    pixels, one for each space axis or the same for all (see `patch_shape`). Along leading axes with
    size 1, each slice is cut by itself, as if it were an image of its own. `density` is how close
    pixels lie along each axis, for the strength of edges (see `pixel_density`).

    References
    ----------
    .. [1] V. Machairas et al., Waterpixels, IEEE Transactions on Image Processing 24, 2015.
    """
    ndim = pixels.ndim - 1
    sizes = np.broadcast_to(size, ndim).tolist()
    return PATCHERS[kind](pixels, sizes, np.broadcast_to(density, ndim).tolist(), stop)


def _grid(
    pixels: np.ndarray, sizes: list[int], densities: list[float], stop: StopFlag | None
) -> np.ndarray:
    """Cut an image into rectangular cells."""
    number, cell_of = _cells(pixels.shape[1:], sizes)
    grid = np.zeros(pixels.shape[1:], np.int32)
    for axis, (index, n) in enumerate(zip(cell_of, number, strict=True)):
        grid = grid * n + _along(index, axis, len(number)).astype(np.int32)
    return grid


def _watershed(
    pixels: np.ndarray, sizes: list[int], densities: list[float], stop: StopFlag | None
) -> np.ndarray:
    """Cut an image along its edges: one basin for each cell of the grid."""
    shape = pixels.shape[1:]
    if len(shape) > 2 and sizes[0] == 1:
        return _slice_by_slice(pixels, sizes, densities, stop)
    number, cell_of = _cells(shape, sizes)
    height = edge_strength(pixels, stop=stop, density=densities)
    raise_if_stopped(stop, "patches")
    # The median is 0 where most of an image is flat.
    typical = _median(height) or float(height.mean()) or 1.0
    patches = np.empty(shape, np.int32)
    weight, per_row = np.float32(_COMPACTNESS * typical), int(np.prod(number[1:]))

    def cut_strip(first_and_last: tuple[int, int]) -> None:
        raise_if_stopped(stop, "patches")
        first, last = first_and_last
        rows = slice(*np.searchsorted(cell_of[0], first_and_last))
        part = height[rows]
        part += weight * _distance_to_centre(shape, number, rows)
        cells = [cell_of[0][rows] - first, *cell_of[1:]]
        markers = _lowest_pixels(part, cells, [last - first, *number[1:]])
        raise_if_stopped(stop, "patches")
        patches[rows] = flood(part, markers)
        patches[rows] += first * per_row - 1

    # Strips of whole cells, the same for any number of threads; each is cut by itself.
    strips = max(1, min(round(height.size / _WATERSHED_PIXELS), number[0] // _FEWEST_CELLS))
    ends = [number[0] * i // strips for i in range(strips + 1)]
    deque(in_threads(cut_strip, pairwise(ends), min(cores(), strips)), maxlen=0)
    return patches


def _median(values: np.ndarray) -> float:
    """Return the median; only values near that of a sample are sorted, a fifth of the time."""
    flat = values.ravel()
    step = flat.size // _SAMPLE | 1  # odd: not the same few columns of every row
    low, high = np.quantile(flat[::step], (0.48, 0.52)).tolist()
    near = np.sort(flat[(flat >= low) & (flat <= high)])
    first = (flat.size - 1) // 2 - np.count_nonzero(flat < low)
    last = first + 1 - flat.size % 2
    if first < 0 or last >= len(near):
        return float(np.median(flat))
    return float(near[[first, last]].mean())


def _slice_by_slice(
    pixels: np.ndarray, sizes: list[int], densities: list[float], stop: StopFlag | None
) -> np.ndarray:
    """Cut each slice along the first space axis by itself; ids go on from one to the next."""
    patches = np.empty(pixels.shape[1:], np.int32)
    first = 0
    for plane, plane_patches in zip(np.moveaxis(pixels, 1, 0), patches, strict=True):
        plane_patches[:] = _watershed(plane, sizes[1:], densities[1:], stop)
        plane_patches += first
        first = int(plane_patches.max()) + 1
    return patches


#: Functions that cut an image (C, *space) into patches of these sizes, by their names: the choices
#: of `SegmentationParams.patches`.
PATCHERS: dict[str, Callable[[np.ndarray, list[int], list[float], StopFlag | None], np.ndarray]] = {
    "watershed": _watershed,
    "grid": _grid,
}


def patch_shape(axes: Axes, size: int) -> tuple[int, ...]:
    """Return how many pixels an average patch has along those of T, Z, Y and X that the image has.

    One frame, `size` rows and columns, and as many slices as come nearest to the same length: at
    least one, at most all.
    """
    sides = {"T": 1, "Y": size, "X": size}
    if "Z" in axes.letters:
        slices = axes.shape[axes.letters.index("Z")]
        sides["Z"] = round(min(max(1.0, size * _slices_per_pixel(axes)), slices))
    return tuple(sides[a] for a in "TZYX" if a in axes.letters)


def pixel_density(axes: Axes) -> tuple[float, ...]:
    """Return how many pixels along T, Z, Y and X go into the side of a pixel of a slice.

    1 in a slice, less from slice to slice where these are further apart, 0 from frame to frame.

    Examples
    --------
    >>> from napari_aeseg.images.axes import read_axes
    >>> pixel_density(read_axes((5, 40, 64, 64), "TZYX").with_voxel_size((4, 1, 1)))
    (0.0, 0.25, 1.0, 1.0)
    """
    density = {"T": 0.0, "Z": _slices_per_pixel(axes), "Y": 1.0, "X": 1.0}
    return tuple(density[a] for a in "TZYX" if a in axes.letters)


def _slices_per_pixel(axes: Axes) -> float:
    """Slices in the side of a pixel; no more than all, so that edges are found in a finite time."""
    if "Z" not in axes.letters:
        return 1.0
    slices = float(axes.shape[axes.letters.index("Z")])
    return slices if axes.slice_distance * slices <= 1 else 1 / axes.slice_distance


def _cells(shape: tuple[int, ...], sizes: list[int]) -> tuple[list[int], list[np.ndarray]]:
    """Number of cells along each axis, and the cell of each pixel along it."""
    number = [max(1, round(n / size)) for n, size in zip(shape, sizes, strict=True)]
    # Cells of nearly equal size, rather than a thin rest at the far border.
    return number, [np.arange(n) * c // n for n, c in zip(shape, number, strict=True)]


def edge_strength(
    pixels: np.ndarray,
    sigma: float = 1.0,
    stop: StopFlag | None = None,
    density: float | Sequence[float] = 1.0,
) -> np.ndarray:
    """Return the gradient magnitude of (C, *space) over all channels, shape space, float32.

    `sigma` is that of the Gaussian derivative in pixels, `density` how many pixels along each axis
    make the length of one. Both smoothing and slopes are by length; where pixels are far apart,
    their differences are taken as they are.
    """
    total = np.empty(pixels.shape[1:], np.float32)
    rows = len(total)
    densities = np.broadcast_to(density, total.ndim).tolist()
    radius = max(1, int(_TRUNCATE * sigma * densities[0] + 0.5))  # as scipy rounds its kernel
    # Strips stay in the processor's cache, unless they would be margin for the most part.
    height = max(2 * radius, _STRIP_PIXELS * rows // max(total.size, 1))

    def fill(start: int) -> None:
        raise_if_stopped(stop, "patches")
        stop_row = min(start + height, rows)
        low, high = max(start - radius, 0), min(stop_row + radius, rows)
        squares = np.zeros((high - low, *total.shape[1:]), np.float32)
        for channel in pixels[:, low:high]:
            squares += _squared_gradient(channel, sigma, densities)
        np.sqrt(squares[start - low : stop_row - low], out=total[start:stop_row])

    deque(in_threads(fill, range(0, rows, height), cores()), maxlen=0)
    return total


def _squared_gradient(channel: np.ndarray, sigma: float, densities: list[float]) -> np.ndarray:
    """Squared length of the gradient of a smoothed image, by length instead of by pixel."""
    sigmas = [s if s >= _LEAST_SMOOTHING else 0.0 for s in (sigma * d for d in densities)]
    squares = np.zeros(channel.shape, np.float32)
    for axis, (s, d) in enumerate(zip(sigmas, densities, strict=True)):
        if d == 0 or channel.shape[axis] == 1:  # np.gradient needs two pixels
            continue
        by_kernel = s >= _LEAST_DERIVATIVE
        slope = channel
        for other, width in enumerate(sigmas):
            if width:
                slope = _correlated(slope, _gaussian(width, by_kernel and other == axis), other)
        if not by_kernel:
            slope = np.gradient(slope, axis=axis)
        slope *= np.float32(d)
        squares += np.square(slope, out=slope)
    return squares


@cache
def _gaussian(sigma: float, is_derivative: bool) -> np.ndarray:
    """A Gaussian's weights at the pixels around one, or those of its derivative."""
    radius = int(_TRUNCATE * sigma + 0.5)
    at = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    weights /= weights.sum()
    return weights * at / sigma**2 if is_derivative else weights


def _correlated(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Correlate along an axis, mirrored at its ends, with even or odd weights; scipy is slower."""
    radius, n = len(weights) // 2, values.shape[axis]
    ends = [(radius, radius) if i == axis else (0, 0) for i in range(values.ndim)]
    padded = np.moveaxis(np.pad(values, ends, mode="symmetric"), axis, 0)
    combined = np.add if weights[0] == weights[-1] else np.subtract
    result = padded[radius : radius + n] * np.float32(weights[radius])
    for i in range(radius):
        pair = combined(padded[2 * radius - i : 2 * radius - i + n], padded[i : i + n])
        pair *= np.float32(weights[2 * radius - i])
        result += pair
    return np.moveaxis(result, 0, axis)


def _along(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """Reshape a vector so that it broadcasts along one axis."""
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _distance_to_centre(shape: tuple[int, ...], cells: list[int], rows: slice) -> np.ndarray:
    """Distance of each pixel to the centre of its cell, 0 to about 1 at the cell's border."""
    squared = np.zeros((rows.stop - rows.start, *shape[1:]), np.float32)
    for axis, (n, c) in enumerate(zip(shape, cells, strict=True)):
        within = (np.arange(n) + 0.5) * c / n % 1  # centres of pixels: alike from both sides
        within = within if axis else within[rows]
        squared += _along(((within - 0.5) * 2) ** 2, axis, len(shape)).astype(np.float32)
    return np.sqrt(squared)


def _lowest_pixels(height: np.ndarray, cell_of: list[np.ndarray], cells: list[int]) -> np.ndarray:
    """Mark the lowest pixel in the inner part of each cell with the cell's number from 1."""
    markers = np.zeros(height.shape, np.int32)
    starts = [np.searchsorted(w, np.arange(c + 1)) for w, c in zip(cell_of, cells, strict=True)]
    # Cells that differ in size by one pixel are searched together up to the smaller size; a margin
    # between the searched parts keeps markers of neighbouring cells apart.
    sizes = [max(1, int(np.diff(s).min())) for s in starts]
    margins = [1 if n >= 4 else 0 for n in sizes]
    searched = [
        np.add.outer(s[:-1], range(m, n - m))
        for s, m, n in zip(starts, margins, sizes, strict=True)
    ]
    inner = height
    for axis, index in enumerate(searched):
        inner = inner.take(index.ravel(), axis)
    # From cell, pixel, cell, pixel to cells, pixels; of equal ones the first is taken.
    inner = inner.reshape([n for index in searched for n in index.shape])
    inner = np.moveaxis(inner, range(1, inner.ndim, 2), range(-len(cells), 0))
    lowest = inner.reshape(*cells, -1).argmin(axis=-1)
    within = np.unravel_index(lowest, [index.shape[1] for index in searched])
    at = (
        index[_along(np.arange(len(index)), axis, len(cells)), w]
        for axis, (index, w) in enumerate(zip(searched, within, strict=True))
    )
    markers[tuple(at)] = np.arange(1, lowest.size + 1).reshape(cells)
    return markers
