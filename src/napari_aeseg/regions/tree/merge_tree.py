"""The merge tree: the order in which neighbouring regions merge, and what its merges say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Square root of area times contrast, in units of the features, at which the threshold is 0.5.
_HALF_WAY = 8.0  # the best cut of photographs is then in the middle of the slider
#: Smallest threshold above 0: below it, squares underflow and no cost lies between two thresholds.
SMALLEST_THRESHOLD = 1e-9


@dataclass(frozen=True)
class MergeTree:
    """A binary tree of merges over P patches.

    Nodes 0 .. P-1 are the patches, node P + i is merge i; merges are sorted by cost: of the tree
    that is built, Ward's criterion (the increase of the within-region sum of squares), of the tree
    that regions are cut from, that of `ordered_by_area`.
    """

    children: np.ndarray  # the two nodes that each merge joins, int64, shape (P - 1, 2)
    cost: np.ndarray  # float64, shape (P - 1,); never decreasing
    size: np.ndarray  # weight (pixels) of each node, float64, shape (2 P - 1,)

    @classmethod
    def of(cls, children: np.ndarray, cost: np.ndarray, weight: np.ndarray) -> MergeTree:
        """Return the tree of these merges of patches with these weights, shape (P,)."""
        return cls(children, cost, _sums(children, _generations(children), weight))

    def ordered_by_area(self) -> MergeTree:
        """Return the same tree, its merges sorted by area times distance.

        Ward's criterion is area times squared distance. A few bricks that differ strongly from one
        another would be cut apart before two large textures are: with unknown variances, evidence
        grows with the area, but hardly with the square of a distance that is large anyway. A merge
        costs at least as much as those below it.
        """
        leaves = self.leaves
        first, second = self.size[self.children].T
        cost = np.zeros(2 * leaves - 1)
        # Area of a merge is the harmonic one, by which Ward's criterion has the squared distance.
        cost[leaves:] = np.sqrt(first * second / (first + second) * self.cost)
        for merges in self.generations:
            node = leaves + merges
            cost[node] = np.maximum(cost[node], cost[self.children[merges]].max(axis=1))
        order = np.argsort(cost[leaves:], kind="stable")  # children stay before their parents
        node = np.arange(2 * leaves - 1)
        node[leaves + order] = np.arange(leaves, 2 * leaves - 1)
        size = np.concatenate([self.size[:leaves], self.size[leaves:][order]])
        return MergeTree(node[self.children[order]], cost[leaves:][order], size)

    @property
    def leaves(self) -> int:
        """Number of patches P."""
        return len(self.children) + 1

    @cached_property
    def leaf_order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Leaves in an order in which every node is a run, and start and length of each run.

        Node k has the patches ``order[start[k] : start[k] + length[k]]``.
        """
        leaves = self.leaves
        first, second = self.children.T
        length = self.sums(np.ones(leaves, np.int64))
        start = np.zeros(2 * leaves - 1, np.int64)
        for merges in reversed(self.generations):
            parent_start = start[leaves + merges]
            start[first[merges]] = parent_start
            start[second[merges]] = parent_start + length[first[merges]]
        order = np.empty(leaves, np.int64)
        order[start[:leaves]] = np.arange(leaves)
        return order, start, length

    @cached_property
    def generations(self) -> list[np.ndarray]:
        """Merges at each distance from the root, the furthest first."""
        return _generations(self.children)

    @cached_property
    def _label_of_node(self) -> np.ndarray:
        """A label for each node: a split hands its label to the larger child, the other is new."""
        leaves = self.leaves
        first, second = self.children.T
        first_is_larger = self.size[first] >= self.size[second]
        larger_child = np.where(first_is_larger, first, second)
        smaller_child = np.where(first_is_larger, second, first)
        label = np.ones(2 * leaves - 1, np.int32)
        # The costliest merge is undone first: label 2.
        label[smaller_child] = leaves - np.arange(leaves - 1)
        for merges in reversed(self.generations):
            label[larger_child[merges]] = label[leaves + merges]
        return label

    def cut(self, n_regions: int) -> np.ndarray:
        """Undo the `n_regions` - 1 costliest merges; return label 1 .. n_regions of each patch.

        Cuts are nested: from n to n + 1 regions, only one part gets a new label, n + 1.
        """
        leaves = self.leaves
        if n_regions == 1:  # the root is no child of an undone merge
            return np.ones(leaves, np.int32)
        first_undone = 2 * leaves - 1 - (n_regions - 1)  # nodes below this stay merged
        nodes = self.children[first_undone - leaves :].ravel()
        nodes = nodes[nodes < first_undone]
        order, start, _ = self.leaf_order
        # Every region is a run in this order: its label is written at its first leaf, and the
        # others count how many regions have begun.
        begins, label = np.zeros(leaves, bool), np.empty(leaves, np.int32)
        begins[start[nodes]] = True
        label[start[nodes]] = self._label_of_node[nodes]
        labels = np.empty(leaves, np.int32)
        labels[order] = label[begins][np.cumsum(begins) - 1]
        return labels

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of the patches' values, (P,), below each node, shape (2 P - 1,)."""
        return _sums(self.children, self.generations, values)

    def count_below(self, cost: float) -> int:
        """Return the number of regions left when every merge cheaper than `cost` is done."""
        return self.leaves - int(np.searchsorted(self.cost, cost, side="left"))

    def suggested_number(self, most: int = 64) -> int:
        """Return the number of regions where the cost of merging jumps, `most` at most."""
        cost = self.cost[::-1][:most]
        if len(cost) < 2 or cost[0] <= 0:
            return 1
        ratio = cost[:-1] / np.maximum(cost[1:], cost[0] * 1e-12)  # equal patches merge at cost 0
        return int(np.argmax(ratio)) + 2

    @cached_property
    def gap_merges(self) -> np.ndarray:
        """The merge that joins each patch with the next one in `leaf_order`, int64, shape (P - 1,).

        In the order of the leaves every node of the tree is a run, and every merge closes the gap
        between two runs. The merge that joins any two patches is therefore the last one (the
        largest number) among the gaps between them: the ultrametric distance.
        """
        _, start, _ = self.leaf_order
        merges = np.empty(self.leaves - 1, np.int64)
        merges[start[self.children].max(axis=1) - 1] = np.arange(self.leaves - 1)
        return merges

    def merges_joining(self, pairs: np.ndarray) -> np.ndarray:
        """Return the merge that makes each pair (E, 2) of distinct patches one region, (E,)."""
        _, start, _ = self.leaf_order
        ends = start[pairs]
        return _range_maxima(self.gap_merges, ends.min(axis=1), ends.max(axis=1))

    def merges_leaving(self, group: np.ndarray, number: int) -> np.ndarray:
        """Return the first merge that joins patches of each group with patches of another.

        Groups are 0 .. number - 1 by patch, shape (P,); P - 1 where there is no other.
        """
        in_order = group[self.leaf_order[0]]
        border = in_order[:-1] != in_order[1:]
        merges = self.gap_merges[border]
        first = np.full(number, self.leaves - 1)
        np.minimum.at(first, in_order[:-1][border], merges)
        np.minimum.at(first, in_order[1:][border], merges)
        return first


def _generations(children: np.ndarray) -> list[np.ndarray]:
    """Merges at each distance from the root, the furthest first: parts before what they join."""
    merges = len(children)
    parent = np.full(2 * merges + 1, 2 * merges)
    parent[children] = np.arange(merges + 1, 2 * merges + 1)[:, np.newaxis]
    parent = parent[merges + 1 :] - (merges + 1)
    # Pointer jumping: each round doubles the steps from a merge to the ancestor it knows.
    distance = (parent != np.arange(merges)).astype(np.int64)
    ancestor = parent
    while (ancestor != merges - 1).any():
        distance += distance[ancestor]
        ancestor = ancestor[ancestor]
    from_furthest = distance.max(initial=0) - distance
    if from_furthest.max(initial=0) < 2**16:
        from_furthest = from_furthest.astype(np.uint16)  # sorted by radix, five times faster
    order = np.argsort(from_furthest, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(distance[order])) + 1)


def _sums(children: np.ndarray, generations: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Sum of the leaves' values below each node, shape (2 P - 1,)."""
    leaves = len(values)
    sums = np.concatenate([values, np.zeros(leaves - 1, values.dtype)])
    first, second = children.T
    for merges in generations:
        sums[leaves + merges] = sums[first[merges]] + sums[second[merges]]
    return sums


def _range_maxima(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Largest of ``values[first:last]`` for each query, none of them empty."""
    # Sparse table: two overlapping runs of 2**level values cover a query. Only one level of the
    # table is in memory at a time.
    level = np.frexp((last - first).astype(float))[1] - 1  # exact, unlike a logarithm
    maxima = np.empty(len(first), values.dtype)
    run = values
    for k in range(int(level.max(initial=-1)) + 1):
        if k:
            run = np.maximum(run[: -(2 ** (k - 1))], run[2 ** (k - 1) :])
        of_level = level == k
        maxima[of_level] = np.maximum(run[first[of_level]], run[last[of_level] - 2**k])
    return maxima


def threshold_of(cost: np.ndarray, unit: float) -> np.ndarray:
    """Return the thresholds up to which merges of such costs are not done yet.

    Thresholds bring area times contrast to 0 .. 1, alike in every image of one model: `unit` is one
    unit of the positions in units of the encoder's features.

    >>> threshold_of(np.array([0.0, 64.0, 576.0]), unit=1.0)
    array([0.  , 0.5 , 0.75])
    """
    root = np.sqrt(cost * unit)
    return root / (root + _HALF_WAY)


def cost_of(threshold: float, unit: float) -> float:
    """Return the cost below which merges are done at a threshold; the inverse of `threshold_of`."""
    return float("inf") if threshold == 1 else (threshold / (1 - threshold) * _HALF_WAY) ** 2 / unit
