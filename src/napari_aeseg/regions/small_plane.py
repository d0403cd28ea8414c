"""A plane of an image and its patches, small enough to be seen at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.images.axes import channels_first
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.io.images import rgb_of

if TYPE_CHECKING:
    from napari_aeseg.regions.hierarchy import Hierarchy


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """What labels of patches are drawn over, and where."""

    picture: np.ndarray  # of the image, float32 from 0 to 1, shape (Y, X, 3)
    patches: np.ndarray  # ids of the patches, shape (Y, X); -1 where the image was not readable

    def labels(self, label_of_patch: np.ndarray) -> np.ndarray:
        """Return labels of the pixels, shape (Y, X), from those of the patches, shape (P,)."""
        return np.where(self.patches < 0, 0, label_of_patch[self.patches])


def plane_of(hierarchy: Hierarchy, image: Any, longest: int) -> Plane:
    """Return the middle slice and time point of an image, its longer side of `longest` pixels.

    `image` is that of the hierarchy, or None: then its brightness is shown, and of an image in
    blocks the mean intensity of each patch, so that no block is read again.
    """
    from PIL import Image

    patches = hierarchy.patches
    for coarse in hierarchy.coarse:
        if min(coarse.shape[hierarchy.axes.space.index(a)] for a in "YX") < longest:
            break
        patches = coarse
    small = small_labels(patches, hierarchy.axes.space, longest)
    height, width = small.shape
    if image is not None and not hierarchy.is_lazy:
        channels = channels_first(np.asarray(image), hierarchy.axes)
        order = "".join(a for a in "TZYX" if a in hierarchy.axes.letters)
        channels = np.stack([_middle(channel, order) for channel in channels])
    elif hierarchy.brightness is not None:
        channels = _middle(hierarchy.brightness, hierarchy.axes.space)[np.newaxis]
    else:
        intensity = np.where(small[..., np.newaxis] < 0, 0, hierarchy.statistics.intensity[small])
        channels = np.moveaxis(intensity, -1, 0)
    channels = np.asarray(channels, np.float32)
    ground = rgb_of(IntensityRange.of(channels).apply(channels))
    picture = Image.fromarray((ground * 255).astype(np.uint8))
    picture = picture.resize((width, height), Image.Resampling.BOX)
    return Plane(np.asarray(picture, np.float32) / 255, small)


def small_labels(labels: Any, axes: str, longest: int) -> np.ndarray:
    """Return the pixels of labels in the middle slice and time point as `plane_of` takes them."""
    plane = np.asarray(_middle(labels, axes))
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for old in plane.shape
        for new in [max(1, round(old * longest / max(plane.shape)))]
    )
    return plane[np.ix_(rows, columns)]


def _middle(array: Any, axes: str) -> Any:
    """The middle of all axes but Y and X, in this order."""
    plane = array[
        tuple(slice(None) if a in "YX" else n // 2 for a, n in zip(axes, array.shape, strict=True))
    ]
    return plane if axes.index("Y") < axes.index("X") else plane.T
