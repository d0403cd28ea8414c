"""Refined labels of images in blocks: chunks are refined when they are looked at.

A chunk is refined with `napari_aeseg.regions.refine.HALO` bands around it, so that it fits to its
neighbours. Chunks are not joined to be refined faster: where a connection has to be mended, the
labels depend a little on how much is refined at once, and would change as the view moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_aeseg.regions.lazy_labels import with_values_of
from napari_aeseg.regions.refine import HALO, JOINED, Gaussians, refined

if TYPE_CHECKING:
    from napari_aeseg.progress import StopFlag

#: Bytes of refined chunks that are kept, such as 256 of 512 x 512 in 16 bits. The newest stay.
MOST_BYTES = 2**27


class _Refiner:
    """Refines parts of labels, with so much around them that they fit to their neighbours.

    No dataclass: dask would compute its fields.
    """

    def __init__(
        self,
        labels: Any,
        evidence: Any,
        gaussians: Gaussians,
        band: Sequence[int],
        min_size: int,
        channels: int,
    ) -> None:
        self.labels, self.evidence, self.gaussians = labels, evidence, gaussians
        self.band, self.min_size, self.channels = tuple(band), min_size, channels
        sides = zip(labels.shape, evidence.shape[:-1], strict=True)
        self.step = [-(-n // c) for n, c in sides]

    def __call__(self, block_info: Any = None) -> np.ndarray:
        chunk = [slice(*along) for along in block_info[None]["array-location"]]
        cells = []
        for s, band, step, size in zip(
            chunk, self.band, self.step, self.evidence.shape[:-1], strict=True
        ):
            first, end = s.start - HALO * band, s.stop + HALO * band
            start = max(first // step, 0) // JOINED * JOINED
            cells.append(slice(start, min(-(-end // step), size)))
        part = tuple(slice(c.start * n, c.stop * n) for c, n in zip(cells, self.step, strict=True))
        # In this thread: all others may be waiting for a chunk like this one.
        labels, evidence = (
            array.compute(scheduler="synchronous")
            for array in (self.labels[part], self.evidence[tuple(cells)])
        )
        new = refined(labels, evidence, self.band, 0, self.min_size, self.gaussians, self.channels)
        inside = zip(chunk, part, strict=True)
        return new[tuple(slice(s.start - p.start, s.stop - p.start) for s, p in inside)]

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        arrays = self.labels.name, self.evidence.name, self.band, self.min_size
        return "aeseg-refined", *arrays, normalize_token(self.gaussians.weights)


def refined_lazily(
    labels: Any,
    evidence: Any,
    gaussians: Gaussians,
    band: Sequence[int],
    min_size: int,
    channels: int,
) -> Any:
    """Return `refined` labels of `map_to_pixels_lazily`; chunks are computed when looked at."""
    from dask.base import tokenize

    refiner = _Refiner(labels, evidence, gaussians, band, min_size, channels)
    return _by_chunk(refiner, f"aeseg-{tokenize(refiner)}", labels)


def _by_chunk(function: Any, name: str, labels: Any, *arrays: Any) -> Any:
    import dask.array as da

    result: Any = da.map_blocks(
        function,
        *arrays,
        name=name,
        chunks=labels.chunks,
        dtype=labels.dtype,
        meta=np.empty((0,) * labels.ndim, labels.dtype),  # dask would refine a chunk to guess it
    )
    return with_values_of(labels, result)


@dataclass(frozen=True, eq=False)
class RefinedChunks:
    """Those chunks of labels whose borders follow the pixels already; the others do not.

    Examples
    --------
    >>> import dask.array as da
    >>> from napari_aeseg.regions.lazy_labels import map_to_pixels_lazily
    >>> patches = da.from_array(np.arange(16).reshape(4, 4), chunks=2)
    >>> labels = map_to_pixels_lazily(patches, np.arange(16))
    >>> seen = RefinedChunks(labels, labels + 100).and_those_in((slice(0, 1), slice(2, 3)))
    >>> seen.array[0].compute().tolist()
    [0, 1, 102, 103]
    """

    labels: Any  # of `map_to_pixels_lazily`
    refined: Any  # the same, refined where they are looked at
    chunks: Mapping[tuple[int, ...], np.ndarray] = field(default_factory=dict)  # the newest last

    @cached_property
    def array(self) -> Any:
        """The labels as a dask array."""
        # No two have one name: viewers keep computed chunks by it.
        function = partial(_with_chunks, self.chunks)
        return _by_chunk(function, f"aeseg-{uuid4()}", self.labels, self.labels)

    def has(self, part: Sequence[slice]) -> bool:
        """Whether all of a part is refined."""
        return all(place in self.chunks for place in self._places(part))

    def and_those_in(self, part: Sequence[slice], stop: StopFlag | None = None) -> RefinedChunks:
        """Return more chunks: those in a part, or fewer once `stop` is set."""
        places = self._places(part)
        chunks = {k: v for k, v in self.chunks.items() if k not in places}
        chunks |= {k: self.chunks[k] for k in places if k in self.chunks}
        for place in places:
            if stop is not None and stop.is_set():
                break
            if place not in chunks:
                # In this thread, with one chunk in memory at a time.
                chunks[place] = self.refined.blocks[place].compute(scheduler="synchronous")
        size = sum(chunk.nbytes for chunk in chunks.values())
        for oldest in list(chunks):
            if size <= MOST_BYTES or oldest in places:
                break
            size -= chunks.pop(oldest).nbytes
        return RefinedChunks(self.labels, self.refined, chunks)

    def _places(self, part: Sequence[slice]) -> list[tuple[int, ...]]:
        """Return which chunks have pixels in a part."""
        along = []
        for sizes, s in zip(self.labels.chunks, part, strict=True):
            first, last = np.searchsorted(np.cumsum(sizes), (s.start, s.stop - 1), "right")
            along.append(range(first, min(last, len(sizes) - 1) + 1))
        return list(product(*along))


def _with_chunks(
    chunks: Mapping[tuple[int, ...], np.ndarray], labels: np.ndarray, block_info: Any = None
) -> np.ndarray:
    """Replace a chunk of labels by the refined one, if there is one."""
    return chunks.get(tuple(block_info[0]["chunk-location"]), labels)
