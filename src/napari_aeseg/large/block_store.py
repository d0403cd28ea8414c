"""The folder of an image in blocks: patch ids, and a file for each block that is done."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.autoencoder.border_evidence import EvidenceProjection
from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.io.atomic_write import atomic_write, check_writable, remove_folder, temporary_name
from napari_aeseg.io.zarr_folder import chunks_of
from napari_aeseg.regions.compare.moments import FeatureCalibration
from napari_aeseg.regions.patches.blocks import BlockPatches
from napari_aeseg.regions.patches.coarsening import PatchCoarsening
from napari_aeseg.regions.patches.graph import RegionGraph
from napari_aeseg.regions.patches.statistics import STATISTICS_IN_FILES, PatchStatistics
from napari_aeseg.regions.refine import PatchEvidence

if TYPE_CHECKING:
    from napari_aeseg.images.blocks import Block

# Side of a chunk in pixels, along rows and columns and along other axes; side of a screen.
_CHUNK, _DEEP_CHUNK, _SCREEN = 512, 8, 1024
# The file that makes a folder one of blocks, and the one that says that it is being made.
_RUN, _BEGUN = "run.json", "run.begun"
# Digests of parts of the image, in `run.json`.
_DIGESTS = "pixels"
# Sentences for the user, in the file of a block.
_NOTES = "notes"
# Arrays in the file of a block: dtype, and shape, with E for the number of edges.
_ARRAYS = {**STATISTICS_IN_FILES, "edges": ("int64", "E2"), "border": ("float32", "E")}
_COARSENING = ("pixels_per_patch", "projection", "single_floor", "single_projection")
_CALIBRATION = "calibration/"
# Of the V values of evidence, in blocks that have them.
_EVIDENCE = {"evidence_mean": ("float32", "PV"), "evidence_within": ("float64", "VV")}
_PROJECTION = ("weights", "offset")


@dataclass(frozen=True)
class BlockStore:
    """A folder with the patch ids of an image and the statistics of the patches of each block.

    It holds ``run.json`` (what the results depend on), ``patches`` (zarr, int32: 0 where there is
    no patch, else 1 + the patch's number in its block), ``patches_2``, ``patches_4``, ... (every
    second, fourth, ... row and column, for small magnifications) and ``blocks`` (a file for each
    block that is done), and ``evidence`` (zarr, int8) with its projection in ``evidence.npz``.
    """

    folder: Path

    @classmethod
    def opened(
        cls,
        folder: str | PathLike[str] | None,
        run: dict[str, Any],
        shape: tuple[int, ...],
        block: tuple[int, ...],
    ) -> BlockStore:
        """Make a folder, or open one of the same run, for an image and blocks of these shapes.

        Without a folder, a temporary one is made. `run` is what the results depend on, as plain
        values. Raises InputError if the folder holds something else, or may not be written to.
        """
        if folder is None:
            store = cls(Path(tempfile.mkdtemp(prefix="aeseg-")))
            try:
                store._make(run, shape, block)
            except BaseException:
                store.delete()
                raise
            return store
        path = Path(folder)
        store = cls(path)
        if (path / _RUN).is_file():
            _check_same_run(path, run)
            (path / "blocks").mkdir(exist_ok=True)
            store._check_arrays(shape, block)
            return store
        check_writable(path)
        begun = path / _BEGUN
        if path.exists() and not (path.is_dir() and (begun.exists() or not any(path.iterdir()))):
            raise InputError(
                f"{path} is not empty and holds no blocks of napari-aeseg: choose another folder."
            )
        # If this is interrupted, the next call sees by this file that the folder is ours.
        path.mkdir(parents=True, exist_ok=True)
        begun.touch()
        store._make(run, shape, block)
        begun.unlink()
        return store

    def _make(self, run: dict[str, Any], shape: tuple[int, ...], block: tuple[int, ...]) -> None:
        """Make the arrays of patch ids, then the file that says that all is made."""
        (self.folder / "blocks").mkdir(exist_ok=True)
        for step, (size, chunks) in _arrays_of_ids(shape, block).items():
            _make_array(self._ids(step), size, chunks, "int32")
        with atomic_write(self.folder / _RUN) as part:
            part.write_text(json.dumps(run, indent=1), encoding="utf-8")

    def _check_arrays(self, shape: tuple[int, ...], block: tuple[int, ...]) -> None:
        """Raise InputError unless the arrays of patch ids are those that were made."""
        for step, expected in _arrays_of_ids(shape, block).items():
            try:
                array = self.patches(step)
            # zarr raises all kinds of errors on damaged files.
            except Exception as error:
                raise _damaged(self._ids(step), error, "Choose another folder.") from error
            if (array.shape, array.chunks) != expected or array.dtype != np.int32:
                reason = f"it is {array.dtype} of shape {array.shape}"
                raise _damaged(self._ids(step), reason, "Choose another folder.")

    def _ids(self, step: int) -> Path:
        return self.folder / ("patches" if step == 1 else f"patches_{step}")

    def patches(self, step: int = 1) -> Any:
        """Return the zarr array of patch ids at every n-th row and column."""
        import zarr

        return zarr.open_array(str(self._ids(step)), mode="r+")

    @property
    def steps(self) -> list[int]:
        """The steps between rows and columns at which there are patch ids: 1, 2, 4, ..."""
        steps = [1]
        while self._ids(2 * steps[-1]).is_dir():
            steps.append(2 * steps[-1])
        return steps

    def image(self, pixels: np.ndarray) -> Any:
        """Return an image as a zarr array in the folder, written if it is not there yet.

        It is named after its pixels: its readers never see another image, or half of it.
        """
        import zarr

        content = blake2b(digest_size=16)
        for plane in pixels:  # by plane: a copy of all may not fit into memory
            content.update(np.ascontiguousarray(plane).tobytes())
        path = self.folder / f"image-{content.hexdigest()}"
        if not path.exists():
            part = temporary_name(path)
            try:
                zarr.create_array(store=str(part), data=pixels, chunks=chunks_of(pixels.shape))
                part.rename(path)
            except BaseException:
                remove_folder(part, failed=True)
                raise
        return zarr.open_array(str(path), mode="r")

    def has(self, block: Block) -> bool:
        """Return whether a block is done."""
        return self._file(block).is_file()

    def put(
        self,
        block: Block,
        patches: np.ndarray,
        result: BlockPatches,
        notes: Sequence[str] = (),
        evidence: np.ndarray | None = None,
    ) -> None:
        """Write the patches of a block; the block is done when its file is there.

        `notes` are for the user, also when a later call goes on from here.
        """
        for step in self.steps:
            deep, plane = block.inner[:-2], block.inner[-2:]
            part = (slice(side.start // step, -(-side.stop // step)) for side in plane)
            self.patches(step)[(*deep, *part)] = patches[..., ::step, ::step] + 1
        if evidence is not None:
            array = self.evidence
            sides = zip(patches.shape, evidence.shape[:-1], block.inner, strict=True)
            first = [inner.start // -(-n // c) for n, c, inner in sides]
            cells = zip(first, evidence.shape[:-1], strict=True)
            array[tuple(slice(i, i + n) for i, n in cells)] = evidence
        faces = {
            f"face_{axis}_{end}": face
            for axis, pair in enumerate(result.faces)
            for end, face in enumerate(pair)
        }
        arrays = {name: getattr(result.statistics, name) for name in STATISTICS_IN_FILES}
        arrays |= {"edges": result.graph.edges, "border": result.graph.border, **faces}
        if result.evidence is not None:
            arrays["evidence_mean"] = result.evidence.mean
            arrays["evidence_within"] = result.evidence.within
        # Last, because this file says that the patch ids are written, too.
        _write_npz(self._file(block), arrays, notes)

    def get(self, block: Block) -> BlockPatches:
        """Return the patches of a block that is done; a damaged file raises InputError."""
        axes, file = range(len(block.inner)), self._file(block)
        arrays = _read_npz(file)
        faces = {f"face_{axis}_{end}": "int32" for axis in axes for end in (0, 1)}
        kinds = _ARRAYS | (_EVIDENCE if "evidence_mean" in arrays else {})
        expected = {name: dtype for name, (dtype, _) in kinds.items()} | faces
        if {name: a.dtype.name for name, a in arrays.items() if name != _NOTES} != expected:
            raise _damaged(file, f"it holds {sanitized(sorted(arrays), 100)}")
        sizes = {"2": 2, "D": len(axes)}  # the same letter is the same size in all shapes
        for name, (_, letters) in kinds.items():
            shape = arrays[name].shape
            if len(shape) != len(letters) or any(
                sizes.setdefault(a, n) != n for a, n in zip(letters, shape, strict=True)
            ):
                raise _damaged(file, f"{name} has shape {shape}")
        return BlockPatches(
            block.index,
            PatchStatistics(*(arrays[name] for name in STATISTICS_IN_FILES)),
            RegionGraph(len(arrays["count"]), arrays["edges"], arrays["border"]),
            tuple((arrays[f"face_{axis}_0"], arrays[f"face_{axis}_1"]) for axis in axes),
            PatchEvidence(*(arrays[name] for name in _EVIDENCE)) if kinds != _ARRAYS else None,
        )

    @property
    def evidence(self) -> Any:
        """The zarr array of the evidence, shape (*cells, V)."""
        import zarr

        return zarr.open_array(str(self.folder / "evidence"), mode="r+")

    def put_projection(self, projection: EvidenceProjection, step: tuple[int, ...]) -> None:
        """Make the array of the evidence, with a value for each cell of so many pixels."""
        ids, number = self.patches(), len(projection.offset)
        cells, chunks = (
            tuple(-(-n // s) for n, s in zip(sides, step, strict=True))
            for sides in (ids.shape, ids.chunks)
        )
        _make_array(self.folder / "evidence", (*cells, number), (*chunks, number), "int8")
        # Last, because this file says that the array is there.
        arrays = {name: getattr(projection, name) for name in _PROJECTION}
        _write_npz(self.folder / "evidence.npz", arrays, ())

    def projection(self) -> EvidenceProjection | None:
        """Return the projection of the evidence; None if it is not known yet."""
        file = self.folder / "evidence.npz"
        if not file.is_file():
            return None
        return EvidenceProjection(*_read_npz(file, _PROJECTION).values())

    def put_coarsening(self, coarsening: PatchCoarsening, notes: Sequence[str] = ()) -> None:
        """Write how patches are joined, so that all blocks are treated alike."""
        arrays = {name: np.asarray(getattr(coarsening, name)) for name in _COARSENING}
        calibration = {**coarsening.calibration.numbers(), **coarsening.calibration.arrays()}
        arrays |= {_CALIBRATION + name: np.asarray(v) for name, v in calibration.items()}
        _write_npz(self._coarsening, arrays, notes)

    def coarsening(self, n_features: int) -> PatchCoarsening | None:
        """Return how patches with so many features are joined; None if that is not known yet."""
        if not self._coarsening.is_file():
            return None
        arrays = _read_npz(self._coarsening)
        parts = {
            name.removeprefix(_CALIBRATION): values
            for name, values in arrays.items()
            if name.startswith(_CALIBRATION)
        }
        try:
            calibration = FeatureCalibration.of_parts(parts, parts)
            pixels, *maps = (arrays[name] for name in _COARSENING)
            if len(calibration.floor) != n_features or len(maps[0]) != 2 * n_features:
                raise ValueError(f"it is not of {n_features} features")
            return PatchCoarsening(calibration, float(pixels), *maps)
        except (LookupError, TypeError, ValueError) as error:
            raise _damaged(self._coarsening, error) from error

    def notes(self, done: Sequence[Block]) -> list[str]:
        """Return the notes of blocks that are done, each sentence once."""
        files = [file for file in (self._coarsening, *map(self._file, done)) if file.is_file()]
        texts = (_read_npz(file, [_NOTES])[_NOTES] for file in files)
        return list(dict.fromkeys(str(note) for notes in texts for note in notes))

    def delete(self) -> None:
        """Delete the folder with its contents, after something failed."""
        remove_folder(self.folder, failed=True)

    @property
    def _coarsening(self) -> Path:
        return self.folder / "coarsening.npz"

    def _file(self, block: Block) -> Path:
        return self.folder / "blocks" / f"{block.name}.npz"


def _steps_of(shape: tuple[int, ...], block: tuple[int, ...]) -> list[int]:
    """Steps between rows and columns at which patch ids are stored: 1, 2, 4, ...

    Up to where an image is no larger than a screen, and as long as blocks begin where a step does:
    two blocks must not write to one chunk at the same time.
    """
    steps = [1]
    while max(shape[-2:]) / steps[-1] > _SCREEN and all(
        n % (2 * steps[-1]) == 0 for n in block[-2:]
    ):
        steps.append(2 * steps[-1])
    return steps


def _make_array(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> None:
    """Make a zarr array of zeros, also where an interrupted call has left one."""
    import zarr
    from zarr.codecs import ZstdCodec

    # With the checksum, damaged chunks raise an error instead of giving wrong values.
    codec = ZstdCodec(level=0, checksum=True)
    zarr.create_array(
        str(path), shape=shape, chunks=chunks, dtype=dtype, compressors=codec, overwrite=True
    )


def _arrays_of_ids(
    shape: tuple[int, ...], block: tuple[int, ...]
) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shape and chunks of the arrays of patch ids, by the step between rows and columns."""
    deep = [_chunk(n, _DEEP_CHUNK) for n in block[:-2]]
    return {
        step: (
            (*shape[:-2], *(-(-n // step) for n in shape[-2:])),
            (*deep, *(_chunk(n // step, _CHUNK) for n in block[-2:])),
        )
        for step in _steps_of(shape, block)
    }


def _chunk(block: int, largest: int) -> int:
    """Largest divisor of a block's side that is not above a number: blocks share no chunk."""
    return next(n for n in range(min(largest, block), 0, -1) if block % n == 0)


def saved_run(folder: str | PathLike[str] | None) -> dict[str, Any] | None:
    """Return what the results in a folder depend on; None if there are none yet.

    "block" is the shape of a block, and "pixels" are the digests of the parts of the image in which
    intensities were measured, None for those that were left out.
    """
    if folder is None or not (Path(folder) / _RUN).is_file():
        return None
    file = Path(folder) / _RUN
    try:
        run: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not all(type(n) is int and n > 0 for n in run["block"]):  # True is an instance of int
            raise ValueError(f"block = {run['block']}")
        list(run[_DIGESTS])  # raises if it is damaged
    except (OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(file, repr(error), "Choose another folder.") from error
    return run


def _check_same_run(path: Path, run: dict[str, Any]) -> None:
    """Raise InputError if the blocks in a folder depend on something else."""
    saved = saved_run(path) or {}
    now = json.loads(json.dumps(run))  # as plain values read from JSON
    differ = [name for name in now if name != _DIGESTS and saved.get(name) != now[name]]
    if differ:
        listing = ", ".join(
            f"{n}: {sanitized(repr(saved.get(n)), 80)} saved, {now[n]!r} now" for n in differ
        )
        raise InputError(
            f"{path} holds blocks of a different run ({listing}): choose another folder."
        )
    both = list(zip(saved[_DIGESTS], now[_DIGESTS], strict=False))
    # None: the part could not be read one of the times.
    same = all(a == b for a, b in both if a is not None and b is not None)
    if not same or len(both) != len(now[_DIGESTS]):
        raise InputError(f"{path} holds blocks of an image with other pixels: choose another one.")


def _write_npz(file: Path, arrays: Mapping[str, np.ndarray], notes: Sequence[str]) -> None:
    """Write arrays uncompressed; the file is there when it is complete."""
    with atomic_write(file) as part, part.open("wb") as stream:
        np.savez(stream, **arrays, **{_NOTES: np.array(notes, str)})  # type: ignore[arg-type]


def _read_npz(file: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a file, or those of some names; zip has a checksum of each."""
    try:
        # A pickle could run code.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names or archive.files}
        for name, values in arrays.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(f"{name} has NaN or infinite values")
    except MemoryError:
        raise
    # zipfile and numpy raise all kinds of errors on damaged files.
    except Exception as error:
        raise _damaged(file, error) from error
    return arrays


def _damaged(
    path: Path, reason: object, advice: str = "Delete it to compute it again."
) -> InputError:
    """Return the error for a file or an array that cannot be used."""
    return InputError(f"{path} is damaged ({sanitized(reason)}). {advice}")
