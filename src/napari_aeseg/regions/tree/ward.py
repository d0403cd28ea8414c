"""Early merges: the first of a large merge tree, made once and used in several trees."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.progress import raise_if_stopped
from napari_aeseg.regions.tree import ward as merge_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg.progress import StopFlag


# Patches that early merges join to one region.
_PER_EARLY_REGION = 4


def early_merges(
    edges: np.ndarray, positions: np.ndarray, weight: np.ndarray, stop: StopFlag | None = None
) -> SharedMerges | None:
    """Return the cheapest merges, to begin other trees of the same patches with.

    Parameters
    ----------
    edges, positions, weight, stop
        As of `ward_tree`.

    Returns
    -------
    SharedMerges or None
        A quarter of the patches is left, or a few thousand; None where there are no more.

    Raises
    ------
    StoppedError
        When asked to stop.
    """
    if len(positions) <= merge_tree.MOST_EXACT:
        return None
    left = max(len(positions) // _PER_EARLY_REGION, 2 * merge_tree.LEFT_BY_ROUNDS)
    return SharedMerges.found(edges, positions, weight, left, stop)


@dataclass(frozen=True, slots=True)
class SharedMerges:
    """Merges of patches into small regions, found once, with which several trees begin.

    Parameters
    ----------
    pairs : tuple of (ndarray of int64, ndarray of int64)
        Rounds of merges: each patch of the second array, with all that has been joined to it, is
        joined to that of the first.
    place : ndarray of int64, shape (P,)
        The patch that all patches of a region have been joined to.
    """

    pairs: tuple[tuple[np.ndarray, np.ndarray], ...]
    place: np.ndarray

    @classmethod
    def found(
        cls,
        edges: np.ndarray,
        positions: np.ndarray,
        weight: np.ndarray,
        number: int,
        stop: StopFlag | None = None,
    ) -> SharedMerges:
        """Return those that lead to `number` regions; see `merge_reciprocal_neighbours`."""
        pairs = merge_reciprocal_neighbours(edges, positions, weight, number, stop).pairs
        return cls(tuple(pairs), _places(pairs, len(positions)))

    @property
    def region(self) -> np.ndarray:
        """Number 0 .. R-1 of each patch's region, shape (P,)."""
        return (np.cumsum(self.place == np.arange(len(self.place))) - 1)[self.place]

    def within(self, part: np.ndarray) -> SharedMerges:
        """Return those of regions that are in one part each; `part` has shape (P,).

        Patches of the other regions are on their own again.
        """
        broken = np.zeros(len(self.place), bool)
        broken[self.place[part != part[self.place]]] = True
        broken = broken[self.place]
        pairs = tuple((a[~broken[a]], b[~broken[a]]) for a, b in self.pairs)
        return SharedMerges(pairs, np.where(broken, np.arange(len(broken)), self.place))


def _places(pairs: Sequence[tuple[np.ndarray, np.ndarray]], patches: int) -> np.ndarray:
    """Patch that each patch ends up joined to."""
    place = np.arange(patches)
    for first, second in reversed(pairs):
        place[second] = place[first]
    return place


# Edges priced together: their ends stay in the processor's cache.
_TOGETHER = 2048
# A round merges no pair dearer than this share of the regions' cheapest pairs: what is merged late
# in the exact order should see its final neighbours.
_CHEAPEST = 0.5


@dataclass(frozen=True, slots=True)
class Merged:
    """What is left after the rounds, and the merges that led to it.

    Parameters
    ----------
    children : ndarray of int64, shape (M, 2)
        Nodes that each merge joins; merge i is node P + i.
    cost : ndarray of float64, shape (M,)
        Never below that of the parts.
    node : ndarray of int64, shape (R,)
        Node of each region that is left.
    height : ndarray of float64, shape (R,)
        Cost of its last merge, 0 for a single patch.
    positions : ndarray of float32, shape (R, D)
    weight : ndarray of float64, shape (R,)
    edges : ndarray of int64, shape (E, 2)
        Which regions touch, each pair once.
    pairs : list of (ndarray of int64, ndarray of int64)
        The merges round by round, as in `SharedMerges`.
    """

    children: np.ndarray
    cost: np.ndarray
    node: np.ndarray
    height: np.ndarray
    positions: np.ndarray
    weight: np.ndarray
    edges: np.ndarray
    pairs: list[tuple[np.ndarray, np.ndarray]]


def merge_reciprocal_neighbours(
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
    number: int,
    stop: StopFlag | None = None,
    early: SharedMerges | None = None,
) -> Merged:
    """Merge neighbours by Ward's criterion, many pairs at a time, until `number` regions are left.

    In each round those pairs merge that are each other's cheapest neighbour [1]_. Ward's criterion
    is reducible: merging elsewhere brings no third region nearer than the partner, so that the
    order does not matter. Where only neighbours merge this holds but for regions that become
    neighbours on the way; the tree differs from the exact one there, and by rounding.

    Parameters
    ----------
    edges : ndarray of int, shape (E, 2)
        Which nodes touch, each pair once; the graph is connected.
    positions : ndarray of float, shape (P, D)
    weight : ndarray of float, shape (P,)
    number : int
        1 to P.
    stop : StopFlag, optional
        Checked before each round.
    early : SharedMerges, optional
        Merges to begin with, whatever they cost here; they leave `number` regions or more.

    Raises
    ------
    StoppedError
        When asked to stop.

    References
    ----------
    .. [1] F. Murtagh, A survey of recent advances in hierarchical clustering algorithms, The
           Computer Journal 26, 1983.

    Examples
    --------
    >>> edges, x = np.array([[0, 1], [1, 2], [2, 3]]), np.array([[0.0], [0.1], [5.0], [5.2]])
    >>> merge_reciprocal_neighbours(edges, x, np.ones(4), number=2).children.tolist()
    [[0, 1], [2, 3]]
    """
    regions = _Regions.of(positions, weight)
    a, b = np.ascontiguousarray(np.asarray(edges, np.int64).T)
    if early is None:
        price = ward_costs(a, b, regions.positions, regions.weight)
    else:
        for first, second in early.pairs:
            raise_if_stopped(stop, "tree")
            cost = ward_costs(first, second, regions.positions, regions.weight)
            regions.merge(first, second, cost)
        regions.place = early.place.copy()
        everywhere = np.ones(len(positions), bool)
        a, b, price = _repriced(a, b, np.empty(0), everywhere, regions)
    rng = np.random.default_rng(0)
    while regions.left > number:
        raise_if_stopped(stop, "tree")
        pairs = _pairs(a, b, price, len(positions), regions.left - number, rng)
        changed = regions.merge(a[pairs], b[pairs], price[pairs])
        a, b, price = _repriced(a, b, price, changed, regions)
    return regions.found(a, b)


def ward_costs(a: np.ndarray, b: np.ndarray, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return Ward's cost of merging each pair of nodes ``a[i], b[i]``, float64, shape (E,)."""
    squared = np.empty(len(a))
    for start in range(0, len(a), _TOGETHER):
        here = slice(start, start + _TOGETHER)
        step = x.take(a[here], axis=0)
        step -= x.take(b[here], axis=0)
        squared[here] = np.einsum("ij,ij->i", step, step)
    return w[a] * w[b] / (w[a] + w[b]) * squared


def _pairs(
    a: np.ndarray,
    b: np.ndarray,
    price: np.ndarray,
    places: int,
    most: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Edges whose ends are each other's cheapest neighbour, no region in two; the cheapest."""
    cheapest = np.full(places, np.inf)
    np.minimum.at(cheapest, a, price)
    np.minimum.at(cheapest, b, price)
    limit = np.quantile(cheapest[cheapest < np.inf], _CHEAPEST, method="higher")
    edge = np.flatnonzero(price <= limit)
    edge = edge[(price[edge] == cheapest[a[edge]]) & (price[edge] == cheapest[b[edge]])]
    # Of pairs that cost the same, chance decides: by their order, few of a flat image could merge.
    turn = rng.permutation(len(edge))
    one, other = a[edge], b[edge]
    first = np.full(places, len(edge))
    np.minimum.at(first, one, turn)
    np.minimum.at(first, other, turn)
    edge = edge[(first[one] == turn) & (first[other] == turn)]
    return edge[np.argsort(price[edge], kind="stable")[:most]] if len(edge) > most else edge


def _repriced(
    a: np.ndarray, b: np.ndarray, price: np.ndarray, changed: np.ndarray, regions: _Regions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges between the regions there are now, each once, and their prices."""
    touched = changed[a]
    touched |= changed[b]
    same = np.flatnonzero(~touched)
    touched = np.flatnonzero(touched)
    one, other = regions.place[a[touched]], regions.place[b[touched]]
    low, high = np.minimum(one, other), np.maximum(one, other)
    places = len(regions.place)
    key = np.sort((low * places + high)[low != high])
    key = key[np.diff(key, prepend=-1) > 0]
    low = key // places
    high = key - low * places
    return (
        np.concatenate([a[same], low]),
        np.concatenate([b[same], high]),
        np.concatenate([price[same], ward_costs(low, high, regions.positions, regions.weight)]),
    )


@dataclass(slots=True)
class _Regions:
    """Regions that merge: one of two keeps its place in the arrays, the other's is left as it was.

    Nothing moves up to close the gaps: that would copy all positions in every round.
    """

    positions: np.ndarray
    weight: np.ndarray
    height: np.ndarray
    node: np.ndarray
    #: Where each region is found, for those that merged in the last round.
    place: np.ndarray
    left: int
    children: list[np.ndarray]
    costs: list[np.ndarray]
    pairs: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, positions: np.ndarray, weight: np.ndarray) -> _Regions:
        leaves = len(positions)
        return cls(
            np.array(positions, np.float32),
            np.array(weight, np.float64),
            np.zeros(leaves),
            np.arange(leaves),
            np.arange(leaves),
            leaves,
            [np.empty((0, 2), np.int64)],
            [np.empty(0)],
            [],
        )

    def merge(self, first: np.ndarray, second: np.ndarray, price: np.ndarray) -> np.ndarray:
        """Join each `second` to its `first`; return which places have changed."""
        x, w, height, node = self.positions, self.weight, self.height, self.node
        cost = np.maximum(price, np.maximum(height[first], height[second]))
        self.children.append(np.stack([node[first], node[second]], axis=1))
        self.costs.append(cost)
        self.pairs.append((first, second))
        both = w[first] + w[second]
        kept = x[first]
        step = x[second]
        step -= kept
        step *= (w[second] / both).astype(np.float32)[:, np.newaxis]
        kept += step
        x[first] = kept
        w[first], height[first] = both, cost
        made = 2 * len(x) - self.left
        node[first] = np.arange(made, made + len(first))
        self.place[second] = first
        self.left -= len(first)
        changed = np.zeros(len(x), bool)
        changed[first] = changed[second] = True
        return changed

    def found(self, a: np.ndarray, b: np.ndarray) -> Merged:
        """Return the regions that are left, without gaps."""
        stays = self.place == np.arange(len(self.place))
        new = np.cumsum(stays) - 1
        return Merged(
            np.concatenate(self.children),
            np.concatenate(self.costs),
            self.node[stays],
            self.height[stays],
            self.positions[stays],
            self.weight[stays],
            np.stack([new[a], new[b]], axis=1),
            self.pairs,
        )


# No wheels for Linux aarch64. Imported where it is used: a window opens half a second sooner.
HAS_HIGRA = find_spec("higra") is not None

# Nodes that are merged in exact order from the start, and regions left to that when there are more.
# higra lets no other thread run meanwhile: 20 ms for 2,000 nodes, 1.2 s for 65,000.
MOST_EXACT, LEFT_BY_ROUNDS = 5_000, 2_000


@dataclass(frozen=True)
class MergeTree:
    """A binary tree of merges over P patches.

    Nodes 0 .. P-1 are the patches, node P + i is merge i; merges are sorted by cost.

    Parameters
    ----------
    children : ndarray of int64, shape (P - 1, 2)
        The two nodes that each merge joins.
    cost : ndarray of float64, shape (P - 1,)
        Ward's criterion, the increase of the within-region sum of squares; never decreasing.
    size : ndarray of float64, shape (2 P - 1,)
        Weight (pixels) of each node.
    """

    children: np.ndarray
    cost: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, children: np.ndarray, cost: np.ndarray, weight: np.ndarray) -> MergeTree:
        """Return the tree of these merges of patches with these weights, shape (P,)."""
        return cls(children, cost, _sums(children, _generations(children), weight))

    @property
    def leaves(self) -> int:
        """Number of patches P."""
        return len(self.children) + 1

    @cached_property
    def leaf_order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Leaves in an order in which every node is a run.

        Returns
        -------
        order : ndarray of int64, shape (P,)
            Patches; node k has ``order[start[k] : start[k] + length[k]]``.
        start, length : ndarray of int64, shape (2 P - 1,)
        """
        leaves = self.leaves
        first, second = self.children.T
        length = _sums(self.children, self._generations, np.ones(leaves, np.int64))
        start = np.zeros(2 * leaves - 1, np.int64)
        for merges in reversed(self._generations):
            at = start[leaves + merges]
            start[first[merges]] = at
            start[second[merges]] = at + length[first[merges]]
        order = np.empty(leaves, np.int64)
        order[start[:leaves]] = np.arange(leaves)
        return order, start, length

    @cached_property
    def _generations(self) -> list[np.ndarray]:
        return _generations(self.children)

    @cached_property
    def _names(self) -> np.ndarray:
        """A label for each node: a split hands its label to the larger part, the other is new."""
        leaves = self.leaves
        first, second = self.children.T
        larger = self.size[first] >= self.size[second]
        heir, other = np.where(larger, first, second), np.where(larger, second, first)
        names = np.ones(2 * leaves - 1, np.int32)
        names[other] = leaves - np.arange(leaves - 1)
        for merges in reversed(self._generations):
            names[heir[merges]] = names[leaves + merges]
        return names

    def cut(self, n_regions: int) -> np.ndarray:
        """Undo the `n_regions` - 1 dearest merges.

        Parameters
        ----------
        n_regions : int
            1 to P.

        Returns
        -------
        ndarray of int32, shape (P,)
            Label 1 .. n_regions of each patch. Cuts are nested, and from n to n + 1 regions only
            one part gets a new label, n + 1.
        """
        leaves = self.leaves
        if n_regions == 1:
            return np.ones(leaves, np.int32)
        firm = 2 * leaves - 1 - (n_regions - 1)  # nodes below this stay merged
        nodes = self.children[firm - leaves :].ravel()
        nodes = nodes[nodes < firm]
        order, start, _ = self.leaf_order
        # Every region is a run in this order; its first leaf has the name, the others follow.
        first, name = np.zeros(leaves, bool), np.empty(leaves, np.int32)
        first[start[nodes]] = True
        name[start[nodes]] = self._names[nodes]
        labels = np.empty(leaves, np.int32)
        labels[order] = name[first][np.cumsum(first) - 1]
        return labels

    def count_below(self, cost: float) -> int:
        """Return the number of regions left when every merge cheaper than `cost` is done."""
        return self.leaves - int(np.searchsorted(self.cost, cost, side="left"))


def ward_tree(
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
    stop: StopFlag | None = None,
    early: SharedMerges | None = None,
) -> MergeTree:
    """Merge neighbours by Ward's criterion until one region is left.

    The next merge is the pair of neighbours with the smallest
    ``w1 * w2 / (w1 + w2) * |x1 - x2|**2``, the increase of the weighted sum of squares. Of more
    than a few thousand nodes, all but two thousand regions are made in rounds, see
    `napari_aeseg.regions.tree.ward.merge_reciprocal_neighbours`, and only the rest in this order.

    Parameters
    ----------
    edges : ndarray of int, shape (E, 2)
        Which nodes touch; the graph is connected.
    positions : ndarray of float, shape (P, D)
        Descriptor of each node.
    weight : ndarray of float, shape (P,)
        Pixel counts, above 0.
    stop : StopFlag, optional
        Looked at while nodes are merged.
    early : SharedMerges, optional
        Merges to begin with; see `napari_aeseg.regions.tree.ward`.

    Returns
    -------
    MergeTree

    Raises
    ------
    StoppedError
        When asked to stop.

    References
    ----------
    .. [1] J. H. Ward, Hierarchical grouping to optimize an objective function, JASA 58, 1963.
    .. [2] B. Perret et al., Higra: Hierarchical graph analysis, SoftwareX 10, 2019.

    Examples
    --------
    >>> tree = ward_tree(np.array([[0, 1], [1, 2]]), np.array([[0.0], [0.1], [5.0]]), np.ones(3))
    >>> tree.cut(2)
    array([1, 1, 2], dtype=int32)
    """
    raise_if_stopped(stop, "tree")
    edges, weight = np.asarray(edges, np.int64), np.asarray(weight, np.float64)
    if len(positions) == 1:
        return MergeTree(np.empty((0, 2), np.int64), np.empty(0), weight)
    if len(positions) > MOST_EXACT:
        merges = _ward_in_two(edges, positions, weight, stop, early)
    else:
        merges = _ward_exact(edges, np.asarray(positions, np.float64), weight)
    raise_if_stopped(stop, "tree")
    return _sorted_tree(*merges, weight)


def ward_tree_of_all(positions: np.ndarray, weight: np.ndarray) -> MergeTree:
    """Merge by Ward's criterion as `ward_tree` does, with every pair taken for neighbours.

    For a few hundred nodes: a table of all pairs is kept.

    Parameters
    ----------
    positions : ndarray of float, shape (P, D)
    weight : ndarray of float, shape (P,)
        Above 0.

    Returns
    -------
    MergeTree

    Examples
    --------
    >>> ward_tree_of_all(np.array([[0.0], [5.0], [0.1]]), np.ones(3)).cut(2)
    array([1, 2, 1], dtype=int32)
    """
    leaves = len(positions)
    x, w = np.array(positions, np.float64), np.array(weight, np.float64)
    node = np.arange(leaves)
    table = np.stack([_costs_to(i, x, w) for i in range(leaves)])
    children, cost = np.empty((leaves - 1, 2), np.int64), np.empty(leaves - 1)
    for merge in range(leaves - 1):
        a, b = divmod(int(table.argmin()), leaves)
        children[merge] = node[a], node[b]
        cost[merge] = table[a, b]
        x[a] += w[b] / (w[a] + w[b]) * (x[b] - x[a])
        w[a] += w[b]
        node[a] = leaves + merge
        gone = np.isinf(table[a])
        gone[[a, b]] = True
        table[a] = table[:, a] = np.where(gone, np.inf, _costs_to(a, x, w))
        table[b] = table[:, b] = np.inf
    # Rounding aside, a merge costs no less than the ones before.
    return _sorted_tree(children, np.maximum.accumulate(cost), np.asarray(weight, np.float64))


def _costs_to(i: int, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Ward's cost of merging node i with each node, infinite with itself."""
    cost = w * w[i] / (w + w[i]) * ((x - x[i]) ** 2).sum(axis=1)
    cost[i] = np.inf
    return cost


def _ward_in_two(
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
    stop: StopFlag | None,
    early: SharedMerges | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Merge in rounds until few regions are left, then these in exact order."""
    low = merge_reciprocal_neighbours(edges, positions, weight, LEFT_BY_ROUNDS, stop, early)
    raise_if_stopped(stop, "tree")
    top, cost = _ward_exact(low.edges, low.positions.astype(np.float64), low.weight)
    height = np.concatenate([low.height, cost])
    for merge, (a, b) in enumerate(top.tolist(), len(low.node)):
        height[merge] = max(height[merge], height[a], height[b])
    node = np.concatenate([low.node, len(positions) + len(low.cost) + np.arange(len(top))])
    return (
        np.concatenate([low.children, node[top]]),
        np.concatenate([low.cost, height[len(low.node) :]]),
    )


def _ward_exact(
    edges: np.ndarray, positions: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return (_ward_higra if HAS_HIGRA else _ward_heap)(edges, positions, weight)


def _ward_higra(
    edges: np.ndarray, positions: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    import higra

    graph = higra.UndirectedGraph(len(positions))
    graph.add_edges(edges[:, 0], edges[:, 1])
    tree, altitudes = higra.binary_partition_tree_ward_linkage(
        graph, positions, weight, altitude_correction="max"
    )
    parents = tree.parents()[:-1]
    # Every inner node of a binary tree has two children: sorted by parent, they come in pairs.
    children = np.argsort(parents, kind="stable").reshape(-1, 2)
    return children, altitudes[len(positions) :]


def _ward_heap(
    edges: np.ndarray, positions: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same in plain Python, for machines without higra, and to test it against."""
    leaves = len(positions)
    x = np.concatenate([positions, np.empty((leaves - 1, positions.shape[1]))])
    w = np.concatenate([weight, np.empty(leaves - 1)]).tolist()
    neighbours: list[set[int]] = [set() for _ in range(2 * leaves - 1)]
    for a, b in edges.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)

    def price(a: int, b: int) -> float:
        difference = x[a] - x[b]
        return float(w[a] * w[b] / (w[a] + w[b]) * (difference @ difference))

    heap = [(price(a, b), a, b) for a, b in edges.tolist()]
    heapq.heapify(heap)
    alive = [True] * (2 * leaves - 1)
    children = np.empty((leaves - 1, 2), np.int64)
    cost = np.empty(leaves - 1)
    height = [0.0] * (2 * leaves - 1)
    merge = leaves
    while merge < 2 * leaves - 1:
        paid, a, b = heapq.heappop(heap)
        if not (alive[a] and alive[b]):
            continue
        alive[a] = alive[b] = False
        children[merge - leaves] = a, b
        # With adjacency, merging can bring a pair nearer; a merge never costs less than its parts.
        height[merge] = cost[merge - leaves] = max(paid, height[a], height[b])
        w[merge] = w[a] + w[b]
        x[merge] = (w[a] * x[a] + w[b] * x[b]) / w[merge]
        around = {n for n in neighbours[a] | neighbours[b] if alive[n]}
        neighbours[merge] = around
        for n in around:
            neighbours[n].add(merge)
            heapq.heappush(heap, (price(n, merge), n, merge))
        merge += 1
    return children, cost


def _sorted_tree(children: np.ndarray, cost: np.ndarray, weight: np.ndarray) -> MergeTree:
    """Number the merges by cost; parents stay behind their children, which cost no more."""
    leaves = len(weight)
    order = np.argsort(cost, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    children = children[order]
    inner = children >= leaves
    children[inner] = leaves + rank[children[inner] - leaves]
    return MergeTree.of(children, cost[order], weight)


def _generations(children: np.ndarray) -> list[np.ndarray]:
    """Merges at each distance from the root, the furthest first: parts before what they join."""
    merges = len(children)
    above = np.full(2 * merges + 1, 2 * merges)
    above[children] = np.arange(merges + 1, 2 * merges + 1)[:, np.newaxis]
    above = above[merges + 1 :] - (merges + 1)
    distance = (above != np.arange(merges)).astype(np.int64)
    far = above
    while (far != merges - 1).any():  # each time, the steps known are doubled
        distance += distance[far]
        far = far[far]
    order = np.argsort(-distance, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(distance[order])) + 1)


def _sums(children: np.ndarray, generations: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Sum of the leaves' values below each node, shape (2 P - 1,)."""
    leaves = len(values)
    sums = np.concatenate([values, np.zeros(leaves - 1, values.dtype)])
    first, second = children.T
    for merges in generations:
        sums[leaves + merges] = sums[first[merges]] + sums[second[merges]]
    return sums
