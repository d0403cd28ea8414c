"""Segments that look like examples: one nucleus is clicked, and all that look like it are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from napari_aeseg.regions.cuts.strokes import squared_distances, whitening_of_patches

if TYPE_CHECKING:
    from napari_aeseg.regions.compare.descriptor import Descriptor

# Similarity of two patches that are drawn from the image at random.
_AT_RANDOM = 0.25


def patches_of_labels(
    labels: np.ndarray, of_patch: np.ndarray | None, patches: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, sparse.csr_array]:
    """Return the labels but 0, (n,), and how many pixels of each patch they have, (n, P).

    `of_patch`, shape (P,), is the label of each patch where labels are unions of patches.
    """
    if of_patch is not None:
        label, patch, pixels = of_patch, np.arange(len(count)), count
    else:
        at = np.flatnonzero(labels)
        key = labels.ravel()[at].astype(np.int64) * len(count) + patches.ravel()[at]
        key, pixels = np.unique(key, return_counts=True)
        label, patch = key // len(count), key % len(count)
    ids, row = np.unique(label, return_inverse=True)
    overlap = sparse.csr_array((pixels, (row, patch)), shape=(len(ids), len(count)))
    return ids[ids != 0], overlap[ids != 0]


def similarity(
    descriptor: Descriptor, overlap: sparse.csr_array, examples: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Return how alike each segment and the nearest example are, from 0 to 1, shape (n,).

    Segments have `overlap` (n, P) with patches; `examples` and `others` are rows of it. What is
    nearer to one of the others than to an example has similarity 0. Segments are compared by their
    mean in both spaces of classes from strokes.
    """
    mean = overlap / np.asarray(overlap.sum(axis=1))[:, np.newaxis]
    distance = np.zeros((overlap.shape[0], len(examples) + len(others)))
    chosen = np.concatenate([examples, others]).astype(np.int64)
    fine = descriptor.cache.at(1.0)
    spaces = (fine, whitening_of_patches(descriptor)), (descriptor.moments, descriptor.whitening)
    for moments, white in spaces:
        positions = moments.mapped(white, moments.offset).astype(np.float64)
        at_random = 2 * positions.var(axis=0).sum() or 1.0
        of_segment = mean @ positions
        distance += squared_distances(of_segment, of_segment[chosen]) / at_random / 2
    to_example = distance[:, : len(examples)].min(axis=1)
    alike = _AT_RANDOM**to_example
    if len(others):
        alike[to_example > distance[:, len(examples) :].min(axis=1)] = 0
    return np.asarray(alike)
