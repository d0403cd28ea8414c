"""False colours of the encoder's features: patches that look alike to the network look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_aeseg.regions.patches.statistics import PatchStatistics

# Percentiles of each principal component that become 0 and 255.
_LOW, _HIGH = 1, 99
# A feature that varies by a smaller part of its magnitude is constant: float32 rounds by 1e-7.
_FLAT = 1e-5
# In units of one feature's deviation; a component with less is rounding, not appearance.
_LEAST_SPAN = 0.02


def feature_colors(statistics: PatchStatistics) -> np.ndarray:
    """Return the first three principal components of the mean features, as red, green and blue.

    Parameters
    ----------
    statistics : PatchStatistics
        Features of level 1 and deeper are used where there are such, each divided by its standard
        deviation; patches count by their pixels.

    Returns
    -------
    ndarray of uint8, shape (P, 3)
        0 to 255 from the 1st to the 99th percentile. Each component points to where its largest
        loading is positive. Components that are constant, or that do not exist, are 0.
    """
    deep = statistics.level >= 1
    values = statistics.mean[:, deep if deep.any() else slice(None)].astype(np.float64)
    weight = statistics.count / statistics.count.sum()
    magnitude = np.sqrt(weight @ values**2)
    values -= weight @ values
    deviation = np.sqrt(weight @ values**2)
    values /= np.where(deviation > _FLAT * magnitude, deviation, np.inf)
    _, axes = np.linalg.eigh((values * weight[:, np.newaxis]).T @ values)
    axes = axes[:, ::-1][:, :3]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1, 1)
    components = np.zeros((len(values), 3))
    components[:, : axes.shape[1]] = values @ axes
    low, high = np.percentile(components, (_LOW, _HIGH), axis=0)
    span = np.where(high - low > _LEAST_SPAN, high - low, np.inf)
    return (255 * np.clip((components - low) / span, 0, 1)).round().astype(np.uint8)
