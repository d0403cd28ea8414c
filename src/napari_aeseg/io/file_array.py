"""An image file that was opened, and arrays in files of which only parts are read."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.images.axes import Axes, is_reasonable, read_axes
from napari_aeseg.images.memory import check_fits
from napari_aeseg.images.units import in_one_unit


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that was opened."""

    array: Any  # numpy array, or a `FileArray` if the file is not loaded
    axes: str | None  # one letter per dimension if the file names them
    # Size of a pixel along each axis for which the file has it.
    voxel_size: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""  # of these sizes, such as "micrometer"; "" if the file names none
    notes: tuple[str, ...] = ()  # what of the file was not taken
    # The files of the set that it belongs to, if there are several.
    files: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls,
        array: Any,
        axes: str | None,
        lengths: Mapping[str, tuple[float, object]],
        notes: Sequence[str] = (),
        files: tuple[Path, ...] = (),
    ) -> ImageFile:
        """Return an image; `lengths` have the size and unit of a pixel along axes, as in the file.

        Sizes that make no sense are left out, and a note says so: the pixels can be used.
        """
        used = {a: n for a, n in lengths.items() if axes is None or a in axes}
        converted = in_one_unit(used)
        if converted is None:
            problem = "are not all in units of length"
        elif not is_reasonable(converted[0].values()):
            problem = "make no sense"
        else:
            unknown = {str(unit) for _, unit in used.values()} - {"", "pixel", "pixels"}
            if unknown and not converted[1]:
                units = sanitized(", ".join(unknown), 100)
                notes = (*notes, f"The unit of the pixel sizes ({units}) is no unit of length.")
            return cls(array, axes, *converted, tuple(notes), files)
        listing = sanitized(", ".join(f"{a} {n:g} {u}" for a, (n, u) in used.items()), 100)
        note = f"The pixel sizes in the file ({listing}) {problem}, and were ignored."
        return cls(array, axes, {}, "", (*notes, note), files)

    def spacing(self, space: str) -> tuple[float, ...] | None:
        """Return the size of a pixel along some axes; None if one of them is not known."""
        if not all(axis in self.voxel_size for axis in space):
            return None
        return tuple(self.voxel_size[axis] for axis in space)

    def read_axes(self, axes: str | None = None, voxel_size: Sequence[float] | None = None) -> Axes:
        """Return the axes and the size of voxels, as given or else as the file names them."""
        shape = np.shape(self.array)
        if axes is None:
            reading = read_axes(shape, self.axes, source="file")
        else:
            reading = read_axes(shape, axes)
        if voxel_size is not None:
            return reading.with_voxel_size(voxel_size)
        size = self.spacing(reading.spatial)
        if size is None or not is_reasonable(size):
            return reading
        return reading.with_voxel_size(size, self.unit or "pixel")


def check_number(kind: str, number: int, count: int, name: str) -> None:
    """Raise InputError unless a file has a series or resolution of this number: 0 .. count - 1."""
    if not count:
        raise InputError(f"{name} holds no image.")
    if not (type(number) is int and 0 <= number < count):
        plural = f"{kind.removesuffix('s')}s"
        some = f"one {kind}, 0" if count == 1 else f"{plural} 0 to {count - 1}"
        raise InputError(f"{kind} = {number!r}: {name} has {some}.")


def check_only_image(path: Path, resolution: int, series: int) -> None:
    """Raise InputError if another than the only image of a file is asked for."""
    check_number("series", series, 1, path.name)
    check_number("resolution", resolution, 1, path.name)


def resolution_notes(taken: int, number: int, shape: Mapping[str, int]) -> list[str]:
    """Return which resolution of an image was taken, if it has several; `shape` has its pixels."""
    if number == 1:
        return []
    size = f"{shape['Y']} x {shape['X']} pixels"
    return [f"Resolution {taken} of 0 (the finest) to {number - 1} was taken: {size}."]


def series_notes(taken: int, names: Sequence[str]) -> list[str]:
    """Return which image of a file was taken, if there are several; a name describes each."""
    if len(names) == 1:
        return []
    others = [f"{i} ({name})" for i, name in enumerate(names) if i != taken]
    more = " ..." if len(others) > 3 else ""
    text = f"Series {taken} of {len(names)} was taken ({names[taken]}), not {', '.join(others[:3])}"
    return [sanitized(f"{text}{more}.")]


class FileArray:
    """An array in a file; an index reads that part. It can be sent to another process.

    `path` is the folder of a zarr array, or a TIFF file, of which one series is taken, at one of
    its resolutions. `dimensions` are those of the file that this array has, or all; the others have
    size 1.
    """

    def __init__(
        self,
        path: Path,
        dimensions: tuple[int, ...] | None = None,
        resolution: int = 0,
        series: int = 0,
    ) -> None:
        self.path, self._arguments = path, (path, dimensions, resolution, series)
        self._source, store = _open_array(path, resolution, series)
        if store is not None:
            weakref.finalize(self, store.close)
        shape = self._source.shape
        chunks = getattr(self._source, "chunks", shape)
        self._used = tuple(range(len(shape)) if dimensions is None else dimensions)
        self.shape = tuple(int(shape[i]) for i in self._used)
        self.chunks = tuple(int(chunks[i]) for i in self._used)
        self.dtype = np.dtype(self._source.dtype)
        self.ndim, self.size = len(self.shape), math.prod(self.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments  # an open file cannot be sent

    def __getitem__(self, index: Any) -> np.ndarray:
        parts = index if isinstance(index, tuple) else (index,)
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            missing = self.ndim - len(parts) + 1
            parts = (*parts[:at], *[slice(None)] * missing, *parts[at + 1 :])
        full: list[Any] = [0] * self._source.ndim
        for i, axis in enumerate(self._used):
            full[axis] = parts[i] if i < len(parts) else slice(None)
        return np.asarray(self._source[tuple(full)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        check_fits(self.shape, self.dtype, self.path.name)  # np.asarray reads all of it
        return np.asarray(self[...], dtype)


def _open_array(path: Path, resolution: int, series: int) -> tuple[Any, Any]:
    """Return an array in a file that can be indexed, and its store if it has to be closed."""
    import zarr

    if path.is_dir():
        return zarr.open_array(str(path), mode="r"), None
    import tifffile

    with tifffile.TiffFile(path) as file:
        is_contiguous = file.series[series].dataoffset is not None
    if is_contiguous and resolution == 0:  # not compressed: pixels lie in the file as in memory
        return tifffile.memmap(path, mode="r", series=series), None
    store = tifffile.imread(path, aszarr=True, series=series, level=resolution)
    return zarr.open_array(store, mode="r"), store


def in_dask(pixels: Any) -> Any:
    """Return the same array; a `FileArray` as a dask array, of which any part can be taken."""
    if not isinstance(pixels, FileArray):
        return pixels
    import dask.array as da

    return da.from_array(pixels, chunks=pixels.chunks)


def channels_once(pixels: Any, axes: str, is_transparent: bool) -> tuple[Any, str | None]:
    """Return pixels without transparency and with one channel axis, and their axes if understood.

    S are the samples of a pixel, such as red, green and blue; the last one may be transparency.
    """
    sample = axes.find("S")
    is_transparent = sample >= 0 and is_transparent
    twice = sample >= 0 and "C" in axes
    if is_transparent or twice:
        pixels = in_dask(pixels)
        if is_transparent:  # it is no measurement
            pixels = pixels[(slice(None),) * sample + (slice(-1),)]
        if pixels.shape[sample] == 1:  # grey
            pixels, axes = pixels[(slice(None),) * sample + (0,)], axes.replace("S", "")
        elif twice:  # each channel has colours
            order = [i for i, a in enumerate(axes) if a not in "CS"]
            stacked = pixels.transpose((axes.index("C"), sample, *order))
            pixels = stacked.reshape((-1, *stacked.shape[2:]))
            axes = "C" + "".join(axes[i] for i in order)
    axes = axes.replace("S", "C").upper()
    # Other letters (I, Q) are unknown axes.
    return pixels, axes if set(axes) <= set("TCZYX") else None
