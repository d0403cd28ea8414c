"""Many image files segmented alike: one bad file does not end it, and nothing is lost or replaced.

Files are read one at a time; what is written appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_aeseg.api import load_model
from napari_aeseg.autoencoder.device import choose_device
from napari_aeseg.batch_job import Job, is_hierarchy, planned_files, stem_of
from napari_aeseg.batch_report import BatchReport, FileOutcome
from napari_aeseg.errors import AesegError, InputError, StoppedError
from napari_aeseg.images.axes import checked_voxel_size
from napari_aeseg.io.atomic import check_writable
from napari_aeseg.io.file_array import is_ours, is_zarr
from napari_aeseg.io.images import open_file
from napari_aeseg.large.build import pixels_in_memory
from napari_aeseg.params import BlockParams, SegmentationParams, checked_params
from napari_aeseg.progress import Progress, drain
from napari_aeseg.regions.cuts.cut import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from os import PathLike

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.io.file_array import ImageFile
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.prototypes import Prototypes

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
    return opened, opened.reading(axes if fits else None, voxel_size)


def _is_done(path: Path, folder: Path) -> bool:
    labels, *_, lazy = planned_files(path, folder)
    return labels.exists() or bool((is_ours(lazy) or {}).get("complete"))
