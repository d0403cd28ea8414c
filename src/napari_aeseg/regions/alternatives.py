"""Alternatives: a few segmentations of one image that differ, to choose from by eye."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy import sparse

from napari_aeseg.images.parallel import cores, in_threads, one_blas_thread
from napari_aeseg.progress import Progress, StopFlag, raise_if_stopped

if TYPE_CHECKING:
    from napari_aeseg.params import ComparisonParams

AlternativeMode = Literal["classes", "regions"]
ALTERNATIVE_MODES: tuple[AlternativeMode, ...] = get_args(AlternativeMode)

# Candidates are all pairs: colour alone, the default, both, mostly texture; parts of textures,
# patches with their neighbours, single patches ("auto" chooses the first or the last). The scale
# that takes longest comes first.
_BALANCES, _SCALES = (0.0, 0.3, 0.5, 0.9), (16.0, 4.0, 1.0)
# Classes whitened within regions differ so much from these that one balance is enough.
_BALANCE_WITHIN_REGIONS = 0.3
# Candidates that are nearer to a chosen one are not offered: of two equal classes, .6 % of the
# pixels have changed, of three 1 %, of fifty regions 5 %.
_LEAST_DISTANCE = 0.05
_STAGE = "alternatives"


@dataclass(frozen=True, slots=True)
class AlternativeSettings:
    """What makes an alternative: how patches are compared, and into how many parts they are cut.

    ``hierarchy.compared_by(s.comparison).classes(s.n_classes)`` gives the labels again; in the mode
    "regions", ``hierarchy.compared_by(s.comparison).regions(s.n_regions)``.
    """

    comparison: ComparisonParams
    mode: AlternativeMode
    n_classes: int | None = None  # None in the mode "regions"
    n_regions: int | None = None  # None in the mode "classes"

    @property
    def number(self) -> int:
        """Number of classes or regions."""
        return (self.n_classes if self.mode == "classes" else self.n_regions) or 1

    @property
    def values(self) -> dict[str, float | str]:
        """Balance and scale, and the whitening of classes where it is not the default."""
        values = self.comparison.model_dump()
        if self.mode == "regions" or values["whitening"] == "neighbours":
            del values["whitening"]
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Alternative:
    """One of the segmentations that `Hierarchy.alternatives` returns."""

    settings: AlternativeSettings
    label_of_patch: np.ndarray  # int32, shape (P,)
    _pixels_of: Callable[[np.ndarray], Any]

    def __repr__(self) -> str:
        return f"Alternative({self.settings})"

    @property
    def labels(self) -> Any:
        """Labels of the pixels as `classes` or `regions` returns them; made when asked for."""
        return self._pixels_of(self.label_of_patch)


def alternatives_steps(
    hierarchy: Any,
    n: int,
    mode: AlternativeMode,
    number: int,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, tuple[Alternative, ...]]:
    """Find alternatives of a `Hierarchy` as its `alternatives` does; a generator of events.

    Segmentations by a grid of balances and scales are candidates, and classes whitened within
    regions at each scale. In turn, one of each whitening is added: the one that leaves the
    candidates of this whitening nearest to those chosen, on average [1]_. So what several agree on
    is shown; the farthest from those chosen is often an outlier.

    References
    ----------
    .. [1] G. Cornuejols, M. L. Fisher, G. L. Nemhauser, Location of bank accounts to optimize
           float, Management Science 23, 1977.
    """

    def all_labelled(comparisons: Sequence[ComparisonParams]) -> list[np.ndarray]:
        labels, compared = [], hierarchy
        with one_blas_thread():
            for comparison in comparisons:
                raise_if_stopped(stop, _STAGE)
                # One that differs from the one before in the whitening only has the same tree.
                compared = compared.compared_by(comparison).prepare(stop)
                cut = compared.class_of_patch if mode == "classes" else compared.region_of_patch
                labels.append(cut(number))
        return labels

    raise_if_stopped(stop, _STAGE)
    hierarchy.prepare(stop)  # the scale that "auto" chose is known then
    others = _candidates(hierarchy, mode) if n > 1 and number > 1 else ()
    groups = [[hierarchy.comparison], *others]
    labels: list[np.ndarray] = []
    # One scale is one piece of work: its moments are computed once, for all balances.
    for done, group in enumerate(in_threads(all_labelled, groups, min(2, cores())), 1):
        labels += group
        yield Progress(_STAGE, done, len(groups))
    raise_if_stopped(stop, _STAGE)
    comparisons = [comparison for group in groups for comparison in group]
    of_regions = np.array([comparison.whitening == "regions" for comparison in comparisons])
    counts = {"n_classes": number} if mode == "classes" else {"n_regions": number}
    return tuple(
        Alternative(
            AlternativeSettings(comparisons[i], mode, **counts),
            labels[i],
            partial(hierarchy.pixels_of, refine=True),
        )
        for i in _representatives(labels, of_regions, hierarchy.statistics.count, n, number)
    )


def _candidates(hierarchy: Any, mode: AlternativeMode) -> list[list[ComparisonParams]]:
    """The comparisons of the grid, by scale; those by level 0 alone only where it is known."""
    own, has_image = hierarchy.comparison, bool((hierarchy.statistics.level == 0).any())
    groups = []
    for scale in _SCALES:
        group = []
        for balance in _BALANCES[0 if has_image else 1 :]:
            is_own = (balance, scale) == (own.balance, hierarchy.descriptor.scale)
            comparison = own if is_own else own.updated(balance=balance, scale=scale)
            if mode == "regions":  # the same with any whitening
                group.append(comparison)
                continue
            group.append(comparison.updated(whitening="neighbours"))
            if balance == _BALANCE_WITHIN_REGIONS:
                group.append(comparison.updated(whitening="regions"))
        # The hierarchy's own tree is built already: what shares it comes first.
        group.sort(key=lambda c: (c.balance, c.scale) != (own.balance, own.scale))
        groups.append([comparison for comparison in group if comparison != own])
    return groups


def _representatives(
    labels: Sequence[np.ndarray], of_regions: np.ndarray, weight: np.ndarray, n: int, number: int
) -> list[int]:
    """Indices of at most `n` labellings that differ, the first one first.

    `of_regions`, bool, tells those whitened within regions: they come in turn with the others.
    """
    distance = np.zeros((len(labels), len(labels)))
    for i, j in combinations(range(len(labels)), 2):
        distance[i, j] = distance[j, i] = labels_distance(labels[i], labels[j], weight, number)
    chosen, nearest = [0], distance[0]  # of each labelling, the distance to those chosen
    while len(chosen) < n and (nearest >= _LEAST_DISTANCE).any():
        turn = of_regions != of_regions[chosen[-1]]
        if not (turn & (nearest >= _LEAST_DISTANCE)).any():
            turn = ~turn  # none that differs is left
        left = np.minimum(nearest, distance)[:, turn].sum(axis=1)
        left[~turn | (nearest < _LEAST_DISTANCE)] = np.inf
        chosen.append(int(left.argmin()))
        nearest = np.minimum(nearest, distance[chosen[-1]])
    return chosen


def labels_distance(one: np.ndarray, other: np.ndarray, weight: np.ndarray, number: int) -> float:
    """Return how much two labellings of patches differ: 0 alike, 1 nothing in common.

    Their variation of information [1]_ as part of its bound, ``2 log(number)``, of as many labels.
    As part of the joint entropy instead, a labelling with nearly all in one class would be far from
    all others. `weight` are pixels, shape (P,); labels have any names.

    References
    ----------
    .. [1] M. Meila, Comparing clusterings - an information based distance, Journal of Multivariate
           Analysis 98, 2007.

    Examples
    --------
    >>> labels_distance(np.array([1, 1, 2, 2]), np.array([2, 2, 1, 1]), np.ones(4), 2)
    0.0
    >>> round(labels_distance(np.array([1, 1, 2, 2]), np.array([1, 2, 1, 2]), np.ones(4), 2), 6)
    1.0
    """
    joint = sparse.csr_array((weight / weight.sum(), (one, other)))
    information = (
        2 * _entropy(joint.data) - _entropy(joint.sum(axis=0)) - _entropy(joint.sum(axis=1))
    )
    return max(0.0, float(information / (2 * np.log(max(number, 2)))))


def _entropy(probability: np.ndarray) -> float:
    """Entropy in nats; parts of probability 0 add nothing."""
    probability = probability[probability > 0]
    return -float((probability * np.log(probability)).sum())
