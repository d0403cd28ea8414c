"""The region graph: patches as nodes, shared borders as edges, all in arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True, slots=True)
class RegionGraph:
    """Which patches touch.

    Parameters
    ----------
    number : int
        Number of patches P.
    edges : ndarray of int64, shape (E, 2)
        Pairs of patch ids, the smaller first, sorted, each once.
    border : ndarray of float32, shape (E,)
        Length of the shared border, in pixel faces.
    """

    number: int
    edges: np.ndarray
    border: np.ndarray


def region_graph(patches: np.ndarray) -> RegionGraph:
    """Find which patches touch along a pixel face, and how long their borders are.

    Parameters
    ----------
    patches : ndarray of int, any shape
        Ids 0 .. P-1.

    Returns
    -------
    RegionGraph

    Examples
    --------
    >>> graph = region_graph(np.array([[0, 0, 1], [0, 2, 2]]))
    >>> graph.edges.tolist(), graph.border.tolist()
    ([[0, 1], [0, 2], [1, 2]], [1.0, 2.0, 1.0])
    """
    number = int(patches.max()) + 1
    keys = []
    for axis in range(patches.ndim):
        first = np.moveaxis(patches, axis, 0)[:-1]
        second = np.moveaxis(patches, axis, 0)[1:]
        differ = first != second
        a, b = first[differ].astype(np.int64), second[differ].astype(np.int64)
        keys.append(np.minimum(a, b) * number + np.maximum(a, b))
    unique, border = np.unique(np.concatenate(keys), return_counts=True)
    edges = np.stack([unique // number, unique % number], axis=1)
    return RegionGraph(number, edges, border.astype(np.float32))


def averaged(
    graph: RegionGraph, values: np.ndarray, weight: np.ndarray, steps: float
) -> np.ndarray:
    """Average values over neighbouring patches, several times.

    Each step replaces a patch's value by the mean over itself and its neighbours, weighted by
    `weight`. After k steps a patch has averaged over about 5 k + 1 patches; a part of a step goes
    that part of the way.

    Parameters
    ----------
    graph : RegionGraph
    values : ndarray of float, shape (P, F)
    weight : ndarray of float, shape (P,)
        Pixel counts.
    steps : float
        0 or more.

    Returns
    -------
    ndarray, shape (P, F)

    Examples
    --------
    >>> graph = region_graph(np.array([[0, 1, 2]]))
    >>> averaged(graph, np.array([[0.0], [3.0], [3.0]]), np.ones(3), steps=1).ravel()
    array([1.5, 2. , 3. ])
    """
    if steps == 0 or not len(graph.edges):
        return values
    a, b = graph.edges.T
    own = np.arange(graph.number)
    rows, columns = np.concatenate([own, a, b]), np.concatenate([own, b, a])
    matrix = sparse.csr_array(
        (weight[columns].astype(values.dtype), (rows, columns)), shape=(graph.number, graph.number)
    )
    matrix = sparse.diags_array((1 / matrix.sum(axis=1)).astype(values.dtype)) @ matrix
    for _ in range(int(steps)):
        values = matrix @ values
    part = steps % 1
    return values + values.dtype.type(part) * (matrix @ values - values) if part else values
