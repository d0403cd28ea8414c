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

_LARGEST_MARKER = np.iinfo(np.int32).max


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


def marked_patches(markers: Any, patches: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the marker that has most pixels in each patch, (P,), 0 for none; and all markers.

    Of markers with equally many, the one that comes first in the image. Of dask arrays, only marked
    chunks of the patches are read. Raises InputError if no patch has a marker, or ids are wrong.
    """
    ids: list[np.ndarray] = [np.empty(0, np.int64)]
    counts: list[np.ndarray] = [np.empty((3, 0), np.int64)]
    for part in _parts_of(patches):
        flat = np.asarray(markers[part]).ravel()
        at = np.flatnonzero(flat != 0)  # of booleans: several times faster than of numbers
        if not len(at):
            continue
        _check_ids(flat[at])
        marker = flat[at].astype(np.int64)
        ids.append(np.unique(marker))  # also where there is no patch: these pixels keep them
        patch = np.asarray(patches[part]).ravel()[at].astype(np.int64)
        within = np.unravel_index(at, [s.stop - s.start for s in part])
        place = np.ravel_multi_index(
            tuple(a + s.start for a, s in zip(within, part, strict=True)), patches.shape
        )
        inside = patch >= 0
        # Markers are below 2**31, so a key holds both.
        key, first, pixels = np.unique(
            (patch * 2**31 + marker)[inside], return_index=True, return_counts=True
        )
        counts.append(np.stack([key, place[inside][first], pixels]))
    all_ids = np.unique(np.concatenate(ids))
    key, place, pixels = np.concatenate(counts, axis=1)
    if not len(all_ids):
        raise InputError("There is no marker: paint at least one segment, with ids from 1 on.")
    if not len(key):
        raise InputError("All markers lie where the image could not be read. Mark other parts.")
    key, row = np.unique(key, return_inverse=True)
    first = np.full(len(key), place.max())
    np.minimum.at(first, row, place)
    best_last = key[np.lexsort((-first, np.bincount(row, pixels)))]
    marked = np.zeros(number, np.int32)
    marked[best_last // 2**31] = best_last % 2**31  # of equal places, the last stays
    return marked, all_ids


def _parts_of(patches: Any) -> list[tuple[slice, ...]]:
    """All of an array, or its chunks if it is one of dask."""
    if isinstance(patches, np.ndarray):
        return [tuple(slice(0, n) for n in patches.shape)]
    from dask.array.core import slices_from_chunks

    chunks: list[tuple[slice, ...]] = slices_from_chunks(patches.chunks)
    return chunks


def _check_ids(markers: np.ndarray) -> None:
    """Raise InputError unless ids are from 0 to the largest of int32."""
    low, high = int(markers.min()), int(markers.max())
    if low < 0 or high > _LARGEST_MARKER:
        raise InputError(
            f"markers run from {low} to {high}: give 0 for unmarked and ids from 1 to "
            f"{_LARGEST_MARKER}."
        )


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
    ids: np.ndarray,
) -> np.ndarray:
    """Give marked pixels their label, also where another marker has the majority of their patch.

    `before` and `after`, shape (P,), are labels of the patches without and with later edits, `ids`
    all markers, sorted. Where a marker was merged into another label as a whole, all of its pixels
    go with it.
    """
    at = np.flatnonzero(markers != 0)
    if not len(at):
        return labels
    marker, patch = markers.ravel()[at], patches.ravel()[at]
    # A merge gives the smallest label; a marker without a patch keeps its own.
    label_of_id = [int(after[before == k].min(initial=k)) for k in ids]
    has_majority = (patch >= 0) & (marker == before[patch])
    labels = labels.copy()  # dask may give the same chunk to other arrays
    labels.ravel()[at] = np.where(
        has_majority, after[patch], np.array(label_of_id)[np.searchsorted(ids, marker)]
    )
    return labels
