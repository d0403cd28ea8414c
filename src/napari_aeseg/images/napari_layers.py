"""Layers of napari, given as images, labels or markers; nothing is imported from napari."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, is_reasonable, read_axes
from napari_aeseg.images.units import in_one_unit, unit_name

# The last axis of an RGB layer is C; the axes before it have only one likely reading.
_RGB_LETTERS = {3: "YXC", 4: "ZYXC", 5: "TZYXC"}


def is_layer(value: object) -> bool:
    """Whether something is a layer of napari."""
    return hasattr(value, "as_layer_data_tuple")


def layer_levels(layer: Any) -> list[Any]:
    """Return the pixels of each level of an Image layer, the finest first; without alpha."""
    if not hasattr(layer, "rgb"):
        raise InputError(f"{layer.name} is a {type(layer).__name__} layer: give an Image layer.")
    levels = list(layer.data) if layer.multiscale else [layer.data]
    return [d[..., :3] if layer.rgb and d.shape[-1] == 4 else d for d in levels]


def layer_pixels(layer: Any, resolution: int = 0) -> Any:
    """Return the pixels of an Image layer, of its coarsest level if it has too few; not copied."""
    levels = layer_levels(layer)
    return levels[min(resolution, len(levels) - 1)]


def layer_axes(layer: Any, axes: str | None = None, resolution: int = 0) -> Axes:
    """Return how the dimensions of an Image layer are read, with the size of a voxel.

    `axes` has one letter per dimension of the array, the channel axis of an RGB layer included. By
    default they are read from the layer: whether it is RGB, and its axis labels where they are
    names. Raises InputError if the axes do not fit, or there are too few or too many dimensions.
    """
    shape = layer_pixels(layer, resolution).shape
    try:
        reading = _read_rgb(layer, shape, axes) if layer.rgb else None
        reading = reading or read_axes(shape, axes, labels=layer.axis_labels)
    except InputError as error:
        raise InputError(f"{layer.name}: {error}") from error
    return with_voxels_of(layer, reading)


def _read_rgb(layer: Any, shape: tuple[int, ...], axes: str | None) -> Axes:
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


def with_voxels_of(layer: Any, axes: Axes) -> Axes:
    """Return the axes of an image with the size of a voxel and its unit, out of the layer's scale.

    A layer without scale and units is measured in pixels, and so is one whose axes have units of
    different dimensions, or a scale that makes no sense.
    """
    letters = letters_of(layer, axes)
    dimension = {letter: letters.index(letter) for letter in axes.space}
    factors = level_factors(layer, axes)
    scale = [abs(float(layer.scale[dimension[a]])) * factors[a] for a in axes.spatial]
    units = [layer.units[dimension[a]] for a in axes.spatial]
    if len({unit.dimensionality for unit in units}) == 1:
        scale = [
            float((n * unit).to(units[-1]).magnitude) for n, unit in zip(scale, units, strict=True)
        ]
        units = units[-1:]
    unit = unit_of(units)
    if (all(n == 1 for n in scale) and unit == "pixel") or not is_reasonable(scale):
        return replace(axes, voxel_size=None, unit="pixel")
    return axes.with_voxel_size(scale, unit)


def level_factors(layer: Any, axes: Axes) -> dict[str, float]:
    """Return how many pixels of a layer's finest level a pixel has along each axis."""
    finest = layer_pixels(layer).shape if hasattr(layer, "rgb") else axes.shape
    if len(finest) != len(axes.letters):
        finest = axes.shape
    return {a: n / m for a, n, m in zip(axes.letters, finest, axes.shape, strict=True)}


def unit_of(units: Iterable[object]) -> str:
    """Return the unit that all axes have, "pixel" when they have none or not all the same."""
    names = {unit_name(unit) or str(unit) for unit in units}
    return names.pop() if len(names) == 1 else "pixel"


def letters_of(layer: Any, axes: Axes) -> str:
    """Return the letters of a layer's axes; those of an RGB layer and of labels may leave C out."""
    return axes.letters if layer.ndim == len(axes.letters) else axes.space


def labels_in(data: Any, axes: Axes) -> Any:
    """Return the data of a layer of labels without the axis that stands in for channels."""
    if data.ndim == len(axes.space) or data.ndim != len(axes.letters):
        return data
    return data[(slice(None),) * axes.letters.index("C") + (0,)]


def labels_of_layer(value: Any, axes: Axes) -> Any:
    """Return the labels of a Labels layer, or a number at each point of a Points layer.

    Points are numbered from 1, or as a column "label" of their features says. Anything but a layer
    is returned as it is. Raises InputError for other layers, and for points outside the image.
    """
    if not is_layer(value):
        return value
    if hasattr(value, "selected_label"):
        return labels_in(value.data[0] if value.multiscale else value.data, axes)
    if not hasattr(value, "symbol"):
        kind = type(value).__name__
        raise InputError(f"{value.name} is a {kind} layer: give a Labels or a Points layer.")
    letters = letters_of(value, axes)
    if len(letters) != value.ndim:
        raise InputError(
            f"{value.name} has points of {value.ndim} dimensions, the image has {axes.space}."
        )
    size = dict(zip(axes.space, axes.spacing or (), strict=False))
    places = []
    for letter in axes.space:
        i, step = letters.index(letter), 1.0
        if letter in size and letter != "T":
            lengths = {
                "point": (value.scale[i], value.units[i]),
                "pixel": (size[letter], axes.unit),
            }
            converted = in_one_unit(lengths)
            if converted is not None:
                step = converted[0]["point"] / converted[0]["pixel"]
            elif any(value.scale != 1):  # in the image's unit
                step = value.scale[i] / size[letter]
        places.append(np.rint(value.data[:, i] * step).astype(int))
    outside = np.any(
        [(p < 0) | (p >= n) for p, n in zip(places, axes.space_shape, strict=True)], axis=0
    )
    if outside.any():
        raise InputError(f"{value.name}: {outside.sum()} point(s) lie outside the image.")
    marks = np.zeros(axes.space_shape, np.int32)
    numbers = (
        value.features["label"] if "label" in value.features else np.arange(len(value.data)) + 1
    )
    marks[tuple(places)] = np.asarray(numbers, np.int32)
    return marks
