"""The last merges of a tree made anew: regions with a sharp border between them merge late."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.patches.statistics import region_means
from napari_aeseg.regions.tree.merge_tree import MergeTree

# Regions whose merges are made anew: a table of all pairs is kept (15 ms).
_REGIONS = 256
# What area and the contrast of a border count beside the squared distance, as exponents.
_AREA, _CONTRAST = 0.75, 1.5
# A region of less than half an average patch is a speck, whatever its contrast: it merges first.
_SPECK, _OF_A_SPECK = 0.5, 1e-6


def merged_by_contrast(
    ward: MergeTree,
    edges: np.ndarray,
    border: np.ndarray,
    positions: np.ndarray,
    stop: StopFlag | None = None,
) -> MergeTree:
    """Return a tree whose merges of the last 256 regions are made anew, by area and contrast.

    Ward's criterion knows regions by their area and mean alone. A small thing that stands out
    clearly costs little to merge, because it is small: on images of cells it is gone before the
    ground is whole. So of the regions that Ward's criterion leaves, the next merge is the pair of
    neighbours with the smallest ``area**0.75 * distance**2 * contrast**1.5``: the harmonic area of
    both, the distance of their means, and the mean distance of patches on both sides of their
    border, by which other trees merge alone [1]_. They are sorted by area times the geometric mean
    of distance and contrast, as those below them by area times distance; see
    `MergeTree.ordered_by_area`.

    `edges` (E, 2) are the patches that touch, `border` (E,) the lengths of their borders,
    `positions` (P, D) what the tree was built from. Weights of the tree are in average patches.

    References
    ----------
    .. [1] P. Arbelaez, Boundary extraction in natural images using ultrametric contour maps,
           CVPR Workshops, 2006.

    Examples
    --------
    >>> from napari_aeseg.regions.tree.ward import ward_tree
    >>> edges, x = np.array([[0, 1], [1, 2]]), np.array([[0.0], [0.1], [5.0]])
    >>> tree = merged_by_contrast(ward_tree(edges, x, np.ones(3)), edges, np.ones(2), x)
    >>> tree.cut(2)
    array([1, 1, 2], dtype=int32)
    """
    leaves = ward.leaves
    number = min(_REGIONS, leaves)
    region = ward.cut(number) - 1
    means = region_means(positions, region, ward.size[:leaves])
    pairs = _Pairs(means.astype(np.float64), np.bincount(region, ward.size[:leaves]))
    pairs.add_borders(*_contrasts(region, edges, border, positions))
    made, node = ward.children[: leaves - number], _nodes(ward, region, number)
    children, cost = np.empty((number - 1, 2), np.int64), np.empty(number - 1)
    size = ward.size.copy()
    for merge in range(number - 1):
        raise_if_stopped(stop, "tree")
        a, b, cost[merge] = pairs.merge_next()
        children[merge] = node[a], node[b]
        joined = leaves + len(made) + merge
        size[joined] = size[node[a]] + size[node[b]]
        node[a] = joined
    costs = np.concatenate([ward.cost[: len(made)], cost])
    return MergeTree(np.concatenate([made, children]), costs, size).ordered_by_area()


def _nodes(tree: MergeTree, region: np.ndarray, number: int) -> np.ndarray:
    """Return the node of each region of ``tree.cut(number)``, shape (R,)."""
    first_undone = 2 * tree.leaves - number
    nodes = np.append(tree.children[first_undone - tree.leaves :], first_undone - 1)
    nodes = nodes[nodes < first_undone] if number > 1 else nodes
    order, start, _ = tree.leaf_order
    node = np.empty(number, np.int64)
    node[region[order[start[nodes]]]] = nodes
    return node


def _contrasts(
    region: np.ndarray, edges: np.ndarray, border: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of regions (N, 2), lengths of borders between them, and lengths times contrast."""
    pairs = region[edges]
    apart = pairs[:, 0] != pairs[:, 1]
    pairs, length = pairs[apart], border[apart].astype(np.float64)
    ends = positions[edges[apart]].astype(np.float64)
    return pairs, length, length * np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)


class _Pairs:
    """A table of what each pair of regions costs to merge; merged regions keep one row."""

    def __init__(self, means: np.ndarray, weight: np.ndarray) -> None:
        self.means, self.weight = means, weight
        self.length, self.contrast = np.zeros((2, len(weight), len(weight)))
        self.cost = np.full_like(self.length, np.inf)

    def add_borders(self, pairs: np.ndarray, length: np.ndarray, contrast: np.ndarray) -> None:
        """Set which regions touch, and what they cost."""
        for one, other in (pairs.T, pairs.T[::-1]):
            np.add.at(self.length, (one, other), length)
            np.add.at(self.contrast, (one, other), contrast)
        touching = np.nonzero(self.length)
        self.cost[touching] = self._costs(*touching)

    def _areas_and_distances(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return the harmonic area of regions that touch, and the squared distance of means."""
        area = self.weight[a] * self.weight[b] / (self.weight[a] + self.weight[b])
        return area, ((self.means[a] - self.means[b]) ** 2).sum(axis=-1)

    def _costs(self, a: int | np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return what pairs of regions that touch cost to merge."""
        area, squared = self._areas_and_distances(a, b)
        contrast = self.contrast[a, b] / self.length[a, b]
        is_speck = np.minimum(self.weight[a], self.weight[b]) < _SPECK
        factor = np.where(is_speck, _OF_A_SPECK, 1.0)
        return np.asarray(factor * area**_AREA * squared * contrast**_CONTRAST)

    def merge_next(self) -> tuple[int, int, float]:
        """Merge the cheapest pair into the first of the two; return them, and what sorts them."""
        a, b = divmod(int(self.cost.argmin()), len(self.cost))
        area, squared = self._areas_and_distances(a, b)
        contrast = self.contrast[a, b] / self.length[a, b]
        share = self.weight[b] / (self.weight[a] + self.weight[b])
        self.means[a] += share * (self.means[b] - self.means[a])
        self.weight[a] += self.weight[b]
        for table in (self.length, self.contrast):
            table[a] += table[b]
            table[b] = table[:, b] = 0
            table[a, a] = 0
            table[:, a] = table[a]
        self.cost[[a, b]] = self.cost[:, [a, b]] = np.inf
        beside = np.flatnonzero(self.length[a])
        self.cost[a, beside] = self.cost[beside, a] = self._costs(a, beside)
        # In place of Ward's area x distance^2: by contrast alone, one mosaic of fabrics loses .1.
        return a, b, float(area * np.sqrt(squared) * contrast)
