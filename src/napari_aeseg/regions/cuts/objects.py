"""Finding objects: parts of an image that look like objects, each with its own threshold."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.measure import label as connected_components
from skimage.segmentation import watershed

from napari_aeseg.errors import InputError
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.cuts.component_tree import best_cut, component_tree, subtree_sums

if TYPE_CHECKING:
    from collections.abc import Iterator


# Weights of red, green and blue (Rec. 709).
_LUMINANCE = (0.2125, 0.7154, 0.0721)
_LEVELS = 200  # grey levels of the component tree
# No object is smaller (pixels) or larger (share of the image); `min_size` replaces the first.
_SMALLEST, _LARGEST = 15, 0.25
# Volumes with fewer slices are thin: their objects are cut off above and below.
_THIN = 8
# How far from an ellipse a blob may be, which can be several objects, and a single object.
_BLOB_MISFIT, _OBJECT_MISFIT = 0.25, 0.1
# A blob is split only if its misfit exceeds about this many times the usual one (weighted 30 %
# quantile), clipped to these bounds.
_SPLIT_MISFIT, _SPLIT_BOUNDS = 5.0, (0.04, 0.2)
# A split's value is multiplied by 1 - t**_NECK_POWER, t = neck thickness / thickness of the thinner
# part: thick necks are not cut.
_NECK_POWER = 8
# The faintest object has at least this share of the clear ones' contrast * sqrt(area), a share that
# depends on the image and lies in this range.
_FAINTEST = (0.1, 0.5)
# Least contrast * sqrt(area) of an object in units of the median gradient, 2D and 3D: few blobs of
# noise reach it.
_NOISE = {2: 8.0, 3: 3.5}
# Standard deviation in pixels of the Gaussian that levels and depths are smoothed by.
_SMOOTHING = 0.7


def brightness_of(pixels: np.ndarray) -> np.ndarray:
    """Return the brightness of each pixel of (C, *space), float16: three channels are RGB."""
    weight = _LUMINANCE if len(pixels) == 3 else [1 / len(pixels)] * len(pixels)
    return np.tensordot(np.asarray(weight, np.float32), pixels, 1).astype(np.float16)


class ObjectSearch:
    """Finds objects such as nuclei, cells or particles, at pixel resolution and without labels.

    Every connected part of the image above some threshold, or below one, is a candidate [1]_,
    worth ``area**0.75 * contrast**2``, less when it is far from an ellipse; its contrast is the
    geometric mean of the gradient along its outline. The best set without overlaps is taken, so
    that each object has the threshold that suits it. Touching objects are split at their necks
    where the parts are clearly more elliptic than the whole. Bright or dark objects are returned,
    whichever look more like objects, without those whose score lies below the gap in the scores.

    Candidates are kept: another smallest size or foreground is answered quickly. The brightness is
    from `brightness_of`; two or three space axes.

    References
    ----------
    .. [1] P. Salembier, A. Oliveras, L. Garrido, Antiextensive connected operators for image and
       sequence processing, IEEE Transactions on Image Processing 7, 1998.

    Examples
    --------
    >>> y, x = np.indices((64, 64))
    >>> touching = np.minimum(np.hypot(y - 32, x - 22), np.hypot(y - 32, x - 42)) < 11
    >>> labels = ObjectSearch(touching.astype(np.float32)).find()
    >>> int(labels.max()), bool(((labels > 0) == touching).mean() > 0.99)
    (2, True)
    """

    def __init__(self, brightness: np.ndarray) -> None:
        self.brightness = brightness
        # A single slice is an image: how deep its objects are cannot be seen.
        single = [axis for axis, n in enumerate(brightness.shape) if n == 1]
        self._view = brightness.squeeze(tuple(single[: brightness.ndim - 2]))
        self._candidates: dict[int, tuple[_Candidates, _Candidates]] = {}

    def find(
        self,
        foreground: np.ndarray | None = None,
        min_size: int | None = None,
        stop: StopFlag | None = None,
        bright: bool | None = None,
    ) -> np.ndarray:
        """Find objects: 0 for background, 1 .. n for objects, each connected along pixel faces.

        Objects are clipped to the `foreground`, a mask of the space. When objects seen in the image
        cover less than half of it, its own connected components are taken, split at their necks.
        `min_size` are the pixels of the smallest object, 1 or more. Without it, objects that are
        small and faint beside the others, or may be noise, are left out. `bright` chooses bright or
        dark objects; by default, those are taken that look more like objects.
        """
        _check(self.brightness.shape, foreground, min_size)
        smallest = _SMALLEST if min_size is None else int(min_size)
        bright_and_dark = self._both_candidates(smallest, stop)
        if foreground is not None:
            options = [candidates.of_size(smallest) for candidates in bright_and_dark]
            labels = _within(foreground.reshape(self._view.shape), options, smallest, stop)
        elif bright is None:
            best = max(bright_and_dark, key=lambda candidates: candidates.quality)
            labels = best.of_size(smallest)
        else:
            labels = bright_and_dark[0 if bright else 1].of_size(smallest)
        return labels.reshape(self.brightness.shape)

    def quality(
        self, min_size: int | None = None, stop: StopFlag | None = None
    ) -> tuple[float, float]:
        """Return how much like objects the bright ones look, and the dark ones."""
        smallest = _SMALLEST if min_size is None else int(min_size)
        bright, dark = self._both_candidates(smallest, stop)
        return bright.quality, dark.quality

    def _both_candidates(
        self, smallest: int, stop: StopFlag | None
    ) -> tuple[_Candidates, _Candidates]:
        """Bright and dark candidates."""
        # Search with at most _SMALLEST pixels: with a larger limit, small objects would be taken at
        # a lower threshold to reach it. Larger sizes are filtered in `of_size`, so that they share
        # these candidates.
        smallest = min(smallest, _SMALLEST)
        if smallest not in self._candidates:
            view = self._view.astype(np.float32)
            bright = _bright_candidates(view, smallest, stop)
            dark = _bright_candidates(-view, smallest, stop)
            self._candidates = {smallest: (bright, dark)}  # only the last, for memory
        return self._candidates[smallest]


class ObjectSearchInTime:
    """An `ObjectSearch` for each frame; an object keeps its label while it overlaps itself."""

    def __init__(self, brightness: np.ndarray, axis: int) -> None:
        self._axis = axis
        self._searches = [ObjectSearch(frame) for frame in np.moveaxis(brightness, axis, 0)]

    def find(
        self,
        foreground: np.ndarray | None = None,
        min_size: int | None = None,
        stop: StopFlag | None = None,
    ) -> np.ndarray:
        """Find objects as `ObjectSearch.find` does: bright or dark ones, the same in all frames."""
        bright = None
        if foreground is None and len(self._searches) > 1:
            quality = np.sum([s.quality(min_size, stop) for s in self._searches], axis=0)
            bright = bool(quality[0] >= quality[1])
        frames = []
        for i, search in enumerate(self._searches):
            raise_if_stopped(stop, "objects")
            mask = None if foreground is None else np.take(foreground, i, self._axis)
            frames.append(search.find(mask, min_size, stop, bright))
        return np.stack(link_frames(frames), axis=self._axis)


def link_frames(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return labels of frames, 0 for background, such that an object has the same in all of them.

    An object is that of the frame before if each is what the other overlaps most. Else, as after a
    division or where it appears, it is a new one.
    """
    linked: list[np.ndarray] = []
    last = 0
    for labels in frames:
        number = int(labels.max(initial=0))
        new_label = np.zeros(number + 1, np.int32)
        if linked:
            current, before = _mutual_overlaps(labels, linked[-1])
            new_label[current] = before
        appeared = np.flatnonzero(new_label[1:] == 0) + 1
        new_label[appeared] = np.arange(last + 1, last + 1 + len(appeared))
        last += len(appeared)
        linked.append(new_label[labels])
    return linked


def _mutual_overlaps(labels: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of two frames that overlap each other most, the first of equals."""
    both = (labels > 0) & (before > 0)
    pairs, pixels = np.unique(np.stack([labels[both], before[both]]), axis=1, return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    pairs = pairs[:, order]
    first = [np.isin(np.arange(len(order)), np.unique(row, return_index=True)[1]) for row in pairs]
    return tuple(pairs[:, first[0] & first[1]])


def _check(space: tuple[int, ...], foreground: np.ndarray | None, min_size: int | None) -> None:
    whole = isinstance(min_size, int | np.integer) and not isinstance(min_size, bool)
    if min_size is not None and (not whole or min_size < 1):
        raise InputError(f"min_size = {min_size!r}: give a whole number of pixels, 1 or more.")
    if foreground is not None and (foreground.shape != space or foreground.dtype != bool):
        raise InputError(
            f"foreground is {foreground.dtype} of shape {foreground.shape}: give a bool mask of "
            f"shape {space}."
        )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Parts of an image that may be objects, bright ones or dark ones."""

    labels: np.ndarray
    clear: np.ndarray  # which labels stand out enough, shape (n,)
    area: np.ndarray  # pixels of each label, shape (n,)
    quality: float  # how much like objects they look, all together

    def of_size(self, smallest: int) -> np.ndarray:
        """Labels of those that are clear and not too small, numbered anew."""
        return _selected(self.labels, self.clear & (self.area >= smallest))


def _bright_candidates(view: np.ndarray, smallest: int, stop: StopFlag | None) -> _Candidates:
    """Candidates that are brighter than their surroundings."""
    raise_if_stopped(stop, "objects")
    gradient = ndimage.gaussian_gradient_magnitude(view, 1.0)
    raise_if_stopped(stop, "objects")
    blobs, contrast, value = _blobs(view, gradient, smallest, stop)
    if not len(value):
        return _Candidates(blobs, np.zeros(0, bool), np.zeros(0), 0.0)
    raise_if_stopped(stop, "objects")
    usual = _quantile(ellipse_misfit(coordinate_moments(blobs)), value, 0.3)
    tolerance = float(np.clip(_SPLIT_MISFIT * usual, *_SPLIT_BOUNDS))
    labels, blob = split_at_necks(blobs, tolerance, stop)
    moments = coordinate_moments(labels)
    area, contrast = moments[:, 0], contrast[blob]
    penalty = (ellipse_misfit(moments) / _OBJECT_MISFIT) ** 2
    # Of all objects together. Exponent of area below that of `value`: large ones count less.
    quality = float((np.sqrt(area) * contrast**2 * np.exp(-penalty)).sum())
    # Of one object: log(contrast * sqrt(area)) less half the penalty. It grows with area as the
    # signal-to-noise ratio of a mean does. Kept are objects above the gap between faint and clear.
    score = np.log(contrast) + np.log(area) / 2 - penalty / 2
    clear_score = _quantile(score, area * contrast, 0.7)
    faintest_score = np.clip(_deepest_valley(score, area**0.75), *(clear_score + np.log(_FAINTEST)))
    noise_score = np.log(_NOISE[view.ndim] * float(np.median(gradient)) + 1e-12)
    return _Candidates(labels, score >= max(faintest_score, noise_score), area, quality)


def _blobs(
    view: np.ndarray, gradient: np.ndarray, smallest: int, stop: StopFlag | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best set of nodes of the component tree: labels, contrast and value of each blob."""
    smooth = ndimage.gaussian_filter(view, _SMOOTHING)
    low, high = np.percentile(smooth, [0, 99.9])
    levels = np.rint((smooth - low) * (_LEVELS / max(high - low, 1e-9))).clip(0, _LEVELS)
    levels = levels.astype(np.int32)
    raise_if_stopped(stop, "objects")
    parents, node = component_tree(levels, stop)
    raise_if_stopped(stop, "objects")
    length, steepness = _outline(levels, gradient)
    at_edge, thin = np.ones(view.shape, bool), _THIN if view.ndim > 2 else 0
    at_edge[tuple(slice(1, -1) if n >= thin else slice(None) for n in view.shape)] = False
    sums = []
    images = [*coordinate_powers(view.shape), length, steepness, at_edge]
    for summed in subtree_sums(parents, node, images):
        raise_if_stopped(stop, "objects")
        sums.append(summed)
    *moments, outline, steepness_sum, pixels_at_edge = sums
    area = moments[0]
    contrast = np.exp(steepness_sum / np.maximum(outline, 1))
    misfit = ellipse_misfit(np.stack(moments, axis=1))
    # Exponent of area below 1: parts with the same contrast as their whole are worth more than it.
    value = area**0.75 * contrast**2 * np.exp(-((misfit / _BLOB_MISFIT) ** 2))
    too_large = area > _LARGEST * view.size
    # A blob with more pixels on the image's edge than visible outline is cut off: no object.
    value[(area < smallest) | too_large | (pixels_at_edge > outline)] = 0
    raise_if_stopped(stop, "objects")
    chosen, label = best_cut(parents, value)
    raise_if_stopped(stop, "objects")
    return _filled(label[node].reshape(view.shape)), contrast[chosen], value[chosen]


def _outline(levels: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images whose sums over a node are the length of its outline and the log-gradient along it.

    Each pixel face between two levels counts +1 for the higher pixel and -1 for the lower, so that
    the sum over a node is the length of its outline.
    """
    log_gradient = np.log(gradient + np.float32(1e-8))
    length, steepness = np.zeros(levels.shape, np.float32), np.zeros(levels.shape, np.float32)
    for pixel, neighbour in neighbour_slices(levels.ndim):
        step = np.sign(levels[pixel] - levels[neighbour]).astype(np.float32)
        mean = (log_gradient[pixel] + log_gradient[neighbour]) * (step / 2)
        length[pixel] += step
        length[neighbour] -= step
        steepness[pixel] += mean
        steepness[neighbour] -= mean
    return length, steepness


def _filled(labels: np.ndarray) -> np.ndarray:
    """Fill holes, and with them what lies inside, with the label around them."""
    holes, number = ndimage.label(labels == 0, np.ones((3,) * labels.ndim))
    around = np.zeros(number + 1, np.int32)
    # The last value written stays: what is above the first pixel of the hole, and so around it.
    around[holes[1:].ravel()[::-1]] = labels[:-1].ravel()[::-1]
    for axis in range(labels.ndim):
        around[np.take(holes, [0, -1], axis)] = 0  # open towards what the image does not show
    return np.where(holes > 0, around[holes], labels)


def _quantile(values: np.ndarray, weight: np.ndarray, quantile: float) -> float:
    """Weighted quantile."""
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    rank = min(int(np.searchsorted(share, quantile)), len(order) - 1)
    return float(values[order[rank]])


def _deepest_valley(score: np.ndarray, weight: np.ndarray) -> float:
    """The deepest valley between two hills in the distribution of the score."""
    bins = np.arange(score.min() - 1, score.max() + 1.1, 0.05)
    density = ndimage.gaussian_filter1d(np.histogram(score, bins, weights=weight)[0], 6.0)
    left = np.maximum.accumulate(density)
    right = np.maximum.accumulate(density[::-1])[::-1]
    hills = np.minimum(left, right)
    return float(bins[np.argmax((hills - density) / np.sqrt(np.maximum(hills, 1e-9)))])


def _selected(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Labels for which `keep` holds, numbered anew."""
    new_label = np.concatenate([[0], np.where(keep, np.cumsum(keep), 0)])
    return new_label.astype(np.int32)[labels]


def _within(
    foreground: np.ndarray, options: list[np.ndarray], smallest: int, stop: StopFlag | None
) -> np.ndarray:
    """The objects that cover the foreground best, clipped to it; else its own components."""
    best, best_cover = None, 0.5
    for labels in options:
        area, shared = np.bincount(labels.ravel()), np.bincount(labels.ravel(), foreground.ravel())
        mostly_inside = shared >= area / 2
        mostly_inside[0] = False
        outside = (area - shared)[mostly_inside].sum()
        cover = shared[mostly_inside].sum() / max(foreground.sum() + outside, 1)
        if cover > best_cover:
            best, best_cover = np.where(mostly_inside[labels] & foreground, labels, 0), cover
    if best is None:
        if not foreground.any():
            return np.zeros(foreground.shape, np.int32)
        best, _ = split_at_necks(ndimage.label(foreground)[0], _OBJECT_MISFIT, stop)
    components = connected_components(best, connectivity=1)
    return _selected(components, np.bincount(components.ravel())[1:] >= smallest)


def split_at_necks(
    blobs: np.ndarray, tolerance: float, stop: StopFlag | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split blobs at their necks; return the parts, and the blob (from 0) of each.

    The watershed of the depth inside gives basins; their merges are a tree, of which the cut is
    taken whose parts are most elliptic. `tolerance` is the misfit at which a part is worth 1/e.
    """
    raise_if_stopped(stop, "objects")
    inside = np.pad(blobs > 0, 1, mode="edge")  # the edge of the image makes no neck
    depth = ndimage.distance_transform_edt(inside)[(slice(1, -1),) * blobs.ndim] - 1
    raise_if_stopped(stop, "objects")
    depth = ndimage.gaussian_filter(np.maximum(depth, 0).astype(np.float32), _SMOOTHING)
    peaks, number = ndimage.label((depth == ndimage.maximum_filter(depth, 3)) & (blobs > 0))
    raise_if_stopped(stop, "objects")
    basins = watershed(-depth, peaks, mask=blobs > 0)
    raise_if_stopped(stop, "objects")
    moments = list(coordinate_moments(basins))
    merges, neck = _basin_merges(basins, depth)
    for a, b in merges:
        moments.append(moments[a] + moments[b])
    raise_if_stopped(stop, "objects")
    table = np.array(moments)
    value = (table[:, 0] * np.exp(-((ellipse_misfit(table) / tolerance) ** 2))).tolist()
    whole = [True] * len(value)
    for node, (a, b) in enumerate(merges, number):
        value_apart = (value[a] + value[b]) * (1 - neck[node - number] ** _NECK_POWER)
        whole[node] = value[node] >= value_apart
        value[node] = max(value[node], value_apart)
    label = [0] * len(value)
    count = 0
    for node in range(len(value) - 1, -1, -1):
        if not label[node] and whole[node]:
            count += 1
            label[node] = count
        if node >= number:
            label[merges[node - number][0]] = label[merges[node - number][1]] = label[node]
    parts = np.array([0, *label[:number]], np.int32)[basins]
    blob = np.zeros(count + 1, np.int64)
    blob[parts.ravel()] = blobs.ravel()
    return parts, blob[1:] - 1


def _basin_merges(
    basins: np.ndarray, depth: np.ndarray
) -> tuple[list[tuple[int, int]], list[float]]:
    """Merges of basins, shallow ones first: the two nodes, and how thick the neck between is.

    Basins are nodes 0 .. n-1, merge i is node n + i. The thickness is relative to the thinner one.
    """
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
    neck = neck[order][widest]
    top = ndimage.maximum(depth, basins, np.arange(1, number + 1)).tolist()
    ends = np.stack([pair // number, pair % number], axis=1)
    # Dynamics: how far the lower of two peaks rises above the neck between them.
    dynamics = np.array(top)[ends].min(axis=1) - neck if len(ends) else neck
    parent = list(range(number))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    merges, thickness = [], []
    for k in np.argsort(dynamics, kind="stable").tolist():
        a, b = root(int(ends[k, 0])), root(int(ends[k, 1]))
        if a != b:
            thickness.append(min(1.0, float(neck[k]) / max(min(top[a], top[b]), 1e-9)))
            merges.append((a, b))
            parent[a] = parent[b] = len(parent)
            parent.append(len(parent))
            top.append(max(top[a], top[b]))
    return merges, thickness


def ellipse_misfit(moments: np.ndarray) -> np.ndarray:
    """Share of the ellipse (ellipsoid) with the same moments that is not filled: 0 for one."""
    ndim = {6: 2, 10: 3}[moments.shape[1]]
    area = np.maximum(moments[:, 0], 1)
    mean = moments[:, 1 : 1 + ndim] / area[:, np.newaxis]
    covariance = np.empty((len(area), ndim, ndim))
    for k, (a, b) in enumerate(combinations_with_replacement(range(ndim), 2), 1 + ndim):
        covariance[:, a, b] = covariance[:, b, a] = moments[:, k] / area - mean[:, a] * mean[:, b]
    covariance[:, range(ndim), range(ndim)] += 1 / 12  # a pixel is a square, not a point
    # Semi-axes are sqrt(ndim + 2) standard deviations long.
    unit_ball = {2: np.pi, 3: 4 / 3 * np.pi}[ndim] * (ndim + 2) ** (ndim / 2)
    size = unit_ball * np.sqrt(np.maximum(np.linalg.det(covariance), 1e-12))
    return np.maximum(1 - area / size, 0)


def coordinate_moments(labels: np.ndarray) -> np.ndarray:
    """Sums of `coordinate_powers` over labels 1 .. n, shape (n, K)."""
    flat = labels.ravel()
    sums = [np.bincount(flat, image.ravel()) for image in coordinate_powers(labels.shape)]
    return np.stack(sums, axis=1)[1:]


def coordinate_powers(space: tuple[int, ...]) -> list[np.ndarray]:
    """Images of 1, each coordinate and each product of two: their sums are the moments."""
    centre = [n / 2 for n in space]
    coordinates = [
        np.broadcast_to(index - c, space)
        for index, c in zip(np.ogrid[tuple(map(slice, space))], centre, strict=True)
    ]
    products = [a * b for a, b in combinations_with_replacement(coordinates, 2)]
    return [np.ones(space), *coordinates, *products]


def neighbour_slices(ndim: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Along each axis, slices of all pixels but the last and of their next neighbours."""
    for axis in range(ndim):
        pixel, neighbour = [slice(None)] * ndim, [slice(None)] * ndim
        pixel[axis], neighbour[axis] = slice(None, -1), slice(1, None)
        yield tuple(pixel), tuple(neighbour)
