"""Patch ids that stay on disk, and what is looked up by them: dask arrays, read chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


class StoredIds(Protocol):
    """Patch ids of an image that are stored as numbers of some other kind."""

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Pixels of each chunk along each axis."""

    def read(self, part: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers stored in a chunk, and the id that each of them stands for."""

    def __dask_tokenize__(self) -> object:
        """Tell it apart from others."""


class _Reader:
    """Reads a chunk, and looks up what its ids stand for: once per number, then once per pixel."""

    def __init__(self, stored: StoredIds, look_up: Callable[[np.ndarray], np.ndarray]) -> None:
        self.stored = stored
        self.look_up = look_up

    def __call__(self, block_info: Any = None) -> np.ndarray:
        place = block_info[None]["array-location"][: len(self.stored.chunks)]
        numbers, ids = self.stored.read(tuple(slice(*along) for along in place))
        # There is nothing to clip, but then numpy does not look for it first.
        return np.take(self.look_up(ids), numbers, axis=0, mode="clip")

    def __dask_tokenize__(self) -> object:
        from dask.base import normalize_token

        return type(self).__name__, normalize_token((self.stored, self.look_up))


# The reader of every array of ids that is alive, by the array's name.
_READERS: WeakValueDictionary[str, _Reader] = WeakValueDictionary()


def ids_array(stored: StoredIds) -> Any:
    """Return stored ids as a dask array of int32."""
    reader = _Reader(stored, _same)
    ids = _read(reader, np.dtype(np.int32))
    _READERS[ids.name] = reader
    return ids


def looked_up(ids: Any, look_up: Callable[[np.ndarray], np.ndarray], like: np.ndarray) -> Any:
    """Return a dask array of what is looked up for each pixel.

    Parameters
    ----------
    ids : dask array of int32, shape space
        If it is one of `ids_array`, nothing is computed per pixel but the result.
    look_up : callable
        Takes ids, in an array of any shape, and returns what each of them stands for.
    like : ndarray, shape (n, ...)
        An array as `look_up` returns it for a row of ids.
    """
    reader, further = _READERS.get(ids.name), like.shape[1:]
    if reader is not None:
        return _read(_Reader(reader.stored, look_up), like.dtype, further)
    more = {"new_axis": [*range(ids.ndim, ids.ndim + len(further))]} if further else {}
    chunks = (*ids.chunks, *((n,) for n in further))
    meta = np.empty((0,) * len(chunks), like.dtype)
    return ids.map_blocks(look_up, dtype=like.dtype, meta=meta, chunks=chunks, **more)


def _read(reader: _Reader, dtype: np.dtype[Any], further: tuple[int, ...] = ()) -> Any:
    import dask.array as da
    from dask.base import tokenize

    chunks = (*reader.stored.chunks, *((n,) for n in further))
    return da.map_blocks(  # type: ignore[no-untyped-call]
        reader,
        name=f"aeseg-{tokenize(reader)}",
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
    )


def _same(ids: np.ndarray) -> np.ndarray:
    return ids
