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

from napari_aeseg.autoencoder.device import choose_device
from napari_aeseg.batch_report import BatchReport, FileOutcome
from napari_aeseg.blockwise.building import pixels_in_memory
from napari_aeseg.errors import AesegError, InputError, StoppedError
from napari_aeseg.events import Progress, drain
from napari_aeseg.images.axes import read_axes
from napari_aeseg.images.files import open_file, overlay, write_labels, write_picture
from napari_aeseg.images.lazy import is_ours, is_zarr
from napari_aeseg.images.saving import write_labels_steps
from napari_aeseg.params import BlockParams, SegmentationParams, checked_params
from napari_aeseg.pipeline import hierarchy_steps, load_model
from napari_aeseg.regions.cut import Cut
from napari_aeseg.regions.painting import is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from os import PathLike

    import numpy as np

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import StopFlag
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.images.lazy import ImageFile
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.hierarchy import Hierarchy

    Paths = Sequence[str | PathLike[str]]

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
        and not stem_of(path).endswith(("_labels", "_overlay"))
    )
    if not found:
        raise InputError(f"There is no image ({', '.join(SUFFIXES)}) in {str(folder)!r}.")
    return found


def stem_of(path: Path) -> str:
    """Return what the results of a file are called after.

    Examples
    --------
    >>> stem_of(Path("a.tif")), stem_of(Path("b.ome.zarr"))
    ('a', 'b')
    """
    return path.stem.removesuffix(".ome") if path.suffix.lower() == ".zarr" else path.stem


def batch_steps(
    paths: Paths,
    output: str | PathLike[str],
    model: Model | str | PathLike[str],
    cut: Cut | None = None,
    params: SegmentationParams | None = None,
    axes: str | None = None,
    device: str = "auto",
    *,
    axes_must_fit: bool = True,
    table: bool = True,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
    stop: StopFlag | None = None,
    blocks: BlockParams | None = None,
    store: str | PathLike[str] | None = None,
) -> Generator[Progress, None, BatchReport]:
    """Segment files as `segment_files` does; a generator of events that returns the report."""
    params = checked_params(SegmentationParams, params)
    cut = Cut() if cut is None else cut
    files = [Path(path) for path in paths]
    folder = Path(output)
    check_batch(files, folder, cut, table=table, existing=existing)
    if isinstance(model, str | os.PathLike):
        model = load_model(model)
    # What would go wrong with every file alike.
    choose_device(device)
    model.levels(params.levels)
    folder.mkdir(parents=True, exist_ok=True)
    there = [path for path in files if existing == "skip" and _is_done(path, folder)]
    skipped = set(there)
    read = partial(_read, axes=axes, must_fit=axes_must_fit)
    job = _Job(
        folder,
        model,
        cut,
        params,
        read,
        device,
        table,
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
    model: Model | str | PathLike[str],
    cut: Cut | None = None,
    params: SegmentationParams | None = None,
    axes: str | None = None,
    device: str = "auto",
    *,
    axes_must_fit: bool = True,
    table: bool = True,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
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
        For a folder, `image_files(folder)`.
    output : path-like
        Folder; made if it is not there.
    model : Model or path or "base"
    cut : Cut, optional
        What to make of each hierarchy; by default the suggested number of regions.
    params, axes, device
        As of `build_hierarchy`; without `axes`, those that the file names.
    axes_must_fit : bool
        Whether a file fails that has another number of dimensions than `axes`. If not, such a file
        is read as without `axes`.
    table : bool
        Write tables too.
    existing : {"refuse", "skip", "replace"}
        What to do with files whose results exist: raise before any work is done, leave them out
        (to go on with a batch that was stopped), or write them anew.
    prototypes : Prototypes, optional
        What the classes are, in every file; by default those that the model keeps, else those of
        the first file that can be segmented (with "skip", of the first that is there).
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
        made of files, or the model has no such levels.
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
            existing=existing,
            prototypes=prototypes,
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
    stems = [stem_of(path) for path in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(
            f"Two of the files are called {', '.join(twice)}: their results would collide. "
            "Segment them into different folders."
        )
    there = [str(p) for path in files for p in planned_files(path, folder, table) if p.exists()]
    if there and existing == "refuse":
        raise InputError(
            f"{', '.join(there[:3])}{' and others' if len(there) > 3 else ''} exist already: "
            "choose another folder, or to skip or replace what is there."
        )


def _read(path: Path, axes: str | None, must_fit: bool) -> tuple[ImageFile, Axes | str | None]:
    """Return an image, and its axes as given, or else as the file names them."""
    opened = open_file(path, pixels_in_memory())
    image, named = opened.array, opened.axes
    if axes is not None and (must_fit or len(axes) == image.ndim):
        return opened, axes
    return opened, None if named is None else read_axes(image.shape, named, source="file")


def _is_done(path: Path, folder: Path) -> bool:
    labels, *_, lazy = planned_files(path, folder)
    return labels.exists() or bool((is_ours(lazy) or {}).get("complete"))


def planned_files(path: Path, folder: Path, table: bool = True) -> list[Path]:
    """Return the files that may be written for an image; the labels come first.

    Last are the labels of an image that is worked on in blocks.
    """
    endings = ["_labels.tif", "_overlay.png", *(["_table.csv"] if table else [])]
    return [folder / f"{stem_of(path)}{ending}" for ending in [*endings, "_labels.ome.zarr"]]


@dataclass
class _Job:
    """What is done to every file; the classes are those of the first one if need be."""

    folder: Path
    model: Model
    cut: Cut
    params: SegmentationParams
    read: Callable[[Path], tuple[ImageFile, Axes | str | None]]
    device: str
    table: bool
    stop: StopFlag | None
    prototypes: Prototypes | None
    done_before: list[Path]
    blocks: BlockParams | None = None
    store: Path | None = None
    replace: bool = False

    def __post_init__(self) -> None:
        if self.prototypes is None:
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

    def _build(self, path: Path) -> Generator[Progress, None, tuple[ImageFile, Hierarchy]]:
        opened, axes = self.read(path)
        tree = yield from hierarchy_steps(
            opened.array,
            self.model,
            self.params,
            axes,
            self.device,
            self.stop,
            path.name,
            blocks=self.blocks,
            store=None if self.store is None else self.store / stem_of(path),
        )
        return opened, tree

    def segment(self, path: Path) -> Generator[Progress, None, tuple[str, int, tuple[Path, ...]]]:
        """Segment one file; return how it was read, the number of labels, and what was written."""
        if self._lacks_classes:
            yield from self._find_earlier_classes()
        opened, tree = yield from self._build(path)
        labels = self.cut.labels(tree, prototypes=self.prototypes, stop=self.stop)
        if is_lazy(tree.patches):
            number = int(self.cut.of_patch(tree, self.prototypes).max())
            written = yield from self._write_lazily(path, opened, tree, labels)
        else:
            number = int(labels.max())
            written = self._write_all(path, opened.array, tree, labels)
        if self._lacks_classes:
            self.prototypes = self.cut.prototypes_of(tree)
        return str(tree.axes), number, written

    def _write_all(
        self, path: Path, image: Any, tree: Hierarchy, labels: np.ndarray
    ) -> tuple[Path, ...]:
        labels_path, overlay_path, *table_path, _ = planned_files(path, self.folder, self.table)
        written = [labels_path]
        if tree.axes.space == "YX":
            picture = overlay(image, labels, tree.axes.letters)
            _write(overlay_path, lambda p: write_picture(picture, p))
            written.append(overlay_path)
        written += self._write_table(table_path, tree, labels)
        # Labels last: they say that a file is done.
        _write(labels_path, lambda p: write_labels(labels, p))
        return tuple(written)

    def _write_lazily(
        self, path: Path, opened: ImageFile, tree: Hierarchy, labels: Any
    ) -> Generator[Progress, None, tuple[Path, ...]]:
        """Write labels that are computed meanwhile; goes on where an earlier run stopped."""
        _, _, *table_path, labels_path = planned_files(path, self.folder, self.table)
        if self.replace and is_ours(labels_path) is not None:
            shutil.rmtree(labels_path)
        written = self._write_table(table_path, tree, labels)
        space = tree.axes.space
        yield from write_labels_steps(
            labels, labels_path, space, opened.spacing(space), opened.unit, self.stop
        )
        return (labels_path, *written)

    def _write_table(self, path: list[Path], tree: Hierarchy, labels: Any) -> list[Path]:
        if path:
            frame = self._table(tree, labels)
            _write(path[0], lambda p: frame.to_csv(p, index=False))
        return path

    def _table(self, tree: Hierarchy, labels: np.ndarray) -> Any:
        """Measure labels; with their class where the cut depends on classes."""
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
