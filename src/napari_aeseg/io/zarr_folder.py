"""A folder of zarr arrays that is written as a whole or not at all, and checked when it is read."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from napari_aeseg.errors import HierarchyFileError, InputError, sanitized
from napari_aeseg.images.memory import free_memory
from napari_aeseg.io.atomic_write import remove_folder, temporary_name, with_file_name

#: The attribute of the zarr group that holds everything that is no array.
KEY = "napari-aeseg"
#: Raised whenever an older package could misread the folder.
FORMAT_VERSION = 1
#: What was done by hand in the window, beside the arrays.
WORK_FILE = "work.npz"
# The metadata file of a zarr group, and files that file managers leave in any folder.
_GROUP_FILE, _FOREIGN_FILES = "zarr.json", {".DS_Store", "Thumbs.db", "desktop.ini"}
# Numbers in a chunk.
_CHUNK = 2**20
_EXPECTED = "Expected a *.aeseg.zarr folder written by napari-aeseg (Hierarchy.save)."
_COPY_AGAIN = "Copy the folder again, or build the hierarchy from the image again."


class ZarrFolderWriter:
    """Writes a folder under a temporary name, and renames it at the end.

    A folder that this class wrote is replaced. One that holds others than the `members`, or that
    this class did not write, is refused with InputError.
    """

    def __init__(self, path: Path, members: set[str]) -> None:
        self.path = Path(os.path.realpath(path))  # the target of a link is replaced, not the link
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {str(self.path.parent)!r} to save in.")
        for folder in (self.path, _backup_of(self.path)):  # `close` may delete both
            _check_replaceable(folder, members)
        self._temporary = temporary_name(self.path)
        self._checksums: dict[str, str] = {}

    def __enter__(self) -> ZarrFolderWriter:
        import zarr  # takes most of a second

        try:
            self._group = zarr.create_group(str(self._temporary), zarr_format=3)
        except BaseException:
            remove_folder(self._temporary, failed=True)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if kind is not None:
            remove_folder(self._temporary, failed=True)
        if isinstance(error, OSError) and error.filename is None:
            raise with_file_name(error, self.path) from error

    def write(self, name: str, values: np.ndarray) -> None:
        """Write an array and note its checksum."""
        array = self._create(name, values.shape, values.dtype)
        if values.size:
            array[...] = values
        self._checksums[name] = _checksum(values)

    def write_by_chunks(self, name: str, values: Any) -> None:
        """Write an array that may be larger than memory, chunk by chunk."""
        array = self._create(name, values.shape, values.dtype)
        sides = (range(0, n, step) for n, step in zip(array.shape, array.chunks, strict=True))
        for corner in product(*sides):
            chunk = tuple(slice(i, i + n) for i, n in zip(corner, array.chunks, strict=True))
            array[chunk] = np.asarray(values[chunk])

    def _create(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        from zarr.codecs import BloscCodec, Crc32cCodec

        return self._group.create_array(
            name,
            shape=shape,
            chunks=chunks_of(shape),
            dtype=dtype,
            # Blosc trusts its input: the CRC of each chunk is checked before Blosc sees it.
            compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()],
            fill_value=0,
            # zarr reads a missing chunk as zeros: only if all are written, a loss can be noticed.
            config={"write_empty_chunks": True},
        )

    def close(self, header: Mapping[str, Any]) -> None:
        """Add the plain values and move the folder to its place."""
        self._group.attrs[KEY] = {
            "format_version": FORMAT_VERSION,
            **header,
            "checksums": self._checksums,
        }
        _flush(self._temporary)
        backup = _backup_of(self.path)
        if backup.exists():  # an earlier save was interrupted
            _delete(backup) if self.path.exists() else os.rename(backup, self.path)
        if self.path.exists():
            os.rename(self.path, backup)  # a rename cannot replace a folder with files
        try:
            os.rename(self._temporary, self.path)
        except BaseException:
            if backup.exists():
                os.rename(backup, self.path)
            raise
        if backup.exists():
            _delete(backup)


def _delete(folder: Path) -> None:
    """Delete a folder under another name: half of it must not be taken for a hierarchy."""
    renamed = temporary_name(folder)
    os.rename(folder, renamed)
    remove_folder(renamed)


def _backup_of(path: Path) -> Path:
    """Name of the old folder while the new one takes its place."""
    return path.with_name(f".{path.name}.old")


def _check_replaceable(path: Path, members: set[str]) -> None:
    """Raise InputError if there is something that this package did not write."""
    if not os.path.lexists(path):
        return
    reason = "is no folder that napari-aeseg wrote"
    try:
        read_header(path)
        foreign = {e.name for e in path.iterdir()} - members - _FOREIGN_FILES
        foreign -= {_GROUP_FILE, WORK_FILE}
        if not foreign:
            return
        reason = f"has files that are not of a hierarchy ({', '.join(sorted(foreign)[:3])})"
    except HierarchyFileError as error:
        reason += f", or cannot be read ({error})"
    raise InputError(
        f"{str(path)!r} exists and {reason}: it is not replaced. Choose another name, or move it "
        "away."
    )


def chunks_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the chunks of an array, about a million numbers each."""
    chunks, left = [1] * len(shape), _CHUNK
    # The longer axes get what a short one does not use.
    for done, axis in enumerate(sorted(range(len(shape)), key=shape.__getitem__)):
        # 1e-9: rounding must not halve a chunk.
        longest = 2 ** int(math.log2(left) / (len(shape) - done) + 1e-9)
        chunks[axis] = max(1, min(shape[axis], longest))
        left = max(1, left // chunks[axis])
    return tuple(chunks)


def _checksum(values: np.ndarray) -> str:
    """Hash of the values, the same on all machines."""
    little_endian = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return hashlib.blake2b(little_endian.data, digest_size=16).hexdigest()  # data: no copy as bytes


def _flush(folder: Path) -> None:
    """Write all files to the disk before the old folder is deleted."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb+") as stream:  # Windows flushes only what may be written
                os.fsync(stream.fileno())


@contextmanager
def wrapping_errors(path: Path, part: str) -> Iterator[None]:
    """Raise any error in reading a part of a folder as a HierarchyFileError that names it."""
    try:
        yield
    except (HierarchyFileError, MemoryError):  # a lack of memory is no damage
        raise
    # zarr, its codecs, JSON and our checks raise all kinds of errors on damaged files.
    except Exception as error:
        raise HierarchyFileError(
            f"{path.name} is damaged: {part} cannot be read ({sanitized(repr(error))}). "
            f"{_COPY_AGAIN}"
        ) from error


def saved_folder(path: Path) -> Path:
    """Return where the folder is: under its backup name if a save was interrupted there."""
    backup = _backup_of(path)
    return backup if backup.is_dir() and not path.exists() else path


def read_header(path: Path) -> dict[str, Any]:
    """Return the plain values of a folder.

    Raises HierarchyFileError if this package did not write the folder, or a newer version did, or
    it is damaged; FileNotFoundError if there is nothing.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no hierarchy {str(path)!r}.")
    if not path.is_dir():
        raise HierarchyFileError(f"{path.name} is a file, not a folder. {_EXPECTED}")
    file = path / _GROUP_FILE
    if not file.is_file():
        raise HierarchyFileError(
            f"{path.name} is a folder without {_GROUP_FILE}: no hierarchy, or an incomplete copy. "
            f"{_EXPECTED}"
        )
    with wrapping_errors(path, _GROUP_FILE):
        header = json.loads(file.read_text(encoding="utf-8"))["attributes"].get(KEY)
        if header is None:
            raise HierarchyFileError(f"{path.name} is zarr, but no hierarchy. {_EXPECTED}")
        written = header["format_version"]
        if type(written) is not int or written < 1:  # True is an instance of int
            raise ValueError(f"format_version = {written!r}")
    if written > FORMAT_VERSION:
        raise HierarchyFileError(
            f"{path.name} has format {written}, written by napari-aeseg "
            f"{sanitized(header.get('package_version', '?'), 50)}; this version reads up to format "
            f"{FORMAT_VERSION}. Update napari-aeseg to read it."
        )
    return dict(header)


def check_memory(path: Path, shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
    """Raise HierarchyFileError if arrays of these shapes and dtypes do not fit into memory."""
    size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes.values())
    free = free_memory()
    if size > free:
        raise HierarchyFileError(
            f"{path.name} takes {size / 2**30:.1f} GiB of memory, of which {free / 2**30:.1f} are "
            "free: close other programs, or build the hierarchy in blocks."
        )


def read_array(
    path: Path,
    header: Mapping[str, Any],
    name: str,
    expected: tuple[tuple[int, ...], str] | None = None,
) -> np.ndarray:
    """Read an array of a folder; its checksum, shape and dtype must be as expected."""
    with wrapping_errors(path, name):
        array = _opened(path, name, expected)
        values = np.asarray(array[...])
        if _checksum(values) != header["checksums"][name]:
            raise ValueError("its values do not fit their checksum")
    return values


def open_lazily(
    path: Path, name: str, shape: tuple[int, ...], dtype: str, ids_below: int | None = None
) -> Any:
    """Return an array of a folder as a dask array; chunks are checked when read.

    Of patch ids, `ids_below` is the number of patches.
    """
    import dask.array as da

    with wrapping_errors(path, name):
        array = _opened(path, name, (shape, dtype))
        if array.nchunks_initialized != array.nchunks:  # zarr reads missing ones as zeros
            raise ValueError(f"{array.nchunks - array.nchunks_initialized} chunks are missing")
    on_disk = _OnDisk(array, path, name, ids_below)
    return da.from_array(on_disk, chunks=array.chunks)


def _opened(path: Path, name: str, expected: tuple[tuple[int, ...], str] | None) -> Any:
    import zarr

    array = zarr.open_array(str(path / name), mode="r", zarr_format=3)
    if expected is not None and (array.shape, array.dtype) != (expected[0], np.dtype(expected[1])):
        raise ValueError(f"it is {array.dtype} of shape {array.shape}, not {expected}")
    return array


class _OnDisk:
    """An array that does not fit into memory, such as the patch ids of a large image."""

    def __init__(self, array: Any, path: Path, name: str, ids_below: int | None) -> None:
        self.array, self.path, self.name, self.ids_below = array, path, name, ids_below
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, part: Any) -> np.ndarray:
        with wrapping_errors(self.path, self.name):
            values = np.asarray(self.array[part])
            most = self.ids_below
            # Look-ups clip: such an id would get the label of another patch.
            if most is not None and values.size and (values.min() < -1 or values.max() >= most):
                raise ValueError(f"it has ids from {values.min()} to {values.max()}")
        return values
