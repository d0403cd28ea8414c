"""Candidates for objects: parts of a map that stand out, and what they look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations_with_replacement

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu, threshold_otsu
from skimage.morphology import h_maxima

from napari_aeseg.images.parallel import cores, in_threads
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.flooding import distance_inside, flood
from napari_aeseg.regions.objects.component_tree import component_tree, large_parts
from napari_aeseg.regions.objects.nested_parts import NestedParts

Slices = tuple[slice, ...]

# Grey levels of the component tree.
_LEVELS = 64
# Standard deviation in pixels of the Gaussian that levels are smoothed by, of the gradient, and of
# depths: fewer peaks.
_SMOOTHING, _GRADIENT, _DEPTH = 0.7, 1.0, 1.0
# Volumes are smoothed more where noise asks for it: until it is this share of the step between
# bright and dark; but with at most this standard deviation, in pixels.
_NOISE_LEFT, _WIDEST = 0.06, 3.0
# Of a local threshold, as a share of the longest side.
_SURROUNDINGS = 1 / 16
# No object is larger (share of the image), or has more of its outline cut off by the image's edge.
_LARGEST, _CUT_OFF = 0.25, 0.4
#: Volumes with fewer slices are thin: their objects are cut off above and below.
THIN = 8
# In images, outlines of candidates are at least this much steeper (log) than gradients usually are.
_LEAST_CONTRAST = 0.25
# The noise of a map is at least this share of its range: images without noise are rounded.
_LEAST_NOISE = 1 / 500

#: What is measured of each candidate, in the order of `Candidates.features`. The radius is that of
#: a circle (ball) of the same size; gradients are compared with their median over the map.
FEATURES = (
    "contrast_radius",  # log(gradient along the outline x radius)
    "contrast",  # log(gradient along the outline), its geometric mean
    "unevenness",  # standard deviation of the log-gradient along the outline
    "texture",  # log(gradient inside / along the outline)
    "misfit",  # share of the ellipse with the same moments that is not filled
    "elongation",  # log(longest / shortest axis of that ellipse)
    "roughness",  # log(length of the outline / that of a circle)
    "blur",  # log(step / gradient along the outline / radius)
    "cut_off",  # share of the outline that is the image's edge
    "step",  # log(mean inside - value just outside)
)
CONTRAST = FEATURES.index("contrast")


@dataclass(frozen=True, slots=True)
class Surface:
    """A map in which objects are bright, and what is computed from it once."""

    values: np.ndarray  # smoothed
    gradient: np.ndarray
    noise: float  # the usual gradient
    levels: np.ndarray
    spacing: tuple[float, ...]  # sides of a pixel; the shortest is 1

    @classmethod
    def of(cls, view: np.ndarray, spacing: tuple[float, ...]) -> Surface:
        """Smooth a map and compute its gradient."""
        smoothing = _SMOOTHING if view.ndim == 2 else smoothing_of(view, spacing)
        # Along long sides of pixels, the derivative needs a Gaussian of half a pixel all the same.
        widths = [max(_GRADIENT / side, smoothing / side, 0.5) for side in spacing]
        gradient = np.zeros(view.shape, np.float32)
        for axis, side in enumerate(spacing):
            order = [int(a == axis) for a in range(view.ndim)]
            gradient += (ndimage.gaussian_filter(view, widths, order) / np.float32(side)) ** 2
        gradient = np.sqrt(gradient)
        values = ndimage.gaussian_filter(view, [smoothing / s for s in spacing])
        low, high = np.percentile(values, [0.1, 99.9])
        # In crowded volumes, most of the gradient is that of objects.
        usual = float(np.percentile(gradient, 50 if view.ndim == 2 else 25))
        noise = max(usual, _LEAST_NOISE * float(high - low), 1e-6)
        return cls(values, gradient, noise, _dense_levels(values, gradient, usual), spacing)


def smoothing_of(view: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Standard deviation of the Gaussian that leaves little of the noise of a volume."""
    longest = int(np.argmax(view.shape))
    along = np.moveaxis(view, longest, 0)
    if len(along) < 3:
        return _SMOOTHING
    # Of a pixel and the mean of its neighbours; the median leaves out what is in the image.
    noise = np.abs(along[1:-1] - (along[2:] + along[:-2]) / 2) / 0.6745 / np.sqrt(1.5)
    smooth = ndimage.gaussian_filter(view, [2 / side for side in spacing])
    bright = smooth > threshold_otsu(smooth)
    inside = np.moveaxis(bright, longest, 0)[1:-1]
    if not inside.any():
        return _SMOOTHING
    step = smooth[bright].mean() - smooth[~bright].mean()
    noise = np.median(noise[inside])  # of photons, it is stronger where it is bright
    # A Gaussian leaves noise (2 sqrt(pi) width) ** (-3 / 2) of it.
    width = (noise / max(step, 1e-6) / _NOISE_LEFT) ** (2 / 3) / (2 * np.sqrt(np.pi))
    return float(np.clip(width, _SMOOTHING, _WIDEST))


def _dense_levels(values: np.ndarray, gradient: np.ndarray, usual: float) -> np.ndarray:
    """Levels 0 .. _LEVELS - 1, close where outlines or many pixels are.

    A few very bright things take few of the levels, so that all others have theirs.
    """
    flat = values.ravel()
    low, high = float(flat.min()), float(flat.max())
    if low == high:
        return np.zeros(values.shape, np.int32)
    sample = flat[:: max(1, flat.size // 20_000)]
    bins = np.concatenate(
        [np.quantile(sample, np.linspace(0, 1, 513)), np.linspace(low, high, 513)]
    )
    bins = np.unique(bins.clip(low, high))
    outlines = np.minimum(gradient.ravel(), 5 * usual + 1e-9)
    share = [
        np.histogram(flat, bins, weights=outlines)[0] / outlines.sum(dtype=np.float64),
        np.histogram(flat, bins)[0] / flat.size,
        np.diff(bins) / (high - low),
    ]
    density = 0.4 * share[0] + 0.3 * share[1] + 0.3 * share[2]
    level = np.concatenate([[0], np.cumsum(density)]) * (_LEVELS - 1)
    return np.rint(np.interp(flat, bins, level)).astype(np.int32).reshape(values.shape)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Nested parts of one map that may be objects."""

    parts: NestedParts
    features: np.ndarray  # (N, len(FEATURES))
    pixels: np.ndarray  # (N,)
    radius: np.ndarray  # (N,), in units of the shortest side of a pixel
    possible: np.ndarray  # (N,): neither too small, nor too large, nor mostly cut off


def candidates_of(
    view: np.ndarray,
    smallest: int,
    spacing: tuple[float, ...],
    stop: StopFlag | None = None,
) -> list[Candidates]:
    """Find what may be bright objects in a map: each set of candidates is nested in itself.

    The first set are the connected parts above each of the levels [1]_. The others are parts of
    what is above a threshold of the whole map or of the surroundings: the basins of its depth, and
    what these merge to when the shallowest neck between two is given up first.

    References
    ----------
    .. [1] P. Salembier, A. Oliveras, L. Garrido, Antiextensive connected operators for image and
       sequence processing, IEEE Transactions on Image Processing 7, 1998.
    """
    raise_if_stopped(stop, "objects")
    surface = Surface.of(view, spacing)
    if not surface.levels.any():
        return []

    def candidates_in(mask: np.ndarray | None) -> Candidates | None:
        raise_if_stopped(stop, "objects")
        if mask is None:
            parts = large_parts(*component_tree(surface.levels, stop), surface.levels, smallest)
            along = [parts.sums(image) for image in _outline_images(surface)]
        else:
            basins, merges = basins_of(filled(ndimage.label(mask)[0]) > 0, spacing, stop)
            if not basins.any():
                return None
            parts, part_of_basin = nested_basins(basins, merges)
            along = _sums_along_outlines(basins, parts, part_of_basin, surface)
        return _described(parts, along, surface, smallest, stop)

    of_sets = in_threads(candidates_in, chain([None], _masks(surface)), cores())
    return [candidates for candidates in of_sets if candidates is not None]


def _masks(surface: Surface) -> Iterator[np.ndarray]:
    """Where the map is above a threshold: three of the whole map, and one of the surroundings."""
    values, levels = surface.values, surface.levels
    yield levels > threshold_otsu(levels)
    if len(np.unique(values)) > 2:
        for threshold in threshold_multiotsu(values, 3):
            yield values > threshold
    width = max(values.shape) * _SURROUNDINGS
    yield values > _wide_mean(values, [width / side for side in surface.spacing])


def _wide_mean(values: np.ndarray, widths: list[float]) -> np.ndarray:
    """Gaussian mean; wide ones are computed from every n-th pixel, which takes no time."""
    steps = [max(1, int(width / 4)) for width in widths]
    smooth = [step / 2 for step in steps]
    coarse = ndimage.gaussian_filter(values, smooth)[tuple(slice(None, None, n) for n in steps)]
    coarse = ndimage.gaussian_filter(coarse, [w / n for w, n in zip(widths, steps, strict=True)])
    at = [
        np.minimum(np.arange(n) / s, c - 1)
        for n, s, c in zip(values.shape, steps, coarse.shape, strict=True)
    ]
    for axis, places in enumerate(at):
        low = places.astype(int)
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        share = (
            (places - low)
            .astype(np.float32)
            .reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        )
        coarse = np.take(coarse, low, axis) * (1 - share) + np.take(coarse, high, axis) * share
    return coarse


def _outline_images(surface: Surface) -> list[np.ndarray]:
    """Images whose sums over a part of the component tree are sums along its outline.

    Each pixel face between two levels counts +1 for the higher pixel and -1 for the lower, so that
    the sum over a part is the length of its outline.
    """
    levels = surface.levels
    images = [np.zeros(levels.shape, np.float32) for _ in range(4)]
    for pixel, neighbour, values in _faces(surface):
        step = np.sign(levels[pixel] - levels[neighbour]).astype(np.float32)
        for image, value in zip(images, values, strict=True):
            image[pixel] += step * value
            image[neighbour] -= step * value
    return images


def _faces(surface: Surface) -> Iterator[tuple[Slices, Slices, list[np.ndarray]]]:
    """Along each axis, slices of pixels and of their next neighbours, and values of their faces.

    These are the area of a face, and that times its log-gradient, the square of this, and the lower
    of both values.
    """
    log_gradient = np.log(surface.gradient + np.float32(1e-6))
    for axis, (pixel, neighbour) in enumerate(neighbour_slices(surface.values.ndim)):
        area = np.float32(np.prod(surface.spacing) / surface.spacing[axis])
        mean = (log_gradient[pixel] + log_gradient[neighbour]) / 2
        lower = np.minimum(surface.values[pixel], surface.values[neighbour])
        yield (
            pixel,
            neighbour,
            [np.full_like(mean, area), area * mean, area * mean**2, area * lower],
        )


def nested_basins(
    basins: np.ndarray, merges: list[tuple[int, int]]
) -> tuple[NestedParts, np.ndarray]:
    """Return basins and what they merge to as nested parts, and which part each basin is."""
    number = int(basins.max())
    total = number + len(merges)
    above = np.full(total, total)  # node `total` is the whole image, part 0
    for k, (a, b) in enumerate(merges, number):
        above[a] = above[b] = k
    parts = NestedParts(
        np.concatenate([[0], (total - above)[::-1]]), np.where(basins > 0, total + 1 - basins, 0)
    )
    return parts, parts.number[total - np.arange(number)]


def _sums_along_outlines(
    basins: np.ndarray, parts: NestedParts, part_of_basin: np.ndarray, surface: Surface
) -> list[np.ndarray]:
    """Sums along the outline of each part that basins merge to."""
    number = len(part_of_basin)
    sums = np.zeros((4, len(parts)))
    for pixel, neighbour, values in _faces(surface):
        a, b = basins[pixel], basins[neighbour]
        apart = a != b
        a, b = a[apart], b[apart]
        between = (a > 0) & (b > 0)
        ends = np.sort([a[between] - 1, b[between] - 1], axis=0).astype(np.int64)
        pair, of_face = np.unique(ends[0] * number + ends[1], return_inverse=True)
        merge = _common(part_of_basin[pair // number], part_of_basin[pair % number], parts.parents)
        for total, value in zip(sums, values, strict=True):
            along = value[apart]
            for side in (a, b):
                total[part_of_basin] += np.bincount(side, along, number + 1)[1:]
            # A face between two basins is inside what they merge to.
            np.add.at(total, merge, -2 * np.bincount(of_face, along[between], len(pair)))
    return [parts.totals(total) for total in sums]


def _common(one: np.ndarray, other: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """The smallest parts that two parts are both inside."""
    one, other = one.copy(), other.copy()
    while (apart := one != other).any():
        deeper = apart & (one > other)  # parts are numbered by their depth
        one[deeper] = parents[one[deeper]]
        higher = apart & ~deeper
        other[higher] = parents[other[higher]]
    return one


def _described(
    parts: NestedParts,
    along: list[np.ndarray],
    surface: Surface,
    smallest: int,
    stop: StopFlag | None,
) -> Candidates:
    """Measure the features of nested parts, of which sums along their outlines are given."""
    raise_if_stopped(stop, "objects")
    spacing, ndim = surface.spacing, len(parts.shape)
    moments = np.stack([parts.sums(i) for i in coordinate_powers(parts.shape, spacing)], axis=1)
    raise_if_stopped(stop, "objects")
    inside = parts.sums(surface.values)
    log_inside = parts.sums(np.log(surface.gradient + np.float32(1e-6)))
    at_edge = parts.sums(_edge_faces(parts.shape, spacing))
    pixels = moments[:, 0]
    size = np.maximum(pixels, 1) * np.prod(spacing)
    radius = radius_of(size, ndim)
    length, log_sum, square_sum, lower_sum = along
    seen = np.maximum(length, 1)
    log_gradient = log_sum / seen
    step = np.log(np.maximum(inside / np.maximum(pixels, 1) - lower_sum / seen, 1e-6))
    contrast = log_gradient - np.log(surface.noise)
    misfit, elongation = ellipse_fit(moments, spacing)
    # Counted in faces, a circle is 4 / pi times as long, a ball 3 / 2 times.
    round_length = 8 * radius if ndim == 2 else 6 * np.pi * radius**2
    features = np.stack(
        [
            contrast + np.log(radius),
            contrast,
            np.sqrt(np.maximum(square_sum / seen - log_gradient**2, 0)),
            log_inside / np.maximum(pixels, 1) - log_gradient,
            misfit,
            elongation,
            np.log(seen / round_length),
            step - log_gradient - np.log(radius),
            at_edge / (seen + at_edge),
            step - np.log(surface.noise),
        ],
        axis=1,
    )
    possible = (pixels >= smallest) & (pixels <= _LARGEST * pixels[0])
    possible &= at_edge <= _CUT_OFF * (seen + at_edge)
    if ndim == 2:
        possible &= contrast > _LEAST_CONTRAST
    possible[0] = False
    return Candidates(parts, features, pixels, radius, possible)


def radius_of(size: np.ndarray, ndim: int) -> np.ndarray:
    """Radius of circles (balls) of these sizes."""
    return np.sqrt(size / np.pi) if ndim == 2 else np.cbrt(size * 3 / 4 / np.pi)


def _edge_faces(shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """How much of the image's edge each pixel has."""
    faces = np.zeros(shape, np.float32)
    for axis, n in enumerate(shape):
        if len(shape) == 2 or n >= THIN:
            for side in (0, -1):
                at = tuple(side if a == axis else slice(None) for a in range(len(shape)))
                faces[at] += np.float32(np.prod(spacing) / spacing[axis])
    return faces


def depth_of(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return how far inside a mask each pixel is, smoothed, float32."""
    inside = np.pad(mask, 1, mode="edge")  # the edge of the image makes no neck
    depth = distance_inside(inside, spacing)[(slice(1, -1),) * mask.ndim]
    depth = np.maximum(depth - 1, 0)
    return ndimage.gaussian_filter(depth, [_DEPTH / s for s in spacing])


def basins_of(
    mask: np.ndarray,
    spacing: tuple[float, ...],
    stop: StopFlag | None = None,
    widest_neck: float = 1.0,
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return basins 1 .. n of the depth inside a mask, and how they merge, shallow ones first.

    Basin i is node i - 1, merge k makes node n + k of two others. Necks between basins are at most
    `widest_neck` times as wide as the narrower of the two.
    """
    raise_if_stopped(stop, "objects")
    depth = depth_of(mask, spacing)
    raise_if_stopped(stop, "objects")
    if widest_neck < 1:
        peaks = h_maxima(np.log(np.maximum(depth, _DEPTH)), -np.log(widest_neck))
    else:
        peaks = depth == ndimage.maximum_filter(depth, 3)
    peaks, _ = ndimage.label(peaks & mask)
    raise_if_stopped(stop, "objects")
    basins = flood(-depth, peaks, mask)
    raise_if_stopped(stop, "objects")
    return basins, _basin_merges(basins, depth)


def necks_of(basins: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of basins that touch, each minus 1, (N, 2), and the depth of their neck (N,)."""
    number = int(basins.max())
    pairs, necks = [], []
    for pixel, neighbour in neighbour_slices(basins.ndim):
        one, other = basins[pixel], basins[neighbour]
        touch = (one != other) & (one > 0) & (other > 0)
        ends = np.sort([one[touch], other[touch]], axis=0).astype(np.int64) - 1
        pairs.append(ends[0] * number + ends[1])
        necks.append(np.minimum(depth[pixel][touch], depth[neighbour][touch]))
    pair, neck = np.concatenate(pairs), np.concatenate(necks)
    order = np.lexsort((-neck, pair))
    pair, widest = np.unique(pair[order], return_index=True)
    return np.stack([pair // number, pair % number], axis=1), neck[order][widest]


def _basin_merges(basins: np.ndarray, depth: np.ndarray) -> list[tuple[int, int]]:
    """Merges of basins, in the order of how far the lower peak rises above the neck between."""
    number = int(basins.max())
    if not number:
        return []
    ends, neck = necks_of(basins, depth)
    top = np.zeros(number + 1, np.float32)  # an order of magnitude faster than ndimage.maximum
    np.maximum.at(top, basins.ravel(), depth.ravel())
    rise = top[1:][ends].min(axis=1) - neck
    parent = list(range(number))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    merges = []
    for k in np.argsort(rise, kind="stable").tolist():
        a, b = root(int(ends[k, 0])), root(int(ends[k, 1]))
        if a != b:
            merges.append((a, b))
            parent[a] = parent[b] = len(parent)
            parent.append(len(parent))
    return merges


def filled(labels: np.ndarray) -> np.ndarray:
    """Fill holes, and with them what lies inside, with the label around them."""
    holes, number = ndimage.label(labels == 0, np.ones((3,) * labels.ndim))
    around = np.zeros(number + 1, np.int32)
    # The last value written stays: what is above the first pixel of the hole, and so around it.
    around[holes[1:].ravel()[::-1]] = labels[:-1].ravel()[::-1]
    for axis in range(labels.ndim):
        around[np.take(holes, [0, -1], axis)] = 0  # open towards what the image does not show
    return np.where(holes > 0, around[holes], labels)


def ellipse_fit(moments: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Share of the ellipse (ellipsoid) with the same moments that is not filled; log axis ratio."""
    ndim = {6: 2, 10: 3}[moments.shape[1]]
    count = np.maximum(moments[:, 0], 1)
    mean = moments[:, 1 : 1 + ndim] / count[:, np.newaxis]
    covariance = np.empty((len(count), ndim, ndim))
    for k, (a, b) in enumerate(combinations_with_replacement(range(ndim), 2), 1 + ndim):
        covariance[:, a, b] = covariance[:, b, a] = moments[:, k] / count - mean[:, a] * mean[:, b]
    # A pixel is a box, not a point.
    covariance[:, range(ndim), range(ndim)] += np.square(spacing) / 12
    variance = np.maximum(np.linalg.eigvalsh(covariance), 1e-3)
    # Semi-axes are sqrt(ndim + 2) standard deviations long.
    unit_ball = {2: np.pi, 3: 4 / 3 * np.pi}[ndim] * (ndim + 2) ** (ndim / 2)
    size = unit_ball * np.sqrt(variance.prod(axis=1))
    misfit = np.maximum(1 - count * np.prod(spacing) / size, 0)
    return misfit, np.log(variance[:, -1] / variance[:, 0]) / 2


def coordinate_powers(space: tuple[int, ...], spacing: tuple[float, ...]) -> Iterator[np.ndarray]:
    """Yield images of 1, each coordinate and each product of two: their sums are the moments."""
    coordinates = [
        np.broadcast_to((index - n / 2) * side, space)
        for index, n, side in zip(np.ogrid[tuple(map(slice, space))], space, spacing, strict=True)
    ]
    yield np.ones(space)
    yield from coordinates
    for a, b in combinations_with_replacement(coordinates, 2):
        yield a * b


def neighbour_slices(ndim: int) -> Iterator[tuple[Slices, Slices]]:
    """Along each axis, slices of all pixels but the last and of their next neighbours."""
    for axis in range(ndim):
        pixel, neighbour = [slice(None)] * ndim, [slice(None)] * ndim
        pixel[axis], neighbour[axis] = slice(None, -1), slice(1, None)
        yield tuple(pixel), tuple(neighbour)
