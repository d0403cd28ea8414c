"""Statistics of patches: size, centroid, intensities, and moments of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

# Pixels counted together.
_TOGETHER = 2**20


@dataclass(frozen=True, slots=True)
class PatchStatistics:
    """Statistics of P patches."""

    count: np.ndarray  # pixels, float64, shape (P,)
    mean: np.ndarray  # mean feature vector, float32, shape (P, F)
    second: np.ndarray  # mean squared features, float32, shape (P, F)
    level: np.ndarray  # encoder level of each feature, shape (F,); 0 is the image itself
    centroid: np.ndarray  # mean pixel index along each space axis, float64, shape (P, ndim)
    intensity: np.ndarray  # mean of each channel in the units of the image, float64, shape (P, C)


#: The same in files: dtype, and shape in P patches, F features, C channels and D axes of space.
STATISTICS_IN_FILES = {
    "count": ("float64", "P"),
    "mean": ("float32", "PF"),
    "second": ("float32", "PF"),
    "level": ("int64", "F"),
    "centroid": ("float64", "PD"),
    "intensity": ("float64", "PC"),
}


def geometry(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel counts (P,) and centroids (P, ndim) of patches with ids 0 .. P-1."""
    number = int(patches.max()) + 1
    count, total = np.zeros(number), np.zeros((number, patches.ndim))
    for rows in _strips(patches.shape):
        here = patches[rows]
        flat = here.ravel().astype(np.intp)
        count += np.bincount(flat, minlength=number)
        for axis, n in enumerate(here.shape):
            index = np.arange(n, dtype=np.float64) + (rows.start if axis == 0 else 0)
            along = index.reshape([-1 if i == axis else 1 for i in range(here.ndim)])
            weights = np.broadcast_to(along, here.shape).ravel()
            total[:, axis] += np.bincount(flat, weights, number)
    return count, total / count[:, np.newaxis]


def channel_means(patches: np.ndarray, pixels: Any, count: np.ndarray) -> np.ndarray:
    """Return the mean of each channel in each patch, (P, C), for (C, *space) pixels."""
    total = np.zeros((len(count), len(pixels)))
    for rows in _strips(patches.shape):
        flat = patches[rows].ravel().astype(np.intp)
        for channel, column in zip(pixels, total.T, strict=True):
            column += np.bincount(flat, np.asarray(channel[rows], np.float64).ravel(), len(count))
    return total / count[:, np.newaxis]


def region_means(values: np.ndarray, region: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the rows of each region 0 .. R-1, shape (R, D); 0 if empty."""
    members = sparse.csr_array((weight, (region, np.arange(len(region)))))
    total = members.sum(axis=1)
    return (members @ values) / np.where(total > 0, total, 1)[:, np.newaxis]


def _strips(shape: tuple[int, ...]) -> list[slice]:
    """Parts of an image that are counted together: numpy makes wide copies of what it counts."""
    rows = max(1, _TOGETHER * shape[0] // max(int(np.prod(shape)), 1))
    return [slice(start, start + rows) for start in range(0, shape[0], rows)]
