"""The folder in which blocks that are done are kept, so that work can go on after a stop."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError, shown
from napari_aeseg.io.atomic import check_writable, part_of, remove_folder, whole_file
from napari_aeseg.large.kept_files import (
    NOTES,
    bytes_of,
    check_folder,
    plain_values,
    read_block,
    read_notes,
    read_reduction,
    unusable,
)
from napari_aeseg.regions.compare.fine_scale import FineScale
from napari_aeseg.regions.patches.blocks import BlockPatches
from napari_aeseg.regions.patches.graph import RegionGraph
from napari_aeseg.regions.patches.reduction import Reduction
from napari_aeseg.regions.patches.statistics import PatchStatistics

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from napari_aeseg.images.blocks import Block

# Pixels along each side of what is read from disk at once, less along the axes of a volume that
# are not seen; and of what a screen shows.
_CHUNK, _DEEP_CHUNK, _SCREEN = 512, 8, 1024
# The same of images that are volumes: an axis with so many steps at most does not make one.
_VOLUME_CHUNK, _FEW = 64, 8
_REDUCTION = ("pixels", "matrix", "own_floor", "own")
# What says that a folder is one of blocks, and that it is about to be.
_ABOUT, _BEGUN = "run.json", "run.begun"
# What is said there of the image.
_PIXELS = "pixels"
_ARRAYS = ("count", "mean", "second", "level", "centroid", "intensity")


@dataclass(frozen=True, slots=True)
class BlockStore:
    """A folder with the patch ids of an image and what is known of the patches of each block.

    Parameters
    ----------
    folder : Path
        Holds ``run.json`` (what the work is about), ``patches`` (zarr, int32: 0 where there is no
        patch, else 1 + the patch's number in its block), ``patches_2``, ``patches_4``, ... (every
        second, fourth, ... row and column, to look at from afar) and ``blocks`` (a file per block
        that is done).
    """

    folder: Path

    @classmethod
    def opened(
        cls,
        folder: str | os.PathLike[str] | None,
        about: dict[str, Any],
        shape: tuple[int, ...],
        block: tuple[int, ...],
    ) -> BlockStore:
        """Make a folder, or take up one with the same work in it.

        Parameters
        ----------
        folder : path-like, optional
            Without one, a temporary folder is made, and deleted when nothing refers to the result.
        about : dict
            What results depend on; plain values.
        shape, block : tuple of int
            Of the image and of a block.

        Raises
        ------
        InputError
            If the folder holds something else, or may not be written to.
        """
        if folder is None:
            store = cls(Path(tempfile.mkdtemp(prefix="aeseg-")))
            try:
                store._begin(about, shape, block)
            except BaseException:
                store.delete()
                raise
            return store
        path = Path(folder)
        if (path / _ABOUT).is_file():
            _check_same(path, about)
            check_folder(path, _arrays(shape, block))
            return cls(path)
        check_writable(path)
        begun = path / _BEGUN
        if path.exists() and not (path.is_dir() and (begun.exists() or not any(path.iterdir()))):
            raise InputError(f"{path} is not empty and not a folder of blocks: give another.")
        # Without it, a folder whose making was cut short would be taken for somebody else's.
        path.mkdir(parents=True, exist_ok=True)
        begun.touch()
        cls(path)._begin(about, shape, block)
        begun.unlink()
        return cls(path)

    def _begin(self, about: dict[str, Any], shape: tuple[int, ...], block: tuple[int, ...]) -> None:
        (self.folder / "blocks").mkdir(exist_ok=True)
        self._make_patches(shape, block)
        with whole_file(self.folder / _ABOUT) as part:
            part.write_text(json.dumps(about, indent=1), encoding="utf-8")

    @staticmethod
    def block_in(folder: str | os.PathLike[str] | None) -> tuple[int, ...] | None:
        """Return the shape of the blocks that a folder has, None where there is no work yet."""
        if folder is None or not (Path(folder) / _ABOUT).is_file():
            return None
        return tuple(_about_in(Path(folder))["block"])

    @staticmethod
    def left_out_in(folder: str | os.PathLike[str] | None) -> frozenset[int]:
        """Return the parts of the image that its intensities were known without, as numbers."""
        if folder is None or not (Path(folder) / _ABOUT).is_file():
            return frozenset()
        parts = _about_in(Path(folder)).get(_PIXELS, ())
        return frozenset(number for number, part in enumerate(parts) if part is None)

    def _make_patches(self, shape: tuple[int, ...], block: tuple[int, ...]) -> None:
        import zarr
        from zarr.codecs import ZstdCodec

        for name, (size, chunks) in _arrays(shape, block).items():
            zarr.create_array(
                store=str(self.folder / name),
                shape=size,
                chunks=chunks,
                dtype="int32",
                compressors=ZstdCodec(level=0, checksum=False),
                fill_value=0,
                overwrite=True,  # of what was cut short
            )

    def _ids(self, step: int) -> Path:
        return self.folder / _name(step)

    def patches(self, step: int = 1) -> Any:
        """Return the zarr array of patch ids at every so many-th row and column."""
        import zarr

        return zarr.open_array(str(self._ids(step)), mode="r+")

    @property
    def steps(self) -> list[int]:
        """The steps between rows and columns at which there are patch ids: 1, 2, 4, ..."""
        found = [1]
        while self._ids(2 * found[-1]).is_dir():
            found.append(2 * found[-1])
        return found

    def image(self, pixels: np.ndarray) -> Any:
        """Return an image as a zarr array in the folder, written if it is not there yet.

        It is named after its pixels: who still reads it never sees another one, or half of it.
        """
        import zarr

        content = blake2b(digest_size=16)
        for plane in pixels:
            content.update(np.ascontiguousarray(plane).tobytes())
        path = self.folder / f"image-{content.hexdigest()}"
        if not path.exists():
            part = part_of(path)
            volume = sum(n > _FEW for n in pixels.shape) > 2
            side = _VOLUME_CHUNK if volume else _CHUNK
            chunks = tuple(min(n, side) for n in pixels.shape)
            try:
                kept = zarr.create_array(
                    store=str(part), shape=pixels.shape, chunks=chunks, dtype=pixels.dtype
                )
                kept[...] = pixels
                part.rename(path)
            except BaseException:
                remove_folder(part, failed=True)
                raise
        return zarr.open_array(str(path), mode="r")

    def has(self, block: Block) -> bool:
        """Return whether a block is done."""
        return self._file(block).is_file()

    def put(
        self, block: Block, patches: np.ndarray, found: BlockPatches, notes: Sequence[str] = ()
    ) -> None:
        """Keep what was found in a block; the block is done when its file is there.

        `notes` are what the user should know of it, when work goes on too.
        """
        for step in self.steps:
            deep, plane = block.inner[:-2], block.inner[-2:]
            seen = (slice(side.start // step, -(-side.stop // step)) for side in plane)
            self.patches(step)[(*deep, *seen)] = patches[..., ::step, ::step] + 1
        faces = {
            f"face_{axis}_{end}": face
            for axis, pair in enumerate(found.faces)
            for end, face in enumerate(pair)
        }
        arrays = {name: getattr(found.statistics, name) for name in _ARRAYS}
        arrays |= {"edges": found.graph.edges, "border": found.graph.border, **faces}
        _save(self._file(block), {**arrays, NOTES: bytes_of(notes)})

    def get(self, block: Block) -> BlockPatches:
        """Return what was found in a block; raise InputError if its file is damaged."""
        found = read_block(self._file(block), block)
        statistics = PatchStatistics(*(found[name] for name in _ARRAYS))
        graph = RegionGraph(len(statistics.count), found["edges"], found["border"])
        faces = tuple(
            (found[f"face_{axis}_0"], found[f"face_{axis}_1"]) for axis in range(len(block.index))
        )
        return BlockPatches(block.index, statistics, graph, faces)

    def all_of(
        self, blocks: Sequence[Block], level: np.ndarray, channels: int
    ) -> Iterator[BlockPatches]:
        """Yield what was found in blocks.

        Parameters
        ----------
        blocks : sequence of Block
        level : ndarray of int, shape (F,)
            Of each feature that there must be.
        channels : int
            Of the image.

        Raises
        ------
        InputError
            If a file is damaged, or of another model or image.
        """
        for block in blocks:
            found = self.get(block)
            here = found.statistics
            if not np.array_equal(here.level, level) or here.intensity.shape[1] != channels:
                raise unusable(self._file(block), "it has other features or channels")
            yield found

    def put_reduction(self, reduction: Reduction, notes: Sequence[str] = ()) -> None:
        """Keep how patches are joined, so that all blocks are treated alike."""
        known = {**reduction.known.numbers(), **reduction.known.arrays()}
        arrays: dict[str, Any] = {f"known/{name}": np.asarray(v) for name, v in known.items()}
        arrays |= {name: np.asarray(getattr(reduction, name)) for name in _REDUCTION}
        _save(self._reduction, {**arrays, NOTES: bytes_of(notes)})

    def reduction(self, features: int) -> Reduction | None:
        """Return how patches with so many features are joined, if that is known."""
        if not self._reduction.is_file():
            return None
        found = read_reduction(self._reduction, features)
        arrays = {name.removeprefix("known/"): values for name, values in found.items()}
        try:
            known = FineScale.of_parts(arrays, arrays)
        except ValueError as error:
            raise unusable(self._reduction, error) from error
        return Reduction(known, float(arrays["pixels"]), *(arrays[n] for n in _REDUCTION[1:]))

    def notes(self, done: Sequence[Block]) -> list[str]:
        """Return what the user should know of blocks that are done, each sentence once."""
        notes: dict[str, None] = {}
        for path in (self._reduction, *map(self._file, done)):
            if path.is_file():
                notes |= dict.fromkeys(read_notes(path))
        return list(notes)

    def delete(self) -> None:
        """Delete the folder with all that is in it, after something failed."""
        remove_folder(self.folder, failed=True)

    def delete_with(self, owner: object) -> None:
        """Delete the folder when nothing refers to `owner` any more."""
        weakref.finalize(owner, shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def _reduction(self) -> Path:
        return self.folder / "reduction.npz"

    def _file(self, block: Block) -> Path:
        return self.folder / "blocks" / f"{block.name}.npz"


def steps_of(shape: tuple[int, ...], block: tuple[int, ...]) -> list[int]:
    """Return the steps between rows and columns at which patch ids are kept.

    Up to where an image is no larger than a screen, and as long as blocks begin where a step does:
    blocks that are worked on at the same time must not write to one place.

    Examples
    --------
    >>> steps_of((4096, 9000), (1024, 1024))
    [1, 2, 4, 8, 16]
    """
    steps = [1]
    while max(shape[-2:]) / steps[-1] > _SCREEN and all(
        n % (2 * steps[-1]) == 0 for n in block[-2:]
    ):
        steps.append(2 * steps[-1])
    return steps


def _name(step: int) -> str:
    return "patches" if step == 1 else f"patches_{step}"


def _arrays(
    shape: tuple[int, ...], block: tuple[int, ...]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shape and chunks of the arrays of patch ids, by name."""
    deep = [_chunk(n, _DEEP_CHUNK) for n in block[:-2]]
    return {
        _name(step): (
            (*shape[:-2], *(-(-n // step) for n in shape[-2:])),
            (*deep, *(_chunk(n // step, _CHUNK) for n in block[-2:])),
        )
        for step in steps_of(shape, block)
    }


def _chunk(block: int, most: int) -> int:
    """Largest divisor of a block's side that is not above a number: blocks share no chunk."""
    return next(n for n in range(min(most, block), 0, -1) if block % n == 0)


def _damaged(path: Path, name: str, value: object) -> InputError:
    text = f"{path / _ABOUT} is damaged ({name} = {shown(repr(value), 50)})"
    return InputError(f"{text}: give another folder.")


def _about_in(path: Path) -> dict[str, Any]:
    """What the work in a folder is about."""
    known = plain_values(path / _ABOUT)
    block, parts = known.get("block"), known.get(_PIXELS, [])
    if not isinstance(block, list) or any(type(n) is not int or n < 1 for n in block):
        raise _damaged(path, "block", block)
    if not isinstance(parts, list) or not all(p is None or isinstance(p, str) for p in parts):
        raise _damaged(path, _PIXELS, parts)
    return known


def _check_same(path: Path, about: dict[str, Any]) -> None:
    known = _about_in(path)
    # As they read after a way through JSON.
    about = json.loads(json.dumps(about))
    if known.get("format") != about.get("format"):
        raise InputError(
            f"{path} holds blocks of format {shown(repr(known.get('format')), 50)}, not "
            f"{about.get('format')}: they are of another version of napari-aeseg. Give another "
            "folder."
        )
    other = [name for name in about if name != _PIXELS and known.get(name) != about[name]]
    if other:
        listing = ", ".join(
            f"{n}: {shown(repr(known.get(n)), 80)} there, {about[n]!r} now" for n in other
        )
        raise InputError(f"{path} holds blocks of other work ({listing}): give another folder.")
    if not _same_pixels(known.get(_PIXELS), about[_PIXELS]):
        raise InputError(f"{path} holds blocks of an image with other pixels: give another folder.")


def _same_pixels(known: Sequence[str | None] | None, now: Sequence[str | None]) -> bool:
    """Whether all parts of an image that could be read both times are the same."""
    if known is None:  # folders of the first versions do not say
        return True
    return len(known) == len(now) and all(
        a == b for a, b in zip(known, now, strict=True) if a is not None and b is not None
    )


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Complete or not there, whatever happens meanwhile."""
    with whole_file(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
