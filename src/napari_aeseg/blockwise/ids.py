"""Patch ids of a whole image that stay on disk: a lazy array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from napari_aeseg.blockwise.store import BlockStore
    from napari_aeseg.regions.joining import Joined


def lazy_ids(
    store: BlockStore, block: tuple[int, ...], joined: Joined, *, temporary: bool = False
) -> list[Any]:
    """Return the ids of patches as dask arrays of int32, -1 where there is no patch.

    Parameters
    ----------
    store : BlockStore
    block : tuple of int
        Pixels along each side of a block.
    joined : Joined
    temporary : bool
        Whether the folder is deleted when no array refers to it any more.

    Returns
    -------
    list of dask array
        At all pixels, then at every second, fourth, ... row and column.
    """
    import dask.array as da

    kept = _Kept(store.folder)
    if temporary:
        store.delete_with(kept)
    found = []
    for step in store.steps:
        on_disk = store.patches(step)
        stored: Any = da.from_array(on_disk, chunks=on_disk.chunks)  # type: ignore[no-untyped-call]
        found.append(
            stored.map_blocks(
                _in_image,
                block=(*block[:-2], *(n // step for n in block[-2:])),
                first=joined.first,
                number=joined.number,
                kept=kept,
                dtype=np.int32,
            )
        )
    return found


class _Kept:
    """Held by every array that reads a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __dask_tokenize__(self) -> str:
        return str(self.folder)


def _in_image(
    chunk: np.ndarray,
    block: tuple[int, ...],
    first: dict[tuple[int, ...], int],
    number: np.ndarray,
    kept: _Kept,
    block_info: Any = None,
) -> np.ndarray:
    """Numbers in the image of patches that are numbered from 1 in their block, 0 for none."""
    if not block_info:  # dask asks what type comes out
        return chunk.astype(np.int32)
    place = block_info[0]["array-location"]
    index = tuple(start // size for (start, _), size in zip(place, block, strict=True))
    if index not in first:  # a block that was left out
        return np.full(chunk.shape, -1, np.int32)
    # One look-up per pixel: views wait for it. Chunks that reach across what is there end with 0.
    table = np.empty(int(chunk.max(initial=0)) + 1, np.int32)
    table[0] = -1
    table[1:] = number[first[index] :][: len(table) - 1]
    return np.take(table, chunk, mode="clip")
