"""``napari-aeseg segment``: labels, overlays and tables of image files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_aeseg.cli.options import (
    MODEL_SUFFIX,
    Commands,
    add_axes,
    add_device,
    add_images,
    add_params,
    add_voxel_size,
    count,
    given,
    image_paths,
    model_or_base,
    refuse_existing,
    share,
)
from napari_aeseg.cli.progress import (
    run_with_progress,
    save_somewhere,
    say_trained,
    stop_at_interrupt,
)
from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import checked_voxel_size, common_voxel_size
from napari_aeseg.params import (
    HIERARCHY_SUFFIX,
    BlockParams,
    ComparisonParams,
    SegmentationParams,
    TrainingParams,
)

if TYPE_CHECKING:
    import argparse

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.batch import BatchReport, Existing
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.io.file_array import ImageFile
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.regions.cuts.cut import Cut
    from napari_aeseg.regions.hierarchy import Hierarchy


def is_labels_file(output: Path) -> bool:
    """Return whether an output is the file of the labels, not a folder for results."""
    from napari_aeseg.io.labels import WRITTEN

    return output.suffix.lower() in WRITTEN


def segment_to_file(
    options: argparse.Namespace,
    files: list[Path],
    params: SegmentationParams,
    comparison: ComparisonParams,
    cut: Cut,
) -> int:
    """Segment one image and write its labels, as OME-Zarr or BigTIFF, and a table if asked to."""
    from napari_aeseg.batch import table_of
    from napari_aeseg.io.atomic import atomic_write
    from napari_aeseg.io.labels import write_labels_steps

    labels_path: Path = options.output
    tables, hierarchies = _beside(options)
    beside = [*tables, *hierarchies]
    _check(options, files, beside)
    model_path = labels_path.with_name(f"{labels_path.name.split('.')[0]}{MODEL_SUFFIX}")
    if options.model is None and not options.skip_existing:
        refuse_existing([model_path], "--skip-existing to go on with it")
    model = model_of(options, files, model_path)
    check_classes(model, options)
    with stop_at_interrupt("with --store, blocks that are done are kept") as stop:
        tree = _hierarchy(options, files[0], model, params, comparison, cut, stop)
        prototypes = None if model is None else model.prototypes
        labels = cut.labels(tree, prototypes=prototypes, stop=stop)
        axes = tree.axes
        labels_path.parent.mkdir(parents=True, exist_ok=True)
        for path in tables:
            table = table_of(tree, labels, cut, prototypes, stop)
            with atomic_write(path) as part:
                table.to_csv(part, index=False)
        for path in hierarchies:
            tree.save(path)
        unit = "" if axes.unit == "pixel" else axes.unit
        run_with_progress(
            write_labels_steps(labels, labels_path, axes.space, axes.spacing, unit, stop)
        )
    for note in tree.notes:
        print(f"{files[0].name}: {note}")
    written = ", ".join(str(path) for path in [labels_path, *beside])
    print(f"{files[0].name}: {tree.axes}; {cut.title(tree)}; wrote {written}")
    return 0


def _beside(options: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Return the table and the saved hierarchy that are written beside the labels, if asked for."""
    path: Path = options.output
    stem = path.name.split(".")[0]
    tables = [path.with_name(f"{stem}_table.csv")] if options.table else []
    hierarchies = [path.with_name(f"{stem}{HIERARCHY_SUFFIX}")] if options.save_hierarchy else []
    return tables, hierarchies


def _hierarchy(
    options: argparse.Namespace,
    file: Path,
    model: Model | None,
    params: SegmentationParams,
    comparison: ComparisonParams,
    cut: Cut,
    stop: StopFlag,
) -> Hierarchy:
    """Return the hierarchy of an image, or one that was saved."""
    from napari_aeseg.api import hierarchy_steps
    from napari_aeseg.batch import refuse_objects_of_blocks, saved_hierarchy
    from napari_aeseg.io.images import open_file
    from napari_aeseg.large.build import pixels_in_memory

    if model is None or file.name.endswith(HIERARCHY_SUFFIX):
        return saved_hierarchy(file, model, params, comparison)
    opened = open_file(file, pixels_in_memory())
    refuse_objects_of_blocks(cut, opened.array, blocks_of(options), options.store)
    return run_with_progress(
        hierarchy_steps(
            opened.array,
            model,
            params,
            opened.read_axes(options.axes, options.voxel_size),
            options.device,
            stop,
            file.name,
            comparison=comparison,
            blocks=blocks_of(options),
            store=options.store,
        )
    )


def _check(options: argparse.Namespace, files: list[Path], beside: list[Path]) -> None:
    """Raise InputError for what cannot be done, before any work."""
    from napari_aeseg.io.atomic import check_writable
    from napari_aeseg.io.file_array import is_ours

    path: Path = options.output
    if len(files) != 1:
        raise InputError(f"--output {path} is one file, but there are {len(files)} images: give a "
                         "folder.")  # fmt: skip
    if path.name.endswith(HIERARCHY_SUFFIX):
        raise InputError(
            f"--output {path}: only saved hierarchies end with {HIERARCHY_SUFFIX}; give labels "
            "another name."
        )
    if options.overwrite:
        raise InputError(f"--overwrite: {path} is never replaced; remove it first.")
    ours = is_ours(path)
    if path.exists() and (ours is None or ours.get("complete")):
        raise InputError(f"{path} exists already and is never replaced: give another --output.")
    if not options.skip_existing:
        refuse_existing(beside, "--skip-existing")
    check_writable(path.parent)


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "segment",
        help="segment image files",
        description="Segment image files. A file that cannot be segmented does not keep the others "
        "from it; it is told at the end, and the exit code is 1. Hierarchies that --save-hierarchy "
        f"has written (*{HIERARCHY_SUFFIX}) can be given instead of images: they are cut at once, "
        "without a model, and their balance and scale can be changed.",
    )
    parser.set_defaults(run=_run)
    add_images(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the results; for a single image also the file of its labels (*.zarr for "
        "OME-Zarr, *.tif for BigTIFF)",
    )
    parser.add_argument(
        "--model",
        type=model_or_base,
        help="model file, or 'base' for the one that comes along, which needs no training; without "
        f"it, a model is trained on all images first, and written as model{MODEL_SUFFIX}",
    )
    _add_cuts(parser)
    parser.add_argument("--table", action="store_true", help="write measurements as CSV as well")
    parser.add_argument(
        "--save-hierarchy",
        action="store_true",
        help=f"write NAME{HIERARCHY_SUFFIX} as well, to be cut in other ways later",
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace files that exist")
    there.add_argument(
        "--skip-existing",
        action="store_true",
        help="go on with a run that ended early: leave out images whose labels exist, and use the "
        "model that was trained",
    )
    add_device(parser)
    add_axes(parser)
    add_voxel_size(parser)
    add_params(parser, SegmentationParams)
    add_params(parser, ComparisonParams)
    add_params(parser, BlockParams)
    parser.add_argument(
        "--store",
        type=Path,
        metavar="FOLDER",
        help="folder that keeps the blocks of large images that are done: started again, the work "
        "goes on there (default: a temporary one)",
    )


def _add_cuts(parser: argparse.ArgumentParser) -> None:
    cut = parser.add_mutually_exclusive_group()
    cut.add_argument(
        "--regions", type=count, help="number of connected regions (default: suggested by each)"
    )
    cut.add_argument("--threshold", type=share, help="dissimilarity 0 .. 1 up to which to merge")
    cut.add_argument(
        "--classes",
        type=count,
        help="number of classes; they are the same in all images: those that the model keeps, else "
        "those of the first image",
    )
    cut.add_argument(
        "--objects", action="store_true", help="separate objects, such as nuclei or particles"
    )
    parser.add_argument(
        "--min-size",
        type=count,
        metavar="PIXELS",
        help="smallest object, with --objects (default: learnt from each image)",
    )


def _run(options: argparse.Namespace) -> int:
    from napari_aeseg.batch import SUFFIXES, batch_steps, check_batch, planned_files
    from napari_aeseg.io.labels import WRITTEN

    params = SegmentationParams(**given(options, SegmentationParams))
    comparison = ComparisonParams(**given(options, ComparisonParams))
    if options.voxel_size is not None:  # before a training
        checked_voxel_size(options.voxel_size)
    cut = _cut(options)
    existing = _existing(options)
    files, folder = image_paths(options), options.output

    if is_labels_file(folder):
        return segment_to_file(options, files, params, comparison, cut)
    if folder.suffix.lower() in SUFFIXES and not folder.is_dir():
        raise InputError(
            f"--output {folder}: labels are written as {' or '.join(WRITTEN)}, or to a folder."
        )
    more = {"table": options.table, "save_hierarchy": options.save_hierarchy}
    check_batch(files, folder, cut, **more, existing="replace")
    model_path = folder / f"model{MODEL_SUFFIX}"
    if existing == "refuse":
        planned = [p for file in files for p in planned_files(file, folder, **more)]
        planned += [model_path] if options.model is None and _images(files) else []
        refuse_existing(planned, "--overwrite or --skip-existing")
    model = model_of(options, files, model_path)
    check_classes(model, options)
    with stop_at_interrupt("images that are done are kept") as stop:
        report = run_with_progress(
            batch_steps(
                files,
                folder,
                model,
                cut,
                params,
                options.axes,
                options.device,
                **more,
                comparison=comparison,
                existing=existing,
                voxel_size=options.voxel_size,
                stop=stop,
                blocks=blocks_of(options),
                store=options.store,
            )
        )
    return _tell(report, folder)


def blocks_of(options: argparse.Namespace) -> BlockParams | None:
    """Return how large images are worked on, if anything of it was said."""
    asked = given(options, BlockParams)
    return BlockParams(**asked) if asked else None


def _existing(options: argparse.Namespace) -> Existing:
    if options.overwrite:
        return "replace"
    return "skip" if options.skip_existing else "refuse"


def _cut(options: argparse.Namespace) -> Cut:
    from napari_aeseg.regions.cuts.cut import Cut

    if options.min_size is not None and not options.objects:
        raise InputError(f"--min-size {options.min_size} is for objects: add --objects.")
    if options.objects:
        return Cut("objects", min_size=options.min_size)
    if options.classes is not None:
        return Cut("classes", n_classes=options.classes)
    return Cut("regions", n_regions=options.regions, threshold=options.threshold)


def _images(files: list[Path]) -> list[Path]:
    """Return the files that are images, and no saved hierarchies."""
    return [file for file in files if not file.name.endswith(HIERARCHY_SUFFIX)]


def model_of(options: argparse.Namespace, files: list[Path], path: Path) -> Model | None:
    """Return the model that was asked for, that of an earlier run, or a new one if need be."""
    from napari_aeseg.api import load_model

    if options.model is not None:
        return load_model(options.model)
    files = _images(files)
    if not files:
        return None
    if options.skip_existing and path.exists():
        print(f"going on with {path}")
        return load_model(path)
    model = _train_on(files, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_somewhere(model, path)
    print(f"wrote {path}")
    return model


def _train_on(files: list[Path], options: argparse.Namespace) -> Model:
    """Train on all images that can be read; those that cannot are told with the others."""
    from napari_aeseg.api import train_steps
    from napari_aeseg.io.images import open_file
    from napari_aeseg.large.build import pixels_in_memory

    print(
        f"no --model: training on {len(files)} image{'s' if len(files) > 1 else ''} first "
        "(--model base needs no training)"
    )
    read: dict[str, tuple[ImageFile, Axes]] = {}
    errors: list[InputError] = []
    for file in files:
        try:
            opened = open_file(file, pixels_in_memory())
            read[file.name] = opened, opened.read_axes(options.axes, options.voxel_size)
        except InputError as error:
            errors.append(error)
    if not read:
        raise InputError("\n".join(str(error) for error in errors))
    names = list(read)
    axes = [options.axes or opened.axes for opened, _ in read.values()]
    images = [opened.array for opened, _ in read.values()]
    more: dict[str, Any] = {} if blocks_of(options) is None else {"blocks": blocks_of(options)}
    more["voxel_size"] = common_voxel_size([reading for _, reading in read.values()])
    model = run_with_progress(
        train_steps(images, TrainingParams(), axes, options.device, names=names, **more)
    )
    say_trained(model, names)
    return model


def check_classes(model: Model | None, options: argparse.Namespace) -> None:
    """Refuse a number of classes that the classes of the model do not have."""
    if options.classes is None or model is None or model.prototypes is None:
        return
    kept = len(model.prototypes.centres)
    if options.classes != kept:
        names = f" ({', '.join(model.prototypes.names)})" if model.prototypes.names else ""
        raise InputError(
            f"--classes {options.classes}: the model keeps {kept} classes{names}. Give --classes "
            f"{kept} to find these, or another model."
        )


def _tell(report: BatchReport, folder: Path) -> int:
    """Print what became of each file; return the exit code."""
    for file in report.files:
        if file.status == "done":
            written = ", ".join(path.name for path in file.written)
            labels = "1 label" if file.labels == 1 else f"{file.labels} labels"
            print(
                f"{file.path.name}: {file.text}; {labels} in {file.seconds:.1f} s; "
                f"wrote {written} in {folder}"
            )
        elif file.status != "failed":
            print(f"{file.path.name}: {file.status}, {file.text}")
    for file in report.failed:
        name = "" if file.path.name in file.text else f"{file.path.name}: "
        print(f"napari-aeseg: {name}{file.text}", file=sys.stderr)
    print(report.summary)
    if any(file.status == "stopped" for file in report.files):
        raise KeyboardInterrupt
    return 1 if report.failed else 0
