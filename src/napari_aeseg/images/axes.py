"""Axes of an image: one letter per dimension, and the size of a voxel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from napari_aeseg.errors import InputError

_LETTERS = "TCZYX"
# Names of axes that are understood besides their letters.
_AXIS_NAMES = {"TIME": "T", "CHANNEL": "C", "CHANNELS": "C"}
_PLURAL = {"T": "time points", "C": "channels", "Z": "slices"}
# A longer axis without a name is taken for slices.
_MOST_CHANNELS = 5
# Sides of a voxel that differ by a larger factor are a mistake.
_LARGEST_RATIO = 10_000

Source = Literal["given", "file", "layer", "array", "shape"]
_SOURCES: dict[Source, str] = {
    "given": "as given",
    "file": "from the file",
    "layer": "from the layer",
    "array": "from the array",
    "shape": "inferred from the shape",
}


@dataclass(frozen=True, slots=True)
class Axes:
    """How the dimensions of an image are read."""

    letters: str  # one per dimension: T time, C channel, Z slice, Y row, X column
    shape: tuple[int, ...]
    source: Source = "given"  # of the letters
    # Along each of Z, Y and X, in the order of the image.
    voxel_size: tuple[float, ...] | None = None
    unit: str = "pixel"  # of `voxel_size`; "pixel" when it is not known

    @property
    def inferred(self) -> bool:
        """Whether the letters are a guess from the shape."""
        return self.source == "shape"

    @property
    def space(self) -> str:
        """The axes that labels have: all but the channels."""
        return self.letters.replace("C", "")

    @property
    def space_shape(self) -> tuple[int, ...]:
        """Shape of the labels."""
        return tuple(n for a, n in zip(self.letters, self.shape, strict=True) if a != "C")

    @property
    def ordered_shape(self) -> tuple[int, ...]:
        """Pixels along each axis of the labels, in the order T, Z, Y, X."""
        return tuple(self.shape[self.letters.index(a)] for a in "TZYX" if a in self.letters)

    @property
    def channels(self) -> int:
        """Number of channels, 1 without a channel axis."""
        return self.shape[self.letters.index("C")] if "C" in self.letters else 1

    @property
    def spatial(self) -> str:
        """Those of Z, Y and X that the image has, in its order."""
        return "".join(a for a in self.letters if a in "ZYX")

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Size of a voxel along each axis of the labels, 1 for T; None when it is not known."""
        if self.voxel_size is None:
            return None
        size = dict(zip(self.spatial, self.voxel_size, strict=True))
        return tuple(size.get(a, 1.0) for a in self.space)

    @property
    def slice_distance(self) -> float:
        """Distance of slices in pixels of a slice; 1 without slices or when it is not known."""
        if self.voxel_size is None or "Z" not in self.letters:
            return 1.0
        size = dict(zip(self.spatial, self.voxel_size, strict=True))
        return 2 * size["Z"] / (size["Y"] + size["X"])

    def with_voxel_size(
        self, voxel_size: Sequence[float], unit: str = "pixel", name: str = "an image"
    ) -> Axes:
        """Return the same axes with the size of a voxel; see `checked_voxel_size`."""
        size = checked_voxel_size(voxel_size, self.letters, name)
        return replace(self, voxel_size=size, unit=unit)

    def to_image_order(self, array: np.ndarray) -> np.ndarray:
        """Bring (..., *space) in the order T, Z, Y, X to the order of the image; a view."""
        in_order = [a for a in "TZYX" if a in self.letters]
        first = array.ndim - len(in_order)
        # dask returns the same array for a tuple that changes nothing, but not for a list.
        return array.transpose(
            (*range(first), *(first + in_order.index(a) for a in self.letters if a != "C"))
        )

    def __str__(self) -> str:
        size = dict(zip(self.letters, self.shape, strict=True))
        parts = [
            f"{size[a]} {_PLURAL[a] if size[a] != 1 else _PLURAL[a][:-1]}"
            for a in "TCZ"
            if a in size
        ]
        parts.append(f"{size['Y']} x {size['X']} pixels")
        text = f"{', '.join(parts)} ({self.letters}, {_SOURCES[self.source]})"
        if self.voxel_size is None:
            return text
        element = "voxels" if "Z" in self.letters else "pixels"
        unit = "" if self.unit == "pixel" else f" {self.unit}"
        return f"{text}, {element} of {' x '.join(f'{n:.4g}' for n in self.voxel_size)}{unit}"


def is_reasonable(lengths: Iterable[float]) -> bool:
    """Return whether sides of a voxel are above 0, and differ by a factor of 10,000 at most."""
    sides = list(lengths)
    valid = all(0 < n < math.inf for n in sides)
    return not sides or (valid and max(sides) / _LARGEST_RATIO <= min(sides))


def checked_voxel_size(
    voxel_size: Sequence[float], letters: str | None = None, name: str = "an image"
) -> tuple[float, ...]:
    """Return the size of a voxel as plain numbers, the only check of it in this package.

    Give one number above 0 for each of Z, Y and X that the image has, in its order. A number for T
    may be among them if the `letters` of the image are given, and is left out. Without them, two or
    three numbers are accepted. Raises InputError for anything else, and for sides that differ by a
    factor of more than 10,000.
    """
    size = np.array(voxel_size, dtype=object)
    valid = size.ndim == 1 and all(
        isinstance(n, int | float | np.number) and not isinstance(n, bool) and 0 < n < np.inf
        for n in size
    )
    with_time = [a for a in letters or "" if a != "C"]
    if valid and "T" in with_time and len(size) == len(with_time):
        size = np.delete(size, with_time.index("T"))
    if not valid or not 2 <= len(size) <= 3:
        raise InputError(
            f"voxel_size = {voxel_size!r}: give one number above 0 for each of Z, Y and X that the "
            "image has, in its order."
        )
    if not is_reasonable(size):
        raise InputError(
            f"voxel_size = {voxel_size!r}: the sides of a voxel differ by a factor of more than "
            f"{_LARGEST_RATIO:,}. Give all in the same unit."
        )
    spatial = [a for a in with_time if a != "T"]
    if letters is not None and len(size) != len(spatial):
        raise InputError(
            f"voxel_size = {voxel_size!r} does not fit {name} read as {letters}: give "
            f"{len(spatial)} numbers, for {', '.join(spatial)} in this order."
        )
    return tuple(float(n) for n in size)


def read_axes(
    shape: Sequence[int],
    axes: str | None = None,
    labels: Sequence[str] | None = None,
    source: Source = "given",
) -> Axes:
    """Return the axes of an image of this shape, inferred if neither `axes` nor `labels` name them.

    `labels` are the names that the layer of a viewer has. They count only when each is one of the
    letters, or "time" or "channel"; otherwise they are ignored. `source` tells where `axes` are
    from. Raises InputError if `axes` do not fit the shape, or the shape has less than two or more
    than five dimensions, or one of size zero or of unknown size.
    """
    if any(n != n for n in shape):  # NaN: dask does not know it
        raise InputError(
            f"The image has the shape {tuple(shape)}, which is not known yet: call "
            "compute_chunk_sizes() of the dask array first."
        )
    shape = tuple(int(n) for n in shape)
    if not 2 <= len(shape) <= 5:
        raise InputError(
            f"An image of shape {shape} has {len(shape)} dimension(s); 2 to 5 are understood "
            "(rows and columns, with channels, slices or time points)."
        )
    if 0 in shape:
        raise InputError(f"The image of shape {shape} is empty: one of its dimensions has size 0.")
    if axes is not None:
        letters = letters_of_names(str(axes), len(shape))
        if letters is None:
            raise InputError(
                f"axes={axes!r} does not fit an image of shape {shape}: give one letter for each "
                f"of its {len(shape)} dimensions, each out of T, C, Z, Y, X and used once, Y and X "
                f"among them, for example {_inferred(shape)!r}."
            )
        return Axes(letters, shape, source)
    letters = letters_of_names(labels or (), len(shape))
    if letters is not None:
        return Axes(letters, shape, "layer")
    return Axes(_inferred(shape), shape, "shape")


def letters_of_names(names: Sequence[Any], ndim: int) -> str | None:
    """Return one letter for each name of an axis; None unless all are understood."""
    letters = [_AXIS_NAMES.get(str(name).upper(), str(name).upper()) for name in names]
    understood = {"Y", "X"} <= set(letters) <= set(_LETTERS)
    return "".join(letters) if understood and len(letters) == len(set(letters)) == ndim else None


def _inferred(shape: tuple[int, ...]) -> str:
    # A plane of so few columns is never meant.
    few = len(shape) > 2 and shape[-1] <= _MOST_CHANNELS
    if few and min(shape[-3:-1]) > shape[-1]:
        return {3: "YXC", 4: "ZYXC", 5: "TZYXC"}[len(shape)]
    if len(shape) == 3:
        return "CYX" if shape[0] <= _MOST_CHANNELS and shape[0] < min(shape[1:]) else "ZYX"
    if len(shape) == 4:
        return "CZYX" if shape[0] <= _MOST_CHANNELS or shape[0] <= shape[1] else "ZCYX"
    return {2: "YX", 5: "TCZYX"}[len(shape)]


def channels_first(image: Any, axes: Axes) -> Any:
    """Return `image` as (C, *space), space in the order T, Z, Y, X, without copying."""
    order = [axes.letters.index(a) for a in "CTZYX" if a in axes.letters]
    moved = image.transpose(order)
    return moved if "C" in axes.letters else moved[np.newaxis]


def common_voxel_size(images: Sequence[Axes]) -> tuple[float, ...] | None:
    """Return the voxel size that all images have; None if it is unknown, or differs."""
    sizes = {axes.voxel_size for axes in images}
    return sizes.pop() if len(sizes) == 1 else None
