"""Images that are read and processed block by block."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from typing import Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, channels_first
from napari_aeseg.images.checks import check_not_masked, image_axes, plain_array
from napari_aeseg.images.intensity import (
    Image,
    IntensityRange,
    as_array,
    check_precision,
    float_pixels,
)
from napari_aeseg.progress import StopFlag, raise_if_stopped

# Windows along each side of a plane, and pixels along each side of a window: intensities are
# measured in these.
_WINDOWS, _WINDOW = 8, 128  # a million pixels are enough for percentiles


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an image."""

    index: tuple[int, ...]  # which block it is along each space axis
    # Pixels of its results: these parts of all blocks cover the image exactly once.
    inner: tuple[slice, ...]
    outer: tuple[slice, ...]  # pixels that are read: the inner part and a margin, within the image

    @property
    def keep(self) -> tuple[slice, ...]:
        """Place of the inner part in the pixels that are read."""
        return tuple(
            slice(i.start - o.start, i.stop - o.start)
            for i, o in zip(self.inner, self.outer, strict=True)
        )

    @property
    def name(self) -> str:
        """Name of its files."""
        return "_".join(map(str, self.index))


def plan_blocks(
    shape: Sequence[int], size: Sequence[int], margin: Sequence[int], align: Sequence[int]
) -> list[Block]:
    """Cut an image into blocks with margins, in raster order.

    The size of a block and its margin on each side are rounded up to multiples of `align`, at which
    blocks begin: pooling windows and patches are the same for all sizes of blocks. One number for
    each space axis.
    """
    size, margin = (
        [-(-n // a) * a for n, a in zip(given, align, strict=True)] for given in (size, margin)
    )
    blocks = []
    for index in product(*(range(-(-n // s)) for n, s in zip(shape, size, strict=True))):
        inner = [
            slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, size, shape, strict=True)
        ]
        outer = [
            slice(max(s.start - m, 0), min(s.stop + m, n))
            for s, m, n in zip(inner, margin, shape, strict=True)
        ]
        blocks.append(Block(index, tuple(inner), tuple(outer)))
    return blocks


@dataclass(frozen=True)
class BlockImage:
    """An image that is never read whole."""

    array: Any  # numpy, dask or zarr array of any real dtype
    axes: Axes
    name: str
    intensity: IntensityRange  # intensities that become 0 and 1
    # Of the windows in which intensities were measured, None where one was left out. In a large
    # image, changes between the windows are not noticed.
    digests: tuple[str | None, ...] = ()

    @classmethod
    def of(
        cls,
        array: Any,
        axes: str | Axes | None = None,
        name: str = "image",
        intensity: IntensityRange | None = None,
        *,
        skip: bool = False,
        leave_out: Collection[int] = (),
        with_digests: bool = False,
        stop: StopFlag | None = None,
    ) -> BlockImage:
        """Measure the intensities of an image in windows spread over it, unless they are given.

        With `skip`, windows that cannot be read, or have NaN or infinite values, are left out, and
        so are the windows `leave_out`, which an earlier run left out: intensities are the same as
        then. `with_digests` reads the windows although the intensities are given. Raises InputError
        if the axes do not fit, the image is complex or not numeric, or a window cannot be read.
        """
        reading = image_axes(array, axes, name)
        array = plain_array(array, name)
        array = array if hasattr(array, "shape") else as_array(array, name)
        digests: tuple[str | None, ...] = ()
        if intensity is None or with_digests:
            windows = _read_windows(array, reading, name, stop, leave_out, skip=skip)
            digests = tuple(
                None if w is None else blake2b(w.tobytes(), digest_size=8).hexdigest()
                for w in windows
            )
        if intensity is None:
            flat = [w.reshape(len(w), -1) for w in windows if w is not None]
            intensity = IntensityRange.of(np.concatenate(flat, axis=1))
            check_precision(getattr(array, "dtype", np.float64), intensity, name)
        return cls(array, reading, name, intensity, digests)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each space axis, in the order T, Z, Y, X."""
        return self.axes.ordered_shape

    def raw(self, part: tuple[slice, ...]) -> np.ndarray:
        """Return the (C, *space) pixels of a part in their own intensities, as float."""
        return _read(self.array, part, self.axes, self.name)

    def scaled(self, raw: np.ndarray) -> Image:
        """Return raw pixels of a part as an image, scaled as the whole image is."""
        letters = "".join(a for a in "TZYX" if a in self.axes.letters)
        axes = Axes("C" + letters, raw.shape, self.axes.source)
        return Image(self.intensity.apply(raw), axes, self.intensity, self.name)


def _read(array: Any, part: tuple[slice, ...], axes: Axes, name: str) -> np.ndarray:
    """Read a part of an image, one slice for each of T, Z, Y and X, as (C, *space) floats."""
    slice_of = dict(zip((a for a in "TZYX" if a in axes.letters), part, strict=True))
    place = ", ".join(f"{a} {s.start} to {s.stop}" for a, s in slice_of.items())
    try:
        pixels = array[tuple(slice_of.get(a, slice(None)) for a in axes.letters)]
        if hasattr(pixels, "compute"):
            pixels = pixels.compute(scheduler=_scheduler())
        check_not_masked(pixels, f"{name} ({place})")
        pixels = channels_first(np.asarray(pixels), axes)
    except (InputError, MemoryError):  # it is not damaged: smaller blocks may fit into memory
        raise
    except Exception as error:  # storage may raise anything
        raise InputError(f"{name}: the part {place} cannot be read ({error}).") from error
    return float_pixels(pixels, f"{name} ({place})")


def _read_windows(
    array: Any,
    axes: Axes,
    name: str,
    stop: StopFlag | None,
    leave_out: Collection[int],
    *,
    skip: bool,
) -> list[np.ndarray | None]:
    """Read windows spread over an image; None for those that are left out."""
    windows: list[np.ndarray | None] = []
    unreadable: InputError | None = None
    for number, part in enumerate(_windows(axes.ordered_shape)):
        raise_if_stopped(stop, "read")
        windows.append(None)  # each window keeps its number, by which it is left out
        if skip and number in leave_out:
            continue
        try:
            windows[-1] = _read(array, part, axes, name)
        except InputError as error:
            if not skip:
                raise
            unreadable = error
    if all(window is None for window in windows):
        raise unreadable or InputError(f"{name}: all parts are left out.")
    return windows


def _scheduler() -> str | None:
    """The scheduler that dask reads with: on a worker of a cluster, not the cluster again."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:  # this process is no worker
        return None
    return "threads"


def _windows(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Windows spread over an image; those of a small image cover it. Blocks do not matter."""
    if math.prod(shape) <= (_WINDOWS * _WINDOW) ** 2:
        sides = ([slice(i, min(i + _WINDOW, n)) for i in range(0, n, _WINDOW)] for n in shape)
        return list(product(*sides))
    # Single planes of a stack: the pixels to read grow with the axes as little as possible.
    along = [
        [slice(i, i + 1) for i in np.unique(np.linspace(0, n - 1, _WINDOWS).round().astype(int))]
        for n in shape[:-2]
    ]
    number = max(2, _WINDOWS // 2 ** len(along))
    for n in shape[-2:]:
        size = min(n, _WINDOW)
        starts = np.unique(np.linspace(0, n - size, number).round().astype(int))
        along.append([slice(i, i + size) for i in starts])
    return [tuple(slice(int(s.start), int(s.stop)) for s in part) for part in product(*along)]
