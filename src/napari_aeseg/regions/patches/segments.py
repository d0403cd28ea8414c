"""Existing segments as patches: the start of the merge tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_not_masked, plain_array
from napari_aeseg.images.layers import labels_of_layer

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes


def checked_segments(labels: Any, axes: Axes, name: str = "image") -> np.ndarray:
    """Return existing labels of an image as an array in the order T, Z, Y, X.

    Raises InputError if they are no whole numbers of 0 or more, masked, or of another shape than
    the image without its channels.
    """
    array = plain_array(labels_of_layer(labels, axes), "labels")
    check_not_masked(array, "labels")
    array = np.asarray(array.compute() if hasattr(array, "compute") else array)
    if array.shape != axes.space_shape:
        raise InputError(
            f"labels have the shape {array.shape}, but {name} has {axes.space_shape} "
            f"({axes.space}): give one label for each pixel."
        )
    if array.dtype.kind not in "bui" or (array.dtype.kind == "i" and array.min() < 0):
        raise InputError(
            f"labels are {array.dtype} from {array.min()} to {array.max()}: give whole numbers, "
            "0 for pixels without a segment."
        )
    return array.transpose([axes.space.index(a) for a in "TZYX" if a in axes.space])


def patches_with_segments(
    patches: np.ndarray, segments: np.ndarray, *, in_time: bool = False
) -> np.ndarray:
    """Return patches in which each segment is one, and only the pixels without a segment are cut.

    Both have the same shape; `segments` are 0 where there is none. Patches are connected: a segment
    of several parts becomes several of them, and so does one in several frames if the first axis is
    `in_time`. Ids are 0 .. P-1, int32.

    Examples
    --------
    >>> patches = np.array([[0, 0, 1, 1], [2, 2, 3, 3]])
    >>> patches_with_segments(patches, np.array([[0, 7, 7, 0], [0, 7, 0, 0]])).tolist()
    [[0, 1, 1, 2], [3, 1, 4, 4]]
    """
    from skimage.measure import label

    _, numbers = np.unique(segments, return_inverse=True)  # any label fits then
    numbers = numbers.reshape(segments.shape)
    without = segments == 0
    ids = np.where(without, patches, int(patches.max()) + 1 + numbers)
    if not in_time:
        return np.asarray(label(ids, background=-1, connectivity=1) - 1, np.int32)
    out = np.empty(ids.shape, np.int32)
    first = 0
    for frame, connected in zip(ids, out, strict=True):
        connected[:] = label(frame, background=-1, connectivity=1) - 1 + first
        first = int(connected.max()) + 1
    return out
