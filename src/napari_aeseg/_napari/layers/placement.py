"""How labels and pictures lie on an Image layer.

napari aligns the axes of layers from the last one. Labels have no channel axis: where the image has
it before another axis, they get an axis of one step instead, as long as all channels. They lie on
every channel then, and the other axes on those of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import Affine

from napari_aeseg.errors import InputError
from napari_aeseg.images.napari_layers import letters_of, level_factors

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from napari_aeseg.images.axes import Axes
    from napari_aeseg.regions.hierarchy import Hierarchy


def placed_on(
    layer: Image,
    axes: Axes,
    array: Any,
    letters: str | None = None,
    corner: Mapping[str, float] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Return an array, or levels, and the arguments of a layer with which it lies on an image.

    Parameters
    ----------
    layer : napari.layers.Image
    axes : Axes
        Of the image, at any of its resolutions.
    array : array or list of arrays
        Labels or pixels; it may have more axes, of colours, after those of `letters`.
    letters : str, optional
        Axes of the array, in the order of the image; by default those of labels.
    corner : mapping, optional
        Pixel of the image at which the array begins, for each letter; by default the first.

    Returns
    -------
    array or list of arrays
        The same values, a view, with an axis of one step for each of the image's axes that lies
        between those of the array.
    dict
        scale, translate, rotate, shear, affine, units and axis_labels.
    """
    missing, arguments = _place(layer, axes, letters or axes.space, corner or {})
    levels = array if isinstance(array, list) else [array]
    for i in missing:
        levels = [level[(slice(None),) * i + (None,)] for level in levels]
    return (levels if isinstance(array, list) else levels[0]), arguments


def arguments_on(layer: Image, axes: Axes, letters: str) -> dict[str, Any]:
    """Return the arguments of `placed_on` for an array with these axes."""
    letters = "".join(a for a in letters if a in letters_of(layer, axes))
    return _place(layer, axes, letters, {})[1]


def lies_at(layer: Layer, arguments: dict[str, Any]) -> bool:
    """Whether a layer lies where these arguments put it."""
    if layer.ndim != len(arguments["scale"]):
        return False
    own = {name: getattr(layer, name) for name in ("scale", "translate", "rotate", "affine")}
    own |= {"shear": _shear_matrix(layer), "units": layer.units}
    return own["units"] == arguments["units"] and np.allclose(_matrix(own), _matrix(arguments))


def move(layer: Layer, arguments: dict[str, Any]) -> None:
    """Move a layer to where these arguments would have put it."""
    for name, value in arguments.items():
        setattr(layer, name, value)


def _matrix(arguments: dict[str, Any]) -> np.ndarray:
    """From pixels to the world."""
    names = ("scale", "translate", "rotate", "shear")
    to_physical = Affine(**{name: arguments[name] for name in names}).affine_matrix
    matrix: np.ndarray = np.asarray(arguments["affine"]) @ to_physical
    return matrix


def label_place(place: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """Return a pixel of a layer of labels without the axis that stands in for channels."""
    if len(place) == len(axes.space) or len(place) != len(axes.letters):
        return place
    return tuple(i for i, letter in zip(place, axes.letters, strict=True) if letter != "C")


def part_in_view(viewer: Viewer, layer: Labels, axes: Axes) -> tuple[slice, ...] | None:
    """Return the part of labels that is read for the view; None where a coarser level is."""
    if layer.data_level or viewer.dims.ndisplay > 2:
        return None
    before = viewer.dims.ndim - layer.ndim
    shown = [axis - before for axis in viewer.dims.displayed]
    here = np.round(layer.world_to_data(viewer.dims.point)).astype(int)
    first = here.clip(0, np.array(layer.data.shape) - 1)
    last = first.copy()
    first[shown], last[shown] = layer.corner_pixels[:, shown]
    sides = [slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]
    if len(sides) > len(axes.space):
        sides = [s for s, a in zip(sides, axes.letters, strict=True) if a != "C"]
    return tuple(sides)


def layer_place(place: tuple[int, ...], shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """Return a pixel of labels in a layer of them of this shape; the inverse of `label_place`."""
    if len(shape) == len(place):
        return place
    channel = axes.letters.index("C") - (len(axes.letters) - len(shape))
    return (*place[:channel], 0, *place[channel:])


def _place(
    layer: Image, axes: Axes, shown: str, corner: Mapping[str, float]
) -> tuple[list[int], dict[str, Any]]:
    """Return which axes of the new layer have one step, and its arguments."""
    letters, size = letters_of(layer, axes), dict(zip(axes.letters, axes.shape, strict=True))
    first = min(letters.index(letter) for letter in shown)
    missing = [i for i in range(first, layer.ndim) if letters[i] not in shown]
    factors = level_factors(layer, axes)
    pixel = np.array([factors[letter] for letter in letters])  # in pixels of the layer
    start = np.array([corner.get(letter, 0) for letter in letters], float)
    scale, rotate, shear = np.array(layer.scale), np.asarray(layer.rotate), _shear_matrix(layer)
    to_physical = Affine(rotate=rotate, scale=scale, shear=shear, translate=layer.translate)
    scale *= pixel
    for i in missing:
        start[i] = (size[letters[i]] - 1) / 2  # the middle of the axis that one step covers
        scale[i] *= size[letters[i]]
    start = (start + 0.5) * pixel - 0.5  # coordinates are those of centres
    matrix, kept = np.asarray(layer.affine.affine_matrix), slice(first, None)
    return [i - first for i in missing], {
        "scale": scale[kept],
        "translate": np.asarray(to_physical(start))[kept],
        "rotate": rotate[kept, kept],
        "shear": shear[kept, kept],
        "affine": matrix[kept, kept],
        "units": tuple(layer.units[kept]),
        "axis_labels": tuple(layer.axis_labels[kept]),
    }


def _shear_matrix(layer: Layer) -> np.ndarray:
    """Return the shear as a matrix; napari gives the upper triangle as a vector where it can."""
    shear = np.asarray(layer.shear, dtype=float)
    if shear.ndim == 2:
        return shear
    matrix = np.eye(layer.ndim)
    matrix[np.triu_indices(layer.ndim, 1)] = shear
    return matrix


def checked_place(hierarchy: Hierarchy, place: Sequence[int]) -> tuple[int, ...]:
    """Return `label_place` in a hierarchy; raise InputError outside its image."""
    shape, place = hierarchy.patches.shape, label_place(tuple(place), hierarchy.axes)
    is_inside = len(place) == len(shape)
    if not is_inside or not all(0 <= i < n for i, n in zip(place, shape, strict=True)):
        raise InputError(f"place = {place}: give a pixel of an image of shape {shape}.")
    return place
