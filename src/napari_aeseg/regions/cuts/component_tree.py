"""The component tree: all connected parts of an image above each of its levels."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from skimage.morphology import max_tree

from napari_aeseg.progress import raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_aeseg.progress import StopFlag

# No wheels for Linux aarch64. Imported where it is used: a window opens half a second sooner.
HAS_HIGRA = find_spec("higra") is not None


# Pixels of a tile, 2D and 3D: trees of small tiles are built several times faster, and higra, which
# lets no other thread run meanwhile, is left soon.
_TILE = {1: 16_384, 2: 128, 3: 25}


def component_tree(
    levels: np.ndarray, stop: StopFlag | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Build the component tree of an image, tile by tile.

    Trees of tiles are joined along the borders between them [1]_: the result is the tree of the
    whole image.

    Parameters
    ----------
    levels : ndarray of int, any shape
    stop : StopFlag, optional
        Looked at after each tile.

    Returns
    -------
    parents : ndarray of int, shape (N,)
        Parent of each node, the root first (its own parent) and parents before children.
    node : ndarray of int, shape (pixels,)
        Node of each pixel.

    References
    ----------
    .. [1] M. Wilkinson et al., Concurrent computation of attribute filters on shared memory
       parallel machines, IEEE Transactions on Pattern Analysis and Machine Intelligence 30, 2008.

    Examples
    --------
    >>> parents, node = component_tree(np.array([[0, 2, 1, 2]]))
    >>> parents.tolist(), node.tolist()
    ([0, 0, 1, 1], [0, 2, 1, 3])
    """
    build = _tree_of_tile if HAS_HIGRA else _component_tree_skimage
    side = _TILE[min(levels.ndim, 3)]
    starts = [range(0, n, side) for n in levels.shape]
    node = np.empty(levels.shape, np.int64)
    above, heights, number = [], [], 0
    for corner in product(*starts):
        raise_if_stopped(stop, "objects")
        tile = tuple(slice(c, c + side) for c in corner)
        inside = np.ascontiguousarray(levels[tile])
        parents, of_pixel = build(inside)
        height = np.empty(len(parents), levels.dtype)
        height[of_pixel] = inside.ravel()
        node[tile] = of_pixel.reshape(inside.shape) + number
        above.append(parents + number)
        heights.append(height)
        number += len(parents)
    parents, level = np.concatenate(above), np.concatenate(heights)
    for axis, places in enumerate(starts):
        raise_if_stopped(stop, "objects")
        borders = np.array(places[1:], np.int64)
        ends = [np.take(node, borders - i, axis).ravel() for i in (1, 0)]
        _join(parents, level, np.stack(ends, axis=1))
    return _canonical(parents, level, node.ravel())


def _join(parents: np.ndarray, level: np.ndarray, pairs: np.ndarray) -> None:
    """Join trees, in place, where nodes of both touch; nodes of one level may become a chain."""
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    # The highest first: walks down are short then, as what was walked before is joined already.
    pairs = pairs[np.argsort(-level[pairs].min(axis=1), kind="stable")]
    above, height = parents.tolist(), level.tolist()

    def top(node: int) -> int:
        """The node of the same level that a chain ends in."""
        while (up := above[node]) != node and height[up] == height[node]:
            if height[above[up]] == height[up]:
                above[node] = above[up]  # a shorter way for the next time
            node = up
        return node

    for a, b in pairs.tolist():
        a, b = top(a), top(b)
        while a != b:
            if height[a] < height[b]:
                a, b = b, a
            below = top(above[a])
            if below != a and height[below] >= height[b]:
                a = below
                continue
            above[a] = b
            if below == a:  # it was a root
                break
            a, b = b, below
    parents[:] = above


def _canonical(
    parents: np.ndarray, level: np.ndarray, node: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make one node of each chain of one level, and number them from the root."""
    own = np.arange(len(parents))
    leads = np.where(level[parents] == level, parents, own)
    while not np.array_equal(leads, further := leads[leads]):
        leads = further
    first = np.flatnonzero(leads == own)
    first = first[np.argsort(level[first], kind="stable")]
    number = np.empty(len(parents), np.int64)
    number[first] = np.arange(len(first))
    return number[leads[parents[first]]], number[leads[node]]


def _tree_of_tile(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The component tree of a small image."""
    import higra

    if levels.ndim == 2:
        graph = higra.get_4_adjacency_graph(levels.shape)
    else:
        steps = np.concatenate([np.eye(levels.ndim), -np.eye(levels.ndim)]).astype(int)
        graph = higra.get_nd_regular_graph(levels.shape, steps.tolist())
    tree, _ = higra.component_tree_max_tree(graph, levels.ravel())
    last = tree.num_vertices() - 1
    parents = last - np.asarray(tree.parents())
    return parents[levels.size :][::-1], parents[: levels.size]


def _component_tree_skimage(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same ten times slower, for machines without higra."""
    above, order = max_tree(levels, connectivity=1)
    above, flat = above.ravel(), levels.ravel()
    first = flat[above] != flat  # one pixel stands for each node
    first[order[0]] = True
    pixel = order[first[order]]
    number = np.zeros(levels.size, np.int64)
    number[pixel] = np.arange(len(pixel))
    return number[above[pixel]], number[np.where(first, np.arange(levels.size), above)]


def subtree_sums(
    parents: np.ndarray, node: np.ndarray, images: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Sum of each image over the pixels of each node and all nodes below it."""
    above = parents.tolist()
    size = [1] * len(above)
    for child in range(len(above) - 1, 0, -1):
        size[above[child]] += size[child]
    # Depth first, a node and all below it are a run, and its sum a difference of running sums.
    start, free = [0] * len(above), [1] * len(above)
    for child in range(1, len(above)):
        parent = above[child]
        start[child] = free[parent]
        free[parent] += size[child]
        free[child] = start[child] + 1
    first = np.array(start)
    last = first + np.array(size)
    for image in images:
        running = np.zeros(len(above) + 1)
        running[first + 1] = np.bincount(node, image.ravel(), len(above))
        running = np.cumsum(running)
        yield running[last] - running[first]


def best_cut(parents: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-overlapping nodes of the largest total value, and which of them each node lies in."""
    above, worth = parents.tolist(), value.tolist()
    below = [0.0] * len(above)
    taken = [False] * len(above)
    for node in range(len(above) - 1, 0, -1):
        taken[node] = worth[node] > 0 and worth[node] >= below[node]
        below[above[node]] += worth[node] if taken[node] else below[node]
    label = [0] * len(above)  # the root, all of the image, is no object
    chosen = []
    for node in range(1, len(above)):
        label[node] = label[above[node]]
        if not label[node] and taken[node]:
            chosen.append(node)
            label[node] = len(chosen)
    return np.array(chosen, np.int64), np.array(label, np.int32)
