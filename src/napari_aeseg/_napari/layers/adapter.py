"""Between napari layers and arrays: read an Image layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg._napari.layers.placement import letters_of
from napari_aeseg._napari.manifest.settings import PLUGIN
from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, read_axes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Image, Labels

#: Key of the metadata of layers that the plugin made.
METADATA_KEY = "napari-aeseg"
# The last axis of an RGB layer is C; the axes before it have only one likely reading.
_RGB_LETTERS = {3: "YXC", 4: "ZYXC", 5: "TZYXC"}


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class ImageInput:
    """An image as it was when work on it began; safe to hand to a thread."""

    name: str  # of the layer
    data: Any  # numpy, dask or zarr, not copied; the finest level, RGB without alpha
    axes: Axes  # with the size of a voxel where the layer has a scale
    path: Path | None = None  # the file that the layer was opened from
    sample: str | None = None  # the sample image of this plugin that it is
    source: Any = None  # the layer's data, to tell whether they were replaced since

    def has_data_of(self, layer: Image) -> bool:
        """Whether the layer still has the same array, changed in place or not."""
        return layer.data is self.source

    def has_shape_of(self, layer: Image) -> bool:
        """Whether the layer still has the same shape."""
        return bool(np.shape(image_data(layer)) == self.axes.shape)

    @property
    def axes_argument(self) -> str | None:
        """The argument `axes` for the core; None lets it infer them, and report that it did."""
        return None if self.axes.inferred else self.axes.letters


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


def image_input(layer: Image, axes: str | None = None) -> ImageInput:
    """Read an Image layer; to be called on the GUI thread.

    `axes` has one letter per dimension of the array, the channel axis of an RGB layer included. By
    default they are read from the layer: whether it is RGB, and its axis labels where they are
    names. Raises InputError if the axes do not fit, or there are too few or too many dimensions.
    """
    data = image_data(layer)
    try:
        reading = _read_rgb(layer, data.shape, axes) if layer.rgb else None
        reading = reading or read_axes(data.shape, axes, labels=layer.axis_labels)
    except InputError as error:
        raise InputError(f"{layer.name}: {error}") from error
    path, sample = layer.source.path, layer.source.sample
    ours = sample is not None and sample[0] == PLUGIN
    reading = with_voxels_of(layer, reading)
    return ImageInput(
        layer.name,
        data,
        reading,
        Path(path) if path else None,
        sample[1] if ours else None,
        layer.data,
    )


def image_data(layer: Image) -> Any:
    """Return the pixels of an Image layer: of the finest level, without alpha; not copied."""
    data = layer.data[0] if layer.multiscale else layer.data
    return data[..., :3] if layer.rgb and data.shape[-1] == 4 else data


def _read_rgb(layer: Image, shape: tuple[int, ...], axes: str | None) -> Axes:
    if axes is not None:
        reading = read_axes(shape, axes)
        if reading.letters[-1] != "C":
            raise InputError(
                f"axes={axes!r}: the last axis of an RGB layer is its colour and must be C, "
                f"for example {_RGB_LETTERS.get(len(shape), 'YXC')!r}."
            )
        return reading
    # Axis labels of an RGB layer leave the colour out; labels that are no names are passed over.
    reading = read_axes(shape, labels=(*layer.axis_labels, "C"))
    if not reading.inferred:
        return reading
    return read_axes(shape, _RGB_LETTERS.get(len(shape)), source="layer")


def with_voxels_of(layer: Image | Labels, axes: Axes) -> Axes:
    """Return the axes of an image with the size of a voxel and its unit, out of the layer's scale.

    A layer without scale and units is measured in pixels, and so is one whose axes have units of
    different dimensions.
    """
    letters = letters_of(layer, axes)
    dimension = {letter: letters.index(letter) for letter in axes.space}
    scale = [abs(float(layer.scale[dimension[a]])) for a in axes.spatial]
    units = [layer.units[dimension[a]] for a in axes.spatial]
    if len({unit.dimensionality for unit in units}) == 1:
        scale = [
            float((n * unit).to(units[-1]).magnitude) for n, unit in zip(scale, units, strict=True)
        ]
        units = units[-1:]
    unit = unit_of(units)
    if all(n == 1 for n in scale) and unit == "pixel":
        return replace(axes, voxel_size=None, unit="pixel")
    return axes.with_voxel_size(scale, unit)


def unit_of(units: Iterable[object]) -> str:
    """Return the unit that all axes have, "pixel" when they have none or not all the same."""
    names = {str(unit) for unit in units}
    return names.pop() if len(names) == 1 else "pixel"


def as_layer_dtype(values: np.ndarray, layer: Image) -> np.ndarray:
    """Return floats, in the units of a layer, in its dtype: napari shows RGB floats in 0-1 only."""
    kind = np.dtype(layer.dtype)
    if kind.kind not in "ui":
        return values
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)
