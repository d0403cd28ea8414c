"""OME-Zarr: images are opened without being loaded, labels are written with a pyramid."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import letters_of_names
from napari_aeseg.io.atomic_write import remove_folder, temporary_name
from napari_aeseg.io.file_array import (
    FileArray,
    ImageFile,
    check_number,
    check_only_image,
    resolution_notes,
    series_notes,
)
from napari_aeseg.progress import Clock, Progress, StopFlag, raise_if_stopped

Part = tuple[slice, ...]

# Files that make a folder a zarr array or group, of zarr 3 and 2.
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
# The attribute of a group in which this package notes what it wrote.
_KEY = "napari-aeseg"
# Side of a chunk in pixels, and chunks along each side of a file (shard), of flat images and of
# volumes.
_CHUNK, _SHARD = {2: 512, 3: 64}, {2: 4, 3: 4}
# The coarsest level has at most so many rows and columns.
_COARSEST = 512
# Parts that are compared with the file before writing goes on.
_COMPARED = 4
_CHOOSE_ANOTHER = "choose another name, or delete it first"


def is_zarr(path: str | PathLike[str]) -> bool:
    """Return whether a path is the folder of a zarr array or group."""
    path = Path(path)
    return path.is_dir() and (
        path.suffix.lower() == ".zarr" or any((path / name).is_file() for name in _ZARR_FILES)
    )


def open_zarr(path: Path, _largest: float = 0, resolution: int = 0, series: int = 0) -> ImageFile:
    """Open a zarr array, or one resolution of an OME-Zarr image; it is never loaded.

    Named time, channel and slice axes of size 1 are dropped. Raises InputError if a group holds no
    image, or several that are no series of one file.
    """
    import zarr

    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        # As zarr 3 or xarray store them.
        names: Any = getattr(node.metadata, "dimension_names", None)
        names = names or node.attrs.get("_ARRAY_DIMENSIONS", ())
        check_only_image(path, resolution, series)
        return _squeezed(path, letters_of_names(names, node.ndim), {})
    attributes: dict[str, Any] = dict(node.attrs)
    metadata = attributes.get("ome", attributes)  # only version 0.5 has "ome"
    if "multiscales" in metadata:
        return _open_multiscale(path, metadata["multiscales"], resolution, series)
    if "plate" in metadata or "well" in metadata:
        raise InputError(f"{path.name} is a plate or well: give one of the images in it.")
    members = [name for name in sorted(node.group_keys()) if name != "OME"]
    if "bioformats2raw.layout" in metadata:  # images that are called 0, 1 ...
        names = sorted(members, key=lambda name: (len(name), name))
        check_number("series", series, len(names), path.name)
        opened = open_zarr(path / names[series], resolution=resolution)
        return replace(opened, notes=(*opened.notes, *series_notes(series, names)))
    members += sorted(node.array_keys())
    if len(members) == 1:
        return open_zarr(path / members[0], resolution=resolution, series=series)
    listing = f"{', '.join(members[:5])}{' ...' if len(members) > 5 else ''}"
    raise InputError(
        f"{path.name} is a group of {len(members)} images or arrays ({listing}): give one of them, "
        f"such as {path.name}/{members[0]}."
        if members
        else f"{path.name} holds no image."
    )


def _open_multiscale(
    path: Path, multiscales: Sequence[Mapping[str, Any]], resolution: int, series: int
) -> ImageFile:
    """One resolution of an image as OME-Zarr 0.1 to 0.5 describes it."""
    check_number("series", series, len(multiscales), path.name)
    multiscale = multiscales[series]
    levels = multiscale["datasets"]
    check_number("resolution", resolution, len(levels), path.name)
    level = levels[resolution]
    # Version 0.3 has plain letters, older ones have none and always five axes.
    axes = [a if isinstance(a, dict) else {"name": a} for a in multiscale.get("axes", "tczyx")]
    names = [axis["name"] for axis in axes]
    scale = np.ones(len(axes))
    transformations = [*level.get("coordinateTransformations", ())]
    transformations += multiscale.get("coordinateTransformations", ())  # the format applies both
    for transformation in transformations:
        if transformation.get("type") == "scale" and "scale" in transformation:
            scale = scale * np.asarray(transformation["scale"], float)
    folder = _inner(path, level["path"])
    letters = letters_of_names(names, len(axes))
    lengths: dict[str, tuple[float, str]] = {}
    notes: list[str] = []
    if letters is not None:
        shape = dict(zip(letters, FileArray(folder).shape, strict=False))
        notes = resolution_notes(resolution, len(levels), shape)
        if transformations:
            space = [i for i, a in enumerate(letters) if a in "ZYX"]
            lengths = {letters[i]: (float(scale[i]), _unit(axes[i])) for i in space}
    names = [str(m.get("name", m["datasets"][0]["path"])) for m in multiscales]
    notes += series_notes(series, names)
    return _squeezed(folder, letters, lengths, notes)


def _unit(axis: Mapping[str, Any]) -> str:
    """The unit of an axis; some programs call it "units"."""
    return str(axis.get("unit", axis.get("units", ""))).strip()


def _inner(path: Path, name: str) -> Path:
    """The folder of an array; files come from anyone: they must not lead to other folders."""
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts:
        raise InputError(f"{path.name} names an array outside of it, {name!r}.")
    return path / name


def _squeezed(
    path: Path,
    letters: str | None,
    lengths: Mapping[str, tuple[float, str]],
    notes: Sequence[str] = (),
) -> ImageFile:
    """Open an array without its axes of size 1."""
    array = FileArray(path)
    if letters is None or len(letters) != array.ndim:
        return ImageFile.of(array, None, {}, notes)
    used = tuple(i for i, a in enumerate(letters) if a in "YX" or array.shape[i] > 1)
    axes = "".join(letters[i] for i in used)
    return ImageFile.of(FileArray(path, used), axes, lengths, notes)


def aeseg_attributes(path: Path) -> dict[str, Any] | None:
    """Return the attributes of this package in a zarr group that it wrote; None for others."""
    try:
        value = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"][_KEY]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, LookupError, TypeError, RecursionError):  # not written by this package
        return None
    return value if isinstance(value, dict) else None


def _level_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Shape of each level: rows and columns are halved, slices and time points are not."""
    shapes = [tuple(shape)]
    while max(shapes[-1][-2:]) > _COARSEST:
        *others, rows, columns = shapes[-1]
        shapes.append((*others, -(-rows // 2), -(-columns // 2)))
    return shapes


def _check_unfinished(path: Path, attributes: dict[str, Any], description: dict[str, Any]) -> None:
    """Raise InputError unless a group is an unfinished one of the same labels."""
    if attributes.get("complete"):
        raise InputError(f"{path} exists already and is complete: {_CHOOSE_ANOTHER}.")
    differ = [name for name, value in description.items() if attributes.get(name) != value]
    if differ:
        listing = ", ".join(
            f"{n}: {attributes.get(n)!r} saved, {description[n]!r} now" for n in differ
        )
        raise InputError(f"{path} holds a part of other labels ({listing}): {_CHOOSE_ANOTHER}.")


def _make_group(path: Path, description: dict[str, Any]) -> None:
    """Make a group under a temporary name: half of it would not be recognised as ours."""
    import zarr

    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():  # zarr would make the folder that a link points to
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to write in.")
    part = temporary_name(target)
    try:
        group = zarr.open_group(str(part), mode="w", zarr_format=3)
        for level, shape in enumerate(_level_shapes(description["shape"])):
            chunks, shards = _chunking(shape)
            group.create_array(
                str(level),
                shape=shape,
                chunks=chunks,
                shards=shards,  # file systems of clusters suffer from many files
                dtype=description["dtype"],
                fill_value=0,
                dimension_names=[a.lower() for a in description["axes"]],
            )
        group.attrs.update(_attributes(path.name.split(".")[0], description))
        if target.is_dir():  # an empty one
            target.rmdir()  # refuses a folder with contents
        part.rename(target)
    except BaseException:
        remove_folder(part, failed=True)
        raise


def _attributes(name: str, description: dict[str, Any]) -> dict[str, Any]:
    """The metadata of OME-Zarr, and those of this package."""
    datasets = []
    for level, shape in enumerate(_level_shapes(description["shape"])):
        # Every second pixel is taken, so that the first stays where it was.
        factor = [1.0] * (len(shape) - 2) + [2.0**level] * 2
        scale = [s * f for s, f in zip(description["voxel_size"], factor, strict=True)]
        transformations = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    multiscale = {
        "name": name,
        "axes": [_axis(a, description["unit"]) for a in description["axes"]],
        "datasets": datasets,
        "type": "nearest",
    }
    return {
        "ome": {"version": "0.5", "multiscales": [multiscale], "image-label": {}},
        _KEY: {**description, "complete": False},
    }


def _axis(letter: str, unit: str) -> dict[str, str]:
    """How OME-Zarr describes an axis."""
    if letter == "T":
        return {"name": "t", "type": "time"}
    return {"name": letter.lower(), "type": "space"} | ({"unit": unit} if unit else {})


def _chunking(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of chunks, and of the files that hold several."""
    deep = 3 if len(shape) > 2 and shape[-3] > 1 else 2
    chunks, shards = [1] * len(shape), [1] * len(shape)
    for i in range(len(shape) - deep, len(shape)):
        n = shape[i]
        chunks[i] = min(n, _CHUNK[deep])
        shards[i] = chunks[i] * min(_SHARD[deep], -(-n // chunks[i]))
    return tuple(chunks), tuple(shards)


def ome_zarr_steps(
    labels: Any, path: Path, description: dict[str, Any], stop: StopFlag | None = None
) -> Generator[Progress, None, None]:
    """Write labels with a pyramid; see `napari_aeseg.io.labels.write_labels_steps`.

    An unfinished group of the same labels is continued; anything else at the path is an InputError.
    """
    import zarr

    attributes = aeseg_attributes(path)
    if attributes is not None:
        _check_unfinished(path, attributes, description)
    elif path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} exists already and is not a file of labels: {_CHOOSE_ANOTHER}.")
    else:
        _make_group(path, description)
    group = zarr.open_group(str(path), mode="r+")
    levels: list[Any] = [group[str(i)] for i in range(len(_level_shapes(description["shape"])))]
    plan = [(number, part) for number, level in enumerate(levels) for part in _parts_of(level)]
    # zarr writes no file for a part of background only: the names of written parts are recorded.
    record = path / "napari-aeseg.done"
    lines = record.read_text(encoding="ascii").splitlines(keepends=True) if record.exists() else []
    # A last line without an end was cut off by a kill.
    written = {line.strip() for line in lines if line.endswith("\n")}
    todo = [(n, part) for n, part in plan if _name(n, part) not in written]
    _compare(labels, levels[0], [p for n, p in plan if n == 0 and _name(n, p) in written], path)
    clock, before = Clock(len(todo)), len(plan) - len(todo)
    for done, (number, part) in enumerate(todo, 1):
        raise_if_stopped(stop, "write")
        source = labels if number == 0 else levels[number - 1]
        levels[number][part] = _read_part(source, part, number, levels[number].dtype)
        # After the part: if the process is killed in between, it is written again.
        with record.open("a", encoding="ascii") as file:
            file.write(f"{_name(number, part)}\n")
        yield Progress("write", before + done, len(plan), "", clock.seconds_left(done))
    # Before the record is deleted: else, after a kill in between, all is written again.
    group.attrs.update({_KEY: {**description, "complete": True}})
    record.unlink(missing_ok=True)


def _parts_of(level: Any) -> Iterator[Part]:
    """Parts of a level that lie in one file each, in raster order."""
    shape, size = level.shape, level.shards or level.chunks
    for corner in product(*(range(0, n, s) for n, s in zip(shape, size, strict=True))):
        yield tuple(slice(c, min(c + s, n)) for c, s, n in zip(corner, size, shape, strict=True))


def _name(level: int, part: Part) -> str:
    """Name of a part in the record."""
    return f"{level}:{','.join(str(s.start) for s in part)}"


def _read_part(source: Any, part: Part, level: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Pixels of a part of the labels, or every second pixel of the next finer level."""
    if level:
        *others, rows, columns = part
        n, m = source.shape[-2:]
        part = (
            *others,
            slice(2 * rows.start, min(2 * rows.stop, n), 2),
            slice(2 * columns.start, min(2 * columns.stop, m), 2),
        )
    return np.asarray(source[part]).astype(dtype, copy=False)


def _compare(labels: Any, level: Any, written: list[Part], path: Path) -> None:
    """Raise InputError if some of the written parts differ from the labels."""
    some = np.unique(np.linspace(0, len(written) - 1, _COMPARED).astype(int)) if written else ()
    for part in (written[i] for i in some):
        # A corner of it: each pixel costs the computation of a chunk.
        corner = tuple(slice(s.start, min(s.stop, s.start + 256)) for s in part)
        if not np.array_equal(np.asarray(labels[corner]), level[corner]):
            place = ", ".join(f"{s.start} to {s.stop}" for s in corner)
            raise InputError(
                f"{path} holds a part of other labels (at {place}): {_CHOOSE_ANOTHER}."
            )
