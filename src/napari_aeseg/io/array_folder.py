"""Reading the arrays of a folder of unknown origin, all of it checked before zarr sees it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import HierarchyFileError, shown
from napari_aeseg.io import zarr_folder as store
from napari_aeseg.io.zarr_folder import GROUP, blocks, chunks_of, damaged, json_in, little_endian

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Shapes = Mapping[str, tuple[tuple[int, ...], str]]

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
        raise damaged(path, f"its header does not list the arrays: {shown(repr(error))}") from error
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
        text = shown(", ".join(odd))
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
        return damaged(self.path, f"{self.name} cannot be read ({shown(error)})")

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
            what = shown(f"{found['data_type']} of shape {found['shape']}, stored by {codecs}", 200)
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
