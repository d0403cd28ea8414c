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
    # Every (label, patch) overlap once: few pairs, whatever the size of the image.
    number = len(statistics.count)
    pairs, pixels = np.unique(
        labels.ravel().astype(np.int64) * number + patches.ravel(), return_counts=True
    )
    label, patch = pairs // number, pairs % number
    label, patch, pixels = (a[label > 0] for a in (label, patch, pixels))
    index, row = np.unique(label, return_inverse=True)
    area = np.bincount(row, pixels, minlength=len(index))
    columns: dict[str, np.ndarray] = {"index": index, "area": area.astype(np.int64)}
    inside = labels > 0
    row_of_pixel = np.searchsorted(index, labels[inside])
    for letter, where in zip(space, np.nonzero(inside), strict=True):
        total = np.bincount(row_of_pixel, where, minlength=len(index))
        columns[f"centroid_{letter.lower()}"] = total / area
    for channel, mean in enumerate(statistics.intensity.T, 1):
        columns[f"mean_{channel}"] = np.bincount(row, pixels * mean[patch], len(index)) / area
    return pd.DataFrame(columns)
