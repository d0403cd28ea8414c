"""Whether images can be worked on together, said with what differs."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import read_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

# Images that are listed at most.
_LISTED = 20


def full_resolution(image: Any) -> Any:
    """Return the first, finest level of an image of several, as napari keeps them; others as is.

    A plain list is no image of several levels: it may be slices.
    """
    several = hasattr(image, "shapes") and hasattr(image, "__getitem__")
    return image[0] if several else image


def check_rectangular(image: Any, name: str = "image") -> None:
    """Raise InputError for the name of a file, and for a list of arrays of different shapes.

    Examples
    --------
    >>> check_rectangular([np.eye(2), np.eye(3)])
    Traceback (most recent call last):
    ...
    napari_aeseg.errors.InputError: image is a list of arrays of different shapes, (2, 2) and (3, 3): give each as an image of its own, or crop them alike.
    """  # noqa: E501 - as it is said
    if isinstance(image, str | PathLike):
        raise InputError(
            f"{str(image)!r} is the name of a file, not an image: read it first, as with open_file "
            "of napari_aeseg.io.images."
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
        kinds = " and ".join(dict.fromkeys(shapes))
        raise InputError(
            f"{name} is a list of arrays of different shapes, {kinds}: give each as an image of "
            "its own, or crop them alike."
        ) from error


def check_compatible(
    images: Sequence[Any],
    axes: Sequence[str | None],
    names: Sequence[str],
    one_dtype: bool = False,
) -> None:
    """Raise InputError unless images have equal numbers of channels, and one dtype if need be.

    Parameters
    ----------
    images : sequence of array_like
        Nothing of them is read.
    axes : sequence of (str or None)
        One letter per dimension; inferred where not given.
    names : sequence of str
    one_dtype : bool
        Whether dtypes must be the same, as intensities will have one range.

    Examples
    --------
    >>> mixed = [np.eye(4), np.eye(4, dtype=np.uint8)]
    >>> check_compatible(mixed, [None, None], ["a", "b"])
    >>> check_compatible(mixed, [None, None], ["a", "b"], one_dtype=True)
    Traceback (most recent call last):
    ...
    napari_aeseg.errors.InputError: The images have different dtypes: convert them to one, or train on them one by one.
      a: shape (4, 4), float64, 1 channel (YX)
      b: shape (4, 4), uint8, 1 channel (YX)
    """  # noqa: E501 - as it is said
    channels, dtypes, lines = set(), set(), []
    for image, letters, name in zip(images, axes, names, strict=True):
        check_rectangular(image, name)
        shape = np.shape(image)
        reading = read_axes(shape, letters)
        number = shape[reading.letters.index("C")] if "C" in reading.letters else 1
        dtype = np.dtype(getattr(image, "dtype", None) or np.asarray(image).dtype)
        channels.add(int(number))
        dtypes.add(dtype.newbyteorder("="))
        plural = "" if number == 1 else "s"
        lines.append(
            f"{name}: shape {shape}, {dtype}, {number} channel{plural} ({reading.letters})"
        )
    differ = [
        ("numbers of channels", "name the axes if they were misread") * (len(channels) > 1),
        ("dtypes", "convert them to one") * (one_dtype and len(dtypes) > 1),
    ]
    if not any(differ):
        return
    what, advice = zip(*[pair for pair in differ if pair], strict=True)
    more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    listing = "\n  ".join([*lines[:_LISTED], *more])
    raise InputError(
        f"The images have different {' and '.join(what)}: {' and '.join(advice)}, or train on them "
        f"one by one.\n  {listing}"
    )
