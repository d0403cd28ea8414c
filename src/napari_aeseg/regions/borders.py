"""Sharp borders: averaging over neighbours blurs them, and single patches know where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from napari_aeseg.events import raise_if_stopped
from napari_aeseg.regions.merge_tree import ward_tree

if TYPE_CHECKING:
    from napari_aeseg.events import StopFlag

# Numbers of regions at which borders are sharpened, one after the other.
_REGIONS = (64, 48, 32, 24, 16)
# Patches change sides at most this often at each of them.
_ROUNDS = 6
# What one neighbour in a region counts, in units of the squared noise.
_NEIGHBOUR = 3.0


def with_sharp_borders(
    averaged: np.ndarray,
    own: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray,
    stop: StopFlag | None = None,
) -> np.ndarray:
    """Move patches to the neighbouring region that they themselves look like.

    Regions come from positions averaged over neighbours. Each patch that touches another region
    compares its own position, which is not averaged, with the mean of both [1]_, and neighbours
    count for their region. One that changes sides gets the averaged position of its new region.

    Parameters
    ----------
    averaged : ndarray of float, shape (P, E)
        Positions averaged over neighbours.
    own : ndarray of float, shape (P, E')
        Positions of the patches alone.
    edges : ndarray of int, shape (E, 2)
    weight : ndarray of float64, shape (P,)
        Sizes.
    stop : StopFlag, optional
        Checked at each number of regions.

    Returns
    -------
    ndarray of the type of `averaged`, shape (P, E)

    Raises
    ------
    StoppedError
        When asked to stop.

    References
    ----------
    .. [1] J. Besag, On the statistical analysis of dirty pictures, Journal of the Royal Statistical
           Society B 48, 1986 (iterated conditional modes).

    Examples
    --------
    >>> own = np.repeat([0.0, 9.0], [40, 80])[:, np.newaxis]
    >>> edges = np.stack([np.arange(119), np.arange(1, 120)], axis=1)
    >>> blurred = np.repeat([0.0, 9.0], [43, 77])[:, np.newaxis]  # three patches on the wrong side
    >>> sharp = with_sharp_borders(blurred, own, edges, np.ones(120))
    >>> bool(np.array_equal(sharp > 4.5, own > 4.5))
    True
    """
    if not len(edges):
        return averaged
    tree = ward_tree(edges, averaged, weight, stop)
    region = tree.cut(min(_REGIONS[0], tree.leaves)) - 1
    result = averaged.copy()
    for number in _REGIONS:
        region = _fewer(region, result, edges, weight, number)
        raise_if_stopped(stop, "tree")
        moved = _competed(region, own, edges, weight)
        other = np.flatnonzero(moved != region)
        result[other] = region_means(averaged, moved, weight)[moved[other]]
        region = moved
    return result


def region_means(values: np.ndarray, region: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the rows of each region 0 .. R-1, shape (R, D); 0 if empty."""
    own = sparse.csr_array((weight, (region, np.arange(len(region)))))
    total = own.sum(axis=1)
    return (own @ values) / np.where(total > 0, total, 1)[:, np.newaxis]


def _fewer(
    region: np.ndarray, values: np.ndarray, edges: np.ndarray, weight: np.ndarray, number: int
) -> np.ndarray:
    """Merge neighbouring regions by Ward's criterion until there are `number`."""
    present = np.bincount(region) > 0
    region = (np.cumsum(present) - 1)[region]
    pairs = _touching(region, edges)
    if region.max() < number or not len(pairs):
        return region
    tree = ward_tree(pairs, region_means(values, region, weight), np.bincount(region, weight))
    return (tree.cut(number) - 1)[region]


def _touching(region: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return which of a few regions touch: each pair once, shape (E', 2)."""
    first, second = region[edges[:, 0]], region[edges[:, 1]]
    apart = first != second
    first, second = first[apart], second[apart]
    number = int(region.max()) + 1
    touch = np.bincount(
        np.minimum(first, second) * number + np.maximum(first, second), minlength=number**2
    )
    return np.argwhere(touch.reshape(number, number))


def _competed(
    region: np.ndarray, own: np.ndarray, edges: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Let patches at borders take sides until none changes."""
    region = region.copy()
    number = int(region.max()) + 1
    size = np.bincount(region, weight, number)
    total = region_means(own, region, weight) * size[:, np.newaxis]
    for _ in range(_ROUNDS):
        centre = total / np.where(size > 0, size, 1)[:, np.newaxis]
        which, best = _best_sides(region, own, edges, centre)
        moving = best != region[which]
        if not moving.any():
            break
        which, best = which[moving], best[moving]
        before, share = region[which], weight[which]
        gone = own[which] * share[:, np.newaxis]
        np.subtract.at(total, before, gone)
        np.add.at(total, best, gone)
        size += np.bincount(best, share, number) - np.bincount(before, share, number)
        region[which] = best
    return region


def _best_sides(
    region: np.ndarray, own: np.ndarray, edges: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Patches that touch another region, and the region that suits each of them best."""
    number = len(centre)
    border = edges[region[edges[:, 0]] != region[edges[:, 1]]]
    at_border = np.zeros(len(region), bool)
    at_border[border] = True
    which = np.flatnonzero(at_border)
    both = np.concatenate([edges, edges[:, ::-1]])
    here, there = both[at_border[both[:, 0]]].T
    around = np.searchsorted(which, here) * number + region[there]
    # Its own region is always an option, and the one that is taken when others are as good.
    option, times = _counted(
        np.concatenate([around, np.arange(len(which)) * number + region[which]])
    )
    index, candidate = option // number, option % number
    neighbours = times - (1 - 1e-9) * (candidate == region[which[index]])
    cost = ((own[which[index]] - centre[candidate]) ** 2).sum(axis=1) - _NEIGHBOUR * neighbours
    order = np.lexsort((cost, index))
    first = np.flatnonzero(np.diff(index[order], prepend=-1))
    return which, candidate[order][first]


def _counted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct keys, sorted, and how often each occurs."""
    keys = np.sort(keys)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.diff(first, append=len(keys))
