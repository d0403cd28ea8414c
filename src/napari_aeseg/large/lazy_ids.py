"""Patch ids of a whole image that stay on disk: a lazy array."""

from __future__ import annotations

import shutil
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError, sanitized

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
    import dask.array as da

    if temporary:
        weakref.finalize(store, shutil.rmtree, store.folder, ignore_errors=True)
    planes = {step: (*block[:-2], *(n // step for n in block[-2:])) for step in store.steps}
    arrays = (
        _IdsOfBlocks(store, store.patches(step), size, stitched) for step, size in planes.items()
    )
    return [
        da.from_array(
            ids, ids.array.chunks, fancy=False, meta=np.empty((0,) * len(block), np.int32)
        )
        for ids in arrays
    ]


def lazy_evidence(store: BlockStore) -> Any:
    """Return the evidence of an image as a dask array of int8, shape (*cells, V)."""
    import dask.array as da

    array = store.evidence
    return da.from_array(array, chunks=array.chunks)


class _IdsOfBlocks:
    """Ids of patches that are numbered from 1 in their block; any part of a block can be read."""

    def __init__(
        self, store: BlockStore, array: Any, block: tuple[int, ...], stitched: StitchedPatches
    ) -> None:
        self.store = store  # a temporary folder is deleted with it
        self.array = array
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype
        self.block = block
        self.first, self.number = stitched.first, stitched.number
        # Blocks are in order: one ends where the next begins.
        ends = [*stitched.first.values(), len(stitched.number)][1:]
        self.ends = dict(zip(stitched.first, ends, strict=True))

    def __getitem__(self, part: tuple[Any, ...]) -> np.ndarray:
        starts = (s.start if isinstance(s, slice) else s for s in part)
        index = tuple(start // size for start, size in zip(starts, self.block, strict=True))
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
            return np.full_like(stored, -1)
        ids = self.number[self.first[index] : self.ends[index]]
        if stored.size and not 0 <= stored.min() <= stored.max() <= len(ids):
            raise InputError(
                f"Patch ids in {self.store.folder} run from {stored.min()} to {stored.max()} where "
                f"there are {len(ids)} patches: the folder is damaged, give another one."
            )
        # No index is out of range; "clip" saves numpy the check.
        return np.take(np.append(np.int32(-1), ids), stored, mode="clip")

    def __dask_tokenize__(self) -> object:
        return type(self).__name__, str(self.store.folder), self.array.path, self.array.shape
