"""Rounds of merging: most of a large merge tree at once, in arrays, before the exact rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.events import raise_if_stopped

if TYPE_CHECKING:
    from napari_aeseg.events import StopFlag

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
    """

    children: np.ndarray
    cost: np.ndarray
    node: np.ndarray
    height: np.ndarray
    positions: np.ndarray
    weight: np.ndarray
    edges: np.ndarray


def merged_in_rounds(
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
    number: int,
    stop: StopFlag | None = None,
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
    leaves = len(positions)
    x = np.array(positions, np.float32)
    w = np.array(weight, np.float64)
    node, height = np.arange(leaves), np.zeros(leaves)
    a, b = np.ascontiguousarray(np.asarray(edges, np.int64).T)
    price = ward_costs(a, b, x, w)
    rng = np.random.default_rng(0)
    children, costs, made = [np.empty((0, 2), np.int64)], [np.empty(0)], leaves
    while len(x) > number:
        raise_if_stopped(stop, "tree")
        pairs = _pairs(a, b, price, len(x), len(x) - number, rng)
        first, second = a[pairs], b[pairs]
        cost = np.maximum(price[pairs], np.maximum(height[first], height[second]))
        children.append(np.stack([node[first], node[second]], axis=1))
        costs.append(cost)
        both = w[first] + w[second]
        part = (w[second] / both).astype(np.float32)[:, np.newaxis]
        x[first] += part * (x[second] - x[first])
        w[first], height[first] = both, cost
        node[first] = np.arange(made, made + len(pairs))
        made += len(pairs)
        changed = np.zeros(len(x), bool)
        changed[first] = True
        new, stays = _renumbered(first, second, len(x))
        x, w, node, height, changed = x[stays], w[stays], node[stays], height[stays], changed[stays]
        a, b, price = _repriced(new[a], new[b], price, changed, x, w)
    return Merged(
        np.concatenate(children), np.concatenate(costs), node, height, x, w, np.stack([a, b], 1)
    )


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
    regions: int,
    most: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Edges whose ends are each other's cheapest neighbour, no region in two; the cheapest."""
    cheapest = np.full(regions, np.inf)
    np.minimum.at(cheapest, a, price)
    np.minimum.at(cheapest, b, price)
    limit = np.quantile(cheapest, _CHEAPEST, method="higher")
    edge = np.flatnonzero((price <= limit) & (price == cheapest[a]) & (price == cheapest[b]))
    # Of pairs that cost the same, chance decides: by their order, few of a flat image could merge.
    turn = rng.permutation(len(edge))
    first = np.full(regions, len(edge))
    np.minimum.at(first, a[edge], turn)
    np.minimum.at(first, b[edge], turn)
    edge = edge[(first[a[edge]] == turn) & (first[b[edge]] == turn)]
    return edge[np.argsort(price[edge], kind="stable")[:most]]


def _renumbered(
    first: np.ndarray, second: np.ndarray, regions: int
) -> tuple[np.ndarray, np.ndarray]:
    """New number of each region when `second` is joined to `first`; which regions stay."""
    stays = np.ones(regions, bool)
    stays[second] = False
    new = np.cumsum(stays) - 1
    new[second] = new[first]
    return new, stays


def _repriced(
    a: np.ndarray,
    b: np.ndarray,
    price: np.ndarray,
    changed: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges between the regions there are now, each once, and their prices."""
    touched = changed[a] | changed[b]
    same = ~touched
    outside = touched & (a != b)
    low, high = np.minimum(a[outside], b[outside]), np.maximum(a[outside], b[outside])
    key = np.sort(low * len(x) + high)
    key = key[np.diff(key, prepend=-1) > 0]
    low, high = key // len(x), key % len(x)
    return (
        np.concatenate([a[same], low]),
        np.concatenate([b[same], high]),
        np.concatenate([price[same], ward_costs(low, high, x, w)]),
    )
