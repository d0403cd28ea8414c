"""Many image files segmented alike, one after the other: `segment_files`.

A file that fails does not stop the others, and no result is half written or lost.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_aeseg.api import hierarchy_steps, load_model
from napari_aeseg.autoencoder.device import choose_device, oom_as_device_error
from napari_aeseg.errors import AesegError, InputError, StoppedError
from napari_aeseg.images.axes import checked_voxel_size
from napari_aeseg.images.units import unit_name
from napari_aeseg.io.atomic_write import (
    atomic_write,
    check_writable,
    refuse_existing,
    remove_folder,
)
from napari_aeseg.io.bioio_reader import bioio_suffixes
from napari_aeseg.io.contact_sheet import contact_sheet
from napari_aeseg.io.images import (
    OTHER_SUFFIXES,
    READERS,
    distinct_colours,
    open_file,
    overlay,
    tinted,
    write_picture,
)
from napari_aeseg.io.labels import WRITERS, write_label_image, write_labels_steps
from napari_aeseg.io.ome_zarr import aeseg_attributes, is_zarr
from napari_aeseg.large.build import pixels_in_memory
from napari_aeseg.params import (
    HIERARCHY_SUFFIX,
    BlockParams,
    ComparisonParams,
    SegmentationParams,
    checked_params,
)
from napari_aeseg.progress import Progress, StopFlag, drain
from napari_aeseg.regions.alternatives import (
    ALTERNATIVE_MODES,
    AlternativeMode,
    AlternativeSettings,
    alternatives_steps,
)
from napari_aeseg.regions.cuts.cut import Cut
from napari_aeseg.regions.hierarchy import Hierarchy, checked_number, load_hierarchy
from napari_aeseg.regions.measure import object_table
from napari_aeseg.regions.small_plane import plane_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.io.file_array import ImageFile
    from napari_aeseg.prototypes import Prototypes

Existing = Literal["refuse", "skip", "replace"]
# Pixels of the longer side of a picture on a contact sheet: three fill the width of a screen.
_ALTERNATIVE_SIDE = 480

#: Suffixes of the image files that are taken from a folder, but for those of `bioio_suffixes`.
# Arrays of numpy may be anything.
SUFFIXES = (*(s for s in READERS if s not in (".npy", ".npz")), *OTHER_SUFFIXES)

# Endings of the names of label files, after the name of the image.
_LABEL_ENDINGS = ("", "_labels", "_masks", "_cp_masks")


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The outcome of one file."""

    path: Path
    # "skipped": its results exist; "stopped": the run ended before it was done.
    status: Literal["done", "failed", "skipped", "stopped"]
    text: str = ""  # how the image was read, or the error
    labels: int = 0  # number of labels
    seconds: float = 0.0
    written: tuple[Path, ...] = ()
    # Of the file and the hierarchy, such as parts that were left out.
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()  # of the set that the image was read from, if there are several

    def __str__(self) -> str:
        name = self.path.name
        # Errors begin with the name too.
        return f"{name}: {self.status}, {self.text.removeprefix(name).lstrip(': ')}"


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The outcomes of all files, in their order.

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
        statuses = [f.status for f in self.files]
        counts = [(statuses.count(s), s) for s in ("done", "skipped", "failed", "stopped")]
        text = ", ".join(f"{number} {status}" for number, status in counts if number)
        return f"{len(self.files)} file{'s' if len(self.files) != 1 else ''}: {text}"

    def __str__(self) -> str:
        return "\n".join([self.summary, *(str(f) for f in self.files if f.status != "done")])


def segment_files(
    paths: Sequence[str | PathLike[str]],
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
    pieces: bool = False,
    save_hierarchy: bool = False,
    existing: Existing = "refuse",
    prototypes: Prototypes | None = None,
    strokes: Sequence[np.ndarray] = (),
    voxel_size: Sequence[float] | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: StopFlag | None = None,
    blocks: BlockParams | None = None,
    store: str | PathLike[str] | None = None,
    alternatives: int | None = None,
    resolution: int = 0,
    series: int = 0,
    labels: str | PathLike[str] | None = None,
) -> BatchReport:
    """Segment image files with one model, and write labels, overlays and tables.

    For ``NAME.tif``: ``NAME_labels.tif``, ``NAME_overlay.png`` (2D images) and ``NAME_table.csv``,
    which has the column "class" (name or id) when the cut depends on classes. Zarr arrays, OME-Zarr
    images and large TIFF files are not loaded; large images are processed in blocks, and get
    ``NAME_labels.ome.zarr`` and no overlay.

    Parameters
    ----------
    paths : sequence of path_like
        For a folder, `image_files(folder)`. Saved hierarchies (``*.aeseg.zarr``) are cut without
        encoding; their overlays show the brightness.
    output : path_like
        Folder for the results; created if missing. For a single file also the file of its labels,
        ``*.zarr`` (OME-Zarr) or ``*.tif`` (BigTIFF); its table lies beside it.
    model : Model or path_like or "base" or None
        None if all files are saved hierarchies.
    cut : Cut, optional
        The segmentation of each hierarchy; by default the suggested number of regions.
    params, comparison, axes, device : optional
        As of `build_hierarchy`; without `axes`, those of the file. Of saved hierarchies,
        only `comparison` can be changed.
    axes_must_fit : bool
        Whether a file with another number of dimensions than `axes` fails. If not, such a file
        is read as without `axes`.
    table : bool
        Write tables too.
    pieces : bool
        Have a row of the table for each connected piece of a label, instead of one per label.
    save_hierarchy : bool
        Write ``NAME.aeseg.zarr`` too, for other cuts later.
    existing : {"refuse", "skip", "replace"}
        For files whose results exist: raise before any work, skip them (to continue a batch that
        was stopped), or write them again.
    prototypes : Prototypes, optional
        The classes of every file; by default those of the model, else those of the first file that
        can be segmented (with "skip", of the first file that was skipped).
    strokes : sequence of ndarray of int
        Of the first file, the second and so on: the classes of every file are learned from them
        (`Hierarchy.prototypes_from`), instead of `prototypes`.
    voxel_size : sequence of float, optional
        As of `build_hierarchy`, for all files; by default from the OME or ImageJ metadata of each
        file. Without a voxel size, tables are in pixels.
    progress : callable, optional
        Called with every `Progress` event; events of stage "file" name the current file.
    stop : threading.Event or alike, optional
        Files that are done are kept.
    blocks : BlockParams, optional
        How large images are processed. If given, all images are processed in blocks.
    store : path_like, optional
        Folder for finished blocks, with a folder for each image, so that a large
        image that was stopped continues with "skip". If given, all images are processed in blocks.
    alternatives : int, optional
        Write ``NAME_alternatives.png`` too: at most so many of the `alternatives` of each
        hierarchy, with the options of the command line that give them. Classes are those of each
        image by itself.
    resolution : int
        Of images with several, as OME-Zarr and whole slides have them; 0 is the finest.
    series : int
        Of files that hold several images (series, scenes); 0 is the first.
    labels : path_like, optional
        Existing segments to start from, as of `build_hierarchy`: the label file of a single image,
        or a folder with ``NAME.tif``, ``NAME_labels.tif``, ``NAME_masks.tif`` or
        ``NAME_cp_masks.tif`` (or ``.png`` ...) for each image.

    Returns
    -------
    BatchReport
        With the errors of files that cannot be read or do not fit the model. Of a set of OME-TIFF
        files that is one image, the first is segmented, and the others are skipped.

    Raises
    ------
    InputError
        If there are no files, two would write the same results, results exist, the cut belongs to
        one image or has no alternatives, the model lacks a level, or `voxel_size` has other than
        two or three numbers above 0.
    DeviceError
        If there is no such device.

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
    if isinstance(paths, str | os.PathLike):
        raise InputError(
            f"paths = {str(paths)!r}: give a list of files, such as image_files(folder)."
        )
    batch = Batch(
        files=[Path(path) for path in paths],
        output=Path(output),
        model=load_model(model) if isinstance(model, str | os.PathLike) else model,
        cut=Cut() if cut is None else cut,
        params=checked_params(SegmentationParams, params),
        comparison=checked_params(ComparisonParams, comparison),
        axes=axes,
        device=device,
        axes_must_fit=axes_must_fit,
        table=table,
        pieces=pieces,
        save_hierarchy=save_hierarchy,
        existing=existing,
        prototypes=prototypes,
        strokes=strokes,
        voxel_size=voxel_size,
        blocks=None if blocks is None else checked_params(BlockParams, blocks),
        store=None if store is None else Path(store),
        alternatives=alternatives,
        resolution=resolution,
        series=series,
        labels=None if labels is None else Path(labels),
    )
    return drain(batch.steps(stop), progress)


@dataclass(kw_only=True)
class Batch:
    """Files to segment, and how; the fields are the parameters of `segment_files`.

    Raises InputError if the files cannot be segmented with any model: results exist or would
    collide, the cut belongs to one image, or the output cannot be written.
    """

    files: list[Path]
    output: Path
    model: Model | None = None
    cut: Cut = field(default_factory=Cut)
    params: SegmentationParams = field(default_factory=SegmentationParams)
    comparison: ComparisonParams = field(default_factory=ComparisonParams)
    axes: str | None = None
    device: str = "auto"
    axes_must_fit: bool = True
    table: bool = True
    pieces: bool = False
    save_hierarchy: bool = False
    existing: Existing = "refuse"
    prototypes: Prototypes | None = None
    strokes: Sequence[np.ndarray] = ()
    voxel_size: Sequence[float] | None = None
    blocks: BlockParams | None = None
    store: Path | None = None
    alternatives: int | None = None
    resolution: int = 0
    series: int = 0
    labels: Path | None = None
    _built: dict[Path, tuple[ImageFile | None, Hierarchy]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.files:
            raise InputError("There is no file to segment: the list is empty.")
        if self.existing not in ("refuse", "skip", "replace"):
            raise InputError(f"existing = {self.existing!r}: choose refuse, skip or replace.")
        if self.cut.mode == "markers" or self.cut.edits:
            raise InputError(
                "Strokes and manual edits belong to one image: choose regions, classes or objects "
                "without them."
            )
        if len(self.strokes) > len(self.files):
            raise InputError(
                f"There are strokes of {len(self.strokes)} images, but {len(self.files)} files: "
                "give the images of the strokes first."
            )
        if self.strokes and not self.cut.needs_classes:
            raise InputError(f"Strokes are of classes, not of {self.cut.mode}: use Cut('classes').")
        if self.alternatives is not None:
            checked_number("alternatives", self.alternatives)
            if self.cut.mode not in ALTERNATIVE_MODES:
                raise InputError("Objects have no alternatives: choose regions or classes.")
        if self.voxel_size is not None:
            self.voxel_size = checked_voxel_size(self.voxel_size)
        self._check_labels()
        self._check_output()
        self._check_results()

    def _check_labels(self) -> None:
        labels = self.labels
        if labels is None:
            return
        if any(map(is_hierarchy, self.files)):
            raise InputError("Existing labels are for images: a saved hierarchy has its patches.")
        if not labels.exists():
            raise InputError(f"There are no labels {str(labels)!r}.")
        if len(self.files) > 1 and (labels.is_file() or is_zarr(labels)):
            raise InputError(
                f"{labels} is one file, but there are {len(self.files)} images. Give a folder."
            )

    @property
    def is_one_file(self) -> bool:
        """Whether the output is the file of the labels of one image, not a folder."""
        return self.output.suffix.lower() in WRITERS

    def _check_output(self) -> None:
        output = self.output
        if output.name.endswith(HIERARCHY_SUFFIX):
            raise InputError(
                f"{output}: only saved hierarchies end with {HIERARCHY_SUFFIX}. Give the labels "
                "another name."
            )
        if self.is_one_file and len(self.files) != 1:
            raise InputError(
                f"{output} is one file, but there are {len(self.files)} images. Give a folder."
            )
        if self.is_one_file and self.existing == "replace":
            raise InputError(f"{output} is never replaced. Remove it first, or give a folder.")
        if output.suffix.lower() in SUFFIXES and not (self.is_one_file or output.is_dir()):
            raise InputError(f"{output}: labels are written as {' or '.join(WRITERS)}.")
        check_writable(output.parent if self.is_one_file else output)

    def _check_results(self) -> None:
        """Raise InputError if results would collide with one another or with other files."""
        stems = [stem_of(path) for path in self.files]
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise InputError(
                f"Two of the files are called {', '.join(twice)}: their results would collide. "
                "Segment them into different folders."
            )
        results = [self.results(file) for file in self.files]
        planned = [path for paths in results for path in paths]
        read = [*self.files, *(label for p in self.files if (label := self._labels_of(p)))]
        both = {os.path.realpath(p) for p in read} & {os.path.realpath(p) for p in planned}
        if both:
            raise InputError(f"{min(both)!r} would be read and written: choose another folder.")
        if self.existing == "refuse":
            refuse_existing(
                [path for paths in results for path in paths.existing],
                "existing='skip' or 'replace' (on the command line, --skip-existing or "
                "--overwrite)",
            )
        for labels in (paths.labels_of_blocks for paths in results):
            if labels.is_dir() and aeseg_attributes(labels) is None:
                raise InputError(f"{labels} holds other data: choose another output.")

    def results(self, path: Path) -> Results:
        """Return the names of the results of a file."""
        folder, stem = self.output, stem_of(path)
        if self.is_one_file:
            folder, stem = self.output.parent, stem_of(self.output)
        labels = self.output if self.is_one_file else folder / f"{stem}_labels.tif"
        of_blocks = self.output if self.is_one_file else folder / f"{stem}_labels.ome.zarr"
        picture, table = folder / f"{stem}_overlay.png", folder / f"{stem}_table.csv"
        alternatives = folder / f"{stem}_alternatives.png"
        return Results(
            labels,
            of_blocks,
            None if self.is_one_file else picture,
            table if self.table else None,
            folder / f"{stem}{HIERARCHY_SUFFIX}" if self.save_hierarchy else None,
            alternatives if self.alternatives else None,
            frozenset({labels, of_blocks, picture, table, alternatives}),
        )

    def steps(self, stop: StopFlag | None = None) -> Generator[Progress, None, BatchReport]:
        """Segment the files; a generator of events that returns the report."""
        choose_device(self.device)  # fails for all files alike, as do the levels
        if self.model is not None:
            self.model.levels(self.params.levels)
        elif not all(map(is_hierarchy, self.files)):
            raise InputError("There is no model: only saved hierarchies can be cut without one.")
        (self.output.parent if self.is_one_file else self.output).mkdir(parents=True, exist_ok=True)
        skipped = [p for p in self.files if self.existing == "skip" and self.results(p).are_done]
        examples = iter(skipped)  # for the classes of an earlier run
        if self.strokes:
            self.prototypes = yield from self._learned(stop)
        prototypes = self.prototypes
        if prototypes is None and self.model is not None:
            prototypes = self.model.prototypes
        outcomes: list[FileOutcome] = []
        set_of: dict[str, Path] = {}  # files of sets, and the file that each was read through
        for number, path in enumerate(self.files, 1):
            message = f"{path.name} ({number} of {len(self.files)})"
            yield Progress("file", number, len(self.files), message=message)
            if stop is not None and stop.is_set():
                outcomes.append(FileOutcome(path, "stopped", "not started"))
                continue
            if first := set_of.get(os.path.realpath(path)):
                text = f"it is a part of the image of {first.name}"
                outcomes.append(FileOutcome(path, "skipped", text))
                continue
            if path in skipped:
                outcomes.append(FileOutcome(path, "skipped", "its results exist"))
                set_of |= {os.path.realpath(file): path for file in _files_of_set(path)}
                continue
            start = time.perf_counter()
            try:
                with oom_as_device_error(path.name, "Close other programs, or use blocks."):
                    if prototypes is None and self.cut.needs_classes:
                        prototypes = yield from self._classes_of_first(examples, stop)
                    outcome, prototypes = yield from self._segment(path, prototypes, stop)
            except StoppedError:
                outcome = FileOutcome(path, "stopped", "stopped before it was done")
            except (AesegError, OSError) as error:
                outcome = FileOutcome(path, "failed", str(error))
            outcomes.append(replace(outcome, seconds=time.perf_counter() - start))
            set_of |= {os.path.realpath(file): path for file in outcome.files}
        return BatchReport(tuple(outcomes))

    def _learned(self, stop: StopFlag | None) -> Generator[Progress, None, Prototypes | None]:
        """Return the classes of the strokes; the hierarchies of their images are kept."""
        learned: Prototypes | None = None
        for path, strokes in zip(self.files, self.strokes, strict=False):
            self._built[path] = yield from self._build(path, stop)
            try:
                learned = self._built[path][1].prototypes_from(strokes, others=learned)
            except InputError as error:
                raise InputError(f"The strokes on {path.name} cannot be used: {error}") from error
        return learned

    def _classes_of_first(
        self, paths: Iterator[Path], stop: StopFlag | None
    ) -> Generator[Progress, None, Prototypes | None]:
        """Return the classes of the first file that can be segmented: those of an earlier run."""
        for path in paths:
            try:
                _, tree = yield from self._build(path, stop)
                return self.cut.prototypes_of(tree)
            except (InputError, OSError) as error:  # its results exist, but the file has changed
                message = f"The classes of {path.name} are not available: {error}"
                yield Progress("classes", 1, 1, message=message)
        return None

    def _build(
        self, path: Path, stop: StopFlag | None
    ) -> Generator[Progress, None, tuple[ImageFile | None, Hierarchy]]:
        """Return the hierarchy of a file, and its image unless it is a saved hierarchy."""
        if path in self._built:
            return self._built.pop(path)
        if is_hierarchy(path):
            return None, self._saved_hierarchy(path)
        assert self.model is not None  # noqa: S101 - has been checked
        opened = open_file(path, pixels_in_memory(), self.resolution, self.series)
        fits = self.axes is not None and (self.axes_must_fit or len(self.axes) == opened.array.ndim)
        axes = opened.read_axes(self.axes if fits else None, self.voxel_size)
        store = self.store
        if store is not None and not self.is_one_file:
            store = store / stem_of(path)
        labels = None
        if self.labels is not None:
            file = self._labels_of(path)
            if file is None:
                names = ", ".join(f"{stem_of(path)}{ending}.tif" for ending in _LABEL_ENDINGS)
                raise InputError(f"{self.labels} has no labels of {path.name}: {names} ...")
            labels = open_file(file).array
        work = hierarchy_steps(
            *(opened.array, self.model, self.params, axes, self.device, stop, path.name),
            comparison=self.comparison,
            blocks=self.blocks,
            store=store,
            labels=labels,
        )
        return opened, (yield from work)

    def _labels_of(self, path: Path) -> Path | None:
        """Return the file of the existing labels of an image, if it is there."""
        if self.labels is None or not self.labels.is_dir() or is_zarr(self.labels):
            return self.labels
        names = (f"{stem_of(path)}{e}{suffix}" for e in _LABEL_ENDINGS for suffix in SUFFIXES)
        files = (self.labels / name for name in names)
        return next((f for f in files if f.exists() and not f.samefile(path)), None)

    def _saved_hierarchy(self, path: Path) -> Hierarchy:
        """Load a hierarchy, and compare its patches as given."""
        tree, model = load_hierarchy(path), self.model
        model_of_tree = tree.model_fingerprint, tree.axes.channels
        if model is not None and not model.has_fingerprint(*model_of_tree):
            raise InputError(f"{path.name} was made with another model. Leave the model out.")
        for name in self.params.model_fields_set - {"tile_size"}:
            value, saved = getattr(self.params, name), getattr(tree.params, name)
            if value != saved:
                raise InputError(
                    f"{name} = {value!r}: this hierarchy was saved with {saved!r}, and only its "
                    "balance, scale and whitening can be changed. Segment the image instead."
                )
        changes = self.comparison.model_dump(exclude_unset=True)
        return tree.compared_by(tree.comparison.updated(**changes))

    def _segment(
        self, path: Path, prototypes: Prototypes | None, stop: StopFlag | None
    ) -> Generator[Progress, None, tuple[FileOutcome, Prototypes | None]]:
        """Segment a file and write its results; return its outcome and the classes."""
        image, tree = yield from self._build(path, stop)
        labels = self.cut.labels(tree, prototypes=prototypes, stop=stop)
        by_patch = tree.is_lazy and self.cut.mode != "objects"
        values = self.cut.of_patch(tree, prototypes) if by_patch else labels
        results, written = self.results(path), []
        of_earlier_labels = results.of_labels if results.are_done else frozenset()
        if results.overlay is not None and tree.axes.space == "YX" and not tree.is_lazy:
            pixels, axes = (
                (tree.brightness, "YX") if image is None else (image.array, tree.axes.letters)
            )
            picture = overlay(pixels, labels, axes)
            with atomic_write(results.overlay) as part:
                write_picture(picture, part)
            written.append(results.overlay)
        if results.table is not None:
            with_pixels = image is not None and self.cut.mode == "objects" and not tree.is_lazy
            given = image.array if image is not None and with_pixels else None
            measurements = self._table(tree, labels, prototypes, given, stop)
            with atomic_write(results.table) as part:
                measurements.to_csv(part, index=False)
            written.append(results.table)
        if results.hierarchy is not None:
            tree.save(results.hierarchy)
            written.append(results.hierarchy)
        if results.alternatives is not None:
            yield from self._write_alternatives(results.alternatives, tree, image, stop)
            written.append(results.alternatives)
        # Labels last: they mean that a file is done.
        labels_path = yield from self._write_labels(results, tree, labels, stop)
        for outdated in of_earlier_labels - {labels_path, *written}:
            remove_folder(outdated) if outdated.is_dir() else outdated.unlink(missing_ok=True)
        if prototypes is None and self.cut.needs_classes:
            prototypes = self.cut.prototypes_of(tree)
        notes = tree.notes if image is None else (*image.notes, *tree.notes)
        number = int(values.max())
        if self.cut.mode == "objects" and not number:
            notes = (*notes, self.cut.object_settings.if_none_found)
        outcome = FileOutcome(
            path,
            "done",
            str(tree.axes),
            labels=number,
            written=(labels_path, *written),
            notes=notes,
            files=() if image is None else image.files,
        )
        return outcome, prototypes

    def _write_alternatives(
        self, path: Path, tree: Hierarchy, image: ImageFile | None, stop: StopFlag | None
    ) -> Generator[Progress, None, None]:
        """Write a contact sheet of alternatives, each with the options that give it."""
        mode: AlternativeMode = "classes" if self.cut.mode == "classes" else "regions"
        count = self.cut.classes_in if mode == "classes" else self.cut.regions_in
        alternatives = yield from alternatives_steps(
            tree, self.alternatives or 1, mode, count(tree), stop
        )
        plane = plane_of(tree, None if image is None else image.array, _ALTERNATIVE_SIDE)
        colours = distinct_colours(alternatives[0].settings.number)
        pictures = [
            tinted(plane.picture, plane.labels(a.label_of_patch), colours, 0.35, outlines=True)
            for a in alternatives
        ]
        # A saved hierarchy may have another whitening than the default, or than was asked for now.
        says_whitening = mode == "classes" and (
            tree.comparison.whitening != "neighbours"
            or "whitening" in self.comparison.model_fields_set
        )
        captions = [_options_of(a.settings, says_whitening) for a in alternatives]
        with atomic_write(path) as part:
            write_picture(contact_sheet(pictures, captions), part)

    def _table(
        self,
        tree: Hierarchy,
        labels: Any,
        prototypes: Prototypes | None,
        image: Any,
        stop: StopFlag | None,
    ) -> pd.DataFrame:
        """Measure labels; with their class if the cut depends on classes, and with the unit."""
        if tree.is_lazy and self.cut.mode == "objects":
            table = object_table(labels, tree.axes)
        elif not self.cut.needs_classes:
            table = tree.table(labels, image=image, pieces=self.pieces)
        else:
            classes = replace(self.cut, mode="classes").labels(tree, prototypes, stop=stop)
            table = tree.table(labels, classes, image=image, pieces=self.pieces)
            if prototypes is not None and prototypes.names:
                table["class"] = [prototypes.names[class_id - 1] for class_id in table["class"]]
        return table if tree.voxel_size is None else table.assign(unit=tree.axes.unit)

    def _write_labels(
        self, results: Results, tree: Hierarchy, labels: Any, stop: StopFlag | None
    ) -> Generator[Progress, None, Path]:
        if not (tree.is_lazy or self.is_one_file):
            with atomic_write(results.labels) as part:
                write_label_image(labels, part, tree.axes)
            return results.labels
        path = results.labels_of_blocks
        if self.existing == "replace" and aeseg_attributes(path) is not None:
            shutil.rmtree(path)
        axes = tree.axes
        unit = unit_name(axes.unit) or ""
        return (yield from write_labels_steps(labels, path, axes.space, axes.spacing, unit, stop))


def _options_of(settings: AlternativeSettings, says_whitening: bool) -> str:
    """The options of the command line that give an alternative."""
    values = {settings.mode: settings.number, **settings.values}
    if says_whitening:
        values["whitening"] = settings.comparison.whitening
    texts = {k: v if isinstance(v, str) else f"{v:g}" for k, v in values.items()}
    return " ".join(f"--{name.replace('_', '-')} {text}" for name, text in texts.items())


@dataclass(frozen=True, slots=True)
class Results:
    """The files that are written for one image; None for those that are not wanted."""

    labels: Path  # written last: they mean that the image is done
    labels_of_blocks: Path  # the same for an image in blocks
    overlay: Path | None
    table: Path | None
    hierarchy: Path | None
    alternatives: Path | None
    of_labels: frozenset[Path]  # all that fits only these labels, wanted or not

    def __iter__(self) -> Iterator[Path]:
        pictures = (self.overlay, self.alternatives)
        paths = (self.labels, *pictures, self.table, self.hierarchy, self.labels_of_blocks)
        return (path for path in dict.fromkeys(paths) if path is not None)

    @property
    def existing(self) -> list[Path]:
        """The files that exist, without labels that are unfinished: these are continued."""
        note = aeseg_attributes(self.labels_of_blocks)
        unfinished = note is not None and not note.get("complete")
        return [p for p in self if p.exists() and not (unfinished and p == self.labels_of_blocks)]

    @property
    def are_done(self) -> bool:
        """Whether the labels are complete."""
        return not {self.labels, self.labels_of_blocks}.isdisjoint(self.existing)


def image_files(folder: str | PathLike[str]) -> list[Path]:
    """Return the image files of a folder in the order of their names, without results.

    Raises
    ------
    InputError
        If there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {str(folder)!r}.")
    suffixes = (*SUFFIXES, *bioio_suffixes())
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes
        and (path.is_file() or is_zarr(path))
        and not path.name.startswith(".")
        and not is_hierarchy(path)
        and not stem_of(path).endswith(("_labels", "_overlay", "_alternatives"))
    )
    if not files:
        raise InputError(f"There is no image ({', '.join(suffixes)}) in {str(folder)!r}.")
    return files


def _files_of_set(path: Path) -> tuple[Path, ...]:
    """The files of the set that an OME-TIFF file belongs to, if it does."""
    try:
        return open_file(path, largest=0).files if ".ome." in path.name else ()
    except (InputError, OSError):  # its results exist, but the file has changed
        return ()


def is_hierarchy(path: Path) -> bool:
    """Return whether a path is a saved hierarchy rather than an image."""
    return path.name.endswith(HIERARCHY_SUFFIX)


def stem_of(path: Path) -> str:
    """Return the beginning of the names of a file's results."""
    if is_hierarchy(path):
        return path.name.removesuffix(HIERARCHY_SUFFIX)
    return path.stem.removesuffix(".ome") if path.suffix.lower() == ".zarr" else path.stem
