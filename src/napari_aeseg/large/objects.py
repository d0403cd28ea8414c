"""Objects of images that do not fit into memory: found block by block, whole on the borders."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_aeseg.errors import InputError
from napari_aeseg.images.blocks import Block, BlockImage, plan_blocks
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.objects.candidates import THIN
from napari_aeseg.regions.objects.detection import ObjectSearch, best_sources
from napari_aeseg.regions.objects.maps import brightness_of, channels_of, stain_of

if TYPE_CHECKING:
    from napari_aeseg.regions.objects.edits import ObjectEdit
    from napari_aeseg.regions.objects.settings import ObjectSettings

# Sides of a block in pixels, and of the margin around it that is searched too, 2D and 3D. The
# margin is doubled, up to this number of times, while an object of the block is cut off by it.
_BLOCK, _MARGIN, _DOUBLED = {2: 1024, 3: 128}, {2: 64, 3: 24}, 2
# Blocks that tell in which map, and with which polarity, objects are.
_SAMPLES = 6
# An object that has more than this share of its pixels in others was found before.
_FOUND_BEFORE = 0.5


@dataclass(frozen=True, slots=True)
class ObjectSearchInBlocks:
    """Finds objects block by block, as `ObjectSearch` does in each of them.

    An object belongs to the block that its centre lies in. Map and polarity are the same in all
    blocks; what is typical of objects is taken from the block and its margin.
    """

    image: BlockImage

    def find(
        self,
        settings: ObjectSettings,
        foreground: Any = None,
        stop: StopFlag | None = None,
        edits: Sequence[ObjectEdit] = (),
    ) -> Any:
        """Return labels as a dask array of int32 whose pixels are in a temporary folder."""
        import dask.array as da

        self._refuse(edits)
        axes, shape = self.image.axes, self.image.shape
        side, first = _BLOCK[len(shape)], self._margin(settings)
        align = [1] * len(shape)
        blocks = plan_blocks(shape, [side] * len(shape), [first] * len(shape), align)
        sources = None if foreground is not None else self._sources(blocks, settings, stop)
        if foreground is not None:
            order = [axes.space.index(a) for a in "ZYX" if a in axes.space]
            foreground = foreground.transpose(order)
        labels, number = _labels_on_disk(shape, side), 0
        for block in blocks:
            of_block, part = self._objects_of(block, settings, foreground, sources, stop)
            number = _write(labels, of_block, part, number)
        return axes.to_image_order(da.from_array(labels, labels.chunks))

    def sizes_at(self, place: tuple[int, ...], *_: Any) -> list[int]:
        """Refuse: there are no candidates of the whole image."""
        raise InputError("Sizes at a pixel are not available for images in blocks: crop the image.")

    def _refuse(self, edits: Sequence[ObjectEdit]) -> None:
        if edits:
            raise InputError("Objects of images in blocks cannot be corrected: crop the image.")
        if "T" in self.image.axes.space:
            raise InputError("Objects over time are not available in blocks: give single frames.")

    def _margin(self, settings: ObjectSettings) -> int:
        """Pixels around a block that are searched first: twice the diameter of an object."""
        ndim = len(self.image.shape)
        diameter = settings.diameter or 0
        if settings.max_size is not None:
            diameter = max(diameter, settings.max_size ** (1 / ndim))
        return max(_MARGIN[ndim], int(np.ceil(2 * diameter)))

    def _search(self, part: tuple[slice, ...]) -> ObjectSearch:
        pixels = self.image.scaled(self.image.raw(part)).pixels
        stain, channels = stain_of(pixels), channels_of(pixels)
        maps = [brightness_of(pixels), *([] if stain is None else [stain])]
        spacing = self.image.axes.spacing if "Z" in self.image.axes.space else None
        return ObjectSearch(maps, spacing, () if channels is None else tuple(channels))

    def _sources(
        self, blocks: list[Block], settings: ObjectSettings, stop: StopFlag | None
    ) -> list[tuple[int, int]]:
        """The map and polarity that have the most evidence in some blocks."""
        total: dict[tuple[int, int], float] = {}
        for block in blocks[:: -(-len(blocks) // _SAMPLES)]:
            for source, value in self._search(block.inner).evidence(settings, stop).items():
                total[source] = total.get(source, 0) + value
        return best_sources(total, settings)

    def _objects_of(
        self,
        block: Block,
        settings: ObjectSettings,
        foreground: Any,
        sources: list[tuple[int, int]] | None,
        stop: StopFlag | None,
    ) -> tuple[np.ndarray, tuple[slice, ...]]:
        """The objects whose centre lies in a block, and the part of the image that they are of."""
        for doubling in range(_DOUBLED + 1):
            raise_if_stopped(stop, "objects")
            outer = _widened(block, doubling, self.image.shape)
            mask = None if foreground is None else np.asarray(foreground[outer])
            all_objects = self._search(outer).find(
                replace(settings, exclude_borders=False), mask, stop, sources
            )
            labels = _with_centre_inside(all_objects, block, outer)
            edges = list(_edges(labels, outer, self.image.shape))
            cut_off = np.concatenate(
                [labels[place].ravel() for place, at_end in edges if not at_end]
                or [np.zeros(0, int)]
            )
            if not cut_off.any():
                break
        if settings.exclude_borders:
            for place, at_end in edges:
                if at_end:
                    labels[np.isin(labels, np.setdiff1d(labels[place], 0))] = 0
        return labels, outer


def _labels_on_disk(shape: tuple[int, ...], side: int) -> Any:
    """Return an array of zeros in a temporary folder, which is removed with it."""
    import zarr

    folder = tempfile.mkdtemp(prefix="aeseg-objects-")
    chunks = tuple(min(side, n) for n in shape)
    array = zarr.create_array(f"{folder}/labels", shape=shape, chunks=chunks, dtype="int32")
    weakref.finalize(array, shutil.rmtree, folder, ignore_errors=True)
    return array


def _widened(block: Block, doubling: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The pixels of a block with its margin doubled so many times."""
    sides = zip(block.inner, block.outer, shape, strict=True)
    margin = max(max(i.start - o.start, o.stop - i.stop) for i, o, _ in sides) << doubling
    return tuple(
        slice(max(0, i.start - margin), min(n, i.stop + margin))
        for i, n in zip(block.inner, shape, strict=True)
    )


def _with_centre_inside(labels: np.ndarray, block: Block, outer: tuple[slice, ...]) -> np.ndarray:
    """Labels whose centre lies in the inner part of a block; 0 for the others."""
    number = int(labels.max(initial=0))
    if not number:
        return labels
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, np.arange(1, number + 1)))
    keep = np.ones(number, bool)
    for centre, inner, around in zip(centres.T, block.inner, outer, strict=True):
        at = np.rint(centre).astype(int) + around.start
        keep &= (at >= inner.start) & (at < inner.stop)
    return np.where(np.append(False, keep)[labels], labels, 0)


def _edges(
    labels: np.ndarray, outer: tuple[slice, ...], shape: tuple[int, ...]
) -> Iterator[tuple[tuple[slice | int, ...], bool]]:
    """The outermost pixels on each side of a part, and whether the image ends there."""
    for axis, end in product(range(labels.ndim), (0, -1)):
        if labels.ndim == 2 or shape[axis] >= THIN:
            place = tuple(slice(None) if a != axis else end for a in range(labels.ndim))
            yield place, outer[axis].start == 0 if end == 0 else outer[axis].stop == shape[axis]


def _write(stored: Any, labels: np.ndarray, part: tuple[slice, ...], number: int) -> int:
    """Add objects to those stored, numbered on from `number`; return the last number."""
    if not labels.any():
        return number
    before = np.asarray(stored[part])
    for label, place in enumerate(ndimage.find_objects(labels), 1):
        if place is None:
            continue
        inside = labels[place] == label
        free = inside & (before[place] == 0)
        if free.sum() < (1 - _FOUND_BEFORE) * inside.sum():
            continue
        number += 1
        before[place][free] = number
    stored[part] = before
    return number
