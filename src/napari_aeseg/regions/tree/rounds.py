"""Rounds of merging: most of a large merge tree at once, in arrays, before the exact rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.progress import raise_if_stopped

if TYPE_CHECKING:
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.regions.tree.early import EarlyMerges

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
        The merges round by round, as in `EarlyMerges`.
    """

    children: np.ndarray
    cost: np.ndarray
    node: np.ndarray
    height: np.ndarray
    positions: np.ndarray
    weight: np.ndarray
    edges: np.ndarray
    pairs: list[tuple[np.ndarray, np.ndarray]]


def merged_in_rounds(
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
    number: int,
    stop: StopFlag | None = None,
    early: EarlyMerges | None = None,
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
    early : EarlyMerges, optional
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
    >>> merged_in_rounds(edges, x, np.ones(4), number=2).children.tolist()
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
