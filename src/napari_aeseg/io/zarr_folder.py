"""A folder of arrays: zarr, compressed, with checksums; written as a whole or not at all.

What is read is checked first: nothing in it is executed. `array_folder` reads the arrays.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import HierarchyFileError, InputError, shown
from napari_aeseg.io.atomic import named, part_of, remove_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Block = tuple[slice, ...]

#: The attribute of the zarr group that holds everything that is no array.
KEY = "napari-aeseg"
#: Raised whenever an older package could misread the folder; 2 may have "fine".
FORMAT_VERSION = 2
#: Bytes of all arrays together, and of a file of metadata, above which nothing is read.
MOST_BYTES, MOST_TEXT = 2**40, 2**20
# Numbers in a chunk.
_CHUNK = 2**20
# Files that other programs leave in folders, and what a group's own is called.
_STRAY, GROUP = {".DS_Store", "Thumbs.db", "desktop.ini"}, "zarr.json"
_EXPECTED = "Expected a *.aeseg.zarr folder written by napari-aeseg (Hierarchy.save)."
_AGAIN = "Copy it again from where it came, or build the hierarchy from the image again."


class StoreWriter:
    """Writes a folder beside the one that is meant, and has it take that one's place at the end.

    Parameters
    ----------
    path : Path
        Where the folder is to be.
    ours : set of str
        What may lie in a folder that is replaced; anything else is not ours to delete.

    Raises
    ------
    InputError
        If there is something at `path` that was not written by this class.
    FileNotFoundError
        If there is no folder to write in.
    """

    def __init__(self, path: Path, ours: set[str]) -> None:
        self.path = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {str(self.path.parent)!r} to save in.")
        for there in (self.path, _old(self.path)):
            _check_replaceable(there, ours)
        self._part = part_of(self.path)
        self._arrays: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> StoreWriter:
        import zarr  # takes most of a second

        try:
            self._group = zarr.create_group(str(self._part), zarr_format=3)
        except BaseException:
            remove_folder(self._part, failed=True)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if kind is not None:
            remove_folder(self._part, failed=True)
        if isinstance(error, OSError) and error.filename is None:
            raise named(error, self.path) from error

    def write(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        block: Callable[[Block], np.ndarray],
    ) -> None:
        """Write an array block by block; `block` gets slices and returns what lies there."""
        from zarr.codecs import BloscCodec, Crc32cCodec

        chunks = chunks_of(shape)
        array = self._group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()],
            fill_value=0,
            config={"write_empty_chunks": True},  # a chunk that is missing is a chunk that is lost
        )
        digest = hashlib.blake2b(digest_size=16)
        for where in blocks(shape, chunks):
            values = np.ascontiguousarray(block(where), dtype)
            array[where] = values
            digest.update(little_endian(values))
        self._arrays[name] = {
            "shape": list(shape),
            "dtype": dtype.name,
            "chunks": list(chunks),
            "blake2b": digest.hexdigest(),
        }

    def close(self, header: Mapping[str, Any]) -> None:
        """Add the plain values, and let the folder take its place."""
        whole = {"format_version": FORMAT_VERSION, **header, "arrays": self._arrays}
        self._group.attrs[KEY] = {**whole, "sha256": _checksum(whole)}
        _flush(self._part)
        old = _old(self.path)
        if old.exists():  # of a save that was interrupted
            _discard(old) if self.path.exists() else os.rename(old, self.path)
        if self.path.exists():
            os.rename(self.path, old)
        try:
            os.rename(self._part, self.path)
        except BaseException:
            if old.exists():
                os.rename(old, self.path)
            raise
        if old.exists():
            _discard(old)


def _discard(folder: Path) -> None:
    """Delete a folder under another name first: half of it must not be taken for a hierarchy."""
    other = part_of(folder)
    os.rename(folder, other)
    remove_folder(other)


def _old(path: Path) -> Path:
    """Where the old folder is for the moment in which the new one takes its place."""
    return path.with_name(f".{path.name}.old")


def _check_replaceable(path: Path, ours: set[str]) -> None:
    """Raise InputError if something is there that was not written by us."""
    if not os.path.lexists(path):
        return
    why = "is no folder that napari-aeseg wrote"
    try:
        read_header(path)
        others = {entry.name for entry in path.iterdir()} - ours - _STRAY - {GROUP}
        if not others:
            return
        why = f"has files that are not of a hierarchy ({', '.join(sorted(others)[:3])})"
    except HierarchyFileError as error:
        why += f", or not one that it can read ({error})"
    raise InputError(
        f"{str(path)!r} exists and {why}: it is not replaced. Choose another name, or move it away."
    )


def chunks_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the chunks of an array, about a million numbers each.

    Examples
    --------
    >>> chunks_of((4096, 3000)), chunks_of((90, 512, 512)), chunks_of((60_000, 100))
    ((1024, 1024), (64, 128, 128), (8192, 100))
    """
    chunks, left = [1] * len(shape), _CHUNK
    # What a short axis does not use, the longer ones get.
    for done, axis in enumerate(sorted(range(len(shape)), key=shape.__getitem__)):
        most = 2 ** int(math.log2(left) / (len(shape) - done) + 1e-9)
        chunks[axis] = max(1, min(shape[axis], most))
        left = max(1, left // chunks[axis])
    return tuple(chunks)


def blocks(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[Block]:
    """Slices of each chunk, the last axis fastest."""
    if not shape:
        yield ()
        return
    for start in range(0, shape[0], chunks[0]):  # `product` would make lists of what may be endless
        first = slice(start, min(start + chunks[0], shape[0]))
        for others in blocks(shape[1:], chunks[1:]):
            yield first, *others


def little_endian(values: np.ndarray) -> bytes:
    """Return the bytes of an array, the same on all machines."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _checksum(header: Mapping[str, Any]) -> str:
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _flush(folder: Path) -> None:
    """Have everything on the disk before the old folder is given up."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())


def existing(path: Path) -> Path:
    """Return where the folder is: beside its name if a save was interrupted in the one moment."""
    old = _old(path)
    return old if old.is_dir() and not path.exists() else path


def read_header(path: Path) -> dict[str, Any]:
    """Return the plain values of a folder, checked against their checksum.

    Raises
    ------
    HierarchyFileError
        If this is no folder of ours, of a newer format, or its header is damaged.
    FileNotFoundError
        If there is nothing.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no hierarchy {str(path)!r}.")
    if not path.is_dir():
        raise HierarchyFileError(f"{path.name} is a file, not a folder. {_EXPECTED}")
    if not (path / GROUP).is_file():
        raise HierarchyFileError(
            f"{path.name} is a folder without {GROUP}: not a hierarchy, or a copy that never came "
            f"to its end. {_EXPECTED}"
        )
    try:
        found = json_in(path / GROUP)["attributes"]
        header = found.get(KEY)
    # JSON of others can be anything.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise HierarchyFileError(
            f"{path.name} is damaged or foreign: its {GROUP} cannot be read "
            f"({shown(repr(error))}). {_AGAIN}"
        ) from error
    if header is None:
        raise HierarchyFileError(f"{path.name} is zarr, but no hierarchy. {_EXPECTED}")
    try:
        known = dict(header)
        _check_version(path, known)
        right = known.pop("sha256") == _checksum(known)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, f"its header cannot be used: {shown(repr(error))}") from error
    if not right:
        raise damaged(path, "its header does not fit its checksum")
    return known


def _check_version(path: Path, header: Mapping[str, Any]) -> None:
    written = header["format_version"]
    if type(written) is not int or written < 1:
        raise ValueError(f"format_version = {shown(repr(written), 50)}")
    if written > FORMAT_VERSION:
        raise HierarchyFileError(
            f"{path.name} has format {shown(written, 50)}, written by napari-aeseg "
            f"{shown(header.get('package_version', '?'), 50)}; this version reads up to format "
            f"{FORMAT_VERSION}. Update napari-aeseg to read it."
        )


def json_in(file: Path) -> Any:
    """Read a file of metadata that is not too long to be one."""
    if not file.is_file():  # but a device or a pipe, which may have no end
        raise ValueError(f"{file.name} is missing, or no file")
    if file.stat().st_size > MOST_TEXT:
        raise ValueError(f"{file.name} is longer than {MOST_TEXT} bytes")
    return json.loads(file.read_text(encoding="utf-8"))


def damaged(path: Path, how: str) -> HierarchyFileError:
    """Return the error for a folder that is not as it was written."""
    return HierarchyFileError(f"{path.name} is damaged: {how}. {_AGAIN}")
