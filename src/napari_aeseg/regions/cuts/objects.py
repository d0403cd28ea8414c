"""Objects: the parts of an image that look like objects, each with a threshold of its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.measure import label as connected_pieces
from skimage.segmentation import watershed

from napari_aeseg.errors import InputError
from napari_aeseg.progress import raise_if_stopped
from napari_aeseg.regions.cuts.component_tree import best_cut, component_tree, subtree_sums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_aeseg.progress import StopFlag


# What a split loses: the thickness of the neck relative to the thinner part, to this power.
_NECK = 8


def split(
    blobs: np.ndarray, tolerance: float, stop: StopFlag | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Part blobs at their necks; return the parts, and the blob (from 0) of each."""
    raise_if_stopped(stop, "objects")
    inside = np.pad(blobs > 0, 1, mode="edge")  # the edge of the image makes no neck
    depth = ndimage.distance_transform_edt(inside)[(slice(1, -1),) * blobs.ndim] - 1
    raise_if_stopped(stop, "objects")
    depth = ndimage.gaussian_filter(np.maximum(depth, 0).astype(np.float32), 0.7)
    peaks, number = ndimage.label((depth == ndimage.maximum_filter(depth, 3)) & (blobs > 0))
    raise_if_stopped(stop, "objects")
    basins = watershed(-depth, peaks, mask=blobs > 0)
    raise_if_stopped(stop, "objects")
    moments = list(moments_of(basins))
    joined, neck = _joined(basins, depth)
    for a, b in joined:
        moments.append(moments[a] + moments[b])
    raise_if_stopped(stop, "objects")
    table = np.array(moments)
    best = (table[:, 0] * np.exp(-((misfit_of(table) / tolerance) ** 2))).tolist()
    whole = [True] * len(best)
    for node, (a, b) in enumerate(joined, number):
        apart = (best[a] + best[b]) * (1 - neck[node - number] ** _NECK)
        whole[node] = best[node] >= apart
        best[node] = max(best[node], apart)
    label = [0] * len(best)
    count = 0
    for node in range(len(best) - 1, -1, -1):
        if not label[node] and whole[node]:
            count += 1
            label[node] = count
        if node >= number:
            label[joined[node - number][0]] = label[joined[node - number][1]] = label[node]
    parts = np.array([0, *label[:number]], np.int32)[basins]
    blob = np.zeros(count + 1, np.int64)
    blob[parts.ravel()] = blobs.ravel()
    return parts, blob[1:] - 1


def _joined(basins: np.ndarray, depth: np.ndarray) -> tuple[list[tuple[int, int]], list[float]]:
    """Merges of basins, shallow ones first: the two nodes, and how thick the neck between is.

    Basins are nodes 0 .. n-1, merge i is node n + i. The thickness is relative to the thinner one.
    """
    number = int(basins.max())
    pairs, necks = [], []
    for here, there in neighbours(basins.ndim):
        touch = (basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0)
        ends = np.sort([basins[here][touch], basins[there][touch]], axis=0).astype(np.int64) - 1
        pairs.append(ends[0] * number + ends[1])
        necks.append(np.minimum(depth[here][touch], depth[there][touch]))
    pair, neck = np.concatenate(pairs), np.concatenate(necks)
    order = np.lexsort((-neck, pair))
    pair, widest = np.unique(pair[order], return_index=True)
    neck = neck[order][widest]
    top = ndimage.maximum(depth, basins, np.arange(1, number + 1)).tolist()
    ends = np.stack([pair // number, pair % number], axis=1)
    depth_of_own = np.array(top)[ends].min(axis=1) - neck if len(ends) else neck
    above = list(range(number))

    def root(node: int) -> int:
        while above[node] != node:
            above[node] = node = above[above[node]]
        return node

    joined, thickness = [], []
    for k in np.argsort(depth_of_own, kind="stable").tolist():
        a, b = root(int(ends[k, 0])), root(int(ends[k, 1]))
        if a != b:
            thickness.append(min(1.0, float(neck[k]) / max(min(top[a], top[b]), 1e-9)))
            joined.append((a, b))
            above[a] = above[b] = len(above)
            above.append(len(above))
            top.append(max(top[a], top[b]))
    return joined, thickness


def misfit_of(moments: np.ndarray) -> np.ndarray:
    """Share of the ellipse (ellipsoid) with the same moments that is not filled: 0 for one."""
    ndim = {6: 2, 10: 3}[moments.shape[1]]
    area = np.maximum(moments[:, 0], 1)
    mean = moments[:, 1 : 1 + ndim] / area[:, np.newaxis]
    spread = np.empty((len(area), ndim, ndim))
    for k, (a, b) in enumerate(combinations_with_replacement(range(ndim), 2), 1 + ndim):
        spread[:, a, b] = spread[:, b, a] = moments[:, k] / area - mean[:, a] * mean[:, b]
    spread[:, range(ndim), range(ndim)] += 1 / 12  # a pixel is a square, not a point
    ball = {2: np.pi, 3: 4 / 3 * np.pi}[ndim] * (ndim + 2) ** (ndim / 2)
    size = ball * np.sqrt(np.maximum(np.linalg.det(spread), 1e-12))
    return np.maximum(1 - area / size, 0)


def moments_of(labels: np.ndarray) -> np.ndarray:
    """Sums of `powers` over labels 1 .. n, shape (n, K)."""
    flat = labels.ravel()
    sums = [np.bincount(flat, image.ravel()) for image in powers(labels.shape)]
    return np.stack(sums, axis=1)[1:]


def powers(space: tuple[int, ...]) -> list[np.ndarray]:
    """Images of 1, each coordinate and each product of two: their sums are the moments."""
    centred = [n / 2 for n in space]
    at = [
        np.broadcast_to(index - centre, space)
        for index, centre in zip(np.ogrid[tuple(map(slice, space))], centred, strict=True)
    ]
    return [np.ones(space), *at, *(a * b for a, b in combinations_with_replacement(at, 2))]


def neighbours(ndim: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Along each axis, where all pixels but the last are, and their next neighbours."""
    for axis in range(ndim):
        here, there = [slice(None)] * ndim, [slice(None)] * ndim
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        yield tuple(here), tuple(there)


_LUMINANCE = (0.2125, 0.7154, 0.0721)
_LEVELS = 200  # grey levels of the component tree
# No object is smaller (pixels) or larger (share of the image); `min_size` replaces the first.
_SMALLEST, _LARGEST = 15, 0.25
# Volumes with fewer slices are thin: their objects are cut off above and below.
_THIN = 8
# How far from an ellipse a blob may be, which can be several objects, and a single object.
_BLOB_MISFIT, _OBJECT_MISFIT = 0.25, 0.1
# The same relative to how far the better blobs of the image are, with its bounds.
_SPLIT_MISFIT, _SPLIT_BOUNDS = 5.0, (0.04, 0.2)
# The faintest object relative to the clear ones (share of their score) lies in this range.
_FAINTEST = (0.1, 0.5)
# Least score of an object in units of the median gradient, 2D and 3D: few blobs of noise reach it.
_NOISE = {2: 8.0, 3: 3.5}


def brightness_of(pixels: np.ndarray) -> np.ndarray:
    """Return the brightness of each pixel, float16: three channels are taken for RGB.

    Parameters
    ----------
    pixels : ndarray of float32, shape (C, *space)
        About 0 to 1 in each channel.

    Examples
    --------
    >>> brightness_of(np.ones((2, 1, 3), np.float32))
    array([[1., 1., 1.]], dtype=float16)
    """
    weight = _LUMINANCE if len(pixels) == 3 else [1 / len(pixels)] * len(pixels)
    return np.tensordot(np.asarray(weight, np.float32), pixels, 1).astype(np.float16)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Parts of an image that may be objects, bright ones or dark ones.

    Parameters
    ----------
    labels : ndarray of int32, shape space
    clear : ndarray of bool, shape (n,)
        Which labels stand out enough.
    area : ndarray of float, shape (n,)
        Pixels of each label.
    quality : float
        How much like objects they look, all together.
    """

    labels: np.ndarray
    clear: np.ndarray
    area: np.ndarray
    quality: float

    def of_size(self, smallest: int) -> np.ndarray:
        """Labels of those that are clear and not too small, numbered anew."""
        return _only(self.labels, self.clear & (self.area >= smallest))


class ObjectSearch:
    """Remembers the candidates of an image: other smallest sizes and foregrounds are quick then.

    Parameters
    ----------
    brightness : ndarray of float, shape space
        From `brightness_of`.
    """

    def __init__(self, brightness: np.ndarray) -> None:
        self.brightness = brightness
        # A single slice is an image: nothing is seen of how far its objects go.
        single = [axis for axis, n in enumerate(brightness.shape) if n == 1]
        self._view = brightness.squeeze(tuple(single[: brightness.ndim - 2]))
        self._known: dict[int, tuple[_Candidates, _Candidates]] = {}

    def find(
        self,
        foreground: np.ndarray | None = None,
        min_size: int | None = None,
        stop: StopFlag | None = None,
        bright: bool | None = None,
    ) -> np.ndarray:
        """Find objects; see `find_objects`. `bright` says which to take, else the better ones."""
        _check(self.brightness.shape, foreground, min_size)
        smallest = _SMALLEST if min_size is None else int(min_size)
        both = self._candidates(min(smallest, _SMALLEST), stop)
        if foreground is not None:
            found = [candidates.of_size(smallest) for candidates in both]
            labels = _inside(foreground.reshape(self._view.shape), found, smallest, stop)
        elif bright is None:
            labels = max(both, key=lambda candidates: candidates.quality).of_size(smallest)
        else:
            labels = both[0 if bright else 1].of_size(smallest)
        return labels.reshape(self.brightness.shape)

    def quality(
        self, min_size: int | None = None, stop: StopFlag | None = None
    ) -> tuple[float, float]:
        """Return how much like objects the bright ones look, and the dark ones."""
        smallest = _SMALLEST if min_size is None else int(min_size)
        bright, dark = self._candidates(min(smallest, _SMALLEST), stop)
        return bright.quality, dark.quality

    def _candidates(self, smallest: int, stop: StopFlag | None) -> tuple[_Candidates, _Candidates]:
        # A small object must not grow until it is large enough: above a size, all are the same.
        if smallest not in self._known:
            view = self._view.astype(np.float32)
            found = _brighter(view, smallest, stop), _brighter(-view, smallest, stop)
            self._known = {smallest: found}  # one, for memory
        return self._known[smallest]


def find_objects(
    brightness: np.ndarray,
    foreground: np.ndarray | None = None,
    min_size: int | None = None,
    stop: StopFlag | None = None,
) -> np.ndarray:
    """Find objects such as nuclei, cells or particles, at pixel resolution and without labels.

    Every connected part of the image above some threshold, or below one, is a candidate [1]_,
    worth ``area**0.75 * gradient**2`` with the geometric mean of the gradient along its outline,
    and less when it is far from an ellipse. The best set without overlaps is taken, so that each
    object has the threshold that suits it. Touching objects are parted at their necks where the
    parts are clearly more elliptic than the whole. Bright or dark objects are returned, whichever
    look more like objects, without those whose score lies below the gap in the scores.

    Parameters
    ----------
    brightness : ndarray of float, shape space
        From `brightness_of`; two or three space axes.
    foreground : ndarray of bool, shape space, optional
        Where objects may be. They are clipped to it. When objects seen in the image cover less
        than half of it, its own connected parts are taken, parted at their necks.
    min_size : int, optional
        Pixels of the smallest object, 1 or more. Without it, objects too small and faint beside
        the others, or to be told from noise, are left out.
    stop : StopFlag, optional
        Checked between the steps.

    Returns
    -------
    ndarray of int32, shape space
        0 for background, 1 .. n for objects, each connected along pixel faces.

    Raises
    ------
    InputError
        If the foreground is not a mask of the image's shape, or `min_size` is no whole number
        above 0.
    StoppedError
        When asked to stop.

    References
    ----------
    .. [1] P. Salembier, A. Oliveras, L. Garrido, Antiextensive connected operators for image and
       sequence processing, IEEE Transactions on Image Processing 7, 1998.

    Examples
    --------
    >>> y, x = np.indices((64, 64))
    >>> touching = np.minimum(np.hypot(y - 32, x - 22), np.hypot(y - 32, x - 42)) < 11
    >>> labels = find_objects(touching.astype(np.float32))
    >>> int(labels.max()), bool(((labels > 0) == touching).mean() > 0.99)
    (2, True)
    """
    return ObjectSearch(brightness).find(foreground, min_size, stop)


def _check(space: tuple[int, ...], foreground: np.ndarray | None, min_size: int | None) -> None:
    whole = isinstance(min_size, int | np.integer) and not isinstance(min_size, bool)
    if min_size is not None and (not whole or min_size < 1):
        raise InputError(f"min_size = {min_size!r}: give a whole number of pixels, 1 or more.")
    if foreground is not None and (foreground.shape != space or foreground.dtype != bool):
        raise InputError(
            f"foreground is {foreground.dtype} of shape {foreground.shape}: give a bool mask of "
            f"shape {space}."
        )


def _brighter(view: np.ndarray, smallest: int, stop: StopFlag | None) -> _Candidates:
    """Candidates that are brighter than what is around them."""
    raise_if_stopped(stop, "objects")
    gradient = ndimage.gaussian_gradient_magnitude(view, 1.0)
    raise_if_stopped(stop, "objects")
    blobs, contrast, value = _blobs(view, gradient, smallest, stop)
    if not len(value):
        return _Candidates(blobs, np.zeros(0, bool), np.zeros(0), 0.0)
    raise_if_stopped(stop, "objects")
    usual = _quantile(misfit_of(moments_of(blobs)), value, 0.3)
    # A whole that is no further from an ellipse than a few times what is usual here stays whole.
    labels, blob = split(blobs, float(np.clip(_SPLIT_MISFIT * usual, *_SPLIT_BOUNDS)), stop)
    moments = moments_of(labels)
    area, contrast = moments[:, 0], contrast[blob]
    bad = (misfit_of(moments) / _OBJECT_MISFIT) ** 2
    quality = float((np.sqrt(area) * contrast**2 * np.exp(-bad)).sum())
    score = np.log(contrast) + np.log(area) / 2 - bad / 2
    clear = _quantile(score, area * contrast, 0.7)
    faintest = np.clip(_gap(score, area**0.75), *(clear + np.log(_FAINTEST)))
    noise = np.log(_NOISE[view.ndim] * float(np.median(gradient)) + 1e-12)
    return _Candidates(labels, score >= max(faintest, noise), area, quality)


def _only(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Labels for which `keep` holds, numbered anew."""
    names = np.concatenate([[0], np.where(keep, np.cumsum(keep), 0)])
    return names.astype(np.int32)[labels]


def _gap(score: np.ndarray, weight: np.ndarray) -> float:
    """The deepest valley between two hills in the distribution of the score."""
    bins = np.arange(score.min() - 1, score.max() + 1.1, 0.05)
    density = ndimage.gaussian_filter1d(np.histogram(score, bins, weights=weight)[0], 6.0)
    left = np.maximum.accumulate(density)
    right = np.maximum.accumulate(density[::-1])[::-1]
    hills = np.minimum(left, right)
    return float(bins[np.argmax((hills - density) / np.sqrt(np.maximum(hills, 1e-9)))])


def _quantile(values: np.ndarray, weight: np.ndarray, quantile: float) -> float:
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    place = min(int(np.searchsorted(share, quantile)), len(order) - 1)
    return float(values[order[place]])


def _blobs(
    view: np.ndarray, gradient: np.ndarray, smallest: int, stop: StopFlag | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best set of nodes of the component tree: labels, contrast and value of each blob."""
    smooth = ndimage.gaussian_filter(view, 0.7)
    low, high = np.percentile(smooth, [0, 99.9])
    levels = np.rint((smooth - low) * (_LEVELS / max(high - low, 1e-9))).clip(0, _LEVELS)
    levels = levels.astype(np.int32)
    raise_if_stopped(stop, "objects")
    parents, node = component_tree(levels, stop)
    raise_if_stopped(stop, "objects")
    # A pixel gains an outline towards lower neighbours and ends that of higher ones, so that sums
    # over a node are sums over its outline.
    steepness = np.log(gradient + np.float32(1e-8))
    length, steep = np.zeros(view.shape, np.float32), np.zeros(view.shape, np.float32)
    for here, there in neighbours(view.ndim):
        step = np.sign(levels[here] - levels[there]).astype(np.float32)
        mean = (steepness[here] + steepness[there]) * (step / 2)
        length[here] += step
        length[there] -= step
        steep[here] += mean
        steep[there] -= mean
    margin, thin = np.ones(view.shape, bool), _THIN if view.ndim > 2 else 0
    margin[tuple(slice(1, -1) if n >= thin else slice(None) for n in view.shape)] = False
    sums = []
    for summed in subtree_sums(parents, node, [*powers(view.shape), length, steep, margin]):
        raise_if_stopped(stop, "objects")
        sums.append(summed)
    *moments, outline, steep_sum, cut = sums
    area = moments[0]
    contrast = np.exp(steep_sum / np.maximum(outline, 1))
    misfit = misfit_of(np.stack(moments, axis=1))
    value = area**0.75 * contrast**2 * np.exp(-((misfit / _BLOB_MISFIT) ** 2))
    value[(area < smallest) | (area > _LARGEST * view.size) | (cut > outline)] = 0
    raise_if_stopped(stop, "objects")
    chosen, label = best_cut(parents, value)
    raise_if_stopped(stop, "objects")
    return _filled(label[node].reshape(view.shape)), contrast[chosen], value[chosen]


def _filled(labels: np.ndarray) -> np.ndarray:
    """Fill holes, and with them what lies inside, with the label around them."""
    holes, number = ndimage.label(labels == 0, np.ones((3,) * labels.ndim))
    around = np.zeros(number + 1, np.int32)
    # The last value written stays: what is above the first pixel of the hole, and so around it.
    around[holes[1:].ravel()[::-1]] = labels[:-1].ravel()[::-1]
    for axis in range(labels.ndim):
        around[np.take(holes, [0, -1], axis)] = 0  # open towards what the image does not show
    return np.where(holes > 0, around[holes], labels)


def _inside(
    foreground: np.ndarray, found: list[np.ndarray], smallest: int, stop: StopFlag | None
) -> np.ndarray:
    """The objects that cover the foreground best, clipped to it; else its own parts."""
    best, most = None, 0.5
    for labels in found:
        area, shared = np.bincount(labels.ravel()), np.bincount(labels.ravel(), foreground.ravel())
        mostly = shared >= area / 2
        mostly[0] = False
        outside = (area - shared)[mostly].sum()
        cover = shared[mostly].sum() / max(foreground.sum() + outside, 1)
        if cover > most:
            best, most = np.where(mostly[labels] & foreground, labels, 0), cover
    if best is None:
        if not foreground.any():
            return np.zeros(foreground.shape, np.int32)
        best, _ = split(ndimage.label(foreground)[0], _OBJECT_MISFIT, stop)
    pieces = connected_pieces(best, connectivity=1)
    return _only(pieces, np.bincount(pieces.ravel())[1:] >= smallest)


class SearchInTime:
    """An `ObjectSearch` for each frame; an object keeps its label while it overlaps itself.

    Parameters
    ----------
    brightness : ndarray of float, shape space
        From `brightness_of`, with time.
    axis : int
        Which axis is time.
    """

    def __init__(self, brightness: np.ndarray, axis: int) -> None:
        self._axis = axis
        self._searches = [ObjectSearch(frame) for frame in np.moveaxis(brightness, axis, 0)]

    def find(
        self,
        foreground: np.ndarray | None = None,
        min_size: int | None = None,
        stop: StopFlag | None = None,
    ) -> np.ndarray:
        """Find objects; see `find_objects`. Bright or dark ones are taken, the same in all frames.

        Raises
        ------
        InputError
            As `find_objects` does.
        StoppedError
            When asked to stop.
        """
        bright = None
        if foreground is None and len(self._searches) > 1:
            quality = np.sum([s.quality(min_size, stop) for s in self._searches], axis=0)
            bright = bool(quality[0] >= quality[1])
        inside = [None] * len(self._searches)
        if foreground is not None:
            inside = list(np.moveaxis(foreground, self._axis, 0))
        frames = []
        for search, here in zip(self._searches, inside, strict=True):
            raise_if_stopped(stop, "objects")
            frames.append(search.find(here, min_size, stop, bright))
        return np.stack(linked(frames), axis=self._axis)


def linked(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return labels of frames such that an object has the same in all of them.

    An object is that of the frame before if each is what the other overlaps most. Else, as after a
    division or where it appears, it is a new one.

    Parameters
    ----------
    frames : list of ndarray of int32
        All of one shape, 0 for background.

    Examples
    --------
    >>> frames = [np.array([1, 1, 0, 2, 2]), np.array([2, 2, 2, 0, 1]), np.array([0, 0, 1, 1, 2])]
    >>> [labels.tolist() for labels in linked(frames)]
    [[1, 1, 0, 2, 2], [1, 1, 1, 0, 2], [0, 0, 1, 1, 2]]
    """
    found: list[np.ndarray] = []
    last = 0
    for labels in frames:
        number = int(labels.max(initial=0))
        names = np.zeros(number + 1, np.int32)
        if found:
            here, before = _same(labels, found[-1])
            names[here] = before
        new = np.flatnonzero(names[1:] == 0) + 1
        names[new] = np.arange(last + 1, last + 1 + len(new))
        last += len(new)
        found.append(names[labels])
    return found


def _same(labels: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of two frames that overlap each other most, the first of equals."""
    both = (labels > 0) & (before > 0)
    pairs, pixels = np.unique(np.stack([labels[both], before[both]]), axis=1, return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    pairs = pairs[:, order]
    first = [np.isin(np.arange(len(order)), np.unique(row, return_index=True)[1]) for row in pairs]
    return tuple(pairs[:, first[0] & first[1]])
