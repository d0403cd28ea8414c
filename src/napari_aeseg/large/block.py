"""The processing of one block, in this process or on a worker of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.patch_moments import patch_moments_steps
from napari_aeseg.errors import InputError
from napari_aeseg.images.memory import trim_heap, unmap_large_arrays_when_freed
from napari_aeseg.progress import StopFlag, collect_messages, drain, raise_if_stopped
from napari_aeseg.regions.patches.blocks import BlockPatches
from napari_aeseg.regions.patches.graph import RegionGraph, region_graph
from napari_aeseg.regions.patches.statistics import PatchStatistics, channel_means, geometry
from napari_aeseg.regions.patches.superpixels import make_patches, patch_shape, pixel_density
from napari_aeseg.regions.refine import PatchEvidence

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.border_evidence import EvidenceProjection
    from napari_aeseg.images.blocks import Block, BlockImage
    from napari_aeseg.large.block_store import BlockStore
    from napari_aeseg.params import SegmentationParams
    from napari_aeseg.regions.patches.coarsening import PatchCoarsening


# Side of the tiles that are encoded: on the CPU, larger ones take more memory than the block.
_TILE = {2: 256, 3: 192}


@dataclass(frozen=True, slots=True)
class BlockWork:
    """All that is needed to process any block of an image; can be sent to another machine."""

    image: BlockImage
    model: Model | str  # or the path of its file, which each process loads once
    params: SegmentationParams
    device: str
    store: BlockStore  # in a folder that all machines see
    # Leave out a block that cannot be read, or only its margin if that cannot be read.
    skip: bool = False
    coarsening: PatchCoarsening | None = None  # how patches are joined to larger ones
    # Of features to the evidence that borders follow; without it, they are those of patches.
    projection: EvidenceProjection | None = None

    def process(self, block: Block, stop: StopFlag | None = None) -> list[str]:
        """Process a block and save its patches; return notes for the user."""
        try:
            raw = self.image.raw(block.outer)
        except InputError:
            if not self.skip:
                raise
            # Perhaps only its margin cannot be read: then encode as if the image ended there.
            block = replace(block, outer=block.inner)
            try:
                raw = self.image.raw(block.outer)
            except InputError as error:
                return [f"{error} The block was left out."]
        notes: list[str] = []
        patches, statistics, graph, evidence = self.patches(raw, block, notes, stop)
        if self.coarsening is not None:
            region, statistics = self.coarsening.coarsened(statistics, graph, stop)
            raise_if_stopped(stop, "graph")
            patches = region.astype(np.int32)[patches]  # first int32: no wide copy of all pixels
            graph = region_graph(patches)
        faces = tuple(
            (patches.take(0, axis).copy(), patches.take(-1, axis).copy())
            for axis in range(patches.ndim)
        )
        of_patches = None
        if evidence is not None:
            of_patches = PatchEvidence.of(patches, evidence, graph.number)
        block_patches = BlockPatches(block.index, statistics, graph, faces, of_patches)
        self.store.put(block, patches, block_patches, notes, evidence)
        return notes

    def patches(
        self, raw: np.ndarray, block: Block, notes: list[str], stop: StopFlag | None = None
    ) -> tuple[np.ndarray, PatchStatistics, RegionGraph, np.ndarray | None]:
        """Return the patches of a block's inner part, their statistics, graph and evidence.

        Notes for the user are added to a list.
        """
        image = self.image.scaled(raw)
        inside = (slice(None), *block.keep)
        params, axes = self.params, self.image.axes
        pixels = np.ascontiguousarray(image.pixels[inside])
        sides, density = patch_shape(axes, params.patch_size), pixel_density(axes)
        patches = make_patches(pixels, sides, params.patches, stop, density)
        raise_if_stopped(stop, "patches")
        graph = region_graph(patches, stop)
        count, centroid = geometry(patches)
        # The margin around the block is one more patch, which is dropped.
        framed = np.full(image.pixels.shape[1:], graph.number, np.int32)
        framed[block.keep] = patches
        model = fitted_model(self.model, axes.channels)
        levels = model.levels(params.levels)
        tile_size = min(params.tile_size, _TILE[model.architecture.dimensions])
        work = patch_moments_steps(
            model,
            image,
            framed,
            levels,
            params.source,
            self.device,
            tile_size,
            stop,
            with_evidence=self.projection is not None,
            projection=self.projection,
        )
        moments = drain(collect_messages(work, notes))
        evidence = moments.evidence
        if evidence is not None:
            evidence = evidence[_in_cells(block.keep, framed.shape, evidence.shape)]
        corner = np.array([s.start for s in block.inner], float)
        intensity = channel_means(patches, raw[inside], count)
        mean, second = moments.mean[: graph.number], moments.second[: graph.number]
        return (
            patches,
            PatchStatistics(count, mean, second, moments.level, centroid + corner, intensity),
            graph,
            evidence,
        )


def _in_cells(
    part: Sequence[slice], shape: Sequence[int], cells: Sequence[int]
) -> tuple[slice, ...]:
    """The cells of a part of an array."""
    step = [-(-n // c) for n, c in zip(shape, cells, strict=False)]
    return tuple(slice(s.start // n, -(-s.stop // n)) for s, n in zip(part, step, strict=True))


def process_block(work: BlockWork, block: Block, stop: StopFlag | None = None) -> list[str]:
    """Process a block unless it is done; return notes for the user."""
    if work.store.has(block):
        return []
    unmap_large_arrays_when_freed()
    try:
        return work.process(block, stop)
    finally:
        trim_heap()


@lru_cache(maxsize=2)
def _loaded(path: str) -> Model:
    return Model.load(path)


_loading = Lock()


def fitted_model(model: Model | str, channels: int) -> Model:
    """Return a model for images of so many channels, loaded once in each process."""
    if isinstance(model, Model):
        return model.fitted(channels)
    with _loading:  # threads of one worker begin together
        return _loaded(model).fitted(channels)
