"""The folder in which blocks that are done are kept, so that work can go on after a stop."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import tempfile
import weakref
import zipfile
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.io.atomic import atomic_write, check_writable, remove_folder, temporary_name
from napari_aeseg.regions.compare.moments import FeatureCalibration
from napari_aeseg.regions.patches.blocks import BlockPatches
from napari_aeseg.regions.patches.graph import RegionGraph
from napari_aeseg.regions.patches.reduction import PatchCoarsening
from napari_aeseg.regions.patches.statistics import PatchStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_aeseg.images.blocks import Block


# Bytes of a file of plain values, mean squares of which sums in float32 are finite, the deepest
# level of features.
_MOST_TEXT, _LARGEST_SQUARE, _DEEPEST = 2**20, 1e30, 6
_STATISTICS = {
    "count": "float64",
    "mean": "float32",
    "second": "float32",
    "level": "int64",
    "centroid": "float64",
    "intensity": "float64",
}
_GRAPH = {"edges": "int64", "border": "float32"}
_MODEL = ("own", "eigenvalues", "vectors", "covariance")
_REDUCTION = {
    "pixels": "float64",
    "matrix": "float32",
    "own_floor": "float32",
    "own": "float32",
    "known/floor": "float32",
    **{f"known/{name}": "float64" for name in ("scale", "contrast", "unit", "offset", "gain")},
    **{f"known/{model}/{part}": "float64" for model in ("everything", "things") for part in _MODEL},
}
# How patch ids are stored.
_METADATA = {"shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"}
_METADATA |= {"attributes", "dimension_names", "zarr_format", "node_type", "storage_transformers"}
_CODECS = [{"endian": "little"}, {"level": 0, "checksum": False}]
#: What the user should know of a block, in a file of it: JSON in bytes.
NOTES = "notes"
# Of maps from features to positions: squares of what comes out are finite in float32.
_LARGEST_FACTOR = 1e15
_AGAIN = "Delete it, and it is made again."


def plain_values(file: Path) -> dict[str, Any]:
    """Return the values of a JSON file; raise InputError if it has none of ours."""
    try:
        if file.is_symlink() or file.stat().st_size > _MOST_TEXT:
            raise ValueError("it is a link, or too long")
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it holds no names")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{file} is damaged ({sanitized(error)}): give another folder.") from error
    return found


def check_folder(path: Path, arrays: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """Raise InputError unless work can go on in a folder without a look at anything outside it.

    Parameters
    ----------
    path : Path
    arrays : dict
        Shape and chunks of each array of patch ids that there must be.
    """
    for folder, folders, files in os.walk(path):
        links = [name for name in (*folders, *files) if os.path.islink(os.path.join(folder, name))]
        if links:
            raise InputError(
                f"{path} has links to other places ({sanitized(links[0], 50)}), which would be "
                "written to: give another folder."
            )
    blocks = path / "blocks"
    odd = [blocks] if not blocks.is_dir() else [f for f in blocks.iterdir() if not f.is_file()]
    if odd:
        raise InputError(f"{odd[0]} is missing, or not what blocks are kept in. {_AGAIN}")
    there = {entry.name for entry in path.glob("patches*")}
    if there != set(arrays):
        raise InputError(
            f"{path} has the patch ids {sanitized(sorted(there))}, not {sorted(arrays)}: give "
            "another folder."
        )
    for name, (shape, chunks) in arrays.items():
        _check_array(path / name / "zarr.json", shape, chunks)


def _check_array(file: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    """Raise InputError unless zarr will write to files in the folder, of the sizes expected."""
    found = plain_values(file)
    try:
        codecs = [codec["name"] for codec in found["codecs"]]
        same = (
            found.keys() <= _METADATA
            and (found["zarr_format"], found["node_type"]) == (3, "array")
            and (found["shape"], found["data_type"]) == (list(shape), "int32")
            and found["chunk_grid"]
            == {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}
            and found["chunk_key_encoding"]
            == {"name": "default", "configuration": {"separator": "/"}}
            and found["fill_value"] == 0
            and codecs == ["bytes", "zstd"]
            and [codec["configuration"] for codec in found["codecs"]] == _CODECS
            and not found.get("storage_transformers")
        )
    except (LookupError, TypeError) as error:
        raise InputError(f"{file} is damaged ({sanitized(error)}): give another folder.") from error
    if not same:
        raise InputError(f"{file} is not as it was written: give another folder.")


def read_npz(file: Path, dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the arrays of a file, which are these and no others; nothing in it is executed.

    Raises
    ------
    InputError
        If the file is damaged, or says that it holds more than it has.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if members.keys() != {f"{name}.npy" for name in dtypes}:
                raise ValueError(f"it holds {sanitized(sorted(members), 100)}")
            stored = all(m.compress_type == zipfile.ZIP_STORED for m in members.values())
            if not stored or sum(m.file_size for m in members.values()) > file.stat().st_size:
                raise ValueError("it claims to hold more than it has")
            return {n: _array(archive.read(f"{n}.npy"), n, np.dtype(d)) for n, d in dtypes.items()}
    except MemoryError:
        raise
    # zipfile and numpy raise all kinds of errors on damaged files.
    except Exception as error:
        raise unusable(file, error) from error


def bytes_of(notes: Sequence[str]) -> np.ndarray:
    """Return sentences as an array that `read_notes` reads."""
    return np.frombuffer(json.dumps(list(notes)).encode(), np.uint8)


def read_notes(file: Path) -> list[str]:
    """Return the sentences in a file; raise InputError if it is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            member = archive.getinfo(f"{NOTES}.npy")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > _MOST_TEXT:
                raise ValueError("its notes are packed, or too long")
            found = json.loads(_array(archive.read(member), NOTES, np.dtype("uint8")).tobytes())
        if not isinstance(found, list) or not all(isinstance(note, str) for note in found):
            raise TypeError("its notes are no sentences")
    except MemoryError:
        raise
    except Exception as error:  # as in `read_npz`
        raise unusable(file, error) from error
    return found


def unusable(file: Path, error: object) -> InputError:
    """Return the error for a file that cannot be gone on with."""
    return InputError(f"{file} is damaged ({sanitized(error)}). {_AGAIN}")


def _array(data: bytes, name: str, dtype: np.dtype[Any]) -> np.ndarray:
    """Return an array of the bytes of a .npy file that are as many as its header says."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} is of another version")
    shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
    there = len(data) - stream.tell()
    if found != dtype or math.prod(shape) * dtype.itemsize != there:
        raise ValueError(f"{name} is {found} of shape {sanitized(shape, 50)} in {there} bytes")
    values = np.frombuffer(bytearray(data), dtype, offset=stream.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def read_block(file: Path, block: Block) -> dict[str, np.ndarray]:
    """Return the arrays of a block that is done; raise InputError if they are not of this block."""
    faces = {f"face_{axis}_{end}": "int32" for axis in range(len(block.inner)) for end in (0, 1)}
    found = read_npz(file, {**_STATISTICS, **_GRAPH, **faces, NOTES: "uint8"})
    try:
        _check_statistics(found, block)
        _check_borders(found, block)
    except ValueError as error:
        raise unusable(file, error) from error
    return found


def _check_statistics(found: Mapping[str, np.ndarray], block: Block) -> None:
    count, level, axes = found["count"], found["level"], len(block.inner)
    if count.ndim != 1 or level.ndim != 1 or not len(count) or not len(level):
        raise ValueError("no patches, or no features")
    rows = len(count)
    for name, columns in (("mean", len(level)), ("second", len(level)), ("centroid", axes)):
        if found[name].shape != (rows, columns):
            raise ValueError(f"{name} has shape {found[name].shape}, not {(rows, columns)}")
    if found["intensity"].ndim != 2 or len(found["intensity"]) != rows:
        raise ValueError(f"intensity has shape {found['intensity'].shape}")
    for name, dtype in _STATISTICS.items():
        if dtype != "int64" and not np.isfinite(found[name]).all():
            raise ValueError(f"{name} has NaN or infinite values")
    pixels = math.prod(side.stop - side.start for side in block.inner)
    if (count < 1).any() or (count != np.floor(count)).any() or count.sum() != pixels:
        raise ValueError("sizes of patches are not those of the block")
    first = np.array([side.start for side in block.inner]) - 0.5
    last = np.array([side.stop for side in block.inner]) - 0.5
    if (found["centroid"] < first).any() or (found["centroid"] > last).any():
        raise ValueError("patches lie outside the block")
    second, mean = found["second"], found["mean"]
    if (second < 0).any() or (second > _LARGEST_SQUARE).any():
        raise ValueError("second has squares below 0 or above 1e30")
    if (np.abs(mean) > _LARGEST_SQUARE**0.5).any():
        raise ValueError("mean has values above 1e15")
    if level.min() < 0 or level.max() > _DEEPEST:
        raise ValueError(f"level is not from 0 to {_DEEPEST}")


def _check_borders(found: Mapping[str, np.ndarray], block: Block) -> None:
    edges, border, number = found["edges"], found["border"], len(found["count"])
    if edges.ndim != 2 or edges.shape[1] != 2 or border.shape != (len(edges),):
        raise ValueError(f"edges of shape {edges.shape} with borders of shape {border.shape}")
    first, second = edges.T
    if len(edges) and (first.min() < 0 or second.max() >= number or (first >= second).any()):
        raise ValueError("edges are no pairs of patches, the smaller first")
    if (np.diff(first * number + second) <= 0).any():
        raise ValueError("edges are not in order")
    if not np.isfinite(border).all() or (border <= 0).any():
        raise ValueError("borders have lengths that are not above 0")
    sides = [side.stop - side.start for side in block.inner]
    for axis in range(len(sides)):
        for end in (0, 1):
            face = found[f"face_{axis}_{end}"]
            if face.shape != (*sides[:axis], *sides[axis + 1 :]):
                raise ValueError(f"a face of shape {face.shape}")
            if face.min() < 0 or face.max() >= number:
                raise ValueError(f"a face with patches {face.min()} to {face.max()}")


def read_reduction(file: Path, features: int) -> dict[str, np.ndarray]:
    """Return how patches with so many features are joined; raise InputError if that cannot be."""
    found = read_npz(file, {**_REDUCTION, NOTES: "uint8"})
    both = 2 * features
    things = len(np.atleast_1d(found["known/things/own"]))
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("pixels", "known/scale"), ())
    shapes |= {"known/contrast": (), "known/unit": (), "known/floor": (features,)}
    shapes |= {"own_floor": (features,), "known/offset": (both,), "known/gain": (both,)}
    for model, size in (("everything", both), ("things", things)):
        shapes |= {f"known/{model}/{part}": (size,) for part in _MODEL[:2]}
        shapes |= {f"known/{model}/{part}": (size, size) for part in _MODEL[2:]}
    odd = [name for name, shape in shapes.items() if found[name].shape != shape]
    odd += [n for n in ("matrix", "own") if found[n].ndim != 2 or len(found[n]) != both]
    if odd or not found["matrix"].shape[1] or things > both:
        raise unusable(file, f"other shapes than there must be: {', '.join(odd)}")
    same = found["own"].shape[1] in (0, found["matrix"].shape[1])
    known = all(np.isfinite(values).all() for values in found.values())
    small = all((np.abs(found[name]) <= _LARGEST_FACTOR).all() for name in ("matrix", "own"))
    floor = (found["own_floor"] > 0).all()
    if not (same and known and small and floor) or found["pixels"] < 1:
        raise unusable(file, "numbers that are out of range")
    return found


# Pixels along each side of what is read from disk at once, less along the axes of a volume that
# are not seen; and of what a screen shows.
_CHUNK, _DEEP_CHUNK, _SCREEN = 512, 8, 1024
# The same of images that are volumes: an axis with so many steps at most does not make one.
_VOLUME_CHUNK, _FEW = 64, 8
_REDUCTION_FIELDS = ("pixels", "matrix", "own_floor", "own")
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
        with atomic_write(self.folder / _ABOUT) as part:
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
            part = temporary_name(path)
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

    def put_reduction(self, reduction: PatchCoarsening, notes: Sequence[str] = ()) -> None:
        """Keep how patches are joined, so that all blocks are treated alike."""
        known = {**reduction.known.numbers(), **reduction.known.arrays()}
        arrays: dict[str, Any] = {f"known/{name}": np.asarray(v) for name, v in known.items()}
        arrays |= {name: np.asarray(getattr(reduction, name)) for name in _REDUCTION_FIELDS}
        _save(self._reduction, {**arrays, NOTES: bytes_of(notes)})

    def reduction(self, features: int) -> PatchCoarsening | None:
        """Return how patches with so many features are joined, if that is known."""
        if not self._reduction.is_file():
            return None
        found = read_reduction(self._reduction, features)
        arrays = {name.removeprefix("known/"): values for name, values in found.items()}
        try:
            known = FeatureCalibration.of_parts(arrays, arrays)
        except ValueError as error:
            raise unusable(self._reduction, error) from error
        return PatchCoarsening(
            known, float(arrays["pixels"]), *(arrays[n] for n in _REDUCTION_FIELDS[1:])
        )

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
    text = f"{path / _ABOUT} is damaged ({name} = {sanitized(repr(value), 50)})"
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
            f"{path} holds blocks of format {sanitized(repr(known.get('format')), 50)}, not "
            f"{about.get('format')}: they are of another version of napari-aeseg. Give another "
            "folder."
        )
    other = [name for name in about if name != _PIXELS and known.get(name) != about[name]]
    if other:
        listing = ", ".join(
            f"{n}: {sanitized(repr(known.get(n)), 80)} there, {about[n]!r} now" for n in other
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
    with atomic_write(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
