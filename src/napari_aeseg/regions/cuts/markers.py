"""Markers: a few strokes by the user, from which every patch gets a label."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_rectangular
from napari_aeseg.regions.patches.graph import touching_regions
from napari_aeseg.regions.patches.statistics import region_means

if TYPE_CHECKING:
    from napari_aeseg.regions.tree.merge_tree import MergeTree

#: Largest id of a marker.
LARGEST_MARKER = np.iinfo(np.int32).max
#: What errors say when all ids are 0.
NO_MARKER = "There is no marker: paint at least one segment, with ids from 1 on."


def array_of_markers(markers: Any, shape: tuple[int, ...]) -> Any:
    """Return markers as an array (of numpy or dask) of this shape and whole numbers."""
    check_rectangular(markers, "markers")
    markers = markers if hasattr(markers, "shape") else np.asarray(markers)
    if tuple(markers.shape) != tuple(shape):
        raise InputError(
            f"markers (strokes) have shape {tuple(markers.shape)}, the image has {shape}: "
            "give one label for each of its pixels."
        )
    if markers.dtype.kind not in "bui":
        raise InputError(f"markers are of dtype {markers.dtype}: give whole numbers, 0 = unmarked.")
    return markers


def checked_markers(markers: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return markers as an array of int32, else raise InputError."""
    array = np.asarray(array_of_markers(markers, shape))
    check_ids(array)
    if not array.any():
        raise InputError(NO_MARKER)
    return array.astype(np.int32, copy=False)


def check_ids(markers: np.ndarray) -> None:
    """Raise InputError unless ids are from 0 to the largest of int32."""
    low, high = int(markers.min()), int(markers.max())
    if low < 0 or high > LARGEST_MARKER:
        raise InputError(
            f"markers run from {low} to {high}: give 0 for unmarked and ids from 1 to "
            f"{LARGEST_MARKER}."
        )


def marked_patches(markers: np.ndarray, patches: np.ndarray, number: int) -> np.ndarray:
    """Return the marker that has most pixels in each patch, shape (P,); 0 where there is none.

    Of markers with equally many, the one that comes first in the image.
    """
    flat = markers.ravel()
    at = np.flatnonzero(flat != 0)  # of booleans: several times faster than of numbers
    patch, marker = patches.ravel()[at].astype(np.int64), flat[at].astype(np.int64)
    return majority_markers(*pixels_of_pairs(patch, marker), number)


def pixels_of_pairs(
    patch: np.ndarray, marker: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a key for each pair of patch and marker, its first pixel, and its pixels."""
    # Markers are below 2**31 (LARGEST_MARKER), so a key holds both.
    return np.unique(patch * 2**31 + marker, return_index=True, return_counts=True)


def majority_markers(
    key: np.ndarray, first: np.ndarray, pixels: np.ndarray, number: int
) -> np.ndarray:
    """Return the marker with most pixels in each patch from values of `pixels_of_pairs`."""
    best_last = key[np.lexsort((-first, pixels))]  # of equal counts, the earliest pixel
    marked = np.zeros(number, np.int32)
    marked[best_last // 2**31] = best_last % 2**31  # of equal places, the last stays
    return marked


def spread(
    marked: np.ndarray,
    tree: MergeTree,
    edges: np.ndarray,
    positions: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """Give every patch (P,) the label of a marker, along the merge tree; int32, no 0.

    The largest regions of the tree that hold marks of one label at most are left whole. Those with
    a mark have its label. The others get theirs one by one from a neighbour that has one already,
    the pair that is most alike first: a forest of least cost rooted in the markers [1]_ [2]_.

    At least one patch is `marked`; 0 stands for those that are not. Patches are compared by their
    `positions` (P, D), `weight` is their size (P,).

    References
    ----------
    .. [1] P. Salembier, L. Garrido, Binary partition tree as an efficient representation for image
           processing, segmentation, and information retrieval, IEEE Transactions on Image
           Processing 9, 2000 (marker propagation).
    .. [2] R. Adams, L. Bischof, Seeded region growing, IEEE Transactions on Pattern Analysis and
           Machine Intelligence 16, 1994.
    """
    piece, label = pure_pieces(marked, tree)
    if not label.all():
        pairs = touching_regions(piece, edges)
        centre = region_means(positions, piece, weight)
        difference = ((centre[pairs[:, 0]] - centre[pairs[:, 1]]) ** 2).sum(axis=1)
        label = _grown(label, pairs, difference)  # Ward's cost instead: the same within .002
    return label[piece].astype(np.int32)


def pure_pieces(marked: np.ndarray, tree: MergeTree) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest nodes with marks of one label at most: that of each patch, label of each.

    Nodes are numbered from 0; 0 is the label of nodes and patches without a mark.
    """
    order, start, length = tree.leaf_order
    in_order = marked[order]
    marks = in_order[in_order > 0]
    changes = np.concatenate([[0], np.cumsum(marks[1:] != marks[:-1])])
    # Each node is a run of leaves, and so are the marks in it.
    before = np.concatenate([[0], np.cumsum(in_order > 0)])
    first, last = before[start], before[start + length]
    is_marked = first < last
    # Clip: nodes behind the last mark would index beyond the marks.
    pure = ~is_marked | (changes[first.clip(max=len(marks) - 1)] == changes[last - 1])
    parent = np.full(len(start), len(start) - 1)
    parent[tree.children] = np.arange(tree.leaves, len(start))[:, np.newaxis]
    nodes = np.flatnonzero(pure & ~pure[parent])
    if pure[-1]:
        nodes = np.array([len(start) - 1])
    nodes = nodes[np.argsort(start[nodes])]  # np.repeat needs the order of the leaves
    piece = np.empty(tree.leaves, np.int64)
    piece[order] = np.repeat(np.arange(len(nodes)), length[nodes])
    return piece, np.where(is_marked, marks[first.clip(max=len(marks) - 1)], 0)[nodes]


def _grown(label: np.ndarray, pairs: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Labels for all pieces: the cheapest pair of one with and one without a label comes next."""
    labels = label.tolist()
    neighbours: list[list[tuple[float, int]]] = [[] for _ in labels]
    for (a, b), pair_cost in zip(pairs.tolist(), cost.tolist(), strict=True):
        neighbours[a].append((pair_cost, b))
        neighbours[b].append((pair_cost, a))
    heap = [(c, b, a) for a, has_label in enumerate(labels) if has_label for c, b in neighbours[a]]
    heapq.heapify(heap)
    while heap:
        _, piece, labelled = heapq.heappop(heap)
        if labels[piece]:  # a cheaper pair came first
            continue
        labels[piece] = labels[labelled]
        for pair_cost, other in neighbours[piece]:
            if not labels[other]:
                heapq.heappush(heap, (pair_cost, other, piece))
    return np.array(labels)


def marks_on_top(
    labels: np.ndarray,
    markers: np.ndarray,
    patches: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
) -> np.ndarray:
    """Give marked pixels their label where another marker has the majority of their patch.

    `labels` is written to and returned. `before` and `after`, shape (P,), are labels of the patches
    without and with later edits: where a marker was merged into another label as a whole, these
    pixels go with it.
    """
    flat = markers.ravel()
    at = np.flatnonzero(flat != 0)
    at = at[flat[at] != before[patches.ravel()[at]]]
    ids, row = np.unique(flat[at], return_inverse=True)
    labels.flat[at] = labels_of_marks(ids, before, after)[row]
    return labels


def labels_of_marks(ids: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return what label each marker has become, for `marks_on_top`."""
    # A merge gives the smallest label; a marker without a patch keeps its own.
    labels = [int(after[before == marker].min(initial=marker)) for marker in ids]
    return np.array(labels, np.int32)
