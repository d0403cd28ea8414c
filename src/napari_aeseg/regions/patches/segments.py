"""Existing segments as patches: the start of the merge tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import relabel_sequential, watershed

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_not_masked, plain_array
from napari_aeseg.images.napari_layers import labels_of_layer

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes

# What segments leave of a patch is no patch of its own if it has less than 1 / 4 of its pixels.
_SMALLEST = 4


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
    `in_time`. What segments leave of a patch joins its neighbours if it is smaller than a quarter
    of an average patch. Ids are 0 .. P-1, int32.

    Examples
    --------
    >>> patches = np.array([[0, 0, 1, 1], [2, 2, 3, 3]])
    >>> patches_with_segments(patches, np.array([[0, 7, 7, 0], [0, 7, 0, 0]])).tolist()
    [[0, 1, 1, 2], [3, 1, 4, 4]]
    """
    smallest = patches.size / (int(patches.max()) + 1) / _SMALLEST
    _, numbers = np.unique(segments, return_inverse=True)  # any label fits then
    numbers = numbers.reshape(segments.shape)
    without = segments == 0
    ids = np.where(without, patches, int(patches.max()) + 1 + numbers)
    if not in_time:
        return _connected(ids, without, smallest)
    out = np.empty(ids.shape, np.int32)
    first = 0
    for frame, free, connected in zip(ids, without, out, strict=True):
        connected[:] = _connected(frame, free, smallest) + first
        first = int(connected.max()) + 1
    return out


def _connected(ids: np.ndarray, without: np.ndarray, smallest: float) -> np.ndarray:
    """Return connected patches 0 .. P-1; small ones `without` a segment join others of these."""
    patches = label(ids, background=-1, connectivity=1)
    is_small = without & (np.bincount(patches.ravel()) < smallest)[patches]
    if is_small.any():
        # Of equal height, all basins grow at the same pace: each pixel joins the nearest.
        markers = np.where(is_small, 0, patches)
        around = without & ndimage.binary_dilation(is_small)
        joined = watershed(np.zeros(ids.shape, np.uint8), markers, mask=around)
        # Those between segments have no neighbour to join.
        patches = np.where(is_small & (joined > 0), joined, patches)
        patches, *_ = relabel_sequential(patches)
    return np.asarray(patches - 1, np.int32)
