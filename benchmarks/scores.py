"""Scores that compare a segmentation with the truth, for label arrays of any dimension.

All of them start from the table of overlaps of two label arrays, so that a score costs one pass
over the pixels. ``labels`` is what a method found, ``truth`` one annotation and ``truths`` several,
one per annotator. Higher is better, except for the variation of information and the distance of
borders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, sparse
from scipy.optimize import linear_sum_assignment
from skimage.metrics import variation_of_information as _skimage_voi
from skimage.segmentation import find_boundaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray


def overlap_table(truth: NDArray, labels: NDArray) -> sparse.csr_array:
    """Pixels shared by each pair of a truth label (row) and a found label (column).

    Rows and columns are the labels themselves, as in ``skimage.metrics.contingency_table``, which
    is 10 x slower: it keeps one entry per pixel until the end.

    Examples
    --------
    >>> overlap_table(np.array([0, 0, 1]), np.array([1, 1, 0])).toarray()
    array([[0, 2],
           [1, 0]])
    """
    if truth.shape != labels.shape:
        raise ValueError(f"truth has shape {truth.shape} but labels have {labels.shape}")
    rows, columns = int(truth.max(initial=0)) + 1, int(labels.max(initial=0)) + 1
    pairs = truth.ravel().astype(np.int64) * columns + labels.ravel()
    if rows * columns <= 4 * pairs.size:
        return sparse.csr_array(np.bincount(pairs, minlength=rows * columns).reshape(rows, columns))
    pairs, counts = np.unique(pairs, return_counts=True)
    return sparse.csr_array((counts, np.divmod(pairs, columns)), shape=(rows, columns))


def _overlap_over_union(table: sparse.csr_array) -> sparse.coo_array:
    """Intersection over union of every pair that overlaps at all."""
    pairs = table.tocoo()
    row, column = pairs.coords
    union = table.sum(axis=1)[row] + table.sum(axis=0)[column] - pairs.data
    return sparse.coo_array((pairs.data / union, (row, column)), shape=table.shape)


# -- classes -------------------------------------------------------------------------------------


def mean_iou(truth: NDArray, labels: NDArray, ignore: Sequence[int] = ()) -> float:
    """Mean IoU of the truth's classes under the best one-to-one assignment of found classes.

    A truth class that no found class is left for counts as 0. Pixels whose truth is in ``ignore``
    are left out.
    """
    counted = ~np.isin(truth, ignore)
    iou = _overlap_over_union(overlap_table(truth[counted], labels[counted])).toarray()
    present = np.unique(truth[counted])
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum() / present.size)


# -- partitions ----------------------------------------------------------------------------------


def covering(truths: Iterable[NDArray], labels: NDArray) -> float:
    """Covering of the truth: each truth region's best IoU, weighted by its area (BSDS500).

    Averaged over the annotators.
    """
    scores = []
    for truth in truths:
        table = overlap_table(truth, labels)
        best = _overlap_over_union(table).tocsr().max(axis=1).toarray()
        scores.append(np.average(best, weights=table.sum(axis=1)))
    return float(np.mean(scores))


def probabilistic_rand_index(truths: Iterable[NDArray], labels: NDArray) -> float:
    """Share of pixel pairs that labels and truth treat alike, averaged over the annotators."""
    scores = []
    for truth in truths:
        table = overlap_table(truth, labels)
        both, by_truth, by_labels, total = (
            _pairs(counts) for counts in (table.data, table.sum(1), table.sum(0), table.sum())
        )
        scores.append(1 - (by_truth + by_labels - 2 * both) / total)
    return float(np.mean(scores))


def _pairs(counts: ArrayLike) -> float:
    """Pairs of pixels inside groups of these sizes."""
    counts = np.asarray(counts, float)
    return float((counts * (counts - 1) / 2).sum())


def variation_of_information(truths: Iterable[NDArray], labels: NDArray) -> float:
    """Bits needed to get from labels to truth and back, averaged over annotators; 0 is best."""
    scores = []
    for truth in truths:
        table = overlap_table(truth, labels)
        scores.append(_skimage_voi(truth, labels, table=table / table.sum()).sum())
    return float(np.mean(scores))


# -- borders -------------------------------------------------------------------------------------


def border_distance(truth: NDArray, labels: NDArray, most: float = 20) -> float:
    """Mean distance in pixels of found borders to true ones and back, each at most `most`.

    Examples
    --------
    >>> border_distance(np.array([[1, 1, 2, 2, 2]]), np.array([[1, 1, 1, 2, 2]]))
    0.5
    """
    borders = [find_boundaries(array, mode="thick") for array in (truth, labels)]
    if not all(border.any() for border in borders):
        return 0.0 if not any(border.any() for border in borders) else most
    distances = [ndimage.distance_transform_edt(~border).clip(max=most) for border in borders]
    return float(np.mean([distances[0][borders[1]].mean(), distances[1][borders[0]].mean()]))


# -- objects -------------------------------------------------------------------------------------


def dice(truth: NDArray, labels: NDArray) -> float:
    """Dice coefficient of the foreground, which is every label but 0."""
    shared = np.count_nonzero((truth > 0) & (labels > 0))
    total = np.count_nonzero(truth) + np.count_nonzero(labels)
    return 2 * shared / total if total else 1.0


def average_precision(truth: NDArray, labels: NDArray, iou: float = 0.5) -> float:
    """TP / (TP + FP + FN) of the objects; 0 is background in both arrays.

    A found object is a true positive when it is matched, one to one, with a truth object that it
    overlaps with at least this IoU. 1 if both arrays are empty.
    """
    table = overlap_table(truth, labels)
    n_truth = np.count_nonzero(table.sum(axis=1)[1:])
    n_found = np.count_nonzero(table.sum(axis=0)[1:])
    if n_truth + n_found == 0:
        return 1.0
    enough = _overlap_over_union(table).tocsr()[1:, 1:].toarray() >= iou
    true_positives = enough[linear_sum_assignment(enough, maximize=True)].sum()
    return float(true_positives / (n_truth + n_found - true_positives))


# -- one setting for the set, or one for each image ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep over settings comes to: ODS with one setting for all images, OIS with the best.

    ``setting`` is the index of the best single setting, ``per_image`` the scores with it.
    """

    ods: float
    ois: float
    setting: int
    per_image: NDArray


def sweep(scores: ArrayLike, *, lower_is_better: bool = False) -> Sweep:
    """Aggregate the scores of a sweep, shape (images, settings).

    Examples
    --------
    >>> result = sweep([[0.2, 0.8], [0.6, 0.4]])
    >>> round(result.ods, 3), round(result.ois, 3), result.setting
    (0.6, 0.7, 1)
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2:
        raise ValueError(f"scores must be (images, settings), got shape {scores.shape}")
    sign = -1 if lower_is_better else 1
    setting = int(np.argmax(sign * scores.mean(axis=0)))
    best = sign * (sign * scores).max(axis=1)
    return Sweep(
        ods=float(scores[:, setting].mean()),
        ois=float(best.mean()),
        setting=setting,
        per_image=scores[:, setting],
    )
