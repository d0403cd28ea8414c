"""Between napari layers and arrays: read an Image layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg._napari.manifest.settings import PLUGIN
from napari_aeseg.images.napari_layers import (
    labels_in,
    layer_axes,
    layer_levels,
    layer_pixels,
    level_factors,
)
from napari_aeseg.io.images import axes_in_file

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_aeseg.images.axes import Axes

#: Key of the metadata of layers that the plugin made.
METADATA_KEY = "napari-aeseg"


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class ImageInput:
    """An image as it was when work on it began; safe to hand to a thread."""

    name: str  # of the layer
    data: Any  # numpy, dask or zarr, not copied; one level, RGB without alpha
    axes: Axes  # with the size of a voxel where the layer has a scale
    path: Path | None = None  # the file that the layer was opened from
    sample: str | None = None  # the sample image of this plugin that it is
    source: Any = None  # the layer's data, to tell whether they were replaced since
    resolution: int = 0  # of the level

    def has_data_of(self, layer: Image) -> bool:
        """Whether the layer still has the same array, changed in place or not."""
        return layer.data is self.source

    def has_shape_of(self, layer: Image) -> bool:
        """Whether the layer still has a level of the same shape."""
        return any(np.shape(level) == self.axes.shape for level in layer_levels(layer))

    @property
    def axes_argument(self) -> str | None:
        """The argument `axes` for the core; None lets it infer them, and report that it did."""
        return None if self.axes.inferred else self.axes.letters


def camera_of(viewer: Viewer) -> Any:
    """Return the camera of the canvas; from napari 0.9 on, the scene has it."""
    return getattr(viewer, "scene", viewer).camera


def unwrapped(layer: Any) -> Any:
    """Return the layer itself out of the proxy that napari hands to plugins."""
    return getattr(layer, "__wrapped__", layer)


def pixels_changed_text(layer: Image) -> str:
    """Say that the preview does not show the image as it is now."""
    return f"{layer.name} changed after it was segmented. Press Segment to update."


def shape_changed_text(layer: Image) -> str:
    """Say that the segmentation of an image was discarded."""
    return (
        f"{layer.name} has another shape now, so its segmentation was discarded. Press Segment "
        "for a new one."
    )


def image_input(layer: Image, axes: str | None = None, resolution: int = 0) -> ImageInput:
    """Read a level of an Image layer; to be called on the GUI thread.

    `axes` has one letter per dimension of the array, the channel axis of an RGB layer included. By
    default they are read from the layer: whether it is RGB, and its axis labels where they are
    names, else from the file that it was opened from; so is the size of a voxel if the layer has no
    scale. Raises InputError if the axes do not fit, or there are too few or too many dimensions.
    """
    reading = layer_axes(layer, axes, resolution)
    path, sample = layer.source.path, layer.source.sample
    resolution = min(resolution, len(layer_levels(layer)) - 1)
    is_known = not reading.inferred and reading.voxel_size is not None
    in_file = None
    if path and not is_known:
        in_file = axes_in_file(path, layer_pixels(layer).shape)
    if in_file is not None and reading.inferred and not in_file.inferred:
        reading = replace(layer_axes(layer, in_file.letters, resolution), source="file")
    if in_file is not None and reading.voxel_size is None and in_file.unit != "pixel":
        size = dict(zip(in_file.spatial, in_file.voxel_size or (), strict=False))
        if set(reading.spatial) == set(size):
            factors = level_factors(layer, reading)
            voxel_size = [size[a] * factors[a] for a in reading.spatial]
            reading = reading.with_voxel_size(voxel_size, in_file.unit)
    ours = sample is not None and sample[0] == PLUGIN
    return ImageInput(
        layer.name,
        layer_pixels(layer, resolution),
        reading,
        Path(path) if path else None,
        sample[1] if ours else None,
        layer.data,
        resolution,
    )


def copied_segments(layer: Labels | None, axes: Axes) -> np.ndarray | None:
    """Return the labels of a layer as they are now, of the finest level; None without a layer."""
    if layer is None:
        return None
    return np.array(labels_in(layer.data[0] if layer.multiscale else layer.data, axes))


def as_layer_dtype(values: np.ndarray, layer: Image) -> np.ndarray:
    """Return floats, in the units of a layer, in its dtype: napari shows RGB floats in 0-1 only."""
    kind = np.dtype(layer.dtype)
    if kind.kind not in "ui":
        return values
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)
