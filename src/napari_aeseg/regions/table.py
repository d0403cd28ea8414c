"""Measurements per label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from napari_aeseg.regions.statistics import PatchStatistics


def region_table(
    labels: np.ndarray, patches: np.ndarray, statistics: PatchStatistics, space: str
) -> pd.DataFrame:
    """Measure each label; see `Hierarchy.table`."""
    import pandas as pd

    labels = np.asarray(labels)
    if labels.shape != patches.shape:
        raise InputError(
            f"labels have shape {labels.shape}, the image has {patches.shape} ({space})."
        )
    if labels.dtype.kind not in "bui" or (labels.size and labels.min() < 0):
        raise InputError("labels must be whole numbers of 0 or more; 0 is left out.")
    label_of_patch = np.zeros(len(statistics.count), np.int64)
    label_of_patch[patches.ravel()] = labels.ravel()
    if np.array_equal(label_of_patch[patches], labels):
        columns = _union_columns(label_of_patch, statistics)
    else:
        columns = _painted_columns(labels, patches, statistics)
    names = ["index", "area", *(f"centroid_{letter.lower()}" for letter in space)]
    names += [f"mean_{channel + 1}" for channel in range(statistics.intensity.shape[1])]
    return pd.DataFrame(dict(zip(names, columns, strict=True)))


def _union_columns(label_of_patch: np.ndarray, statistics: PatchStatistics) -> list[np.ndarray]:
    """Measure labels that are unions of patches: no pixel is looked at."""
    inside = label_of_patch > 0
    index, row = np.unique(label_of_patch[inside], return_inverse=True)
    pixels = statistics.count[inside]
    area = np.bincount(row, pixels, len(index))
    known = np.concatenate([statistics.centroid, statistics.intensity], axis=1)[inside]
    means = [np.bincount(row, pixels * values, len(index)) / area for values in known.T]
    return [index, area.astype(np.int64), *means]


def _painted_columns(
    labels: np.ndarray, patches: np.ndarray, statistics: PatchStatistics
) -> list[np.ndarray]:
    """Measure any labels: places by the pixel, intensities by the patches that a label overlaps."""
    # Every (label, patch) overlap once: few pairs, whatever the size of the image.
    number = len(statistics.count)
    pairs, pixels = np.unique(
        labels.ravel().astype(np.int64) * number + patches.ravel(), return_counts=True
    )
    label, patch = pairs // number, pairs % number
    label, patch, pixels = (a[label > 0] for a in (label, patch, pixels))
    index, row = np.unique(label, return_inverse=True)
    area = np.bincount(row, pixels, len(index))
    inside = labels > 0
    row_of_pixel = np.searchsorted(index, labels[inside])
    centroid = [np.bincount(row_of_pixel, at, len(index)) / area for at in np.nonzero(inside)]
    means = [
        np.bincount(row, pixels * mean[patch], len(index)) / area for mean in statistics.intensity.T
    ]
    return [index, area.astype(np.int64), *centroid, *means]
