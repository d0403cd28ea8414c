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

from napari_aeseg.errors import InputError
from napari_aeseg.images.whole import part_of, whole_file
from napari_aeseg.regions.graph import RegionGraph
from napari_aeseg.regions.joining import BlockPatches
from napari_aeseg.regions.reduction import Reduction
from napari_aeseg.regions.statistics import PatchStatistics

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from napari_aeseg.images.blocks import Block

# Pixels along each side of what is read from disk at once, less along the axes of a volume that
# are not seen; and of what a screen shows.
_CHUNK, _DEEP_CHUNK, _SCREEN = 512, 8, 1024
# The same of images that are volumes: an axis with so many steps at most does not make one.
_VOLUME_CHUNK, _FEW = 64, 8
# What says that a folder is one of blocks, and that it is about to be.
_ABOUT, _BEGUN = "run.json", "run.begun"
_NOTES = "notes"
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
            If the folder holds something else.
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
            return cls(path)
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

    def _make_patches(self, shape: tuple[int, ...], block: tuple[int, ...]) -> None:
        import zarr

        for step in steps_of(shape, block):
            deep = [_chunk(n, _DEEP_CHUNK) for n in block[:-2]]
            chunks = (*deep, *(_chunk(n // step, _CHUNK) for n in block[-2:]))
            zarr.create_array(
                store=str(self._ids(step)),
                shape=(*shape[:-2], *(-(-n // step) for n in shape[-2:])),
                chunks=chunks,
                dtype="int32",
                fill_value=0,
                overwrite=True,  # of what was cut short
            )

    def _ids(self, step: int) -> Path:
        return self.folder / ("patches" if step == 1 else f"patches_{step}")

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
                shutil.rmtree(part, ignore_errors=True)
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
        _save(self._file(block), {**arrays, _NOTES: np.array(notes, np.str_)})

    def get(self, block: Block) -> BlockPatches:
        """Return what was found in a block."""
        with np.load(self._file(block), allow_pickle=False) as file:
            statistics = PatchStatistics(*(file[name] for name in _ARRAYS))
            graph = RegionGraph(len(statistics.count), file["edges"], file["border"])
            faces = tuple(
                (file[f"face_{axis}_0"], file[f"face_{axis}_1"]) for axis in range(len(block.index))
            )
        return BlockPatches(block.index, statistics, graph, faces)

    def put_reduction(self, reduction: Reduction, notes: Sequence[str] = ()) -> None:
        """Keep how patches are joined, so that all blocks are treated alike."""
        arrays = {
            "pixels": np.array(reduction.pixels, np.float64),
            "floor": reduction.floor,
            "matrix": reduction.matrix,
            _NOTES: np.array(notes, np.str_),
        }
        _save(self._reduction, arrays)

    def reduction(self) -> Reduction | None:
        """Return how patches are joined, if that is known."""
        if not self._reduction.is_file():
            return None
        with np.load(self._reduction, allow_pickle=False) as file:
            return Reduction(float(file["pixels"]), file["floor"], file["matrix"])

    def notes(self, done: Sequence[Block]) -> list[str]:
        """Return what the user should know of blocks that are done, each sentence once."""
        notes: dict[str, None] = {}
        for path in (self._reduction, *map(self._file, done)):
            if path.is_file():
                with np.load(path, allow_pickle=False) as file:
                    notes |= dict.fromkeys(file[_NOTES].tolist() if _NOTES in file else ())
        return list(notes)

    def delete(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

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


def _chunk(block: int, most: int) -> int:
    """Largest divisor of a block's side that is not above a number: blocks share no chunk."""
    return next(n for n in range(min(most, block), 0, -1) if block % n == 0)


def _about_in(path: Path) -> dict[str, Any]:
    """What the work in a folder is about."""
    try:
        known = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
        known["block"] = [int(n) for n in known["block"]]
    except (ValueError, LookupError, TypeError) as error:
        text = f"{path / _ABOUT} is damaged ({error}): give another folder."
        raise InputError(text) from error
    found: dict[str, Any] = known
    return found


def _check_same(path: Path, about: dict[str, Any]) -> None:
    known = _about_in(path)
    # As they read after a way through JSON.
    about = json.loads(json.dumps(about))
    other = [name for name in about if known.get(name) != about[name]]
    if other:
        listing = ", ".join(f"{n}: {known.get(n)!r} there, {about[n]!r} now" for n in other)
        raise InputError(f"{path} holds blocks of other work ({listing}): give another folder.")


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Complete or not there, whatever happens meanwhile."""
    with whole_file(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
