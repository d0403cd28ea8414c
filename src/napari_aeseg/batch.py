"""Many image files segmented alike: one bad file does not end it, and nothing is lost or replaced.

Files are read one at a time; what is written appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_aeseg.api import hierarchy_steps, load_model
from napari_aeseg.autoencoder.device import choose_device, oom_as_device_error
from napari_aeseg.errors import AesegError, InputError, StoppedError
from napari_aeseg.images.axes import checked_voxel_size
from napari_aeseg.io.atomic import atomic_write, check_writable
from napari_aeseg.io.file_array import is_ours, is_zarr
from napari_aeseg.io.images import open_file, overlay, write_label_image, write_picture
from napari_aeseg.io.labels import write_labels_steps
from napari_aeseg.large.build import needs_blocks, pixels_in_memory
from napari_aeseg.params import (
    HIERARCHY_SUFFIX,
    BlockParams,
    ComparisonParams,
    SegmentationParams,
    checked_params,
)
from napari_aeseg.progress import Progress, drain
from napari_aeseg.regions.cuts.cut import Cut
from napari_aeseg.regions.hierarchy import OBJECTS_NEED_PIXELS, load_hierarchy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from os import PathLike

    import numpy as np

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.io.file_array import ImageFile
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.hierarchy import Hierarchy

    Paths = Sequence[str | PathLike[str]]


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
    >>> from pathlib import Path
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
        lines = [_line(f) for f in self.files if f.status != "done"]
        return "\n".join([self.summary, *lines])


def _line(file: FileOutcome) -> str:
    name = file.path.name
    # Errors begin with the name too.
    text = file.text.removeprefix(name).lstrip(": ")
    return f"{name}: {file.status}, {text}"


def is_hierarchy(path: Path) -> bool:
    """Whether a path means a saved hierarchy rather than an image."""
    return path.name.endswith(HIERARCHY_SUFFIX)


def stem_of(path: Path) -> str:
    """Return what the results of a file are called after.

    Examples
    --------
    >>> from pathlib import Path
    >>> [stem_of(Path(name)) for name in ("a.tif", "b.ome.zarr", "c.aeseg.zarr")]
    ['a', 'b', 'c']
    """
    if is_hierarchy(path):
        return path.name.removesuffix(HIERARCHY_SUFFIX)
    return path.stem.removesuffix(".ome") if path.suffix.lower() == ".zarr" else path.stem


def planned_files(
    path: Path, folder: Path, table: bool = True, save_hierarchy: bool = False
) -> list[Path]:
    """Return the files that may be written for an image; the labels come first.

    Last are the labels of an image that is worked on in blocks.
    """
    endings = ["_labels.tif", "_overlay.png"]
    endings += ["_table.csv"] * table + [HIERARCHY_SUFFIX] * save_hierarchy
    return [folder / f"{stem_of(path)}{ending}" for ending in [*endings, "_labels.ome.zarr"]]


def refuse_objects_of_blocks(
    cut: Cut, image: Any, blocks: BlockParams | None, store: Path | None
) -> None:
    """Raise InputError before the work if objects are asked for that cannot be found after it."""
    if cut.mode == "objects" and (blocks is not None or store is not None or needs_blocks(image)):
        raise InputError(OBJECTS_NEED_PIXELS)


def saved_hierarchy(
    path: Path, model: Model | None, params: SegmentationParams, comparison: ComparisonParams
) -> Hierarchy:
    """Load a hierarchy, with the comparison that was asked for.

    Raises
    ------
    InputError
        If it was made with another model or other parameters.
    """
    tree = load_hierarchy(path)
    if model is not None and not model.is_meant(tree.model_fingerprint, tree.axes.channels):
        raise InputError(f"{path.name} was made with another model: leave the model out.")
    for name in params.model_fields_set - {"tile_size"}:
        asked, saved = getattr(params, name), getattr(tree.params, name)
        if asked != saved:
            raise InputError(
                f"{name} = {asked!r}: this hierarchy was saved with {saved!r}, and only its "
                "balance and scale can be changed. Segment the image instead."
            )
    return tree.reweighted(**{n: getattr(comparison, n) for n in comparison.model_fields_set})


@dataclass
class Job:
    """What is done to every file; the classes are those of the first one if need be."""

    folder: Path
    model: Model | None
    cut: Cut
    params: SegmentationParams
    comparison: ComparisonParams
    read: Callable[[Path], tuple[ImageFile, Axes]]
    device: str
    table: bool
    save_hierarchy: bool
    stop: StopFlag | None
    prototypes: Prototypes | None
    done_before: list[Path]
    blocks: BlockParams | None = None
    store: Path | None = None
    replace: bool = False

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
            return None, saved_hierarchy(path, self.model, self.params, self.comparison)
        assert self.model is not None  # noqa: S101 - has been checked
        opened, axes = self.read(path)
        refuse_objects_of_blocks(self.cut, opened.array, self.blocks, self.store)
        tree = yield from hierarchy_steps(
            opened.array,
            self.model,
            self.params,
            axes,
            self.device,
            self.stop,
            path.name,
            comparison=self.comparison,
            blocks=self.blocks,
            store=None if self.store is None else self.store / stem_of(path),
        )
        return opened.array, tree

    def segment(self, path: Path) -> Generator[Progress, None, tuple[str, int, tuple[Path, ...]]]:
        """Segment one file; return how it was read, the number of labels, and what was written."""
        with oom_as_device_error(path.name, "Close other programs, or work on it in blocks."):
            return (yield from self._segmented(path))

    def _segmented(
        self, path: Path
    ) -> Generator[Progress, None, tuple[str, int, tuple[Path, ...]]]:
        if self._lacks_classes:
            yield from self._find_earlier_classes()
        image, tree = yield from self._build(path)
        labels = self.cut.labels(tree, prototypes=self.prototypes, stop=self.stop)
        if tree.is_lazy:
            number = int(self.cut.of_patch(tree, self.prototypes).max())
            written = yield from self._write_lazily(path, tree, labels)
        else:
            number = int(labels.max())
            written = self._write_all(path, image, tree, labels)
        if self._lacks_classes:
            self.prototypes = self.cut.prototypes_of(tree)
        return str(tree.axes), number, written

    def _write_all(
        self, path: Path, image: Any, tree: Hierarchy, labels: np.ndarray
    ) -> tuple[Path, ...]:
        labels_path, overlay_path, *more, _ = self._planned(path)
        written = [labels_path]
        if tree.axes.space == "YX":
            ground = (tree.brightness, "YX") if image is None else (image, tree.axes.letters)
            picture = overlay(ground[0], labels, ground[1])
            _write(overlay_path, lambda p: write_picture(picture, p))
            written.append(overlay_path)
        written += self._write_more(more, tree, labels)
        # Labels last: they say that a file is done.
        _write(labels_path, lambda p: write_label_image(labels, p))
        return tuple(written)

    def _write_lazily(
        self, path: Path, tree: Hierarchy, labels: Any
    ) -> Generator[Progress, None, tuple[Path, ...]]:
        """Write labels that are computed meanwhile; goes on where an earlier run stopped."""
        _, _, *more, labels_path = self._planned(path)
        if self.replace and is_ours(labels_path) is not None:
            shutil.rmtree(labels_path)
        written = self._write_more(more, tree, labels)
        axes = tree.axes
        unit = "" if axes.unit == "pixel" else axes.unit
        yield from write_labels_steps(
            labels, labels_path, axes.space, axes.spacing, unit, self.stop
        )
        return (labels_path, *written)

    def _planned(self, path: Path) -> list[Path]:
        return planned_files(path, self.folder, self.table, self.save_hierarchy)

    def _write_more(self, paths: list[Path], tree: Hierarchy, labels: Any) -> list[Path]:
        """Write the table and the hierarchy, if they are wanted."""
        if self.table:
            frame = table_of(tree, labels, self.cut, self.prototypes, self.stop)
            _write(paths[0], lambda p: frame.to_csv(p, index=False))
        if self.save_hierarchy:
            tree.save(paths[-1])
        return paths


def table_of(
    tree: Hierarchy,
    labels: Any,
    cut: Cut,
    prototypes: Prototypes | None = None,
    stop: StopFlag | None = None,
) -> Any:
    """Measure labels; with their class where the cut depends on classes, and with the unit."""
    table = _measured(tree, labels, cut, prototypes, stop)
    return table if tree.voxel_size is None else table.assign(unit=tree.axes.unit)


def _measured(
    tree: Hierarchy, labels: Any, cut: Cut, prototypes: Prototypes | None, stop: StopFlag | None
) -> Any:
    if not cut.needs_classes:
        return tree.table(labels)
    of_kind = replace(cut, mode="classes")
    table = tree.table(labels, of_kind.labels(tree, prototypes, stop=stop))
    if prototypes is not None and prototypes.names:
        table["class"] = [prototypes.names[number - 1] for number in table["class"]]
    return table


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    with atomic_write(path) as part:
        write(part)


#: Endings of the files that are taken from a folder.
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".zarr")

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
        and (path.is_file() or is_zarr(path))
        and not path.name.startswith(".")
        and not is_hierarchy(path)
        and not stem_of(path).endswith(("_labels", "_overlay"))
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
    comparison: ComparisonParams | None = None,
    axes_must_fit: bool = True,
    table: bool = True,
    save_hierarchy: bool = False,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
    voxel_size: Sequence[float] | None = None,
    stop: StopFlag | None = None,
    blocks: BlockParams | None = None,
    store: str | PathLike[str] | None = None,
) -> Generator[Progress, None, BatchReport]:
    """Segment files as `segment_files` does; a generator of events that returns the report."""
    params = checked_params(SegmentationParams, params)
    comparison = checked_params(ComparisonParams, comparison)
    cut = Cut() if cut is None else cut
    if isinstance(paths, str | os.PathLike):
        raise InputError(
            f"paths = {str(paths)!r}: give a list of files, such as image_files(folder)."
        )
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
    job = Job(
        folder,
        model,
        cut,
        params,
        comparison,
        read,
        device,
        table,
        save_hierarchy,
        stop,
        prototypes,
        there,
        None if blocks is None else checked_params(BlockParams, blocks),
        None if store is None else Path(store),
        existing == "replace",
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
    comparison: ComparisonParams | None = None,
    axes_must_fit: bool = True,
    table: bool = True,
    save_hierarchy: bool = False,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
    voxel_size: Sequence[float] | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: StopFlag | None = None,
    blocks: BlockParams | None = None,
    store: str | PathLike[str] | None = None,
) -> BatchReport:
    """Segment image files with one model, and write labels, overlays and tables.

    Zarr arrays, OME-Zarr images, and TIFF files that do not fit into memory are not loaded; large
    ones are worked on in blocks, and get ``NAME_labels.ome.zarr`` and no overlay.

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
    params, comparison, axes, device
        As of `build_hierarchy`; without `axes`, those that the file names. Of saved hierarchies,
        only `comparison` can be changed.
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
    blocks : BlockParams, optional
        How large images are worked on; given, all images are worked on in blocks.
    store : path-like, optional
        Folder in which blocks that are done are kept, in a folder for each image, so that a large
        image that was stopped goes on with "skip". Given, all images are worked on in blocks.

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
    >>> from napari_aeseg.io.images import write_picture
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
            comparison=comparison,
            axes_must_fit=axes_must_fit,
            table=table,
            save_hierarchy=save_hierarchy,
            existing=existing,
            prototypes=prototypes,
            voxel_size=voxel_size,
            stop=stop,
            blocks=blocks,
            store=store,
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
    check_writable(folder)
    stems = [stem_of(path) for path in files]
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
) -> tuple[ImageFile, Axes]:
    """Return an image, with its axes and voxels as given, or else as the file names them."""
    opened = open_file(path, pixels_in_memory())
    fits = axes is not None and (must_fit or len(axes) == opened.array.ndim)
    return opened, opened.read_axes(axes if fits else None, voxel_size)


def _is_done(path: Path, folder: Path) -> bool:
    labels, *_, lazy = planned_files(path, folder)
    return labels.exists() or bool((is_ours(lazy) or {}).get("complete"))
