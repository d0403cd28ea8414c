"""Labels as an OME-Zarr 0.5 image with a pyramid: written part by part, on from any stop."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.io.atomic import remove_folder, temporary_name
from napari_aeseg.io.file_array import is_ours
from napari_aeseg.progress import Clock, Progress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_aeseg.progress import StopFlag

    Part = tuple[slice, ...]

# Pixels along each side of what viewers read at once, and how many of these make up a file (shard),
# for flat images and for volumes.
_CHUNK, _SHARD = {2: 512, 3: 64}, {2: 4, 3: 4}
# Levels are added until rows and columns are at most so many.
_TOP = 512
# Parts that are compared with what is there before work goes on.
_COMPARED = 4


@dataclass(frozen=True, slots=True)
class LabelsGroup:
    """An OME-Zarr group for labels.

    Parameters
    ----------
    path : Path
    about : dict
        Shape, type, axes and voxel size: what must be the same when work goes on.
    """

    path: Path
    about: dict[str, Any]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each level: rows and columns are halved, slices and time points are not."""
        shapes = [tuple(self.about["shape"])]
        while max(shapes[-1][-2:]) > _TOP:
            *others, rows, columns = shapes[-1]
            shapes.append((*others, -(-rows // 2), -(-columns // 2)))
        return shapes

    def open(self) -> list[Any]:
        """Return the arrays of all levels, made if they are not there.

        Raises
        ------
        InputError
            If something else is there, or these labels are complete.
        """
        import zarr

        note = is_ours(self.path)
        if note is not None:
            self._check(note)
        elif self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise InputError(f"{self.path} exists already and is not a file of labels: {_OTHER}.")
        else:
            self._make()
        group = zarr.open_group(str(self.path), mode="r+")
        return [group[str(level)] for level in range(len(self.shapes))]

    def _check(self, note: dict[str, Any]) -> None:
        if note.get("complete"):
            raise InputError(f"{self.path} exists already and is complete: {_OTHER}.")
        differ = [name for name in self.about if note.get(name) != self.about[name]]
        if differ:
            listing = ", ".join(
                f"{n}: {note.get(n)!r} there, {self.about[n]!r} now" for n in differ
            )
            raise InputError(f"{self.path} holds a part of other labels ({listing}): {_OTHER}.")

    def _make(self) -> None:
        """Make the group, which appears as a whole: half of it would be taken for another's."""
        import zarr

        target = Path(os.path.realpath(self.path))
        if not target.parent.is_dir():  # where a link leads to; zarr would make it
            raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to write in.")
        part = temporary_name(target)
        try:
            group = zarr.open_group(str(part), mode="w", zarr_format=3)
            for level, shape in enumerate(self.shapes):
                chunks, shards = chunking(shape)
                group.create_array(
                    str(level),
                    shape=shape,
                    chunks=chunks,
                    shards=shards,
                    dtype=self.about["dtype"],
                    fill_value=0,
                    dimension_names=[a.lower() for a in self.about["axes"]],
                )
            group.attrs.update(self.attributes())
            if target.is_dir():  # an empty one
                target.rmdir()
            part.rename(target)
        except BaseException:
            remove_folder(part, failed=True)
            raise

    def attributes(self) -> dict[str, Any]:
        """Return the metadata of OME-Zarr, and what this package notes for itself."""
        axes, size = self.about["axes"], self.about["voxel_size"]
        datasets = []
        for level, shape in enumerate(self.shapes):
            # Every second pixel is taken as it is, so that the first stays where it was.
            factor = [1.0] * (len(shape) - 2) + [2.0**level] * 2
            scale = [s * f for s, f in zip(size, factor, strict=True)]
            transformations = [{"type": "scale", "scale": scale}]
            datasets.append({"path": str(level), "coordinateTransformations": transformations})
        multiscale = {
            "name": self.path.name.split(".")[0],
            "axes": [_axis(a, self.about["unit"]) for a in axes],
            "datasets": datasets,
            "type": "nearest",
        }
        return {
            "ome": {"version": "0.5", "multiscales": [multiscale], "image-label": {}},
            "napari-aeseg": {**self.about, "complete": False},
        }

    def done(self) -> set[str]:
        """Return the names of the parts that are written."""
        if not self._record.is_file():
            return set()
        lines = self._record.read_text(encoding="ascii").splitlines(keepends=True)
        # A line that was cut off is the beginning of another name.
        return {line.strip() for line in lines if line.endswith("\n")}

    def note(self, name: str) -> None:
        """Note that a part is written; files cannot tell, as there is none of mere background."""
        with self._record.open("a", encoding="ascii") as file:
            file.write(f"{name}\n")

    def finish(self) -> None:
        """Note that all is written."""
        import zarr

        group = zarr.open_group(str(self.path), mode="r+")
        group.attrs.update({"napari-aeseg": {**self.about, "complete": True}})
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.path / "napari-aeseg.done"


_OTHER = "give another name, or remove it first"


def _axis(letter: str, unit: str) -> dict[str, str]:
    """How OME-Zarr describes an axis."""
    if letter == "T":
        return {"name": "t", "type": "time"}
    return {"name": letter.lower(), "type": "space"} | ({"unit": unit} if unit else {})


def chunking(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of chunks and of the files that hold several.

    Examples
    --------
    >>> chunking((3000, 700)), chunking((200, 100))
    (((512, 512), (2048, 1024)), ((200, 100), (200, 100)))
    """
    deep = 3 if len(shape) > 2 and shape[-3] > 1 else 2
    chunks, shards = [1] * len(shape), [1] * len(shape)
    for i in range(len(shape) - deep, len(shape)):
        n = shape[i]
        chunks[i] = min(n, _CHUNK[deep])
        shards[i] = chunks[i] * min(_SHARD[deep], -(-n // chunks[i]))
    return tuple(chunks), tuple(shards)


def parts_of(shape: tuple[int, ...], size: tuple[int, ...]) -> Iterator[Part]:
    """Cut a shape into parts of a size, in raster order."""
    for corner in product(*(range(0, n, s) for n, s in zip(shape, size, strict=True))):
        yield tuple(slice(c, min(c + s, n)) for c, s, n in zip(corner, size, shape, strict=True))


def ome_zarr_steps(
    labels: Any, path: Path, about: dict[str, Any], stop: StopFlag | None = None
) -> Generator[Progress, None, None]:
    """Write labels with a pyramid; see `napari_aeseg.io.labels.write_labels_steps`."""
    group = LabelsGroup(path, about)
    levels = group.open()
    sizes = [tuple(level.shards or level.chunks) for level in levels]
    plan = [
        (number, part)
        for number, level in enumerate(levels)
        for part in parts_of(level.shape, sizes[number])
    ]
    there = group.done()
    todo = [(n, part) for n, part in plan if _name(n, part) not in there]
    full_resolution = [part for n, part in plan if n == 0 and _name(n, part) in there]
    _compare(labels, levels[0], full_resolution, path)
    clock, before = Clock(len(todo)), len(plan) - len(todo)
    for done, (number, part) in enumerate(todo, 1):
        raise_if_stopped(stop, "write")
        source = labels if number == 0 else levels[number - 1]
        levels[number][part] = _taken(source, part, number, levels[number].dtype)
        group.note(_name(number, part))
        yield Progress("write", before + done, len(plan), "", clock.seconds_left(done))
    group.finish()


def _name(level: int, part: Part) -> str:
    """What a part is called in the record."""
    return f"{level}:{','.join(str(s.start) for s in part)}"


def _taken(source: Any, part: Part, level: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Pixels of a part: of the labels, or every second one of the level below."""
    if level:
        *others, rows, columns = part
        n, m = source.shape[-2:]
        part = (
            *others,
            slice(2 * rows.start, min(2 * rows.stop, n), 2),
            slice(2 * columns.start, min(2 * columns.stop, m), 2),
        )
    return np.asarray(source[part]).astype(dtype, copy=False)


def _compare(labels: Any, there: Any, done: list[Part], path: Path) -> None:
    """Raise InputError if what is there is not what would be written."""
    for i in sorted({int(i) for i in np.linspace(0, len(done) - 1, _COMPARED)} if done else ()):
        part = done[i]
        # A corner of it: each costs a look-up of a chunk.
        corner = tuple(slice(s.start, min(s.stop, s.start + 256)) for s in part)
        if not np.array_equal(np.asarray(labels[corner]), there[corner]):
            where = ", ".join(f"{s.start} to {s.stop}" for s in corner)
            raise InputError(f"{path} holds a part of other labels (at {where}): {_OTHER}.")
