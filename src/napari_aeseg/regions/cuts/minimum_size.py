"""The smallest size of regions, and of the connected pieces of classes: smaller ones are joined."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import is_number
from napari_aeseg.regions.connected_pieces import connected_pieces
from napari_aeseg.regions.patches.graph import RegionGraph, region_graph
from napari_aeseg.regions.tree.merge_tree import MergeTree


def checked_min_size(min_size: Any) -> int:
    """Return a smallest size in pixels, 1 for None; else raise InputError."""
    if min_size is None:
        return 1
    if not is_number(min_size) or min_size < 1 or min_size % 1:
        raise InputError(f"min_size = {min_size!r}: give a whole number of pixels, 1 or more.")
    return int(min_size)


def without_small_regions(
    tree: MergeTree, graph: RegionGraph, pixels: np.ndarray, min_size: int
) -> tuple[np.ndarray, MergeTree]:
    """Return a merge tree whose every cut has regions of at least `min_size` pixels.

    This is filtering a hierarchy by area: merges of a part that is too small are done before all
    others, in the order of the tree. Such a part joins that patch beside it, in what it merges
    with, with which it shares the longest border. So regions are connected and cuts are nested.

    Tree and graph are of the same P patches with so many `pixels`, shape (P,). Returned are the
    leaf, 0 .. G - 1, that each patch belongs to, and the tree of the G leaves, with the merges that
    remain. An image of fewer pixels than `min_size` is one region.
    """
    leaves = tree.leaves
    small = tree.sums(pixels)[tree.children] < min_size
    if not small.any():
        return np.arange(leaves), tree
    remains = ~small.any(axis=1)
    joins = _longest_border_of_each_merge(tree, graph)[~remains].T
    links = sparse.coo_array((np.ones(joins.shape[1], bool), tuple(joins)), (leaves, leaves))
    _, group = sparse.csgraph.connected_components(links, directed=False)
    # What each node is in the new tree: a merge that remains is itself, others are their larger
    # child, down to a leaf.
    stands_for = np.concatenate([group, np.zeros(leaves - 1, group.dtype)])
    n_groups = int(remains.sum()) + 1
    new_node = n_groups + np.cumsum(remains) - 1
    larger = tree.children[np.arange(leaves - 1), small[:, 0].astype(int)]
    for merges in tree.generations:
        stands_for[leaves + merges] = np.where(
            remains[merges], new_node[merges], stands_for[larger[merges]]
        )
    weight = np.bincount(group, tree.size[:leaves])
    return group, MergeTree.of(stands_for[tree.children[remains]], tree.cost[remains], weight)


def _longest_border_of_each_merge(tree: MergeTree, graph: RegionGraph) -> np.ndarray:
    """A pair of patches, one in each child, for each merge: those with the longest border."""
    # Parts that touch nowhere, beside pixels that could not be read: any patch of each.
    order, start, _ = tree.leaf_order
    pairs = order[start[tree.children]]
    merge = tree.merges_joining(graph.edges)
    by_border = np.argsort(graph.border, kind="stable")  # the last one written stays
    pairs[merge[by_border]] = graph.edges[by_border]
    return pairs


def without_small_pieces(
    labels: np.ndarray, graph: RegionGraph, pixels: np.ndarray, min_size: int
) -> np.ndarray:
    """Give connected pieces of fewer than `min_size` pixels to the label around them.

    The smallest come first; each takes the label with which it shares the longest border. `labels`
    and `pixels`, shape (P,), are of the patches.

    Examples
    --------
    >>> graph = region_graph(np.array([[0, 1, 2, 3]]))
    >>> without_small_pieces(np.array([5, 5, 6, 5]), graph, np.array([4, 4, 2, 4]), 3)
    array([5, 5, 5, 5])
    """
    if pixels.min() >= min_size:
        return labels
    one, two = graph.edges.T
    while True:
        equal = labels[one] == labels[two]
        links = sparse.coo_array(
            (np.ones(equal.sum(), bool), (one[equal], two[equal])), (graph.number,) * 2
        )
        _, piece = sparse.csgraph.connected_components(links, directed=False)
        size = np.bincount(piece, pixels)
        # Both directions of every border between pieces.
        here = np.concatenate([piece[one[~equal]], piece[two[~equal]]])
        patch_beside = np.concatenate([two[~equal], one[~equal]])
        border = np.tile(graph.border[~equal], 2)
        rank = np.empty(len(size), int)
        rank[np.lexsort((np.arange(len(size)), size))] = np.arange(len(size))
        smallest_beside = np.full(len(size), len(size))
        np.minimum.at(smallest_beside, here, rank[piece[patch_beside]])
        # No two of them touch, and a piece alone has no label to take.
        joins = (size < min_size) & (rank < smallest_beside) & (smallest_beside < len(size))
        if not joins.any():
            return labels
        values, beside = np.unique(labels[patch_beside], return_inverse=True)
        key, row = np.unique(here * len(values) + beside, return_inverse=True)
        shared = np.bincount(row, border)
        new = np.empty(len(size), labels.dtype)
        by_border = np.argsort(shared, kind="stable")
        new[key[by_border] // len(values)] = values[key[by_border] % len(values)]
        labels = np.where(joins[piece], new[piece], labels)


def without_small_pieces_of_pixels(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Return `without_small_pieces` of labels by pixel."""
    if min_size == 1:
        return labels
    pieces = connected_pieces(labels)
    by_pixel = pieces.by_pixel(np.arange(pieces.number), labels.shape)
    of_piece, graph = pieces.label_of_piece, region_graph(by_pixel)
    return without_small_pieces(of_piece, graph, pieces.size, min_size)[by_pixel]
