"""Parting blobs at their necks, and how far a shape is from an ellipse."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from napari_aeseg.progress import raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_aeseg.progress import StopFlag

# What a split loses: the thickness of the neck relative to the thinner part, to this power.
_NECK = 8


def split(
    blobs: np.ndarray, tolerance: float, stop: StopFlag | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Part blobs at their necks; return the parts, and the blob (from 0) of each."""
    raise_if_stopped(stop, "objects")
    inside = np.pad(blobs > 0, 1, mode="edge")  # the edge of the image makes no neck
    depth = ndimage.distance_transform_edt(inside)[(slice(1, -1),) * blobs.ndim] - 1
    raise_if_stopped(stop, "objects")
    depth = ndimage.gaussian_filter(np.maximum(depth, 0).astype(np.float32), 0.7)
    peaks, number = ndimage.label((depth == ndimage.maximum_filter(depth, 3)) & (blobs > 0))
    raise_if_stopped(stop, "objects")
    basins = watershed(-depth, peaks, mask=blobs > 0)
    raise_if_stopped(stop, "objects")
    moments = list(moments_of(basins))
    joined, neck = _joined(basins, depth)
    for a, b in joined:
        moments.append(moments[a] + moments[b])
    raise_if_stopped(stop, "objects")
    table = np.array(moments)
    best = (table[:, 0] * np.exp(-((misfit_of(table) / tolerance) ** 2))).tolist()
    whole = [True] * len(best)
    for node, (a, b) in enumerate(joined, number):
        apart = (best[a] + best[b]) * (1 - neck[node - number] ** _NECK)
        whole[node] = best[node] >= apart
        best[node] = max(best[node], apart)
    label = [0] * len(best)
    count = 0
    for node in range(len(best) - 1, -1, -1):
        if not label[node] and whole[node]:
            count += 1
            label[node] = count
        if node >= number:
            label[joined[node - number][0]] = label[joined[node - number][1]] = label[node]
    parts = np.array([0, *label[:number]], np.int32)[basins]
    blob = np.zeros(count + 1, np.int64)
    blob[parts.ravel()] = blobs.ravel()
    return parts, blob[1:] - 1


def _joined(basins: np.ndarray, depth: np.ndarray) -> tuple[list[tuple[int, int]], list[float]]:
    """Merges of basins, shallow ones first: the two nodes, and how thick the neck between is.

    Basins are nodes 0 .. n-1, merge i is node n + i. The thickness is relative to the thinner one.
    """
    number = int(basins.max())
    pairs, necks = [], []
    for here, there in neighbours(basins.ndim):
        touch = (basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0)
        ends = np.sort([basins[here][touch], basins[there][touch]], axis=0).astype(np.int64) - 1
        pairs.append(ends[0] * number + ends[1])
        necks.append(np.minimum(depth[here][touch], depth[there][touch]))
    pair, neck = np.concatenate(pairs), np.concatenate(necks)
    order = np.lexsort((-neck, pair))
    pair, widest = np.unique(pair[order], return_index=True)
    neck = neck[order][widest]
    top = ndimage.maximum(depth, basins, np.arange(1, number + 1)).tolist()
    ends = np.stack([pair // number, pair % number], axis=1)
    depth_of_own = np.array(top)[ends].min(axis=1) - neck if len(ends) else neck
    above = list(range(number))

    def root(node: int) -> int:
        while above[node] != node:
            above[node] = node = above[above[node]]
        return node

    joined, thickness = [], []
    for k in np.argsort(depth_of_own, kind="stable").tolist():
        a, b = root(int(ends[k, 0])), root(int(ends[k, 1]))
        if a != b:
            thickness.append(min(1.0, float(neck[k]) / max(min(top[a], top[b]), 1e-9)))
            joined.append((a, b))
            above[a] = above[b] = len(above)
            above.append(len(above))
            top.append(max(top[a], top[b]))
    return joined, thickness


def misfit_of(moments: np.ndarray) -> np.ndarray:
    """Share of the ellipse (ellipsoid) with the same moments that is not filled: 0 for one."""
    ndim = {6: 2, 10: 3}[moments.shape[1]]
    area = np.maximum(moments[:, 0], 1)
    mean = moments[:, 1 : 1 + ndim] / area[:, np.newaxis]
    spread = np.empty((len(area), ndim, ndim))
    for k, (a, b) in enumerate(combinations_with_replacement(range(ndim), 2), 1 + ndim):
        spread[:, a, b] = spread[:, b, a] = moments[:, k] / area - mean[:, a] * mean[:, b]
    spread[:, range(ndim), range(ndim)] += 1 / 12  # a pixel is a square, not a point
    ball = {2: np.pi, 3: 4 / 3 * np.pi}[ndim] * (ndim + 2) ** (ndim / 2)
    size = ball * np.sqrt(np.maximum(np.linalg.det(spread), 1e-12))
    return np.maximum(1 - area / size, 0)


def moments_of(labels: np.ndarray) -> np.ndarray:
    """Sums of `powers` over labels 1 .. n, shape (n, K)."""
    flat = labels.ravel()
    sums = [np.bincount(flat, image.ravel()) for image in powers(labels.shape)]
    return np.stack(sums, axis=1)[1:]


def powers(space: tuple[int, ...]) -> list[np.ndarray]:
    """Images of 1, each coordinate and each product of two: their sums are the moments."""
    centred = [n / 2 for n in space]
    at = [
        np.broadcast_to(index - centre, space)
        for index, centre in zip(np.ogrid[tuple(map(slice, space))], centred, strict=True)
    ]
    return [np.ones(space), *at, *(a * b for a, b in combinations_with_replacement(at, 2))]


def neighbours(ndim: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Along each axis, where all pixels but the last are, and their next neighbours."""
    for axis in range(ndim):
        here, there = [slice(None)] * ndim, [slice(None)] * ndim
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        yield tuple(here), tuple(there)
