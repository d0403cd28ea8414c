"""The files of a folder of blocks, of which nobody knows who changed them: checked when read."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
        raise InputError(f"{file} is damaged ({shown(error)}): give another folder.") from error
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
                f"{path} has links to other places ({shown(links[0], 50)}), which would be written "
                "to: give another folder."
            )
    blocks = path / "blocks"
    odd = [blocks] if not blocks.is_dir() else [f for f in blocks.iterdir() if not f.is_file()]
    if odd:
        raise InputError(f"{odd[0]} is missing, or not what blocks are kept in. {_AGAIN}")
    there = {entry.name for entry in path.glob("patches*")}
    if there != set(arrays):
        raise InputError(
            f"{path} has the patch ids {shown(sorted(there))}, not {sorted(arrays)}: give another "
            "folder."
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
        raise InputError(f"{file} is damaged ({shown(error)}): give another folder.") from error
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
                raise ValueError(f"it holds {shown(sorted(members), 100)}")
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
    return InputError(f"{file} is damaged ({shown(error)}). {_AGAIN}")


def _array(data: bytes, name: str, dtype: np.dtype[Any]) -> np.ndarray:
    """Return an array of the bytes of a .npy file that are as many as its header says."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} is of another version")
    shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
    there = len(data) - stream.tell()
    if found != dtype or math.prod(shape) * dtype.itemsize != there:
        raise ValueError(f"{name} is {found} of shape {shown(shape, 50)} in {there} bytes")
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
