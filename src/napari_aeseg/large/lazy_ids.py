"""Patch ids of a whole image that stay on disk: a lazy array."""

from __future__ import annotations

import shutil
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.regions.lazy_labels import ids_array

if TYPE_CHECKING:
    from napari_aeseg.large.block_store import BlockStore
    from napari_aeseg.regions.patches.blocks import StitchedPatches


def lazy_ids(
    store: BlockStore, block: tuple[int, ...], stitched: StitchedPatches, *, temporary: bool = False
) -> list[Any]:
    """Return the ids of patches as dask arrays of int32, -1 where there is no patch.

    One array with all pixels, then of every second, fourth, ... row and column. A temporary folder
    is deleted when no array refers to it any more.
    """
    if temporary:
        weakref.finalize(store, shutil.rmtree, store.folder, ignore_errors=True)
    planes = {step: (*block[:-2], *(n // step for n in block[-2:])) for step in store.steps}
    return [
        ids_array(_IdsOfBlocks(store, store.patches(step), size, stitched))
        for step, size in planes.items()
    ]


def lazy_evidence(store: BlockStore) -> Any:
    """Return the evidence of an image as a dask array of int8, shape (*cells, V)."""
    import dask.array as da

    array = store.evidence
    return da.from_array(array, chunks=array.chunks)  # type: ignore[no-untyped-call]


class _IdsOfBlocks:
    """Patches that are numbered from 1 in their block, 0 for none; see `StoredIds`."""

    def __init__(
        self, store: BlockStore, array: Any, block: tuple[int, ...], stitched: StitchedPatches
    ) -> None:
        self.store = store  # a temporary folder is deleted with it
        self.array = array
        self.block = block
        self.first, self.number = stitched.first, stitched.number
        # Blocks are in order: one ends where the next begins.
        ends = [*stitched.first.values(), len(stitched.number)][1:]
        self.ends = dict(zip(stitched.first, ends, strict=True))

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        return tuple(
            (*[step] * (n // step), *[n % step] * (n % step > 0))
            for n, step in zip(self.array.shape, self.array.chunks, strict=True)
        )

    def read(self, part: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        index = tuple(s.start // size for s, size in zip(part, self.block, strict=True))
        try:
            stored = np.asarray(self.array[part])
        except MemoryError:
            raise
        # zarr and its codecs raise all kinds of errors on damaged files.
        except Exception as error:
            raise InputError(
                f"Patch ids in {self.store.folder} cannot be read ({sanitized(error)}): give "
                "another folder."
            ) from error
        if index not in self.first:  # the block was left out
            return np.zeros_like(stored), np.array([-1], np.int32)
        ids = self.number[self.first[index] : self.ends[index]]
        if stored.size and not 0 <= stored.min() <= stored.max() <= len(ids):
            raise InputError(
                f"Patch ids in {self.store.folder} run from {stored.min()} to {stored.max()} where "
                f"there are {len(ids)} patches: the folder is damaged, give another one."
            )
        return stored, np.concatenate([np.array([-1], np.int32), ids])

    def __dask_tokenize__(self) -> object:
        return type(self).__name__, str(self.store.folder), self.array.path, self.array.shape
