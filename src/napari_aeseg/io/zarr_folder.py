"""A folder of arrays: zarr, compressed, with checksums; written as a whole or not at all.

What is read is checked first: nothing in it is executed. `array_folder` reads the arrays.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import HierarchyFileError, InputError, sanitized
from napari_aeseg.io import zarr_folder as store
from napari_aeseg.io.atomic import named, part_of, remove_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Shapes = Mapping[str, tuple[tuple[int, ...], str]]
    Block = tuple[slice, ...]


_CODECS = ["bytes", "blosc", "crc32c"]
# Blosc says in 16 bytes: its version, the compressor (zstd) in three bits of the flags, how many
# bytes there are when unpacked, in a block, and as they lie here. Then come the blocks' places.
_HEADER, _VERSIONS, _FLAGS, _ZSTD, _COPIED = 16, (1, 2), 2, 4, 0x02
# Bytes of a checksum behind it.
_CRC = 4
# Bytes that are unpacked in any case, and from each byte on the disk: images that are dark all over
# come to 900.
_ANYHOW, _FROM_EACH = 2**28, 2000


@dataclass(frozen=True, slots=True)
class LazyIds:
    """Arrays of patch ids that stay on disk.

    Parameters
    ----------
    shapes : dict
        Shape and dtype of each array.
    number : int
        Of patches.
    """

    shapes: Shapes
    number: int


def read_arrays(
    path: Path, header: Mapping[str, Any], expected: Shapes, lazy: LazyIds
) -> dict[str, Any]:
    """Read the arrays of a folder.

    Parameters
    ----------
    path : Path
    header : dict
        From `napari_aeseg.io.zarr_folder.read_header`.
    expected : dict
        Shape and dtype of each array. All must be there, and no other.
    lazy : LazyIds
        Those that stay on disk: they come as dask arrays.

    Raises
    ------
    HierarchyFileError
        If one is missing, damaged, or other than expected, or they do not fit into memory.
    """
    try:
        said = {
            name: (tuple(entry["shape"]), entry["dtype"], tuple(entry["chunks"]), entry["blake2b"])
            for name, entry in header["arrays"].items()
        }
    except (LookupError, TypeError, AttributeError) as error:
        raise damaged(
            path, f"its header does not list the arrays: {sanitized(repr(error))}"
        ) from error
    wanted = {**expected, **lazy.shapes}
    odd = sorted(
        name
        for name in said.keys() | wanted.keys()
        if name not in said
        or name not in wanted
        or said[name][:2] != wanted[name]
        or not _is_chunk(said[name][2], wanted[name][0])
    )
    if odd:
        text = sanitized(", ".join(odd))
        raise damaged(path, f"other arrays are listed than there must be ({text})")
    _check_size(path, expected)
    found = {}
    for name, (shape, dtype) in wanted.items():
        array = _Array(path, name, shape, np.dtype(dtype), tuple(map(int, said[name][2])))
        found[name] = (
            array.lazily(lazy.number) if name in lazy.shapes else array.read(said[name][3])
        )
    return found


def _is_chunk(chunks: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    """Whether chunks of this shape are no larger than those that are written."""
    if len(chunks) != len(shape) or any(type(n) is not int for n in chunks):
        return False
    return all(1 <= n <= max(size, 1) for n, size in zip(chunks, shape, strict=True)) and math.prod(
        chunks
    ) <= max(store._CHUNK, math.prod(chunks_of(shape)))


def _check_size(path: Path, expected: Shapes) -> None:
    """Raise HierarchyFileError for arrays that the files cannot hold, or memory cannot."""
    size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in expected.values())
    if size > store.MOST_BYTES:
        raise HierarchyFileError(
            f"{path.name} claims to hold {size} bytes; more than {store.MOST_BYTES} are not read."
        )
    if size <= _ANYHOW:
        return
    import psutil

    there = sum(
        file.stat().st_size
        for name in expected
        for file in (path / name).rglob("*")
        if file.is_file()
    )
    if size > _FROM_EACH * there:
        raise damaged(path, f"{there} bytes cannot hold the {size} that it claims to hold")
    free = int(psutil.virtual_memory().available)
    if size > free:
        raise HierarchyFileError(
            f"{path.name} takes {size / 2**30:.1f} GiB of memory, of which {free / 2**30:.1f} are "
            "free: close other programs, or build the hierarchy in blocks."
        )


@dataclass(frozen=True, slots=True)
class _Array:
    """An array in a folder, as it must be."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]

    def read(self, digest: str) -> np.ndarray:
        """Return the values, checked against their checksum."""
        try:
            array = self._opened()
            values, hashed = np.empty(self.shape, self.dtype), hashlib.blake2b(digest_size=16)
            for where in blocks(self.shape, self.chunks):
                values[where] = array[where]
                hashed.update(little_endian(np.ascontiguousarray(values[where])))
            if hashed.hexdigest() != digest:
                raise ValueError("its values do not fit their checksum")
        except MemoryError:
            raise
        # zarr and its codecs raise all kinds of errors on damaged files.
        except Exception as error:
            raise self.damaged(error) from error
        return values

    def lazily(self, number: int) -> Any:
        """Return the patch ids as a dask array, which are checked when they are read."""
        import dask.array as da

        try:
            ids = _IdsOnDisk(self, self._opened(), number)
        except Exception as error:  # likewise
            raise self.damaged(error) from error
        return da.from_array(ids, chunks=self.chunks)  # type: ignore[no-untyped-call]

    def damaged(self, error: Exception) -> HierarchyFileError:
        return damaged(self.path, f"{self.name} cannot be read ({sanitized(error)})")

    def _opened(self) -> Any:
        """Open the array when all that can be told without unpacking it is right."""
        import zarr

        folder = self.path / self.name
        self._check_metadata(json_in(folder / GROUP))
        size = math.prod(self.chunks) * self.dtype.itemsize
        for where in blocks(self.shape, self.chunks):
            place = (s.start // step for s, step in zip(where, self.chunks, strict=True))
            _check_chunk(folder.joinpath("c", *map(str, place)), size)
        return zarr.open_array(str(folder), mode="r", zarr_format=3)

    def _check_metadata(self, found: Any) -> None:
        """Raise an error unless zarr will look for these chunks, in these files, so compressed."""
        codecs = [codec["name"] for codec in found["codecs"]]
        same = (
            (found["zarr_format"], found["node_type"]) == (3, "array")
            and (found["shape"], found["data_type"]) == (list(self.shape), self.dtype.name)
            and found["chunk_grid"]
            == {"name": "regular", "configuration": {"chunk_shape": list(self.chunks)}}
            and found["chunk_key_encoding"]
            == {"name": "default", "configuration": {"separator": "/"}}
            and codecs == _CODECS
            and not found.get("storage_transformers")
        )
        if not same:
            what = sanitized(
                f"{found['data_type']} of shape {found['shape']}, stored by {codecs}", 200
            )
            raise ValueError(f"it is {what}, or in other chunks")


@dataclass(frozen=True, slots=True, eq=False)
class _IdsOnDisk:
    """Patch ids of an image that does not fit into memory."""

    known: _Array
    array: Any
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.known.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.known.dtype

    @property
    def ndim(self) -> int:
        return len(self.known.shape)

    def __getitem__(self, where: Any) -> np.ndarray:
        """Read a part; raise HierarchyFileError if it is damaged, or has ids of no patch."""
        try:
            found = np.asarray(self.array[where])
            if found.size and (found.min() < -1 or found.max() >= self.number):
                raise ValueError(f"it has ids from {found.min()} to {found.max()}")
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise self.known.damaged(error) from error
        return found


def _check_chunk(file: Path, size: int) -> None:
    """Raise an error if a chunk is missing (zarr would take zeros) or blosc would be misled."""
    name = "/".join(file.parts[-3:])
    if not file.is_file():
        raise ValueError(f"the chunk {name} is missing")
    with file.open("rb") as opened:
        head = opened.read(_HEADER)
    unpacked, block, packed = (int.from_bytes(head[i : i + 4], "little") for i in (4, 8, 12))
    if unpacked != size:
        raise ValueError(f"the chunk {name} has {unpacked} bytes, not {size}")
    there = file.stat().st_size - _CRC
    compressor = head[_FLAGS] >> 5
    if packed != there or head[0] not in _VERSIONS or not 1 <= block <= size:
        raise ValueError(f"the chunk {name} is not what its header says")
    if compressor != _ZSTD and not head[_FLAGS] & _COPIED:
        raise ValueError(f"the chunk {name} is packed by another program")


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
            f"({sanitized(repr(error))}). {_AGAIN}"
        ) from error
    if header is None:
        raise HierarchyFileError(f"{path.name} is zarr, but no hierarchy. {_EXPECTED}")
    try:
        known = dict(header)
        _check_version(path, known)
        right = known.pop("sha256") == _checksum(known)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, f"its header cannot be used: {sanitized(repr(error))}") from error
    if not right:
        raise damaged(path, "its header does not fit its checksum")
    return known


def _check_version(path: Path, header: Mapping[str, Any]) -> None:
    written = header["format_version"]
    if type(written) is not int or written < 1:
        raise ValueError(f"format_version = {sanitized(repr(written), 50)}")
    if written > FORMAT_VERSION:
        raise HierarchyFileError(
            f"{path.name} has format {sanitized(written, 50)}, written by napari-aeseg "
            f"{sanitized(header.get('package_version', '?'), 50)}; this version reads up to format "
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
