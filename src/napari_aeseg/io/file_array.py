"""An image file that was opened, and arrays in files of which only parts are read."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.images.axes import Axes, read_axes
from napari_aeseg.images.memory import check_fits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Suffixes of TIFF files.
TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that was opened."""

    array: Any  # numpy array, or a `FileArray` if the file is not loaded
    axes: str | None  # one letter per dimension if the file names them
    # Size of a pixel along each axis for which the file has it.
    voxel_size: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""  # of these sizes; "" if the file does not name it, or has different ones

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
        return reading if size is None else reading.with_voxel_size(size, self.unit or "pixel")


class FileArray:
    """An array in a file; an index reads that part. It can be sent to another process.

    `path` is the folder of a zarr array, or a TIFF file, of which the first series is taken.
    `dimensions` are those of the file that this array has, or all; the others have size 1.
    """

    def __init__(self, path: Path, dimensions: tuple[int, ...] | None = None) -> None:
        self.path, self.dimensions = path, dimensions
        self._source, store = _open_array(path)
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
        return type(self), (self.path, self.dimensions)  # an open file cannot be sent

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


def _open_array(path: Path) -> tuple[Any, Any]:
    """Return an array in a file that can be indexed, and its store if it has to be closed."""
    import zarr

    if path.suffix.lower() not in TIFF_SUFFIXES:
        return zarr.open_array(str(path), mode="r"), None
    import tifffile

    with tifffile.TiffFile(path) as file:
        is_contiguous = file.series[0].dataoffset is not None
    if is_contiguous:  # not compressed: pixels lie in the file as in memory
        return tifffile.memmap(path, mode="r", series=0), None
    store = tifffile.imread(path, aszarr=True, series=0, level=0)
    return zarr.open_array(store, mode="r"), store
