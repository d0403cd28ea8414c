"""Many image files segmented alike: one bad file does not end it, and nothing is lost or replaced.

Files are read one at a time; what is written appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_aeseg.errors import AesegError, InputError, StoppedError
from napari_aeseg.events import Progress, drain
from napari_aeseg.images.files import overlay, read_file, write_labels, write_picture
from napari_aeseg.params import SegmentationParams, checked_params
from napari_aeseg.pipeline import hierarchy_steps, load_model
from napari_aeseg.regions.cut import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from os import PathLike

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import StopFlag
    from napari_aeseg.prototypes import Prototypes

    Paths = Sequence[str | PathLike[str]]

#: Endings of the files that are taken from a folder.
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")

Existing = Literal["refuse", "skip", "replace"]


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    Parameters
    ----------
    path : Path
    status : {"done", "failed", "skipped", "stopped"}
        "skipped" when its results exist already, "stopped" when its turn never came.
    text : str
        What was read, or what went wrong.
    labels : int
        Number of labels.
    seconds : float
    written : tuple of Path
    """

    path: Path
    status: Literal["done", "failed", "skipped", "stopped"]
    text: str = ""
    labels: int = 0
    seconds: float = 0.0
    written: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of all files, in their order.

    Examples
    --------
    >>> report = BatchReport((FileOutcome(Path("a.tif"), "failed", "no image"),))
    >>> print(report)
    1 file: 1 failed
    a.tif: failed, no image
    """

    files: tuple[FileOutcome, ...]

    @property
    def failed(self) -> tuple[FileOutcome, ...]:
        """The files that could not be segmented."""
        return tuple(f for f in self.files if f.status == "failed")

    @property
    def summary(self) -> str:
        """One line, such as "3 files: 2 done, 1 failed"."""
        states = ("done", "skipped", "failed", "stopped")
        counts = {s: sum(f.status == s for f in self.files) for s in states}
        told = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
        return f"{len(self.files)} file{'s' if len(self.files) != 1 else ''}: {told}"

    def __str__(self) -> str:
        lines = [f"{f.path.name}: {f.status}, {f.text}" for f in self.files if f.status != "done"]
        return "\n".join([self.summary, *lines])


def image_files(folder: str | PathLike[str]) -> list[Path]:
    """Return the image files of a folder in the order of their names; results are left out.

    Raises
    ------
    InputError
        If there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {str(folder)!r}.")
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not path.name.startswith(".")
        and not path.stem.endswith(("_labels", "_overlay"))
    )
    if not found:
        raise InputError(f"There is no image ({', '.join(SUFFIXES)}) in {str(folder)!r}.")
    return found


def batch_steps(
    paths: Paths,
    output: str | PathLike[str],
    model: Model | str | PathLike[str],
    cut: Cut | None = None,
    params: SegmentationParams | None = None,
    axes: str | None = None,
    device: str = "auto",
    *,
    table: bool = True,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, BatchReport]:
    """Segment files as `segment_files` does; a generator of events that returns the report."""
    params = checked_params(SegmentationParams, params)
    cut = Cut() if cut is None else cut
    files = [Path(path) for path in paths]
    folder = Path(output)
    _check(files, folder, table, existing, cut)
    if isinstance(model, str | os.PathLike):
        model = load_model(model)
    prototypes = prototypes if prototypes is not None else model.prototypes
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[FileOutcome] = []
    for number, path in enumerate(files, 1):
        yield Progress(
            "file", number, len(files), message=f"{path.name} ({number} of {len(files)})"
        )
        start = time.perf_counter()
        if stop is not None and stop.is_set():
            outcomes.append(FileOutcome(path, "stopped", "its turn never came"))
            continue
        if existing == "skip" and all(p.exists() for p in _planned(path, folder, table)[:1]):
            outcomes.append(FileOutcome(path, "skipped", "its results exist"))
            continue
        try:
            found = yield from _segment_file(
                path, folder, model, cut, params, axes, device, table, prototypes, stop
            )
            text, labels, written = found
            seconds = time.perf_counter() - start
            outcomes.append(FileOutcome(path, "done", text, labels, seconds, written))
        except StoppedError:
            outcomes.append(FileOutcome(path, "stopped", "stopped before it was done"))
        except (AesegError, OSError) as error:
            seconds = time.perf_counter() - start
            outcomes.append(FileOutcome(path, "failed", str(error), seconds=seconds))
    return BatchReport(tuple(outcomes))


def segment_files(
    paths: Paths,
    output: str | PathLike[str],
    model: Model | str | PathLike[str],
    cut: Cut | None = None,
    params: SegmentationParams | None = None,
    axes: str | None = None,
    device: str = "auto",
    *,
    table: bool = True,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: StopFlag | None = None,
) -> BatchReport:
    """Segment image files with one model, and write labels, overlays and tables.

    For ``NAME.tif``: ``NAME_labels.tif``, ``NAME_overlay.png`` (2D images) and ``NAME_table.csv``.

    Parameters
    ----------
    paths : sequence of path-like
        For a folder, `image_files(folder)`.
    output : path-like
        Folder; made if it is not there.
    model : Model or path or "base"
    cut : Cut, optional
        What to make of each hierarchy; by default the suggested number of regions.
    params, axes, device
        As of `build_hierarchy`; without `axes`, those that the file names.
    table : bool
        Write tables too.
    existing : {"refuse", "skip", "replace"}
        What to do with files whose results exist: raise before any work is done, leave them out
        (to go on with a batch that was stopped), or write them anew.
    prototypes : Prototypes, optional
        Classes, so that a class means the same in every file; by default those of the model.
        Without any, classes are found in each file on its own.
    progress : callable, optional
        Called with every `Progress` event; those of stage "file" tell which file has its turn.
    stop : threading.Event or alike, optional
        Files that are done are kept.

    Returns
    -------
    BatchReport
        Files that cannot be read or do not fit the model are told here, not raised.

    Raises
    ------
    InputError
        If there are no files, two would write the same results, results exist, or the cut cannot
        be made of files.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from napari_aeseg.images.files import write_picture
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_picture(np.tile(np.eye(32, dtype=np.uint8)[..., None] * 200, 3), folder / "a.png")
    >>> print(segment_files([folder / "a.png"], folder / "out", "base", device="cpu").summary)
    1 file: 1 done
    """
    return drain(
        batch_steps(
            paths,
            output,
            model,
            cut,
            params,
            axes,
            device,
            table=table,
            existing=existing,
            prototypes=prototypes,
            stop=stop,
        ),
        progress,
    )


def _check(files: list[Path], folder: Path, table: bool, existing: Existing, cut: Cut) -> None:
    if not files:
        raise InputError("There is no file to segment: the list is empty.")
    if existing not in ("refuse", "skip", "replace"):
        raise InputError(f"existing = {existing!r}: choose refuse, skip or replace.")
    if cut.mode == "markers" or cut.edits:
        raise InputError(
            "Strokes and edits by hand belong to one image: a batch takes regions, classes or "
            "objects without them."
        )
    stems = [path.stem for path in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(
            f"Two of the files are called {', '.join(twice)}: their results would collide. "
            "Segment them into different folders."
        )
    there = [str(p) for path in files for p in _planned(path, folder, table) if p.exists()]
    if there and existing == "refuse":
        raise InputError(
            f"{', '.join(there[:3])}{' and others' if len(there) > 3 else ''} exist already: "
            "choose another folder, or to skip or replace what is there."
        )


def _planned(path: Path, folder: Path, table: bool) -> list[Path]:
    """Return the files that may be written for an image; the labels come first."""
    endings = ["_labels.tif", "_overlay.png", *(["_table.csv"] if table else [])]
    return [folder / f"{path.stem}{ending}" for ending in endings]


def _segment_file(
    path: Path,
    folder: Path,
    model: Model,
    cut: Cut,
    params: SegmentationParams,
    axes: str | None,
    device: str,
    table: bool,
    prototypes: Prototypes | None,
    stop: StopFlag | None,
) -> Generator[Progress, None, tuple[str, int, tuple[Path, ...]]]:
    """Segment one file; return how it was read, the number of labels, and the files written."""
    image, named = read_file(path)
    tree = yield from hierarchy_steps(image, model, params, axes or named, device, stop, path.name)
    labels = cut.labels(tree, prototypes=prototypes, stop=stop)
    labels_path, overlay_path, *table_path = _planned(path, folder, table)
    written = []
    # Labels last: they say that a file is done.
    if tree.axes.space == "YX":
        _write(overlay_path, lambda p: write_picture(overlay(image, labels, tree.axes.letters), p))
        written.append(overlay_path)
    if table_path:
        frame = tree.table(labels)
        _write(table_path[0], lambda p: frame.to_csv(p, index=False))
        written.append(table_path[0])
    _write(labels_path, lambda p: write_labels(labels, p))
    return str(tree.axes), int(labels.max()), (labels_path, *written)


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name first, so that a file that is there is complete."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
