"""The component tree: all connected parts of an image above each of its levels."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise, product
from typing import Any

import numpy as np
from skimage.morphology import max_tree

from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.objects.nested_parts import NestedParts

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

    tree, _ = higra.component_tree_max_tree(_face_graph(levels.shape), levels.ravel())
    last = tree.num_vertices() - 1
    parents = last - np.asarray(tree.parents())
    return parents[levels.size :][::-1], parents[: levels.size]


@lru_cache(maxsize=8)  # most tiles of an image have the same shape
def _face_graph(shape: tuple[int, ...]) -> Any:
    """Pixels as nodes, with edges between those that share a face."""
    import higra

    if len(shape) == 2:
        graph = higra.get_4_adjacency_graph(shape)
    else:
        steps = np.concatenate([np.eye(len(shape)), -np.eye(len(shape))]).astype(int)
        graph = higra.get_nd_regular_graph(shape, steps.tolist())
    return graph


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


def large_parts(
    parents: np.ndarray, node: np.ndarray, levels: np.ndarray, smallest: int
) -> NestedParts:
    """Return the parts of a component tree that have at least so many pixels."""
    height = np.zeros(len(parents), levels.dtype)
    height[node] = levels.ravel()
    area = np.bincount(node, minlength=len(parents))
    # Nodes are sorted by level: those of one level are handled together.
    ends = np.flatnonzero(np.diff(height, prepend=height[0] - 1, append=height[-1] + 1)).tolist()
    rounds = [slice(a, b) for a, b in pairwise(ends)][1:]
    for nodes in reversed(rounds):
        np.add.at(area, parents[nodes], area[nodes])
    large = area >= smallest
    large[0] = True
    above = np.arange(len(parents))
    for nodes in rounds:
        above[nodes] = np.where(large[nodes], above[nodes], above[parents[nodes]])
    number = np.cumsum(large) - 1
    return NestedParts(number[parents[large]], number[above[node]].reshape(levels.shape))
