"""What is known of each patch: size, place, intensities, and moments of its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class PatchStatistics:
    """Statistics of P patches.

    Parameters
    ----------
    count : ndarray of float64, shape (P,)
        Pixels.
    mean : ndarray of float32, shape (P, F)
        Mean feature vector.
    second : ndarray of float32, shape (P, F)
        Mean squared features.
    level : ndarray of int, shape (F,)
        Encoder level of each feature; 0 is the image itself.
    centroid : ndarray of float64, shape (P, ndim)
        Mean pixel index along each space axis.
    intensity : ndarray of float64, shape (P, C)
        Mean of each channel in the units of the image.
    """

    count: np.ndarray
    mean: np.ndarray
    second: np.ndarray
    level: np.ndarray
    centroid: np.ndarray
    intensity: np.ndarray


def geometry(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel counts (P,) and centroids (P, ndim) of patches with ids 0 .. P-1.

    Examples
    --------
    >>> count, centroid = geometry(np.array([[0, 0, 1], [0, 0, 1]]))
    >>> count, centroid[1]
    (array([4., 2.]), array([0.5, 2. ]))
    """
    flat = patches.ravel()
    count = np.bincount(flat).astype(np.float64)
    centroid = np.empty((len(count), patches.ndim))
    for axis, n in enumerate(patches.shape):
        index = np.arange(n).reshape([-1 if i == axis else 1 for i in range(patches.ndim)])
        weights = np.broadcast_to(index, patches.shape).ravel()
        centroid[:, axis] = np.bincount(flat, weights) / count
    return count, centroid


def channel_means(patches: np.ndarray, pixels: Any, count: np.ndarray) -> np.ndarray:
    """Return the mean of each channel in each patch, (P, C), for (C, *space) pixels."""
    flat = patches.ravel()
    return np.stack(
        [np.bincount(flat, np.asarray(c, np.float64).ravel()) / count for c in pixels], axis=1
    )
