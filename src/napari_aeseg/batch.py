"""Many image files segmented alike: one bad file does not end it, and nothing is lost or replaced.

Files are read one at a time; what is written appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_aeseg.autoencoder.device import choose_device
from napari_aeseg.batch_report import BatchReport, FileOutcome
from napari_aeseg.errors import AesegError, InputError, StoppedError
from napari_aeseg.events import Progress, drain
from napari_aeseg.images.axes import checked_voxel_size, read_axes
from napari_aeseg.images.files import (
    overlay,
    read_file,
    read_voxel_size,
    write_labels,
    write_picture,
)
from napari_aeseg.params import HIERARCHY_SUFFIX, SegmentationParams, checked_params
from napari_aeseg.pipeline import hierarchy_steps, load_model
from napari_aeseg.regions.cut import Cut
from napari_aeseg.regions.hierarchy_file import load_hierarchy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from os import PathLike

    import numpy as np

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import StopFlag
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.hierarchy import Hierarchy

    Paths = Sequence[str | PathLike[str]]

#: Endings of the files that are taken from a folder.
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")

Existing = Literal["refuse", "skip", "replace"]


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
    model: Model | str | PathLike[str] | None,
    cut: Cut | None = None,
    params: SegmentationParams | None = None,
    axes: str | None = None,
    device: str = "auto",
    *,
    axes_must_fit: bool = True,
    table: bool = True,
    save_hierarchy: bool = False,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
    voxel_size: Sequence[float] | None = None,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, BatchReport]:
    """Segment files as `segment_files` does; a generator of events that returns the report."""
    params = checked_params(SegmentationParams, params)
    cut = Cut() if cut is None else cut
    files = [Path(path) for path in paths]
    folder = Path(output)
    check_batch(files, folder, cut, table=table, save_hierarchy=save_hierarchy, existing=existing)
    if voxel_size is not None:
        voxel_size = checked_voxel_size(voxel_size)
    if isinstance(model, str | os.PathLike):
        model = load_model(model)
    # What would go wrong with every file alike.
    choose_device(device)
    if model is not None:
        model.levels(params.levels)
    elif not all(map(is_hierarchy, files)):
        raise InputError("There is no model: only saved hierarchies can be cut without one.")
    folder.mkdir(parents=True, exist_ok=True)
    there = [path for path in files if existing == "skip" and _is_done(path, folder)]
    skipped = set(there)
    read = partial(_read, axes=axes, must_fit=axes_must_fit, voxel_size=voxel_size)
    job = _Job(
        folder, model, cut, params, read, device, table, save_hierarchy, stop, prototypes, there
    )
    outcomes: list[FileOutcome] = []
    for number, path in enumerate(files, 1):
        yield Progress(
            "file", number, len(files), message=f"{path.name} ({number} of {len(files)})"
        )
        start = time.perf_counter()
        if stop is not None and stop.is_set():
            outcomes.append(FileOutcome(path, "stopped", "its turn never came"))
            continue
        if path in skipped:
            outcomes.append(FileOutcome(path, "skipped", "its results exist"))
            continue
        try:
            text, labels, written = yield from job.segment(path)
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
    model: Model | str | PathLike[str] | None,
    cut: Cut | None = None,
    params: SegmentationParams | None = None,
    axes: str | None = None,
    device: str = "auto",
    *,
    axes_must_fit: bool = True,
    table: bool = True,
    save_hierarchy: bool = False,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
    voxel_size: Sequence[float] | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: StopFlag | None = None,
) -> BatchReport:
    """Segment image files with one model, and write labels, overlays and tables.

    For ``NAME.tif``: ``NAME_labels.tif``, ``NAME_overlay.png`` (2D images) and ``NAME_table.csv``,
    which has the column "class" (name or id) when the cut depends on classes.

    Parameters
    ----------
    paths : sequence of path-like
        For a folder, `image_files(folder)`. Hierarchies that were saved (``*.aeseg.zarr``) are cut
        without being encoded; their overlays show the brightness.
    output : path-like
        Folder; made if it is not there.
    model : Model or path or "base" or None
        None where all files are saved hierarchies.
    cut : Cut, optional
        What to make of each hierarchy; by default the suggested number of regions.
    params, axes, device
        As of `build_hierarchy`; without `axes`, those that the file names. Of saved hierarchies,
        the balance and the scale can be changed.
    axes_must_fit : bool
        Whether a file fails that has another number of dimensions than `axes`. If not, such a file
        is read as without `axes`.
    table : bool
        Write tables too.
    save_hierarchy : bool
        Write ``NAME.aeseg.zarr`` too, from which other cuts can be made later.
    existing : {"refuse", "skip", "replace"}
        What to do with files whose results exist: raise before any work is done, leave them out
        (to go on with a batch that was stopped), or write them anew.
    prototypes : Prototypes, optional
        What the classes are, in every file; by default those that the model keeps, else those of
        the first file that can be segmented (with "skip", of the first that is there).
    voxel_size : sequence of float, optional
        As of `build_hierarchy`, for all files; by default, of each file what its OME or ImageJ
        metadata say. Tables are in pixels where it is not known.
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
        If there are no files, two would write the same results, results exist, the cut cannot be
        made of files, the model has no such levels, or `voxel_size` has other than two or three
        numbers above 0.
    DeviceError
        If the device is not there.

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
            axes_must_fit=axes_must_fit,
            table=table,
            save_hierarchy=save_hierarchy,
            existing=existing,
            prototypes=prototypes,
            voxel_size=voxel_size,
            stop=stop,
        ),
        progress,
    )


def check_batch(
    paths: Paths,
    output: str | PathLike[str],
    cut: Cut | None = None,
    *,
    table: bool = True,
    save_hierarchy: bool = False,
    existing: Existing = "refuse",
) -> None:
    """Raise what `segment_files` would raise before any work; parameters as there."""
    files, folder = [Path(path) for path in paths], Path(output)
    if not files:
        raise InputError("There is no file to segment: the list is empty.")
    if existing not in ("refuse", "skip", "replace"):
        raise InputError(f"existing = {existing!r}: choose refuse, skip or replace.")
    if cut is not None and (cut.mode == "markers" or cut.edits):
        raise InputError(
            "Strokes and edits by hand belong to one image: a batch takes regions, classes or "
            "objects without them."
        )
    stems = [_stem(path) for path in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(
            f"Two of the files are called {', '.join(twice)}: their results would collide. "
            "Segment them into different folders."
        )
    planned = [p for path in files for p in planned_files(path, folder, table, save_hierarchy)]
    own = {os.path.realpath(path) for path in files} & {os.path.realpath(path) for path in planned}
    if own:
        raise InputError(f"{min(own)!r} would be read and written: choose another folder.")
    there = [str(path) for path in planned if path.exists()]
    if there and existing == "refuse":
        raise InputError(
            f"{', '.join(there[:3])}{' and others' if len(there) > 3 else ''} exist already: "
            "choose another folder, or to skip or replace what is there."
        )


def _read(
    path: Path, axes: str | None, must_fit: bool, voxel_size: Sequence[float] | None
) -> tuple[np.ndarray, Axes]:
    """Return an image, with its axes and voxels as given, or else as the file names them."""
    image, named = read_file(path)
    if axes is not None and (must_fit or len(axes) == image.ndim):
        reading = read_axes(image.shape, axes)
    else:
        reading = read_axes(image.shape, named, source="file")
    if voxel_size is not None:
        return image, reading.measured(voxel_size)
    size, unit = read_voxel_size(path)
    if not set(reading.measurable) <= set(size):
        return image, reading
    return image, reading.measured([size[a] for a in reading.measurable], unit)


def _is_done(path: Path, folder: Path) -> bool:
    return planned_files(path, folder)[0].exists()


def is_hierarchy(path: Path) -> bool:
    """Whether a path means a saved hierarchy rather than an image."""
    return path.name.endswith(HIERARCHY_SUFFIX)


def _stem(path: Path) -> str:
    return path.name.removesuffix(HIERARCHY_SUFFIX) if is_hierarchy(path) else path.stem


def planned_files(
    path: Path, folder: Path, table: bool = True, save_hierarchy: bool = False
) -> list[Path]:
    """Return the files that may be written for an image; the labels come first."""
    endings = ["_labels.tif", "_overlay.png"]
    endings += ["_table.csv"] * table + [HIERARCHY_SUFFIX] * save_hierarchy
    return [folder / f"{_stem(path)}{ending}" for ending in endings]


def _reweighted(tree: Hierarchy, params: SegmentationParams) -> Hierarchy:
    """Return a saved hierarchy with the balance and scale that were asked for."""
    asked = {name: getattr(params, name) for name in params.model_fields_set - {"tile_size"}}
    weights = {name: asked.pop(name) for name in ("balance", "scale") if name in asked}
    for name, value in asked.items():
        known = getattr(tree.params, name)
        if value != known:
            raise InputError(
                f"{name} = {value!r}: this hierarchy was saved with {known!r}, and only its "
                "balance and scale can be changed. Segment the image instead."
            )
    unlike = {name for name, value in weights.items() if value != getattr(tree.params, name)}
    return tree.reweighted(**weights) if unlike else tree


@dataclass
class _Job:
    """What is done to every file; the classes are those of the first one if need be."""

    folder: Path
    model: Model | None
    cut: Cut
    params: SegmentationParams
    read: Callable[[Path], tuple[np.ndarray, Axes]]
    device: str
    table: bool
    save_hierarchy: bool
    stop: StopFlag | None
    prototypes: Prototypes | None
    done_before: list[Path]

    def __post_init__(self) -> None:
        if self.prototypes is None and self.model is not None:
            self.prototypes = self.model.prototypes

    @property
    def _lacks_classes(self) -> bool:
        return self.prototypes is None and self.cut.needs_classes

    def _find_earlier_classes(self) -> Generator[Progress, None, None]:
        """Find the classes of an earlier run again: they were those of its first file."""
        while self.done_before and self.prototypes is None:
            path = self.done_before.pop(0)
            try:
                _, example = yield from self._build(path)
                self.prototypes = self.cut.prototypes_of(example)
            except (InputError, OSError) as error:  # its results are there, but it is not any more
                message = f"{path.name} no longer tells what the classes are: {error}"
                yield Progress("classes", 1, 1, message=message)

    def _build(self, path: Path) -> Generator[Progress, None, tuple[Any, Hierarchy]]:
        """Return the hierarchy of a file, and the image that its labels are drawn on."""
        if is_hierarchy(path):
            return self._loaded(path)
        assert self.model is not None  # noqa: S101 - has been checked
        image, axes = self.read(path)
        tree = yield from hierarchy_steps(
            image,
            self.model,
            self.params,
            axes,
            self.device,
            self.stop,
            path.name,
        )
        return image, tree

    def _loaded(self, path: Path) -> tuple[Any, Hierarchy]:
        tree = load_hierarchy(path)
        model, of = self.model, tree.model_fingerprint
        if model is not None and not model.is_meant(of, tree.axes.channels):
            raise InputError(f"{path.name} was made with another model: leave the model out.")
        return None, _reweighted(tree, self.params)

    def segment(self, path: Path) -> Generator[Progress, None, tuple[str, int, tuple[Path, ...]]]:
        """Segment one file; return how it was read, the number of labels, and what was written."""
        if self._lacks_classes:
            yield from self._find_earlier_classes()
        image, tree = yield from self._build(path)
        labels = self.cut.labels(tree, prototypes=self.prototypes, stop=self.stop)
        written = self._write_all(path, image, tree, labels)
        if self._lacks_classes:
            self.prototypes = self.cut.prototypes_of(tree)
        return str(tree.axes), int(labels.max()), written

    def _write_all(
        self, path: Path, image: Any, tree: Hierarchy, labels: np.ndarray
    ) -> tuple[Path, ...]:
        labels_path, overlay_path, *more = planned_files(
            path, self.folder, self.table, self.save_hierarchy
        )
        written = [labels_path]
        if tree.axes.space == "YX":
            ground = (tree.brightness, "YX") if image is None else (image, tree.axes.letters)
            picture = overlay(ground[0], labels, ground[1])
            _write(overlay_path, lambda p: write_picture(picture, p))
            written.append(overlay_path)
        if self.table:
            frame = self._table(tree, labels)
            _write(more[0], lambda p: frame.to_csv(p, index=False))
        if self.save_hierarchy:
            tree.save(more[-1])
        written += more
        # Labels last: they say that a file is done.
        _write(labels_path, lambda p: write_labels(labels, p))
        return tuple(written)

    def _table(self, tree: Hierarchy, labels: np.ndarray) -> Any:
        """Measure labels; with their class where the cut depends on classes, and with the unit."""
        table = self._measured(tree, labels)
        return table if tree.voxel_size is None else table.assign(unit=tree.axes.unit)

    def _measured(self, tree: Hierarchy, labels: np.ndarray) -> Any:
        if not self.cut.needs_classes:
            return tree.table(labels)
        of_kind = replace(self.cut, mode="classes")
        table = tree.table(labels, of_kind.labels(tree, self.prototypes, stop=self.stop))
        if self.prototypes is not None and self.prototypes.names:
            table["class"] = [self.prototypes.names[number - 1] for number in table["class"]]
        return table


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name first, so that a file that is there is complete."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
