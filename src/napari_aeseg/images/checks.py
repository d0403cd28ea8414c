"""Checks of images before anything of them is read, and the axes that follow."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, letters_of_names, read_axes
from napari_aeseg.images.napari_layers import is_layer, layer_axes, layer_pixels

# Images in an error message at most.
_LISTED = 20


def is_number(value: Any) -> bool:
    """Return whether something is a finite real number."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))


def check_share(name: str, value: Any) -> None:
    """Raise InputError unless a value is a number from 0 to 1."""
    if not (is_number(value) and 0 <= value <= 1):
        raise InputError(f"{name} = {value!r}: give a number from 0 to 1.")


def full_resolution(image: Any) -> Any:
    """Return the first, finest level of a layer or multiscale image of napari; others as they are.

    A list is not taken for a multiscale image: it may be a list of slices.
    """
    if is_layer(image):
        return layer_pixels(image)
    is_multiscale = hasattr(image, "shapes") and hasattr(image, "__getitem__")
    return image[0] if is_multiscale else image


def image_axes(image: Any, axes: str | Axes | None = None, name: str = "image") -> Axes:
    """Return how the dimensions of an image are read; no pixel is read.

    The first of all checks of an image. `Axes` are returned as they are: with them, functions that
    take an image do not check its shape again. Raises InputError if the image is the name of a
    file, a list of arrays of different shapes or empty, or `axes` do not fit its shape.
    """
    if isinstance(axes, Axes):
        return axes
    if is_layer(image):
        return layer_axes(image, axes)
    check_rectangular(image, name)
    dims = getattr(image, "dims", None)  # of xarray
    if axes is None and isinstance(dims, tuple):
        letters = letters_of_names(dims, len(dims))
        return read_axes(np.shape(image), letters, source="array" if letters else "given")
    return read_axes(np.shape(image), axes)


def plain_array(image: Any, name: str = "image") -> Any:
    """Return an image as an array that can be indexed like one of numpy; lazy if it is.

    numpy, dask, zarr, HDF5 and the like stay as they are, xarray gives the array inside, and others
    that can be converted (PyTorch, pandas, Pillow, lists of rows) become numpy arrays. Raises
    InputError for those that cannot.
    """
    image = full_resolution(image)
    if hasattr(image, "dims") and hasattr(image, "data"):  # xarray
        image = image.data
    if isinstance(image, list | tuple) or _is_indexable(image):
        return image
    check_rectangular(image, name)
    refusal = f"{name} is of type {type(image).__name__}, which is no array"
    try:
        array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    except Exception as error:  # conversions may raise anything
        raise InputError(f"{refusal} ({error}). Convert it to a numpy array.") from error
    if array.dtype == object and array.ndim == 0:
        raise InputError(f"{refusal}. Convert it to a numpy array.")
    return array


def _is_indexable(image: Any) -> bool:
    """Whether an array has a dtype of numpy and takes indices as numpy does."""
    is_like_numpy = hasattr(image, "shape") and hasattr(image, "__getitem__")
    if not is_like_numpy or hasattr(image, "iloc") or hasattr(image, "toarray"):
        return False  # pandas looks up names, and parts of sparse arrays are sparse
    try:
        np.dtype(image.dtype)
    except (AttributeError, TypeError):
        return False
    return True


def check_rectangular(image: Any, name: str = "image") -> None:
    """Raise InputError for the name of a file, and for a list of arrays of different shapes."""
    if isinstance(image, str | PathLike):
        raise InputError(
            f"{str(image)!r} is the name of a file, not an image: read it first, for example with "
            "napari_aeseg.io.images.open_file."
        )
    if isinstance(image, np.ndarray) and image.dtype == object:
        image = image.tolist()
    if not isinstance(image, list | tuple):
        return
    try:
        np.shape(image)
    except ValueError as error:
        shapes: list[str] = []
        for part in image:
            try:
                shapes.append(str(np.shape(part)))
            except ValueError:
                shapes.append("uneven")
        different = " and ".join(dict.fromkeys(shapes))
        raise InputError(
            f"{name} is a list of arrays of different shapes, {different}: pass them as separate "
            "images, or crop them to one shape."
        ) from error


def check_not_masked(image: Any, name: str) -> None:
    """Raise InputError for masked pixels: their values are unknown."""
    parts = image if isinstance(image, list | tuple) else [image]
    masked = sum(int(np.ma.getmaskarray(part).sum()) for part in parts if np.ma.is_masked(part))
    if masked:
        raise InputError(
            f"{name} has {masked} masked pixel(s): fill them, for example with "
            "image.filled(image.mean()), or crop them away."
        )


def check_compatible(
    images: Sequence[Any],
    axes: Sequence[str | Axes | None],
    names: Sequence[str],
    one_dtype: bool = False,
) -> None:
    """Raise InputError unless images have equal numbers of channels, and one dtype if asked for.

    No pixel is read. Dtypes must be equal if intensities will have one range.
    """
    readings = [image_axes(*given) for given in zip(images, axes, names, strict=True)]
    dtypes = [np.dtype(getattr(i, "dtype", None) or np.asarray(i).dtype) for i in images]
    advice = {}
    if len({reading.channels for reading in readings}) > 1:
        advice["numbers of channels"] = "name the axes if they were misread"
    if one_dtype and len({dtype.newbyteorder("=") for dtype in dtypes}) > 1:
        advice["dtypes"] = "convert them to one"
    if not advice:
        return
    lines = [
        f"{name}: shape {reading.shape}, {dtype}, {reading.channels} "
        f"channel{'' if reading.channels == 1 else 's'} ({reading.letters})"
        for name, reading, dtype in zip(names, readings, dtypes, strict=True)
    ]
    more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    listing = "\n  ".join([*lines[:_LISTED], *more])
    raise InputError(
        f"The images have different {' and '.join(advice)}: {' and '.join(advice.values())}, or "
        f"train on them one by one.\n  {listing}"
    )
