"""The component tree: all connected parts of an image above each of its levels."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from skimage.morphology import max_tree

from napari_aeseg.progress import StopFlag, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator


# No wheels for Linux aarch64. Imported where it is used: a window opens half a second sooner.
HAS_HIGRA = find_spec("higra") is not None

# Pixels of a tile, 2D and 3D: trees of small tiles are built several times faster, and higra, which
# lets no other thread run meanwhile, is left soon.
_TILE = {1: 16_384, 2: 128, 3: 25}


def component_tree(
    levels: np.ndarray, stop: StopFlag | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Build the component tree of an image of whole numbers, tile by tile.

    Trees of tiles are joined along the borders between them [1]_: the result is the tree of the
    whole image. Returned are the parent of each node (N,), the root first (its own parent) and
    parents before children, and the node of each pixel (pixels,).

    References
    ----------
    .. [1] M. Wilkinson et al., Concurrent computation of attribute filters on shared memory
       parallel machines, IEEE Transactions on Pattern Analysis and Machine Intelligence 30, 2008.
    """
    build = _tree_of_tile if HAS_HIGRA else _component_tree_skimage
    side = _TILE[min(levels.ndim, 3)]
    starts = [range(0, n, side) for n in levels.shape]
    node = np.empty(levels.shape, np.int64)
    all_parents, all_heights, number = [], [], 0
    for corner in product(*starts):
        raise_if_stopped(stop, "objects")
        tile = tuple(slice(c, c + side) for c in corner)
        tile_levels = np.ascontiguousarray(levels[tile])
        parents, of_pixel = build(tile_levels)
        height = np.empty(len(parents), levels.dtype)
        height[of_pixel] = tile_levels.ravel()
        node[tile] = of_pixel.reshape(tile_levels.shape) + number
        all_parents.append(parents + number)
        all_heights.append(height)
        number += len(parents)
    parents, level = np.concatenate(all_parents), np.concatenate(all_heights)
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
    # Single numbers are read much faster from lists than from arrays.
    parent, height = parents.tolist(), level.tolist()

    def top(node: int) -> int:
        """The node of the same level that a chain ends in."""
        while (up := parent[node]) != node and height[up] == height[node]:
            if height[parent[up]] == height[up]:
                parent[node] = parent[up]  # a shorter way for the next time
            node = up
        return node

    for a, b in pairs.tolist():
        a, b = top(a), top(b)
        while a != b:
            if height[a] < height[b]:
                a, b = b, a
            below = top(parent[a])
            if below != a and height[below] >= height[b]:
                a = below
                continue
            parent[a] = b
            if below == a:  # it was a root
                break
            a, b = b, below
    parents[:] = parent


def _canonical(
    parents: np.ndarray, level: np.ndarray, node: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make one node of each chain of one level, and number them from the root."""
    nodes = np.arange(len(parents))
    chain_top = np.where(level[parents] == level, parents, nodes)
    # Pointer jumping: a chain of n nodes takes log2(n) rounds.
    while not np.array_equal(chain_top, further := chain_top[chain_top]):
        chain_top = further
    first = np.flatnonzero(chain_top == nodes)
    first = first[np.argsort(level[first], kind="stable")]
    number = np.empty(len(parents), np.int64)
    number[first] = np.arange(len(first))
    return number[chain_top[parents[first]]], number[chain_top[node]]


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
    parent, order = max_tree(levels, connectivity=1)  # faces, as in higra's graphs
    parent, flat = parent.ravel(), levels.ravel()
    first = flat[parent] != flat  # one pixel stands for each node
    first[order[0]] = True
    pixel = order[first[order]]
    number = np.zeros(levels.size, np.int64)
    number[pixel] = np.arange(len(pixel))
    return number[parent[pixel]], number[np.where(first, np.arange(levels.size), parent)]


def subtree_sums(
    parents: np.ndarray, node: np.ndarray, images: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Sum of each image over the pixels of each node and all nodes below it."""
    parent_of = parents.tolist()
    size = [1] * len(parent_of)
    for child in range(len(parent_of) - 1, 0, -1):  # children before their parents
        size[parent_of[child]] += size[child]
    # Depth first, a node and all below it are a run, and its sum a difference of running sums.
    start, free = [0] * len(parent_of), [1] * len(parent_of)
    for child in range(1, len(parent_of)):
        parent = parent_of[child]
        start[child] = free[parent]
        free[parent] += size[child]
        free[child] = start[child] + 1
    first = np.array(start)
    last = first + np.array(size)
    for image in images:
        running = np.zeros(len(parent_of) + 1)
        running[first + 1] = np.bincount(node, image.ravel(), len(parent_of))
        running = np.cumsum(running)
        yield running[last] - running[first]


def best_cut(parents: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-overlapping nodes of the largest total value, and which of them each node lies in."""
    parent, own_value = parents.tolist(), value.tolist()
    value_below = [0.0] * len(parent)
    taken = [False] * len(parent)
    for node in range(len(parent) - 1, 0, -1):  # children before their parents
        taken[node] = own_value[node] > 0 and own_value[node] >= value_below[node]
        value_below[parent[node]] += own_value[node] if taken[node] else value_below[node]
    label = [0] * len(parent)  # the root, all of the image, is no object
    chosen = []
    for node in range(1, len(parent)):
        label[node] = label[parent[node]]
        if not label[node] and taken[node]:
            chosen.append(node)
            label[node] = len(chosen)
    return np.array(chosen, np.int64), np.array(label, np.int32)
