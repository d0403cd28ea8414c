"""The component tree: all connected parts of an image above each of its levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage.morphology import max_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

try:  # no wheels for Linux aarch64
    import higra
except ImportError:  # pragma: no cover
    higra = None


def component_tree(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parent of each node, the root first and parents before children, and node of each pixel."""
    if higra is None:
        return _component_tree_skimage(levels)
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
