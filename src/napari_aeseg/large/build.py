"""Hierarchies of images that do not fit into memory: encoded block by block, one merge tree."""

from __future__ import annotations

import errno
import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_aeseg.autoencoder.architecture import anisotropy_warning
from napari_aeseg.autoencoder.border_evidence import EvidenceProjection
from napari_aeseg.autoencoder.device import choose_device
from napari_aeseg.autoencoder.encoding import SQUARE
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.errors import InputError
from napari_aeseg.images.blocks import Block, BlockImage, plan_blocks
from napari_aeseg.images.memory import free_memory, trim_heap, unmap_large_arrays_when_freed
from napari_aeseg.large.block import BlockWork, process_block
from napari_aeseg.large.block_store import BlockStore, saved_run
from napari_aeseg.large.cluster import process_on_cluster
from napari_aeseg.large.lazy_ids import lazy_evidence, lazy_ids
from napari_aeseg.large.objects import ObjectSearchInBlocks
from napari_aeseg.params import BlockParams, ComparisonParams, SegmentationParams, checked_params
from napari_aeseg.progress import (
    Clock,
    Progress,
    StopFlag,
    raise_if_stopped,
)
from napari_aeseg.regions.hierarchy import Hierarchy
from napari_aeseg.regions.patches.blocks import stitch_blocks
from napari_aeseg.regions.patches.coarsening import PatchCoarsening
from napari_aeseg.regions.patches.superpixels import patch_shape, pixel_density

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes

# Lazy images with more pixels than this are processed in blocks, and others when they would take
# more than half of the free memory, at so many bytes per pixel.
_LAZY_PIXELS, _BYTES_PER_PIXEL = 2**23, 190
# Pixels of a block, one for so many bytes of free memory within these bounds.
_MIN_BLOCK_PIXELS, _MAX_BLOCK_PIXELS = 2**17, 2**20
_FREE_BYTES_PER_BLOCK_PIXEL = 2_000
# Patches by default: a number for all images, and one more for so many pixels.
_DEFAULT_PATCHES, _PIXELS_PER_MORE_PATCH = 32_768, 10_000
# Blocks at most: at a second for each, more would take weeks. A file that has more is damaged.
_MOST_BLOCKS = 1_000_000
# Side of a block in the planes of a volume.
_PLANE = 256
# Errors of disks without room.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Version of the folder's format, and the params that patches depend on.
_FORMAT = 1
_PARAMS_OF_PATCHES = {"patches", "patch_size", "source", "levels"}
# Parts of the image from which the joining of patches is estimated, and pixels of one.
_PARTS, _PART_PIXELS = 8, 2**18


def needs_blocks(image: Any) -> bool:
    """Return whether to process an image in blocks: it is large and lazy, or beyond memory."""
    pixels = math.prod(np.shape(image))
    if not isinstance(image, np.ndarray) and hasattr(image, "chunks"):
        return pixels > _LAZY_PIXELS
    return pixels > pixels_in_memory()


def pixels_in_memory() -> float:
    """Return how many values an image may have to be processed as a whole now."""
    return free_memory() / 2 / _BYTES_PER_PIXEL


def block_hierarchy_steps(
    image: Any,
    model: Model,
    params: SegmentationParams,
    comparison: ComparisonParams,
    axes: str | Axes | None = None,
    device: str = "auto",
    stop: StopFlag | None = None,
    name: str = "image",
    blocks: BlockParams | None = None,
    store: str | PathLike[str] | None = None,
    client: Any = None,
) -> Generator[Progress, None, Hierarchy]:
    """Build a hierarchy block by block; a generator of events that returns it.

    Every block is read with a margin, cut into patches that do not reach beyond it, encoded, and
    saved to disk without its features. Borders between blocks are edges of the region graph like
    all others, and the merge tree is built once over all patches. Patch ids, and the labels cut
    from them, are dask arrays.

    Parameters are those of `napari_aeseg.api.hierarchy_steps`. A run that was stopped continues
    from the finished blocks in the folder `store`. The workers of a distributed.Client see it under
    the same path.
    """
    blocks = checked_params(BlockParams, blocks)
    if client is not None and store is None:
        raise InputError("A cluster needs a folder that all of its workers see: give store.")
    model.levels(params.levels)
    unmap_large_arrays_when_freed()
    skip = blocks.unreadable == "skip"
    earlier_run = saved_run(store) or {"pixels": (), "block": ()}
    read = BlockImage.of(
        image,
        axes,
        name,
        model.intensity,
        skip=skip,
        leave_out={i for i, digest in enumerate(earlier_run["pixels"]) if digest is None},
        with_digests=store is not None,
        stop=stop,
    )
    model.check_space(read.axes, name)
    model.fitted(read.axes.channels)
    yield Progress("read", 1, 1)
    raise_if_stopped(stop, "read")
    plan = _Plan.of(read, blocks, params, model, tuple(earlier_run["block"]))
    run = _run_settings(read, model, params, blocks, plan)
    folder = BlockStore.opened(store, run, read.shape, plan.size)
    work = BlockWork(read, model, params, device, folder, skip)
    try:
        hierarchy = yield from _build(work, plan, comparison, stop, client, temporary=store is None)
    except BaseException as error:  # a generator that is closed too
        if store is None:
            folder.delete()
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            advice = "free some room and run again; finished blocks are kept"
            if store is None:
                advice = "give store a folder on a disk with more room"
            text = f"{error.strerror}: {advice}"
            raise OSError(error.errno, text, str(folder.folder)) from error
        raise
    hierarchy.prepare(stop)
    yield Progress("tree", 1, 1)
    return hierarchy


def _build(
    work: BlockWork,
    plan: _Plan,
    comparison: ComparisonParams,
    stop: StopFlag | None,
    client: Any,
    *,
    temporary: bool,
) -> Generator[Progress, None, Hierarchy]:
    """Process the blocks that are not done yet, and stitch all of them together."""
    store, read, model = work.store, work.image, work.model
    todo = [block for block in plan.blocks if not store.has(block)]
    if plan.pixels_per_patch > plan.pixels_per_patch_before:
        work = replace(work, coarsening=(yield from _coarsening(work, plan, comparison, stop)))
    if len(todo) == len(plan.blocks) or store.projection() is not None:
        work = replace(work, projection=_projection(work, plan, stop))
    notes = yield from (
        _process(work, todo, stop)
        if client is None
        else process_on_cluster(client, work, todo, stop)
    )
    done = [block for block in plan.blocks if store.has(block)]
    if not done:
        raise InputError(f"No part of {read.name} could be read. {notes[0] if notes else ''}")
    # With the notes of earlier runs that this one continues.
    notes = list(dict.fromkeys([*notes, *store.notes(done)]))
    trim_heap()
    stitched = stitch_blocks(lambda: map(store.get, done))
    yield Progress("graph", 1, 1)
    raise_if_stopped(stop, "graph")
    assert isinstance(model, Model)  # noqa: S101 - this process has the model, not its path
    if note := anisotropy_warning(model.architecture, read.axes.slice_distance):
        notes.insert(0, note)
    ids = lazy_ids(store, plan.size, stitched, temporary=temporary)
    # Blocks have axes TZYX; labels have those of the image, in its order.
    order = ["".join(a for a in "TZYX" if a in read.axes.space).index(a) for a in read.axes.space]
    evidence = None
    if stitched.evidence is not None:
        evidence = lazy_evidence(store)
        in_order = read.axes.to_image_order(np.moveaxis(evidence, -1, 0))
        evidence = np.moveaxis(in_order, 0, -1)
    return Hierarchy(
        patches=read.axes.to_image_order(ids[0]),
        statistics=replace(stitched.statistics, centroid=stitched.statistics.centroid[:, order]),
        graph=stitched.graph,
        axes=read.axes,
        params=work.params,
        comparison=comparison,
        brightness=None,
        evidence=evidence,
        evidence_of_patches=stitched.evidence,
        model_fingerprint=model.fingerprint,
        notes=tuple(notes),
        coarse=tuple(map(read.axes.to_image_order, ids[1:])),
        calibration=None if work.coarsening is None else work.coarsening.calibration,
        _search=ObjectSearchInBlocks(read),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """How an image is cut into blocks, and the final size of patches."""

    blocks: list[Block]
    size: tuple[int, ...]
    pixels_per_patch_before: float  # before patches are joined
    pixels_per_patch: float  # after; if it is the same, they are not joined

    @classmethod
    def of(
        cls,
        image: BlockImage,
        given: BlockParams,
        params: SegmentationParams,
        model: Model,
        stored_size: tuple[int, ...],
    ) -> _Plan:
        """Plan blocks; those of a run that continues have the stored size if none is given."""
        shape = image.shape
        align, margin = _alignment_and_margin(image, params, model)
        deep = model.architecture.dimensions == 3
        # Not computed again: free memory may have changed since.
        size = stored_size if given.block_size == "auto" else ()
        # One that does not fit is of another run: opening the folder refuses it.
        if len(size) != len(shape) or any(np.mod(size, align)):
            size = _block_shape(shape, given.block_size, align, deep=deep)
        number = math.prod(-(-n // s) for n, s in zip(shape, size, strict=True))
        if number > _MOST_BLOCKS:
            raise InputError(
                f"{image.name} has {math.prod(shape):,} pixels, read as {image.axes}: that is "
                f"{number:,} blocks of {' x '.join(map(str, size))}, and {_MOST_BLOCKS:,} are the "
                "most. Choose larger blocks, or check the file."
            )
        before = float(math.prod(patch_shape(image.axes, params.patch_size)))
        most = given.max_patches
        if most == "auto":
            most = _DEFAULT_PATCHES + math.prod(shape) // _PIXELS_PER_MORE_PATCH
        per_patch = max(math.prod(shape) / most, before)
        return cls(plan_blocks(shape, size, margin, align), size, before, per_patch)


def _alignment_and_margin(
    image: BlockImage, params: SegmentationParams, model: Model
) -> tuple[list[int], list[int]]:
    """Per axis, what blocks are multiples of, and the margin that encoding needs."""
    architecture = model.architecture
    reach = architecture.receptive_radius(decoded=params.source == "decoder")
    # The network does not look along other axes (T; Z in 2D): no margin there.
    others = len(image.shape) - architecture.dimensions
    # Sums are first taken over squares of a grid, which must be the same in every block.
    units = [1] * others + [max(n, SQUARE) for n in architecture.total_stride]
    sides = patch_shape(image.axes, params.patch_size)
    return (
        [math.lcm(n, side) for n, side in zip(units, sides, strict=True)],
        [0] * others + list(reach),
    )


def _block_shape(
    shape: tuple[int, ...], wanted: int | Literal["auto"], align: list[int], *, deep: bool = False
) -> tuple[int, ...]:
    """Pixels of a block along each axis; flat ones where margins lie in the planes only."""
    pixels = int(
        np.clip(free_memory() / _FREE_BYTES_PER_BLOCK_PIXEL, _MIN_BLOCK_PIXELS, _MAX_BLOCK_PIXELS)
    )
    if wanted != "auto":
        sides = [wanted] * len(shape)
    elif len(shape) == 2:
        sides = [math.isqrt(pixels)] * 2
    else:
        plane = round(pixels ** (1 / len(shape))) if deep else _PLANE
        depth = max(1, round((pixels / plane**2) ** (1 / (len(shape) - 2))))
        sides = [depth] * (len(shape) - 2) + [plane] * 2
    return tuple(
        min(max(a, side // a * a), -(-n // a) * a)
        for n, side, a in zip(shape, sides, align, strict=True)
    )


def _run_settings(
    read: BlockImage, model: Model, params: SegmentationParams, blocks: BlockParams, plan: _Plan
) -> dict[str, Any]:
    """All that the patches depend on, as plain values."""
    return {
        "format": _FORMAT,
        "image": [read.axes.channels, *read.shape],
        "axes": read.axes.letters,
        "intensity": [list(read.intensity.low), list(read.intensity.high)],
        "model": model.fingerprint,
        **params.model_dump(mode="json", include=_PARAMS_OF_PATCHES),
        "patch": list(patch_shape(read.axes, params.patch_size)),
        "density": list(pixel_density(read.axes)),
        "block": list(plan.size),
        "max_patches": blocks.max_patches,
        "pixels": list(read.digests),
        "precision": "float32",
    }


def _number_of_features(work: BlockWork) -> int:
    assert isinstance(work.model, Model)  # noqa: S101 - this process has the model, not its path
    channels = dict(enumerate(work.model.level_channels(work.params.source)))
    channels[0] = work.image.axes.channels  # of a model for any number of them
    return sum(channels[level] for level in work.model.levels(work.params.levels))


def _coarsening(
    work: BlockWork, plan: _Plan, comparison: ComparisonParams, stop: StopFlag | None
) -> Generator[Progress, None, PatchCoarsening]:
    """Estimate from parts of an image how patches are joined; saved for runs that continue."""
    saved = work.store.coarsening(_number_of_features(work))
    if saved is not None:
        return saved
    parts, failed = [], None
    notes: list[str] = []
    blocks = _sample_parts(work, plan)
    for number, block in enumerate(blocks, 1):
        try:
            raw = work.image.raw(block.outer)
        except InputError as error:
            if not work.skip:
                raise
            failed = error
            continue
        messages: list[str] = []
        _, statistics, graph, _ = work.patches(raw, block, messages, stop)
        parts.append((statistics, graph))
        trim_heap()
        notes += messages
        yield Progress("read", number, len(blocks), message=" ".join(messages))
    if failed is not None and not parts:
        raise failed
    time = 0 if "T" in work.image.axes.letters else None
    coarsening = PatchCoarsening.estimate(parts, plan.pixels_per_patch, comparison, time, stop)
    work.store.put_coarsening(coarsening, notes)
    return coarsening


def _projection(work: BlockWork, plan: _Plan, stop: StopFlag | None) -> EvidenceProjection | None:
    """Estimate the projection of the evidence from parts of an image, saved for later runs."""
    saved = work.store.projection()
    if saved is not None:
        return saved
    assert isinstance(work.model, Model)  # noqa: S101 - this process has the model, not its path
    model, images = work.model.fitted(work.image.axes.channels), []
    for block in _sample_parts(work, plan):
        try:
            images.append(work.image.scaled(work.image.raw(block.inner)).pixels)
        except InputError:
            if not work.skip:
                raise
    if not images:
        return None
    strides = {i: model.architecture.stride(i) for i in model.levels(work.params.levels)}
    device, source = choose_device(work.device), work.params.source
    projection = EvidenceProjection.of_images(model.network, images, strides, source, device, stop)
    others = len(work.image.shape) - model.architecture.dimensions
    work.store.put_projection(projection, (1,) * others + model.architecture.evidence_step)
    return projection


def _sample_parts(work: BlockWork, plan: _Plan) -> list[Block]:
    """Parts spread over an image, none larger than a block."""
    shape = work.image.shape
    align, margin = _alignment_and_margin(work.image, work.params, work.model)  # type: ignore[arg-type]
    factor = min(1.0, (_PART_PIXELS / math.prod(plan.size)) ** (1 / len(plan.size)))
    size = [max(1, round(n * factor)) for n in plan.size]
    parts = plan_blocks(shape, size, margin, align)
    chosen = np.unique(np.linspace(0, len(parts) - 1, _PARTS + 2).round().astype(int)[1:-1])
    return [parts[i] for i in chosen]


def _process(
    work: BlockWork, todo: list[Block], stop: StopFlag | None
) -> Generator[Progress, None, list[str]]:
    """Process blocks one after the other; return why some were left out."""
    clock = Clock(len(todo))
    notes: list[str] = []
    for done, block in enumerate(todo, 1):
        raise_if_stopped(stop, "encode")
        messages = process_block(work, block, stop)
        notes += messages
        left = clock.seconds_left(done)
        yield Progress("encode", done, len(todo), "", left, message=" ".join(messages))
    return notes
