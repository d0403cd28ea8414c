"""Borders at pixel resolution: labels of patches whose border pixels change sides.

Pixels near a border take the label that the evidence speaks for: features of the encoder and the
image, see `napari_aeseg.autoencoder.border_evidence`. Labels are those of an iterative thresholding
method [1]_: in turn, each label has a Gaussian likelihood of the evidence, and pixels take the
label that is most likely there and common around them: close by, and where all parts are thick,
also far around. A border that lies on a step of brightness stays. All is computed on the cells of
the evidence; only the border between two cells is then placed between their pixels.

What holds for any labels and any evidence:

- no pixel changes that is further from the border of its label than `band_of` its patches;
- no label vanishes, and a label that is connected stays connected;
- the deeper half of every part of a label stays, however thin it is;
- pixels without a label stay so, and the same input gives the same labels.

A pixel depends on others within `HALO` bands of it, and on the Gaussians: parts of an image can be
refined one by one (see `napari_aeseg.regions.lazy_labels`).

References
----------
.. [1] D. Wang, H. Li, X. Wei, X.-P. Wang, An efficient iterative thresholding method for image
       segmentation, Journal of Computational Physics 350, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter1d

from napari_aeseg.images.parallel import together
from napari_aeseg.regions.connected_pieces import connected_as_before, connected_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import DTypeLike

# Pixels may change up to so many sides of a patch from the border.
_BAND = 4
# How much a cell's log-likelihood counts (cells are correlated), how much the labels around it, and
# how much the label it had.
_LIKELIHOOD, _AROUND, _BEFORE = 0.6, 4.0, 0.5
# The same of the labels around where all parts are thick: close by, and far around.
_CLOSE, _FAR = 1.6, 11.0
# Parts are thick from this share of the depth on that lets borders move farthest. How far around a
# cell they must be thick, and what is "far around", as shares of the band.
_THICK, _WIDE, _SIZE = 0.85, 0.8, 0.4
# Labels are exchanged so many times.
_EXCHANGES = 10
# A border stays where brightness changes by this share of what two labels differ by, if that is at
# least so many times the sum of their standard deviations.
_STEP, _APART = 0.5, 1.5
# Share of the depth of a part of a label from which on its cells stay.
_CORE = 0.5
# Share of the diagonal in covariances: they can be inverted then.
_SHRINKAGE = 0.05
# Cells that covariances are estimated from.
_SAMPLE = 50_000
# Labels with fewer cells in the sample have all of theirs in it.
_FEW = 30
#: Cells along an axis that are joined to look far around.
JOINED = 4
#: Bands around a pixel in which labels and evidence count for it.
HALO = 10
#: With more labels, they stay as they are: hardly more than a patch each, and many to look at.
MOST_LABELS = 2_000


def band_of(sides: Sequence[int]) -> tuple[int, ...]:
    """Return how far from a border pixels may change, along each axis; 0 along time."""
    return tuple(_BAND * side for side in sides)


@dataclass(frozen=True, slots=True)
class Gaussians:
    """The likelihood of the evidence for each label: with one covariance, scores are linear."""

    labels: np.ndarray  # ascending, shape (K,)
    weights: np.ndarray  # float32, shape (K, D)
    offsets: np.ndarray  # float32, shape (K,)
    mean: np.ndarray  # float64, shape (K, D)
    deviation: np.ndarray  # each label's own, float64, shape (K, D)

    @classmethod
    def of(
        cls, labels: np.ndarray, mean: np.ndarray, covariance: np.ndarray, own: np.ndarray
    ) -> Gaussians:
        """Return them of means and variances, (K, D).

        No label is likelier for being common: dim nuclei on a large ground would shrink.
        """
        variance = np.diag(covariance)
        ridge = _SHRINKAGE * variance + 1e-6 * variance.mean() + 1e-12
        weights = np.linalg.solve((1 - _SHRINKAGE) * covariance + np.diag(ridge), mean.T).T
        offsets = -0.5 * _LIKELIHOOD * (weights * mean).sum(axis=1)
        weights, offsets = (_LIKELIHOOD * weights).astype(np.float32), offsets.astype(np.float32)
        return cls(labels, weights, offsets, mean, np.sqrt(own))

    @classmethod
    def of_cells(
        cls, labels: np.ndarray, cells: np.ndarray, evidence: np.ndarray, is_empty: np.ndarray
    ) -> Gaussians:
        """Estimate them from the cells of an image; `cells` are places in `labels`."""
        flat, number = cells.ravel(), len(labels)
        # A sample, but all of labels that have few cells in it.
        few = np.bincount(flat[:: (step := max(1, flat.size // _SAMPLE))], minlength=number) < _FEW
        sample = few[flat]
        sample[::step] = True
        sample &= ~is_empty[flat]
        at = np.flatnonzero(sample)
        values, label = evidence.reshape(flat.size, -1)[at].astype(np.float64), flat[at]
        sampled = np.bincount(label, minlength=number).clip(min=1)
        mean = _sums(label, values, number) / sampled[:, np.newaxis]
        residual = values - mean[label]
        own = _sums(label, residual**2, number) / sampled[:, np.newaxis]
        return cls.of(labels, mean, residual.T @ residual / len(at), own)

    @classmethod
    def of_patches(
        cls, label_of_patch: np.ndarray, count: np.ndarray, evidence: PatchEvidence
    ) -> Gaussians:
        """Estimate them from the patches of an image, which need not be in memory."""
        labels, row = np.unique(label_of_patch, return_inverse=True)
        pixels, weight = np.bincount(row, count)[:, np.newaxis], count[:, np.newaxis]
        mean = _sums(row, weight * evidence.mean, len(labels)) / pixels
        between = evidence.mean - mean[row]
        own = np.diag(evidence.within) + _sums(row, weight * between**2, len(labels)) / pixels
        covariance = evidence.within + (between * weight).T @ between / count.sum()
        return cls.of(labels, mean, covariance, own)

    def of_labels(self, labels: np.ndarray) -> Gaussians:
        """Return those of some of the labels, ascending."""
        at = np.searchsorted(self.labels, labels).clip(max=len(self.labels) - 1)
        values = (self.weights, self.offsets, self.mean, self.deviation)
        return Gaussians(labels, *(v[at] for v in values))


def _sums(row: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """Sum the rows of values, (N, D), that belong to each of so many numbers; float64 (K, D)."""
    return np.stack([np.bincount(row, v, number) for v in values.T], axis=1)


@dataclass(frozen=True, slots=True)
class PatchEvidence:
    """What `Gaussians.of_patches` needs of the evidence."""

    mean: np.ndarray  # in each patch, float32, shape (P, D)
    within: np.ndarray  # covariance within patches, float64, shape (D, D)

    @classmethod
    def of(cls, patches: np.ndarray, evidence: np.ndarray, number: int) -> PatchEvidence:
        """Measure it in patches 0 .. number - 1 by pixel; those without a cell have the mean."""
        shape = evidence.shape[:-1]
        step = [-(-n // c) for n, c in zip(patches.shape, shape, strict=True)]
        patch = patches[tuple(slice(None, None, n) for n in step)].ravel()
        values = evidence.reshape(len(patch), -1).astype(np.float64)
        count = np.bincount(patch, minlength=number)[:, np.newaxis]
        sums = _sums(patch, values, number)
        mean = np.where(count > 0, sums / count.clip(min=1), values.mean(axis=0))
        residual = values - mean[patch]
        return cls(mean.astype(np.float32), residual.T @ residual / len(patch))


def refined(
    labels: np.ndarray,
    evidence: np.ndarray,
    band: Sequence[int],
    empty: int = 0,
    min_size: int = 1,
    gaussians: Gaussians | None = None,
    channels: int = 0,
) -> np.ndarray:
    """Return labels whose pixels near borders follow the evidence; those of other pixels stay.

    Parameters
    ----------
    labels : ndarray of int, shape of the space axes
        Such as the labels of patches, by pixel. More than `MOST_LABELS` are returned as they are.
    evidence : ndarray, shape (*cells, D)
        A cell is one pixel or two along each axis.
    band : sequence of int
        Pixels along each axis, see `band_of`.
    empty : int
        Stands for no label: such pixels stay, and no other pixel becomes one.
    min_size : int
        Connected pieces of at least so many pixels keep as many.
    gaussians : Gaussians, optional
        Of the whole image, if this is a part of it.
    channels : int
        The last values of a cell are so many channels of the image.

    Examples
    --------
    >>> labels = np.repeat([[1] * 36 + [2] * 44], 32, axis=0)
    >>> evidence = np.repeat([[[0.0]] * 20 + [[9.0]] * 20], 16, axis=0).reshape(16, 40, 1)
    >>> refined(labels, evidence, (16, 16))[5].tolist().count(1)
    40
    """
    step = tuple(-(-n // c) for n, c in zip(labels.shape, evidence.shape[:-1], strict=True))
    values, cells = _numbered(labels[tuple(slice(None, None, n) for n in step)])
    if not 1 < len(values) <= MOST_LABELS:
        return labels.copy()
    cells = cells.astype(np.int16, order="C")
    # A cell less than the band, as the pixels of a cell change together.
    reach = tuple(b // s - (s > 1) for b, s in zip(band, step, strict=True))
    is_empty = values == empty
    (depth, limit), before, gaussians = together(
        partial(_depths, cells, reach),
        partial(connected_pieces, labels),
        partial(Gaussians.of_cells, values, cells, evidence, is_empty)
        if gaussians is None
        else partial(gaussians.of_labels, values),
    )
    is_wide = _amid_thick_parts(limit, reach)
    on_step = _on_steps(cells, evidence, reach, gaussians, channels)
    stays = (depth >= limit) | is_empty[cells] | (on_step & ~is_wide)
    exchange = _Exchange(cells, stays, limit, is_wide, evidence, reach, is_empty, gaussians)
    new = _without_specks(exchange.run(), stays)
    by_pixel = exchange.between_pixels(new, step, labels.shape, values.astype(labels.dtype))
    untouched = _enlarged(stays, step, labels.shape) | (labels == empty) | (by_pixel == empty)
    np.copyto(by_pixel, labels, where=untouched)
    return connected_as_before(by_pixel, labels, before, band, min_size)


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct labels, and which of them each cell has, int32."""
    if labels.min() < 0 or labels.max() > labels.size + 1000:
        values, cells = np.unique(labels, return_inverse=True)
        return values, cells.reshape(labels.shape).astype(np.int32)
    occurs = np.bincount(labels.ravel()) > 0  # much faster than sorting
    return np.flatnonzero(occurs), (np.cumsum(occurs, dtype=np.int32) - 1)[labels]


# -- cells that may change ----------------------------------------------------------------------


def _depths(cells: np.ndarray, reach: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each cell is from a border, and how far a border may move into it.

    That is half of the depth of the label around it: so much it may shrink, or grow into others.
    """
    most, deepest = max(reach), round(max(reach) / _CORE)
    kind = np.min_scalar_type(max(deepest, 0))
    if most < 1:
        return np.zeros(cells.shape, kind), np.zeros(cells.shape, kind)
    near_border, all_links = _at_border(cells, reach).astype(kind), _links(cells.shape, kind)
    depth = deepest - near_border
    for i in range(2, deepest + 1):
        _grow(near_border, all_links, _step_along(reach, i))
        depth -= near_border
    # The largest depth that can be reached within the label in so many steps: a bump of a large
    # part may go, a thin part stays.
    reached, within = depth.copy(), _links(cells.shape, kind, cells)
    for _ in range(6 * most):
        _grow(reached, within, reach)
    return depth, np.minimum(most, _CORE * reached).astype(kind)


def _shifted(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """All cells but the last along an axis, and all but the first."""
    before = (slice(None),) * axis
    return (*before, slice(None, -1)), (*before, slice(1, None))


def _at_border(cells: np.ndarray, reach: Sequence[int]) -> np.ndarray:
    """Mark cells with a neighbour of another label, along the axes with a reach."""
    border = np.zeros(cells.shape, bool)
    for axis in np.flatnonzero(reach).tolist():
        low, high = _shifted(axis)
        differ = cells[low] != cells[high]
        border[low] |= differ
        border[high] |= differ
    return border


def _step_along(reach: Sequence[int], i: int) -> list[bool]:
    """Return along which axes step i of the largest reach goes: fewer times with long voxels."""
    return [i * n // max(reach) > (i - 1) * n // max(reach) for n in reach]


def _links(
    shape: tuple[int, ...], kind: DTypeLike = np.uint8, cells: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return for each axis all bits where there is a next cell, with the same label if given."""
    links = []
    for axis in range(len(shape)):
        low, high = _shifted(axis)
        link = np.zeros(shape, kind)
        same = True if cells is None else cells[low] == cells[high]
        link[low] = np.negative(same, dtype=kind)
        links.append(link.ravel())
    return links


def _grow(values: np.ndarray, links: list[np.ndarray], along: Sequence[int]) -> None:
    """Give each cell the largest value of those linked to it, axis by axis, in place."""
    flat = values.reshape(-1)  # one loop for all rows
    for axis in np.flatnonzero(along).tolist():
        stride = prod(values.shape[axis + 1 :])
        low, high, link = flat[:-stride], flat[stride:], links[axis][:-stride]
        from_high, from_low = high & link, low & link
        np.maximum(low, from_high, out=low)
        np.maximum(high, from_low, out=high)


def _grown(mask: np.ndarray, reach: Sequence[int]) -> np.ndarray:
    """Add the cells around a mask, along the axes with a reach."""
    grown = mask.copy()
    _grow(grown.view(np.uint8), _links(mask.shape), reach)
    return grown


def _amid_thick_parts(limit: np.ndarray, reach: Sequence[int]) -> np.ndarray:
    """Mark cells around which all parts are thick."""
    most = max(reach)
    thin, links = (limit < _THICK * most) | (most < 1), _links(limit.shape)
    for i in range(1, round(_WIDE * most) + 1):
        _grow(thin.view(np.uint8), links, _step_along(reach, i))
    return ~thin


def _on_steps(
    cells: np.ndarray,
    evidence: np.ndarray,
    reach: Sequence[int],
    gaussians: Gaussians,
    channels: int,
) -> np.ndarray:
    """Mark cells at borders where brightness changes as from one of the two labels to the other."""
    on_step = np.zeros(cells.shape, bool)
    if channels < 1:
        return on_step
    mean, deviation = gaussians.mean[:, -channels:], gaussians.deviation[:, -channels:]
    for axis in np.flatnonzero(reach).tolist():
        low, high = _shifted(axis)
        at = np.nonzero(cells[low] != cells[high])
        beside = tuple(a + (i == axis) for i, a in enumerate(at))
        one, other = cells[at], cells[beside]
        differ = mean[one] - mean[other]
        spread = deviation[one] + deviation[other] + 1e-9
        # The channel that tells the two apart best, a cell further on either side.
        rows, best = np.arange(len(one)), np.abs(differ / spread).argmax(axis=1)
        before, after = list(at), list(beside)
        before[axis] = (before[axis] - 1).clip(min=0)
        after[axis] = (after[axis] + 1).clip(max=cells.shape[axis] - 1)
        channel = best - channels
        step = evidence[(*before, channel)].astype(float) - evidence[(*after, channel)]
        differ, spread = differ[rows, best], spread[rows, best]
        clear = (np.abs(differ) > _APART * spread) & (step * differ > _STEP * differ**2)
        on_step[tuple(a[clear] for a in at)] = True
        on_step[tuple(a[clear] for a in beside)] = True
    return on_step


# -- which labels they change to ----------------------------------------------------------------


class _Exchange:
    """Labels that cells exchange with their neighbours."""

    def __init__(
        self,
        cells: np.ndarray,
        stays: np.ndarray,
        limit: np.ndarray,
        is_wide: np.ndarray,
        evidence: np.ndarray,
        reach: Sequence[int],
        is_empty: np.ndarray,
        gaussians: Gaussians,
    ) -> None:
        self.first, self.limit, self.reach, self.is_wide = cells, limit, reach, is_wide
        self.may_change, self.values = ~stays, evidence.reshape(-1, evidence.shape[-1])
        self.labels = np.flatnonzero(~is_empty).tolist()
        self.boxes, self.links = _boxes(cells, len(is_empty), reach), _links(cells.shape)
        # Sums of three neighbours along an axis, twice; once along the axis of long voxels.
        self.sums = [min(2, 3 * n // max(max(reach), 1)) for n in reach]
        self.joined = [JOINED if n >= JOINED else 1 for n in reach]
        self.weights, self.offsets = gaussians.weights, gaussians.offsets
        # The share of labels far around the joined cells of their boxes, where it was asked for.
        self.far: dict[int, np.ndarray] = {}

    def run(self) -> np.ndarray:
        """Return the new label of each cell."""
        cells, self.near = self.first, {k: self._near(k) for k in self.labels}
        # A cell with no other label around it keeps its own.
        self.mixed = self._with_those_around(_at_border(cells, self.reach))
        to_score = self.mixed & self.may_change
        for _ in range(_EXCHANGES):
            padded = self._padded(cells)
            scores = (self._scores(k, cells, padded, to_score) for k in self.labels)
            new = self._most_likely(cells, scores)
            changed = np.flatnonzero(new != cells)
            if not len(changed):
                break
            moved = {*cells.ravel()[changed].tolist(), *new.ravel()[changed].tolist()}
            cells = new
            to_score = self._to_score_again(cells, changed, moved)
        return cells

    def _scores(
        self, k: int, cells: np.ndarray, padded: np.ndarray, among: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells that may get a label, of some, and its scores there."""
        around = self._around(padded, k)
        at, cell = self._in_box(k, (around > 0) & self.near[k] & among[self.boxes[k]])
        before = np.float32(_BEFORE) * (self.first.ravel()[cell] == k)
        fit = self._likelihood(k, cell) + (self.offsets[k] + before)
        return cell, fit + self._share(cells, k, around, at, cell)

    def _most_likely(
        self, cells: np.ndarray, scores: Iterable[tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """Return the label of each cell with the highest score, the first of equal ones."""
        best, label = np.full(cells.size, -np.inf, np.float32), cells.flatten()
        for k, (cell, score) in zip(self.labels, scores, strict=True):
            better = score > best[cell]
            cell = cell.compress(better)
            best[cell] = score.compress(better)
            label[cell] = k
        return label.reshape(cells.shape)

    def _near(self, k: int) -> np.ndarray:
        """Mark the cells of its box so near to a label that they may get it."""
        here = self.first[self.boxes[k]] == k
        limit, links = self.limit[self.boxes[k]] * here, _links(here.shape)
        near = np.zeros_like(here)
        for i in range(max(self.reach), 0, -1):
            near |= limit >= i
            _grow(near.view(np.uint8), links, _step_along(self.reach, i))
        return near | here

    def _with_those_around(self, mask: np.ndarray) -> np.ndarray:
        """Add the cells that the marked ones are around, to the mask itself."""
        for i in range(max(self.sums)):
            _grow(mask.view(np.uint8), self.links, [n > i for n in self.sums])
        return mask

    def _to_score_again(
        self, cells: np.ndarray, changed: np.ndarray, moved: set[int]
    ) -> np.ndarray:
        """Mark cells with other shares of labels around them than before cells changed."""
        again = np.zeros(cells.size, bool)
        again[changed] = True
        again = self._with_those_around(again.reshape(cells.shape))
        self.mixed |= again
        before = {k: self.far[k] for k in moved & self.far.keys()}
        if before:
            sides = zip(cells.shape, self.joined, strict=True)
            far = np.zeros([-(-size // n) for size, n in sides], bool)
            for k, share in before.items():
                self.far[k] = self._far(cells, k)
                sides = zip(self.boxes[k], self.joined, strict=True)
                box = tuple(slice(s.start // n, -(-s.stop // n)) for s, n in sides)
                far[box] |= self.far[k] != share
            again |= self.is_wide & self.mixed & _enlarged(far, self.joined, cells.shape)
        return again & self.may_change

    def _padded(self, cells: np.ndarray) -> np.ndarray:
        """Cells with as many more around them as the sums of neighbours need."""
        return np.pad(cells, [(n, n) for n in self.sums], mode="edge")

    def _around(self, padded: np.ndarray, k: int) -> np.ndarray:
        """Count a label close around each cell of its box; near ones count more."""
        sides = list(zip(self.boxes[k], self.sums, strict=True))
        share = padded[tuple(slice(s.start, s.stop + 2 * n) for s, n in sides)] == k
        count = share.astype(np.uint8 if 3 ** sum(self.sums) < 256 else np.uint16)
        flat = count.reshape(-1)  # one loop for all rows; what crosses their ends is cut off
        for axis, n in enumerate(self.sums):
            stride = prod(count.shape[axis + 1 :])
            for _ in range(n):
                three = np.empty_like(flat)
                np.add(flat[: -2 * stride], flat[stride:-stride], out=three[: -2 * stride])
                three[: -2 * stride] += flat[2 * stride :]
                flat = three
        return flat.reshape(count.shape)[tuple(slice(0, s.stop - s.start) for s, _ in sides)]

    def _in_box(self, k: int, mask: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Return where in its box cells are, and their flat indices."""
        at = np.unravel_index(np.flatnonzero(mask), mask.shape)
        in_image = [a + s.start for a, s in zip(at, self.boxes[k], strict=True)]
        return at, np.ravel_multi_index(in_image, self.first.shape)

    def _likelihood(self, k: int, cell: np.ndarray) -> np.ndarray:
        """Return the likelihood of a label in cells, without its offset."""
        return self.values.take(cell, axis=0).astype(np.float32) @ self.weights[k]

    def _share(
        self,
        cells: np.ndarray,
        k: int,
        around: np.ndarray,
        at: tuple[np.ndarray, ...],
        cell: np.ndarray,
    ) -> np.ndarray:
        """Return how much of a label is around cells of its box: the score for it."""
        close = around[at] * np.float32(1 / 3 ** sum(self.sums))
        share = _AROUND * close
        is_wide = np.flatnonzero(self.is_wide.ravel()[cell] & (close > 0))
        if len(is_wide):
            if k not in self.far:
                self.far[k] = self._far(cells, k)
            far = self.far[k][tuple(a[is_wide] // n for a, n in zip(at, self.joined, strict=True))]
            share[is_wide] = _CLOSE * close[is_wide] + _FAR * far
        return share

    def _far(self, cells: np.ndarray, k: int) -> np.ndarray:
        """Return the share of a label far around the joined cells of its box."""
        count = (cells[self.boxes[k]] == k).view(np.uint8)
        for axis, n in enumerate(self.joined):
            missing = [(0, -size % n * (i == axis)) for i, size in enumerate(count.shape)]
            if any(missing[axis]):
                count = np.pad(count, missing, mode="edge")
            along = (slice(None),) * axis
            count = sum(
                (count[(*along, slice(i, None, n))] for i in range(1, n)),
                count[(*along, slice(0, None, n))],
            )
        far = count * np.float32(1 / np.prod(self.joined))
        for axis, (reach, n) in enumerate(zip(self.reach, self.joined, strict=True)):
            size = 2 * round(_SIZE * reach / n) + 1
            for _ in range(2 * (size > 1)):
                uniform_filter1d(far, size, axis, far, "nearest")
        return far

    def between_pixels(
        self, cells: np.ndarray, step: tuple[int, ...], shape: tuple[int, ...], values: np.ndarray
    ) -> np.ndarray:
        """Return the value of each pixel's label; at borders, scores of cells are interpolated."""
        strip = _grown(_at_border(cells, self.reach), self.reach)
        corners = list(product(*((-1, 1) if s > 1 else (0,) for s in step)))
        padded = self._padded(cells)
        self.far.clear()

        def in_corners(k: int) -> tuple[np.ndarray, list[np.ndarray]]:
            """Return the cells that may get a label, and its scores in each corner of them."""
            around = self._around(padded, k)
            mask = (around > 0) & strip[self.boxes[k]]
            beside = _grown(mask, step)
            at, cell = self._in_box(k, beside)
            score = np.full(mask.shape, -np.inf, np.float32)
            fit = self._likelihood(k, cell) + self.offsets[k]
            score[at] = fit + self._share(cells, k, around, at, cell)
            interpolated = _at_corners(score, mask, self.boxes[k], cells.shape, corners)
            return self._in_box(k, mask)[1], interpolated

        scores, by_pixel = [in_corners(k) for k in self.labels], np.empty(shape, values.dtype)
        for i, corner in enumerate(corners):
            label = self._most_likely(cells, ((cell, s[i]) for cell, s in scores))
            place = tuple(slice(int(d > 0), None, s) for d, s in zip(corner, step, strict=True))
            of_pixel = by_pixel[place]
            of_pixel[...] = values[label[tuple(slice(0, n) for n in of_pixel.shape)]]
        return by_pixel


def _boxes(cells: np.ndarray, number: int, reach: Sequence[int]) -> list[tuple[slice, ...]]:
    """Return the box of each label, with all cells that may get it."""
    runs = connected_pieces(cells)
    boxes = [[slice(0, 0)] * cells.ndim for _ in range(number)]
    first = np.array(np.unravel_index(runs.start, cells.shape))
    last = first.copy()
    last[-1] += runs.length - 1
    for axis, (n, size) in enumerate(zip(reach, cells.shape, strict=True)):
        low, high = np.full(number, size), np.zeros(number, int)
        np.minimum.at(low, runs.label, first[axis])
        np.maximum.at(high, runs.label, last[axis])
        for k in range(number):
            # At multiples: cells are joined.
            start = max(int(low[k]) - n - 2, 0) // JOINED * JOINED
            boxes[k][axis] = slice(start, min(-(-(int(high[k]) + n + 3) // JOINED) * JOINED, size))
    return [tuple(box) for box in boxes]


def _at_corners(
    score: np.ndarray,
    mask: np.ndarray,
    box: tuple[slice, ...],
    shape: tuple[int, ...],
    corners: list[tuple[int, ...]],
) -> list[np.ndarray]:
    """Interpolate scores of cells linearly at the pixel in each corner of those in a mask.

    Beyond the box there is no label; beyond the image, scores are those of its last cells.
    """
    score, at = np.pad(score, 1, constant_values=-np.inf), np.flatnonzero(np.pad(mask, 1))
    for axis, (s, n) in enumerate(zip(box, shape, strict=True)):
        rows = score.swapaxes(0, axis)
        if s.start == 0:
            rows[0] = rows[1]
        if s.stop == n:
            rows[-1] = rows[-2]
    strides = [prod(score.shape[axis + 1 :]) for axis in range(score.ndim)]
    flat, beside, interpolated = score.ravel(), {}, []
    for corner in corners:
        total, to_move = np.zeros(len(at), np.float32), np.count_nonzero(corner)
        for shift in product(*((0, d) if d else (0,) for d in corner)):
            offset = sum(d * stride for d, stride in zip(shift, strides, strict=True))
            if offset not in beside:
                beside[offset] = flat[at + offset]
            moved = len(shift) - shift.count(0)
            total += np.float32(0.25**moved * 0.75 ** (to_move - moved)) * beside[offset]
        interpolated.append(total)
    return interpolated


def _enlarged(cells: np.ndarray, step: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """Repeat each cell for its pixels."""
    for axis, s in enumerate(step):
        cells = cells.repeat(s, axis) if s > 1 else cells
    return np.ascontiguousarray(cells[tuple(slice(0, n) for n in shape)])


def _without_specks(cells: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """Give pieces without a cell that stays to what is beside them, cell by cell."""
    pieces = connected_pieces(cells)
    specks = pieces.pixels(~pieces.any_in_piece(stays))
    cells, is_speck = cells.copy(), np.zeros(cells.size, bool)
    is_speck[specks] = True
    flat = cells.ravel()
    while len(specks):
        at = np.unravel_index(specks, cells.shape)
        label = np.full(len(specks), -1, cells.dtype)
        for axis, shift in product(range(cells.ndim), (-1, 1)):
            moved = [a + shift * (i == axis) for i, a in enumerate(at)]
            exists = (moved[axis] >= 0) & (moved[axis] < cells.shape[axis])
            beside = np.ravel_multi_index(moved, cells.shape, mode="clip")
            fits = exists & ~is_speck[beside] & (label < 0)
            label[fits] = flat[beside[fits]]
        has_label = label >= 0
        if not has_label.any():
            break
        flat[specks[has_label]] = label[has_label]
        is_speck[specks[has_label]] = False
        specks = specks[~has_label]
    return cells
