"""Heights in the merge tree: when two patches become one region, and where borders are strong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_aeseg.regions.patches.graph import RegionGraph
    from napari_aeseg.regions.tree.ward import MergeTree


def gap_merges(tree: MergeTree) -> np.ndarray:
    """Return the merge that joins each patch with the next one, in the order of the tree.

    In the order of the leaves every node of the tree is a run, and every merge closes the gap
    between two runs. The merge that joins any two patches is therefore the last one (the largest
    number) among the gaps between them.

    Parameters
    ----------
    tree : MergeTree
        Over P patches.

    Returns
    -------
    ndarray of int64, shape (P - 1,)
        Merges 0 .. P - 2, each once.

    Examples
    --------
    >>> from napari_aeseg.regions.tree.ward import ward_tree
    >>> edges = np.array([[0, 1], [1, 2], [2, 3]])
    >>> gap_merges(ward_tree(edges, np.array([[0.0], [0.1], [5.0], [5.2]]), np.ones(4)))
    array([0, 2, 1])
    """
    _, start, _ = tree.leaf_order
    merges = np.empty(tree.leaves - 1, np.int64)
    merges[start[tree.children].max(axis=1) - 1] = np.arange(tree.leaves - 1)
    return merges


def merges_joining(tree: MergeTree, pairs: np.ndarray) -> np.ndarray:
    """Return the merge that makes each pair of distinct patches one region, shape (E,).

    Parameters
    ----------
    tree : MergeTree
    pairs : ndarray of int, shape (E, 2)
    """
    _, start, _ = tree.leaf_order
    places = start[pairs]
    return _range_maxima(gap_merges(tree), places.min(axis=1), places.max(axis=1))


def _range_maxima(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Largest of ``values[first:last]`` for each query, none of them empty."""
    # Two overlapping runs of 2**level values cover a query; one level of the table at a time.
    level = np.frexp((last - first).astype(float))[1] - 1
    found = np.empty(len(first), values.dtype)
    run = values
    for k in range(int(level.max(initial=-1)) + 1):
        if k:
            run = np.maximum(run[: -(2 ** (k - 1))], run[2 ** (k - 1) :])
        here = level == k
        found[here] = np.maximum(run[first[here]], run[last[here] - 2**k])
    return found


def leaving_merges(tree: MergeTree, row: np.ndarray, number: int) -> np.ndarray:
    """Return the first merge that joins patches of each row with patches of another.

    Parameters
    ----------
    tree : MergeTree
        Over P patches.
    row : ndarray of int, shape (P,)
        0 .. number - 1.
    number : int

    Returns
    -------
    ndarray of int64, shape (number,)
        P - 1 where there is no other.
    """
    in_order = row[tree.leaf_order[0]]
    border = in_order[:-1] != in_order[1:]
    merges = gap_merges(tree)[border]
    first = np.full(number, tree.leaves - 1)
    np.minimum.at(first, in_order[:-1][border], merges)
    np.minimum.at(first, in_order[1:][border], merges)
    return first


def contour_map(patches: np.ndarray, graph: RegionGraph, strength: np.ndarray) -> np.ndarray:
    """Paint a value of each edge of the region graph on the pixels of both sides of its border.

    Parameters
    ----------
    patches : ndarray of int, shape space
        -1 where there is no patch: there is no border to it.
    graph : RegionGraph
        Of these patches.
    strength : ndarray of float, shape (E,)
        0 or more. Where borders meet, the largest counts.

    Returns
    -------
    ndarray of float32, shape space
        0 inside patches.

    Examples
    --------
    >>> from napari_aeseg.regions.patches.graph import region_graph
    >>> patches = np.array([[0, 0, 0, 1, 2]])
    >>> contour_map(patches, region_graph(patches), np.array([0.5, 0.25]))
    array([[0.  , 0.  , 0.5 , 0.5 , 0.25]], dtype=float32)
    """
    painted = np.zeros(patches.shape, np.float32)
    keys = graph.edges[:, 0] * graph.number + graph.edges[:, 1]
    # The last is for patches that the graph does not know as neighbours.
    values = np.append(strength, 0).astype(np.float32)
    for axis in range(patches.ndim):
        along, out = np.moveaxis(patches, axis, 0), np.moveaxis(painted, axis, 0)
        differ = (along[:-1] != along[1:]) & (along[:-1] >= 0) & (along[1:] >= 0)
        a, b = along[:-1][differ].astype(np.int64), along[1:][differ].astype(np.int64)
        key = np.minimum(a, b) * graph.number + np.maximum(a, b)
        edge = np.searchsorted(keys, key)
        edge[keys.take(edge, mode="clip") != key if len(keys) else slice(None)] = len(keys)
        for side in (out[:-1], out[1:]):
            side[differ] = np.maximum(side[differ], values[edge])
    return painted
