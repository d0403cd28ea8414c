"""Patch ids of a whole image that stay on disk: a lazy array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.regions.lazy_labels import ids_array

if TYPE_CHECKING:
    from pathlib import Path

    from napari_aeseg.large.block_store import BlockStore
    from napari_aeseg.regions.patches.blocks import StitchedPatches


def lazy_ids(
    store: BlockStore, block: tuple[int, ...], stitched: StitchedPatches, *, temporary: bool = False
) -> list[Any]:
    """Return the ids of patches as dask arrays of int32, -1 where there is no patch.

    One array with all pixels, then of every second, fourth, ... row and column. A temporary folder
    is deleted when no array refers to it any more.
    """
    owner = _FolderOwner(store.folder)
    if temporary:
        store.delete_with(owner)
    return [
        ids_array(
            _IdsOfBlocks(
                store.patches(step),
                (*block[:-2], *(n // step for n in block[-2:])),
                stitched,
                owner,
            )
        )
        for step in store.steps
    ]


class _FolderOwner:
    """Referenced by every array that reads a folder: a temporary folder is deleted with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


class _IdsOfBlocks:
    """Patches that are numbered from 1 in their block, 0 for none; see `StoredIds`."""

    def __init__(
        self, array: Any, block: tuple[int, ...], stitched: StitchedPatches, owner: _FolderOwner
    ) -> None:
        self.array = array
        self.block = block
        self.first, self.number = stitched.first, stitched.number
        # Blocks are in order: one ends where the next begins.
        ends = [*stitched.first.values(), len(stitched.number)][1:]
        self.ends = dict(zip(stitched.first, ends, strict=True))
        self.owner = owner

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        return tuple(
            (*[step] * (n // step), *[n % step] * (n % step > 0))
            for n, step in zip(self.array.shape, self.array.chunks, strict=True)
        )

    def read(self, part: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        index = tuple(s.start // size for s, size in zip(part, self.block, strict=True))
        start = self.first.get(index, 0)
        ids = self.number[start : self.ends.get(index, 0)]  # none if the block was left out
        stored = self._stored(part)
        if index not in self.first:
            return np.zeros_like(stored), np.array([-1], np.int32)
        if stored.size and not 0 <= stored.min() <= stored.max() <= len(ids):
            raise InputError(
                f"Patch ids in {self.owner.folder} run from {stored.min()} to {stored.max()} where "
                f"there are {len(ids)} patches: the folder is damaged, give another one."
            )
        return stored, np.concatenate([np.array([-1], np.int32), ids])

    def _stored(self, part: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(self.array[part])
        except MemoryError:
            raise
        # zarr and its codecs raise all kinds of errors on damaged files.
        except Exception as error:
            raise InputError(
                f"Patch ids in {self.owner.folder} cannot be read ({sanitized(error)}): give "
                "another folder."
            ) from error

    def __dask_tokenize__(self) -> object:
        return type(self).__name__, str(self.owner.folder), self.array.path, self.array.shape
