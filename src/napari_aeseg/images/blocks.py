"""Blocks: parts of an image that are worked on one by one, and images that are read that way."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, channels_first
from napari_aeseg.images.checks import check_not_masked, image_axes
from napari_aeseg.images.intensity import (
    Image,
    IntensityRange,
    as_array,
    check_precision,
    float_pixels,
)
from napari_aeseg.progress import raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from napari_aeseg.progress import StopFlag

# Windows along each side of a plane, and pixels along each side of one, from which intensities are
# known.
_WINDOWS, _WINDOW = 8, 128


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an image.

    Parameters
    ----------
    index : tuple of int
        Which block it is along each space axis.
    inner : tuple of slice
        Pixels that it answers for; the blocks' inner parts cover the image exactly once.
    outer : tuple of slice
        Pixels that are read: the inner part and a margin, within the image.
    """

    index: tuple[int, ...]
    inner: tuple[slice, ...]
    outer: tuple[slice, ...]

    @property
    def keep(self) -> tuple[slice, ...]:
        """Where the inner part lies in what is read."""
        return tuple(
            slice(i.start - o.start, i.stop - o.start)
            for i, o in zip(self.inner, self.outer, strict=True)
        )

    @property
    def name(self) -> str:
        """What files of it are called."""
        return "_".join(map(str, self.index))


def plan_blocks(
    shape: Sequence[int], size: Sequence[int], margin: Sequence[int], align: Sequence[int]
) -> list[Block]:
    """Cut an image into blocks with margins, in raster order.

    Parameters
    ----------
    shape : sequence of int
        Pixels along each space axis.
    size : sequence of int
        Of a block, rounded up to multiples of `align`.
    margin : sequence of int
        Read on each side beyond the inner part, rounded up likewise.
    align : sequence of int
        Blocks begin at multiples of this, so that what is pooled and cut into patches is the same
        in every plan.

    Examples
    --------
    >>> [b.outer for b in plan_blocks((10,), (4,), (2,), (4,))]
    [(slice(0, 8, None),), (slice(0, 10, None),), (slice(4, 10, None),)]
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
    """An image that is never read whole.

    Parameters
    ----------
    array : array_like
        numpy, dask or zarr array of any real dtype.
    axes : Axes
    name : str
        What errors call the image.
    intensity : IntensityRange
        What becomes 0 and 1.
    parts : tuple of (str or None)
        What tells the image from others: a digest of each part that was looked at, None where one
        was left out. Of a small image these are all of it; a change elsewhere in a large one does
        not show.
    """

    array: Any
    axes: Axes
    name: str
    intensity: IntensityRange
    parts: tuple[str | None, ...] = ()
    _ordered: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ordered", _in_order(self.array, self.axes))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.array, self.axes, self.name, self.intensity, self.parts)

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
        look: bool = False,
        stop: StopFlag | None = None,
    ) -> BlockImage:
        """Look at an image here and there, to know its intensities.

        Parameters
        ----------
        skip : bool
            Whether parts that cannot be read, or have NaN or infinite values, are passed over.
        leave_out : collection of int
            Parts that earlier work passed over, to be passed over again: intensities are as they
            were then.
        look : bool
            Whether to look at the image although its intensities are known.
        stop : threading.Event or alike, optional
            Looked at before each part.

        Raises
        ------
        InputError
            If the axes do not fit, the image is complex or not numeric, or a part that is looked at
            cannot be read or has NaN or infinite values.
        StoppedError
            When asked to stop.
        """
        reading = image_axes(array, axes, name)
        array = array if hasattr(array, "shape") else as_array(array, name)
        parts: list[str | None] = []
        if intensity is None or look:
            ordered = _in_order(array, reading)
            flat, failed = [], None
            for number, part in enumerate(_windows(ordered.shape[1:])):
                raise_if_stopped(stop, "read")
                parts.append(None)
                if skip and number in leave_out:
                    continue
                try:
                    window = _read(ordered, part, reading, name)
                except InputError as error:
                    if not skip:
                        raise
                    failed = error
                else:
                    parts[-1] = _digest(window)
                    flat.append(window.reshape(len(window), -1))
            if not flat:
                raise failed or InputError(f"{name}: all parts are left out.")
        if intensity is None:
            intensity = IntensityRange.of(np.concatenate(flat, axis=1))
            check_precision(getattr(array, "dtype", np.float64), intensity, name)
        return cls(array, reading, name, intensity, tuple(parts))

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each space axis, in the order T, Z, Y, X."""
        return tuple(int(n) for n in self._ordered.shape[1:])

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self._ordered.shape[0])

    def raw(self, part: tuple[slice, ...]) -> np.ndarray:
        """Return the (C, *space) pixels of a part, as they are but for the type."""
        return _read(self._ordered, part, self.axes, self.name)

    def scaled(self, raw: np.ndarray) -> Image:
        """Return raw pixels of a part as an image of its own, scaled as the whole is."""
        letters = "".join(a for a in "TZYX" if a in self.axes.letters)
        axes = Axes("C" + letters, raw.shape, self.axes.source)
        return Image(self.intensity.apply(raw), axes, self.intensity, self.name)


def _in_order(array: Any, axes: Axes) -> Any:
    """(C, *space), space in the order T, Z, Y, X, of an array that may be on disk."""
    return channels_first(array, axes) if hasattr(array, "transpose") else _OnDisk(array, axes)


@dataclass(frozen=True, slots=True)
class _OnDisk:
    """A zarr array, or another that is only read by slices, seen as (C, *space).

    Through dask, each read would take 0.15 s besides.
    """

    array: Any
    axes: Axes

    @property
    def shape(self) -> tuple[int, ...]:
        order = [self.axes.letters.index(a) for a in "CTZYX" if a in self.axes.letters]
        found = tuple(self.array.shape[i] for i in order)
        return found if "C" in self.axes.letters else (1, *found)

    def __getitem__(self, part: tuple[slice, ...]) -> np.ndarray:
        """Read a part, one slice for each axis of the shape."""
        present = [a for a in "CTZYX" if a in self.axes.letters or a == "C"]
        along = dict(zip(present, part, strict=True))
        found = np.asarray(self.array[tuple(along[a] for a in self.axes.letters)])
        return np.asarray(channels_first(found, self.axes))


def _read(ordered: Any, part: tuple[slice, ...], axes: Axes, name: str) -> np.ndarray:
    where = ", ".join(
        f"{a} {s.start} to {s.stop}"
        for a, s in zip((a for a in "TZYX" if a in axes.letters), part, strict=True)
    )
    try:
        found = ordered[(slice(None), *part)]
        if hasattr(found, "compute"):
            found = found.compute(scheduler=_scheduler())
        check_not_masked(found, f"{name} ({where})")
        found = np.asarray(found)
    except (InputError, MemoryError):  # another time, or in smaller blocks, it can be read
        raise
    except Exception as error:  # whatever storage raises
        raise InputError(f"{name}: the part {where} cannot be read ({error}).") from error
    return float_pixels(found, f"{name} ({where})")


def _digest(pixels: np.ndarray) -> str:
    return blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).hexdigest()


def _scheduler() -> str | None:
    """What dask reads with: its choice, but on a worker of a cluster not the cluster again."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return None
    return "threads"


def _windows(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Parts spread over an image, all of a small one; no matter how it is cut into blocks."""
    if math.prod(shape) <= (_WINDOWS * _WINDOW) ** 2:
        sides = ([slice(i, min(i + _WINDOW, n)) for i in range(0, n, _WINDOW)] for n in shape)
        return list(product(*sides))
    # Of a stack, single planes: what is read grows with the axes as little as possible.
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
