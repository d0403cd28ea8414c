"""Sharp borders: averaging over neighbours blurs them, and single patches know where they are."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_aeseg.regions.merge_tree import ward_tree

# Numbers of regions at which borders are sharpened, one after the other.
_REGIONS = (64, 48, 32, 24, 16)
# Patches change sides at most this often at each of them.
_ROUNDS = 6
# What one neighbour in a region counts, in units of the squared noise.
_NEIGHBOUR = 3.0


def with_sharp_borders(
    averaged: np.ndarray, own: np.ndarray, edges: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Move patches to the neighbouring region that they themselves look like.

    Regions come from positions averaged over neighbours. Each patch that touches another region
    compares its own position, which is not averaged, with the mean of both [1]_, and neighbours
    count for their region. One that changes sides gets the averaged position of its new region.

    Parameters
    ----------
    averaged : ndarray of float64, shape (P, E)
        Positions averaged over neighbours.
    own : ndarray of float64, shape (P, E')
        Positions of the patches alone.
    edges : ndarray of int, shape (E, 2)
    weight : ndarray of float64, shape (P,)
        Sizes.

    Returns
    -------
    ndarray of float64, shape (P, E)

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
    both = np.concatenate([edges, edges[:, ::-1]])
    touching = sparse.csr_array((np.ones(len(both)), both.T), shape=(len(own),) * 2)
    touching = touching + 1e-9 * sparse.eye_array(len(own))  # its own region is always an option
    tree = ward_tree(edges, averaged, weight)
    region = tree.cut(min(_REGIONS[0], tree.leaves)) - 1
    result = averaged
    for number in _REGIONS:
        region = _fewer(region, result, edges, weight, number)
        moved = _competed(region, own, touching, weight)
        centre = region_means(averaged, moved, weight)
        result = np.where((moved != region)[:, np.newaxis], centre[moved], result)
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
    region = np.unique(region, return_inverse=True)[1]
    pairs = np.unique(np.sort(region[edges], axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if region.max() < number or not len(pairs):
        return region
    tree = ward_tree(pairs, region_means(values, region, weight), np.bincount(region, weight))
    return (tree.cut(number) - 1)[region]


def _competed(
    region: np.ndarray, own: np.ndarray, touching: sparse.csr_array, weight: np.ndarray
) -> np.ndarray:
    """Let patches at borders take sides until none changes."""
    patch = np.arange(len(region))
    for _ in range(_ROUNDS):
        centre = region_means(own, region, weight)
        inside = sparse.csr_array((np.ones(len(region)), (patch, region)))
        around = (touching @ inside).tocoo()
        which, candidate = around.coords
        cost = ((own[which] - centre[candidate]) ** 2).sum(axis=1) - _NEIGHBOUR * around.data
        order = np.lexsort((cost, which))
        which, first = np.unique(which[order], return_index=True)
        best = region.copy()
        best[which] = candidate[order][first]
        if np.array_equal(best, region):
            break
        region = best
    return region
