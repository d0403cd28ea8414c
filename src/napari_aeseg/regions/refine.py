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
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter1d

from napari_aeseg.regions.connected_pieces import connected_as_before, connected_pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    # A cell less than the band, as the pixels of a cell change together.
    reach = tuple(b // s - (s > 1) for b, s in zip(band, step, strict=True))
    depth, limit = _depths(cells, reach)
    is_empty = values == empty
    if gaussians is None:
        gaussians = Gaussians.of_cells(values, cells, evidence, is_empty)
    else:
        gaussians = gaussians.of_labels(values)
    is_wide = _amid_thick_parts(limit, reach)
    on_step = _on_steps(cells, evidence, reach, gaussians, channels)
    stays = (depth >= limit) | is_empty[cells] | (on_step & ~is_wide)
    exchange = _Exchange(cells, stays, limit, is_wide, evidence, reach, is_empty, gaussians)
    new = _without_specks(exchange.run(), stays)
    by_pixel = values.astype(labels.dtype)[exchange.between_pixels(new, step, labels.shape)]
    untouched = _enlarged(stays, step, labels.shape) | (labels == empty) | (by_pixel == empty)
    np.copyto(by_pixel, labels, where=untouched)
    return connected_as_before(by_pixel, labels, band, min_size)


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
    if most < 1:
        return np.zeros(cells.shape, np.uint8), np.zeros(cells.shape, np.uint8)
    inside = ~_at_border(cells, reach)
    depth = inside.astype(np.uint8)
    for i in range(2, deepest + 1):
        for axis, n in enumerate(reach):
            if i * n // most > (i - 1) * n // most:  # fewer times along axes of long voxels
                _erode(inside, axis)
        depth += inside
    # The largest depth that can be reached within the label in so many steps: a bump of a large
    # part may go, a thin part stays.
    reached = depth.copy()
    equal = {}
    for axis in np.flatnonzero(reach).tolist():
        low, high = _shifted(axis)
        equal[axis] = cells[low] == cells[high]
    for _ in range(6 * most):
        for axis, same in equal.items():
            low, high = _shifted(axis)
            before = reached.copy()
            np.maximum(reached[low], before[high] * same, out=reached[low])
            np.maximum(reached[high], before[low] * same, out=reached[high])
    return depth, np.minimum(most, _CORE * reached).astype(np.uint8)


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


def _erode(mask: np.ndarray, axis: int) -> None:
    """Remove the cells of a mask with a neighbour outside it along an axis."""
    low, high = _shifted(axis)
    before = mask.copy()
    mask[low] &= before[high]
    mask[high] &= before[low]


def _grown(mask: np.ndarray, reach: Sequence[int]) -> np.ndarray:
    """Add the cells around a mask, along the axes with a reach."""
    outside = ~mask
    for axis in np.flatnonzero(reach).tolist():
        _erode(outside, axis)
    return ~outside


def _amid_thick_parts(limit: np.ndarray, reach: Sequence[int]) -> np.ndarray:
    """Mark cells around which all parts are thick."""
    most = max(reach)
    thin = (limit < _THICK * most) | (most < 1)
    distance = round(_WIDE * most)
    for i in range(1, distance + 1):
        thin = _grown(thin, [i * n // most > (i - 1) * n // most for n in reach])
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
        self.cells, self.limit, self.reach, self.is_wide = cells, limit, reach, is_wide
        self.labels = np.flatnonzero(~is_empty).tolist()
        self.values = evidence.reshape(-1, evidence.shape[-1])
        self.active = np.flatnonzero(~stays)
        self.boxes = _boxes(cells, len(is_empty), reach)
        # Sums of three neighbours along an axis, twice; once along the axis of long voxels.
        self.sums = [min(2, 3 * n // max(max(reach), 1)) for n in reach]
        self.weights, self.offsets = gaussians.weights, gaussians.offsets

    def run(self) -> np.ndarray:
        """Return the new label of each cell."""
        cells, active = self.cells, self.active
        place = _places(cells.shape, active)
        # For each label the active cells that may get it: in its box, and in `active`.
        in_box = [self._near(k, place) for k in self.labels]
        rows = [place[self.boxes[k]].ravel()[at] for k, at in zip(self.labels, in_box, strict=True)]
        before = cells.ravel()[active]
        fits = [
            self.values[active[row]].astype(np.float32) @ self.weights[k]
            + (self.offsets[k] + np.float32(_BEFORE) * (before[row] == k))
            for k, row in zip(self.labels, rows, strict=True)
        ]
        scores, moved = list(fits), set(self.labels)  # labels that lost or gained cells
        label = before.copy()
        for _ in range(_EXCHANGES):
            padded, is_new = self._padded(cells), np.zeros(len(active), bool)
            for i, (k, at, row) in enumerate(zip(self.labels, in_box, rows, strict=True)):
                if k in moved:
                    share = self._share(padded, k, at)
                    score = np.where(share > 0, fits[i] + share, -np.inf)
                    is_new[row[score != scores[i]]] = True
                    scores[i] = score
            best = np.full(len(active), -np.inf, np.float32)
            for k, row, score in zip(self.labels, rows, scores, strict=True):
                to_compare = np.flatnonzero(is_new[row])
                row, score = row[to_compare], score[to_compare]
                better = score > best[row]
                best[row[better]] = score[better]
                label[row[better]] = k
            changed = cells.copy()
            changed.flat[active] = label
            differ = changed != cells
            moved = {*cells[differ].tolist(), *changed[differ].tolist()}
            if not moved:
                break
            cells = changed
        return cells

    def _near(self, k: int, place: np.ndarray) -> np.ndarray:
        """Where in its box active cells are so near to a label that they may get it."""
        box = self.boxes[k]
        here, limit = self.cells[box] == k, self.limit[box]
        near, most = np.zeros_like(here), max(self.reach)
        for i in range(most, 0, -1):
            along = [i * n // most > (i - 1) * n // most for n in self.reach]
            near = _grown(near | (here & (limit >= i)), along)
        return np.flatnonzero((near | here) & (place[box] >= 0))

    def _padded(self, cells: np.ndarray) -> np.ndarray:
        """Cells with as many more around them as the sums of neighbours need."""
        return np.pad(cells, [(n, n) for n in self.sums], mode="edge")

    def _share(self, padded: np.ndarray, k: int, at: np.ndarray) -> np.ndarray:
        """Return how much of a label is around cells of its box: the score for it."""
        box = self.boxes[k]
        sides = zip(box, self.sums, strict=True)
        share = padded[tuple(slice(s.start, s.stop + 2 * n) for s, n in sides)] == k
        inner = tuple(slice(n, size - n) for n, size in zip(self.sums, share.shape, strict=True))
        total, is_label = 3 ** sum(self.sums), share[inner]
        share = share.astype(np.uint8 if total < 256 else np.uint16)
        for axis, n in enumerate(self.sums):
            along = (slice(None),) * axis
            for _ in range(n):
                three = share[(*along, slice(None, -2))] + share[(*along, slice(1, -1))]
                three += share[(*along, slice(2, None))]
                share = three
        close = share.ravel()[at] * np.float32(1 / total)
        is_wide = self.is_wide[box].ravel()[at]
        if not is_wide.any():
            return _AROUND * close
        mixed = _CLOSE * close + _FAR * self._far(is_label).ravel()[at]
        return np.where(is_wide & (close > 0), mixed, _AROUND * close)

    def _far(self, is_label: np.ndarray) -> np.ndarray:
        """Return the share of a label far around the cells of its box."""
        joined = [JOINED if n >= JOINED else 1 for n in self.reach]
        count = is_label.astype(np.uint8)
        for axis, n in enumerate(joined):
            missing = [(0, -size % n * (i == axis)) for i, size in enumerate(count.shape)]
            if any(missing[axis]):
                count = np.pad(count, missing, mode="edge")
            along = (slice(None),) * axis
            count = sum(
                (count[(*along, slice(i, None, n))] for i in range(1, n)),
                count[(*along, slice(0, None, n))],
            )
        far = count * np.float32(1 / np.prod(joined))
        for axis, (reach, n) in enumerate(zip(self.reach, joined, strict=True)):
            size = 2 * round(_SIZE * reach / n) + 1
            for _ in range(2 * (size > 1)):
                uniform_filter1d(far, size, axis, far, "nearest")
        return _enlarged(far, joined, is_label.shape)

    def between_pixels(
        self, cells: np.ndarray, step: tuple[int, ...], shape: tuple[int, ...]
    ) -> np.ndarray:
        """Return the label of each pixel; at borders, the scores of cells are interpolated."""
        by_pixel = _enlarged(cells, step, shape)
        near_border = _grown(_at_border(cells, self.reach), self.reach)
        strip = np.flatnonzero(near_border)
        scored = np.flatnonzero(_grown(near_border, step))
        place, in_strip = _places(cells.shape, scored), _places(cells.shape, strip)
        own, at = place.ravel()[strip], np.unravel_index(strip, cells.shape)
        padded = self._padded(cells)
        corners = list(product(*((-1, 1) if s > 1 else (0,) for s in step)))
        best = np.full((len(corners), len(strip)), -np.inf, np.float32)
        label = np.repeat(cells.ravel()[strip][np.newaxis], len(corners), axis=0)
        score, share = np.empty(len(scored), np.float32), np.empty(len(scored), np.float32)
        beside = _rows_beside(place, at, step)
        for k in self.labels:
            box = self.boxes[k]
            flat = np.flatnonzero(place[box] >= 0)
            inside, rows = place[box].ravel()[flat], in_strip[box].ravel()
            score.fill(-np.inf)
            share.fill(0)
            share[inside] = self._share(padded, k, flat)
            values = self.values[scored[inside]].astype(np.float32)
            score[inside] = values @ self.weights[k] + self.offsets[k] + share[inside]
            rows = rows[rows >= 0]
            rows = rows[share[own[rows]] > 0]
            for c, corner in enumerate(corners):
                of_pixel = _interpolated(score, beside, corner, rows)
                better = of_pixel > best[c, rows]
                best[c, rows[better]] = of_pixel[better]
                label[c, rows[better]] = k
        for corner, of_corner in zip(corners, label, strict=True):
            pixel = [a * s + (d > 0) for a, s, d in zip(at, step, corner, strict=True)]
            exists = np.all([p < n for p, n in zip(pixel, shape, strict=True)], axis=0)
            by_pixel[tuple(p[exists] for p in pixel)] = of_corner[exists]
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
            # At a multiple: cells are joined.
            boxes[k][axis] = slice(
                max(int(low[k]) - n - 2, 0) // JOINED * JOINED, min(int(high[k]) + n + 3, size)
            )
    return [tuple(box) for box in boxes]


def _places(shape: tuple[int, ...], cells: np.ndarray) -> np.ndarray:
    """Return where in a list of cells each cell is, int32; -1 for others."""
    place = np.full(shape, -1, np.int32)
    place.flat[cells] = np.arange(len(cells))
    return place


def _rows_beside(
    place: np.ndarray, at: Sequence[np.ndarray], step: Sequence[int]
) -> dict[tuple[int, ...], np.ndarray]:
    """Return for each shift by a cell the value in `place`, there or in the last cell before."""
    rows = {}
    for shift in product(*((-1, 0, 1) if s > 1 else (0,) for s in step)):
        beside = zip(at, shift, place.shape, strict=True)
        rows[shift] = place[tuple((a + d).clip(0, n - 1) for a, d, n in beside)]
    return rows


def _interpolated(
    score: np.ndarray,
    beside: dict[tuple[int, ...], np.ndarray],
    corner: tuple[int, ...],
    rows: np.ndarray,
) -> np.ndarray:
    """Interpolate linearly at the pixels of one corner of the cells."""
    total = np.zeros(len(rows), np.float32)
    for shift in product(*((0, d) if d else (0,) for d in corner)):
        moved = sum(d != 0 for d in shift)
        weight = 0.25**moved * 0.75 ** (sum(d != 0 for d in corner) - moved)
        total += np.float32(weight) * score[beside[shift][rows]]
    return total


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
