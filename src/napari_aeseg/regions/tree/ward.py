"""Building the merge tree by Ward's criterion: in exact order, in rounds, and with shared merges.

Small graphs are merged in exact order, by higra or in plain Python. Large ones are first merged in
rounds of reciprocal nearest neighbours until few regions are left. The first rounds can be shared
by several trees of the same patches.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil

import numpy as np

from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.tree.merge_tree import MergeTree

#: Two regions at a time: each of the second array is joined to that of the first.
Pairs = tuple[np.ndarray, np.ndarray]

# No wheels for Linux aarch64. Imported where it is used: a window opens half a second sooner.
HAS_HIGRA = find_spec("higra") is not None

# Nodes that are merged in exact order from the start, and regions left to that when there are more.
# higra holds the GIL meanwhile: 20 ms for 2,000 nodes, 1.2 s for 65,000.
MAX_EXACT_NODES, REGIONS_AFTER_ROUNDS = 5_000, 2_000
# A round merges no pair above this quantile of the regions' cheapest pairs: what is merged late in
# the exact order should see its final neighbours.
_ROUND_QUANTILE = 0.5  # all pairs, or the cheapest third, are not faster (docs/performance.md)
# Edges whose costs are computed together: their ends stay in the processor's cache.
_EDGES_TOGETHER = 2048


def ward_tree(
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
    stop: StopFlag | None = None,
    shared: SharedMerges | None = None,
) -> MergeTree:
    """Merge neighbours by Ward's criterion until one region is left.

    The next merge is the pair of neighbours with the smallest
    ``w1 * w2 / (w1 + w2) * |x1 - x2|**2``, the increase of the weighted sum of squares [1]_ [2]_.
    Of more than 5,000 nodes, all but 2,000 regions are made in rounds (see
    `merge_reciprocal_neighbours`), which begin with the `shared` merges, and only the rest in this
    order.

    Pairs of nodes that touch are `edges` (E, 2); the graph is connected. `positions` (P, D) are the
    descriptor of each node, `weight` (P,) its pixels, above 0.

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
    if len(positions) > MAX_EXACT_NODES:
        merges = _ward_in_rounds(edges, positions, weight, stop, shared)
    else:
        merges = _ward_exact(edges, np.asarray(positions, np.float64), weight)
    raise_if_stopped(stop, "tree")
    return _sorted_tree(*merges, weight)


def ward_tree_of_all(positions: np.ndarray, weight: np.ndarray) -> MergeTree:
    """Merge by Ward's criterion as `ward_tree` does, with every pair taken for neighbours.

    For a few hundred nodes: a table of all pairs is kept.
    """
    leaves = len(positions)
    # Copies, because rows are merged in place.
    x, w = np.array(positions, np.float64), np.array(weight, np.float64)
    node = np.arange(leaves)
    table = np.stack([_costs_to(i, x, w) for i in range(leaves)])
    children, cost = np.empty((leaves - 1, 2), np.int64), np.empty(leaves - 1)
    for merge in range(leaves - 1):
        a, b = divmod(int(table.argmin()), leaves)
        children[merge] = node[a], node[b]
        cost[merge] = table[a, b]
        x[a] += w[b] / (w[a] + w[b]) * (x[b] - x[a])  # of equal nodes, the mean is exact
        w[a] += w[b]
        node[a] = leaves + merge
        merged = np.isinf(table[a])
        merged[[a, b]] = True  # no pair with itself, or with the node that is gone
        table[a] = table[:, a] = np.where(merged, np.inf, _costs_to(a, x, w))
        table[b] = table[:, b] = np.inf
    # Rounding aside, a merge costs no less than the ones before.
    return _sorted_tree(children, np.maximum.accumulate(cost), np.asarray(weight, np.float64))


def _costs_to(i: int, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Ward's cost of merging node i with each node, infinite with itself."""
    cost = w * w[i] / (w + w[i]) * ((x - x[i]) ** 2).sum(axis=1)
    cost[i] = np.inf
    return cost


def _sorted_tree(children: np.ndarray, cost: np.ndarray, weight: np.ndarray) -> MergeTree:
    """Number the merges by cost; parents stay behind their children, which cost no more."""
    leaves = len(weight)
    order = np.argsort(cost, kind="stable")  # of equal costs, children stay before parents
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    children = children[order]
    inner = children >= leaves
    children[inner] = leaves + rank[children[inner] - leaves]
    return MergeTree.of(children, cost[order], weight)


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
    # "max": no merge costs less than its parts, see `_ward_heap`.
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

    def ward_cost(a: int, b: int) -> float:
        difference = x[a] - x[b]
        return float(w[a] * w[b] / (w[a] + w[b]) * (difference @ difference))

    heap = [(ward_cost(a, b), a, b) for a, b in edges.tolist()]
    heapq.heapify(heap)
    alive = [True] * (2 * leaves - 1)
    children = np.empty((leaves - 1, 2), np.int64)
    cost = np.empty(leaves - 1)
    height = [0.0] * (2 * leaves - 1)
    node = leaves
    while node < 2 * leaves - 1:
        pair_cost, a, b = heapq.heappop(heap)
        if not (alive[a] and alive[b]):  # heapq cannot remove the pairs of merged nodes
            continue
        alive[a] = alive[b] = False
        children[node - leaves] = a, b
        # With adjacency, merging can bring a pair nearer; a merge never costs less than its parts.
        height[node] = cost[node - leaves] = max(pair_cost, height[a], height[b])
        w[node] = w[a] + w[b]
        x[node] = (w[a] * x[a] + w[b] * x[b]) / w[node]
        neighbours[node] = {n for n in neighbours[a] | neighbours[b] if alive[n]}
        for n in neighbours[node]:
            neighbours[n].add(node)
            heapq.heappush(heap, (ward_cost(n, node), n, node))
        node += 1
    return children, cost


def _ward_in_rounds(
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
    stop: StopFlag | None,
    shared: SharedMerges | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Merge in rounds until few regions are left, then these in exact order."""
    low = merge_reciprocal_neighbours(edges, positions, weight, REGIONS_AFTER_ROUNDS, stop, shared)
    raise_if_stopped(stop, "tree")
    top, cost = _ward_exact(low.edges, low.positions.astype(np.float64), low.weight)
    height = np.concatenate([low.height, cost])
    for merge, (a, b) in enumerate(top.tolist(), len(low.node)):
        height[merge] = max(height[merge], height[a], height[b])  # costs must not fall in a tree
    node = np.concatenate([low.node, len(positions) + len(low.cost) + np.arange(len(top))])
    return (
        np.concatenate([low.children, node[top]]),
        np.concatenate([low.cost, height[len(low.node) :]]),
    )


@dataclass(frozen=True, slots=True)
class MergedRounds:
    """The regions that are left after rounds of merges, and the merges that led to them."""

    children: np.ndarray  # nodes that each merge joins, shape (M, 2); merge i is node P + i
    cost: np.ndarray  # shape (M,), never below that of the parts
    node: np.ndarray  # of each region that is left, shape (R,)
    height: np.ndarray  # cost of its last merge, shape (R,); 0 for a single patch
    positions: np.ndarray  # float32, shape (R, D)
    weight: np.ndarray  # float64, shape (R,)
    edges: np.ndarray  # which regions touch, each pair once, shape (E, 2)
    rounds: list[Pairs]  # the merges round by round


def merge_reciprocal_neighbours(
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
    number: int,
    stop: StopFlag | None = None,
    shared: SharedMerges | None = None,
) -> MergedRounds:
    """Merge neighbours by Ward's criterion, many pairs at a time, until `number` regions are left.

    In each round those pairs merge that are each other's cheapest neighbour [1]_. Ward's criterion
    is reducible: merging elsewhere brings no third region nearer than the partner, so that the
    order does not matter. Where only neighbours merge this holds but for regions that become
    neighbours on the way; the tree differs from the exact one there, and by rounding.

    Parameters as of `ward_tree`; each edge occurs once. `shared` merges are done whatever they cost
    here, and leave `number` regions or more.

    References
    ----------
    .. [1] F. Murtagh, A survey of recent advances in hierarchical clustering algorithms, The
           Computer Journal 26, 1983.
    """
    regions = _Regions(positions, weight)
    a, b = np.ascontiguousarray(np.asarray(edges, np.int64).T)
    if shared is None:
        cost = ward_costs(a, b, regions.positions, regions.weight)
    else:
        for first, second in shared.rounds:
            raise_if_stopped(stop, "tree")
            pair_cost = ward_costs(first, second, regions.positions, regions.weight)
            regions.merge(first, second, pair_cost)
        regions.representative = shared.representative.copy()  # `merge` leads over one round
        all_changed = np.ones(len(positions), bool)  # no cost has been computed yet
        a, b, cost = _updated_edges(a, b, np.empty(0), all_changed, regions)
    rng = np.random.default_rng(0)  # a fixed seed: the same image has the same tree
    while regions.left > number:
        raise_if_stopped(stop, "tree")
        pairs = _reciprocal_pairs(a, b, cost, len(positions), regions.left - number, rng)
        changed = regions.merge(a[pairs], b[pairs], cost[pairs])
        a, b, cost = _updated_edges(a, b, cost, changed, regions)
    return regions.result(a, b)


def ward_costs(a: np.ndarray, b: np.ndarray, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return Ward's cost of merging each pair of nodes ``a[i], b[i]``, float64, shape (E,)."""
    squared = np.empty(len(a))
    for start in range(0, len(a), _EDGES_TOGETHER):
        part = slice(start, start + _EDGES_TOGETHER)
        difference = x.take(a[part], axis=0)
        difference -= x.take(b[part], axis=0)
        squared[part] = np.einsum("ij,ij->i", difference, difference)  # no array of squares
    return w[a] * w[b] / (w[a] + w[b]) * squared


def _reciprocal_pairs(
    a: np.ndarray,
    b: np.ndarray,
    cost: np.ndarray,
    patches: int,
    most: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Edges whose ends are each other's cheapest neighbour, no region in two; the cheapest."""
    cheapest = np.full(patches, np.inf)
    np.minimum.at(cheapest, a, cost)  # `at`: a region is the end of many edges
    np.minimum.at(cheapest, b, cost)
    finite = cheapest[cheapest < np.inf]
    place = ceil(_ROUND_QUANTILE * (len(finite) - 1))  # several times as fast as np.quantile
    limit = np.partition(finite, place)[place]
    edge = np.flatnonzero(cost <= limit)
    edge = edge[(cost[edge] == cheapest[a[edge]]) & (cost[edge] == cheapest[b[edge]])]
    # Of pairs that cost the same, chance decides: by their order, few of a flat image could merge.
    turn = rng.permutation(len(edge))
    one, other = a[edge], b[edge]
    first_turn = np.full(patches, len(edge))
    np.minimum.at(first_turn, one, turn)
    np.minimum.at(first_turn, other, turn)
    edge = edge[(first_turn[one] == turn) & (first_turn[other] == turn)]
    return edge[np.argsort(cost[edge], kind="stable")[:most]] if len(edge) > most else edge


def _updated_edges(
    a: np.ndarray, b: np.ndarray, cost: np.ndarray, changed: np.ndarray, regions: _Regions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges between the regions after a round, each once, and their costs."""
    touched = changed[a]
    touched |= changed[b]
    same = np.flatnonzero(~touched)  # their costs are kept: 0.16 instead of 0.20 s for a tree
    touched = np.flatnonzero(touched)
    one, other = regions.representative[a[touched]], regions.representative[b[touched]]
    low, high = np.minimum(one, other), np.maximum(one, other)
    patches = len(regions.representative)
    key = np.sort((low * patches + high)[low != high])  # one number sorts faster than a row
    key = key[np.diff(key, prepend=-1) > 0]
    low = key // patches
    high = key - low * patches  # cheaper than a second division
    return (
        np.concatenate([a[same], low]),
        np.concatenate([b[same], high]),
        np.concatenate([cost[same], ward_costs(low, high, regions.positions, regions.weight)]),
    )


class _Regions:
    """Regions while they merge; each keeps the row of one of its patches, its representative.

    Rows of the others are left as they are: closing the gaps would copy all positions each round.
    """

    def __init__(self, positions: np.ndarray, weight: np.ndarray) -> None:
        self.positions = np.array(positions, np.float32)  # a copy: rows are merged in place
        self.weight = np.array(weight, np.float64)  # float32 cannot count above 16 million pixels
        self.left = len(positions)
        self.height = np.zeros(self.left)
        self.node = np.arange(self.left)
        # Row of each patch's region, right for those that merged in the last round.
        self.representative = np.arange(self.left)
        self.children = [np.empty((0, 2), np.int64)]
        self.costs = [np.empty(0)]
        self.rounds: list[Pairs] = []

    def merge(self, first: np.ndarray, second: np.ndarray, ward_cost: np.ndarray) -> np.ndarray:
        """Join each `second` to its `first`; return which rows have changed, shape (P,)."""
        x, w, height, node = self.positions, self.weight, self.height, self.node
        cost = np.maximum(ward_cost, np.maximum(height[first], height[second]))
        self.children.append(np.stack([node[first], node[second]], axis=1))
        self.costs.append(cost)
        self.rounds.append((first, second))
        both = w[first] + w[second]
        mean = x.take(first, axis=0)
        step = x.take(second, axis=0)
        step -= mean
        step *= (w[second] / both).astype(np.float32)[:, np.newaxis]
        mean += step
        x[first] = mean
        w[first], height[first] = both, cost
        next_node = 2 * len(x) - self.left  # P patches, and a node for each merge so far
        node[first] = np.arange(next_node, next_node + len(first))
        self.representative[second] = first
        self.left -= len(first)
        changed = np.zeros(len(x), bool)
        changed[first] = changed[second] = True
        return changed

    def result(self, a: np.ndarray, b: np.ndarray) -> MergedRounds:
        """Return the regions that are left, without gaps."""
        stays = self.representative == np.arange(len(self.representative))
        number = np.cumsum(stays) - 1
        return MergedRounds(
            np.concatenate(self.children),
            np.concatenate(self.costs),
            self.node[stays],
            self.height[stays],
            self.positions[stays],
            self.weight[stays],
            np.stack([number[a], number[b]], axis=1),
            self.rounds,
        )


@dataclass(frozen=True, slots=True)
class SharedMerges:  # for 65,536 patches, the trees of textures take 0.13 instead of 0.33 s
    """Merges of patches into small regions, computed once, with which several trees begin.

    In each round, each patch of the second array, with all that has been joined to it, is joined to
    that of the first. The representative is the patch that all patches of a region have been joined
    to, shape (P,).
    """

    rounds: tuple[Pairs, ...]
    representative: np.ndarray

    @classmethod
    def down_to(
        cls,
        edges: np.ndarray,
        positions: np.ndarray,
        weight: np.ndarray,
        number: int,
        stop: StopFlag | None = None,
    ) -> SharedMerges:
        """Return those that lead to `number` regions; see `merge_reciprocal_neighbours`."""
        rounds = merge_reciprocal_neighbours(edges, positions, weight, number, stop).rounds
        representative = np.arange(len(positions))
        for first, second in reversed(rounds):  # a representative is itself joined in a later round
            representative[second] = representative[first]
        return cls(tuple(rounds), representative)

    @property
    def region(self) -> np.ndarray:
        """Number 0 .. R-1 of each patch's region, shape (P,)."""
        is_first = self.representative == np.arange(len(self.representative))
        return (np.cumsum(is_first) - 1)[self.representative]

    def within(self, part: np.ndarray) -> SharedMerges:
        """Return those of regions that are in one part each, the others undone; `part` is (P,)."""
        broken = np.zeros(len(self.representative), bool)
        broken[self.representative[part != part[self.representative]]] = True
        broken = broken[self.representative]
        rounds = tuple((a[~broken[a]], b[~broken[a]]) for a, b in self.rounds)
        return SharedMerges(rounds, np.where(broken, np.arange(len(broken)), self.representative))
