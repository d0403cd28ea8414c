"""Stitching of blocks: one numbering of all their patches, and the edges between blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_aeseg.regions.patches.graph import RegionGraph
from napari_aeseg.regions.patches.statistics import PatchStatistics
from napari_aeseg.regions.refine import PatchEvidence

# Centroids are compared to this many decimals: rounding depends on where a block begins.
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class BlockPatches:
    """The patches of one block, numbered 0 .. P-1 in it."""

    index: tuple[int, ...]  # number of the block along each axis
    statistics: PatchStatistics  # centroids are those in the whole image
    graph: RegionGraph
    faces: tuple[tuple[np.ndarray, np.ndarray], ...]  # per axis, ids at both faces
    evidence: PatchEvidence | None = None  # what borders at pixel resolution need


@dataclass(frozen=True, slots=True)
class StitchedPatches:
    """The patches of all blocks.

    Counted one block after the other, patches of a block begin at `first`; `number`, shape (P,), is
    the number in the image of each patch counted so.
    """

    statistics: PatchStatistics
    graph: RegionGraph
    first: dict[tuple[int, ...], int]
    number: np.ndarray
    evidence: PatchEvidence | None = None  # if all blocks have it


def stitch_blocks(read: Callable[[], Iterable[BlockPatches]]) -> StitchedPatches:
    """Stitch the patches of blocks together.

    Patches are numbered by their centroids, row by row, so that results do not depend on how the
    image was cut into blocks. Where blocks are missing and the rest is not connected, an edge is
    added between its components: a tree needs a connected graph.

    `read` returns the blocks, at least one, in raster order; it is called a few times, so that they
    need not be in memory together.
    """
    first: dict[tuple[int, ...], int] = {}
    last_faces: dict[tuple[tuple[int, ...], int], np.ndarray] = {}
    centroids: list[np.ndarray] = []
    edges: list[np.ndarray] = []
    border: list[np.ndarray] = []
    total = 0
    for block in read():
        first[block.index] = total
        centroids.append(block.statistics.centroid)
        edges.append(block.graph.edges + total)
        border.append(block.graph.border)
        for axis, (low, high) in enumerate(block.faces):
            before = tuple(n - (i == axis) for i, n in enumerate(block.index))
            # A face is dropped when its neighbour has come, so that few are in memory.
            face = last_faces.pop((before, axis), None)
            if face is not None:
                pairs, length = _touching(face, low + total)
                edges.append(pairs)
                border.append(length)
            last_faces[block.index, axis] = high + total
        total += block.graph.number
    order = np.lexsort(np.concatenate(centroids).round(_DECIMALS).T[::-1])
    number = np.empty(total, np.int32)
    number[order] = np.arange(total, dtype=np.int32)
    graph = _graph(number[np.concatenate(edges)], np.concatenate(border), total)
    statistics, evidence = _statistics(read(), first, number), _evidence(read(), first, number)
    return StitchedPatches(statistics, graph, first, number, evidence)


def _touching(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of patches on two sides of a plane, and how many faces of pixels they share."""
    pairs, length = np.unique(
        np.stack([first.ravel(), second.ravel()], axis=1), axis=0, return_counts=True
    )
    return pairs, length.astype(np.float32)


def _statistics(
    blocks: Iterable[BlockPatches], first: dict[tuple[int, ...], int], number: np.ndarray
) -> PatchStatistics:
    """Statistics of all patches, by their numbers in the image."""
    merged: dict[str, np.ndarray] = {}
    for block in blocks:
        statistics = block.statistics
        start = first[block.index]
        rows = number[start : start + len(statistics.count)]
        for name in ("count", "mean", "second", "centroid", "intensity"):
            values = getattr(statistics, name)
            if name not in merged:
                merged[name] = np.empty((len(number), *values.shape[1:]), values.dtype)
            merged[name][rows] = values
    return PatchStatistics(level=statistics.level, **merged)


def _evidence(
    blocks: Iterable[BlockPatches], first: dict[tuple[int, ...], int], number: np.ndarray
) -> PatchEvidence | None:
    """Evidence of all patches, by their numbers in the image; None if a block has none."""
    means, within, pixels = [], [], []
    for block in blocks:
        if block.evidence is None:
            return None
        means.append(block.evidence.mean)
        within.append(block.evidence.within)
        pixels.append(block.statistics.count.sum())
    mean = np.empty((len(number), means[0].shape[1]), np.float32)
    mean[number] = np.concatenate(means)
    return PatchEvidence(mean, np.average(within, axis=0, weights=pixels))


def _graph(edges: np.ndarray, border: np.ndarray, number: int) -> RegionGraph:
    """Region graph of edges in any order; its components are linked."""
    edges = np.sort(edges.astype(np.int64), axis=1)  # new numbers may turn pairs around
    ones = np.ones(len(edges), np.int8)  # the smallest dtype: only their places matter
    matrix = sparse.csr_array((ones, (edges[:, 0], edges[:, 1])), shape=(number, number))
    components, component = sparse.csgraph.connected_components(matrix, directed=False)
    if components > 1:
        first = np.unique(component, return_index=True)[1]
        links = np.sort(np.stack([first[:-1], first[1:]], axis=1), axis=1)
        edges = np.concatenate([edges, links])
        border = np.append(border, np.ones(len(links), border.dtype))
    order = np.lexsort(edges.T[::-1])
    return RegionGraph(number, edges[order], border[order].astype(np.float32))
