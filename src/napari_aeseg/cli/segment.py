"""``napari-aeseg segment``: labels, overlays and tables of image files."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from napari_aeseg.cli.options import (
    add_axes,
    add_device,
    add_images,
    add_params,
    given,
    image_paths,
    model_or_base,
    params_of,
)
from napari_aeseg.cli.progress import run_with_progress, save_trained, stop_at_interrupt
from napari_aeseg.cli.train import train_on_files
from napari_aeseg.errors import InputError
from napari_aeseg.io.atomic_write import refuse_existing
from napari_aeseg.params import (
    HIERARCHY_SUFFIX,
    MODEL_SUFFIX,
    BlockParams,
    ComparisonParams,
    SegmentationParams,
    TrainingParams,
)

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.batch import Batch, BatchReport
    from napari_aeseg.regions.cuts.cut import Cut


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Segment image files. Files that fail are listed at the end, and the exit code is 1; the "
        f"others are segmented. Saved hierarchies (*{HIERARCHY_SUFFIX}, see --save-hierarchy) can "
        "be given instead of images: they are cut at once, without a model, and only their "
        "comparison can be changed."
    )
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
        help="model file, or 'base' for the bundled model, which needs no training; without "
        f"--model, a model is trained on all images first, and saved as model{MODEL_SUFFIX}",
    )
    add_device(parser)
    add_axes(parser)
    _add_segments(parser)
    _add_objects(parser)
    _add_results(parser)
    add_params(parser, SegmentationParams, "Patches")
    add_params(parser, ComparisonParams, "Comparison")
    add_params(parser, BlockParams, "Large images").add_argument(
        "--store",
        type=Path,
        metavar="FOLDER",
        help="folder for finished blocks of large images; run again with the same folder to resume "
        "(default: a temporary folder)",
    )


def _add_segments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Segments")
    cut = group.add_mutually_exclusive_group()
    cut.add_argument(
        "--regions",
        type=int,
        metavar="NUMBER",
        help="number of connected regions (default: suggested by each image)",
    )
    cut.add_argument(
        "--threshold",
        type=float,
        metavar="VALUE",
        help="dissimilarity from 0 to 1 up to which regions merge",
    )
    cut.add_argument(
        "--classes",
        type=int,
        metavar="NUMBER",
        help="number of classes, the same in all images: those stored in the model, else those of "
        "the first image",
    )
    cut.add_argument(
        "--classes-from",
        type=Path,
        action="append",
        metavar="STROKES",
        help="label image with a few strokes of each class on the first image: classes are learned "
        "from them, and found in all images; again for strokes on the second image, and so on",
    )
    cut.add_argument(
        "--objects", action="store_true", help="separate objects, such as nuclei or particles"
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="existing segments to start from, which regions and classes never cut: the label file "
        "of a single image, or a folder with NAME_labels.tif (or NAME.tif, NAME_masks.tif, "
        "NAME_cp_masks.tif) for each",
    )
    group.add_argument(
        "--keep-classes",
        type=Path,
        metavar="MODEL",
        help="with --classes-from, write the model with the classes to this file",
    )
    group.add_argument(
        "--refine",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="borders of regions and classes that follow the pixels, not the patches (default)",
    )
    group.add_argument(
        "--min-size",
        type=int,
        metavar="PIXELS",
        help="smallest region, object or connected piece of a class",
    )


def _add_objects(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Objects")
    group.add_argument("--max-size", type=int, metavar="PIXELS", help="largest object")
    group.add_argument(
        "--diameter",
        type=float,
        metavar="PIXELS",
        help="of a typical object (default: chosen from each image)",
    )
    group.add_argument(
        "--polarity",
        choices=("auto", "bright", "dark", "both"),
        help="brighter or darker than their surroundings (default: chosen from each image)",
    )
    group.add_argument(
        "--sensitivity",
        type=float,
        metavar="VALUE",
        help="0 finds clear objects only, 1 all that may be objects (default: 0.5)",
    )
    group.add_argument(
        "--channel",
        type=int,
        metavar="NUMBER",
        help="channel in which objects are looked for, 1 for the first (default: all together)",
    )
    group.add_argument(
        "--exclude-borders",
        action="store_true",
        default=None,
        help="leave out objects at the image's edge",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Results")
    group.add_argument("--table", action="store_true", help="write measurements (CSV)")
    group.add_argument(
        "--pieces",
        action="store_true",
        help="write measurements with a row for each connected piece of a label",
    )
    group.add_argument(
        "--save-hierarchy",
        action="store_true",
        help=f"write NAME{HIERARCHY_SUFFIX}, for other cuts later",
    )
    group.add_argument(
        "--alternatives",
        type=int,
        nargs="?",
        const=6,
        metavar="NUMBER",
        help="write NAME_alternatives.png: a few segmentations that differ in balance, scale or "
        "whitening, with the options that give them, the one asked for first (default: 6)",
    )
    existing = group.add_mutually_exclusive_group()
    existing.add_argument(
        "--overwrite",
        dest="existing",
        action="store_const",
        const="replace",
        default="refuse",
        help="replace existing files",
    )
    existing.add_argument(
        "--skip-existing",
        dest="existing",
        action="store_const",
        const="skip",
        help="continue a run that ended early: skip images whose labels exist, and use the "
        "model that was trained",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from napari_aeseg.batch import Batch
    from napari_aeseg.io.images import read_file

    if options.keep_classes is not None:
        if not options.classes_from:
            raise InputError("--keep-classes keeps the classes of strokes: add --classes-from.")
        if options.existing == "refuse":
            refuse_existing([options.keep_classes], "add --overwrite or choose another file")
    in_blocks = bool(given(options, BlockParams))
    batch = Batch(
        files=image_paths(options),
        output=options.output,
        cut=_cut(options),
        params=params_of(options, SegmentationParams),
        comparison=params_of(options, ComparisonParams),
        axes=options.axes,
        device=options.device,
        table=options.table or options.pieces,
        pieces=options.pieces,
        save_hierarchy=options.save_hierarchy,
        existing=options.existing,
        voxel_size=options.voxel_size,
        blocks=params_of(options, BlockParams) if in_blocks else None,
        store=options.store,
        alternatives=options.alternatives,
        resolution=options.resolution,
        series=options.series,
        labels=options.labels,
        strokes=[read_file(path)[0] for path in options.classes_from or ()],
    )
    batch.model = _model(options, batch)
    with stop_at_interrupt("finished images are kept") as stop:
        report = run_with_progress(batch.steps(stop))
    _print_report(report)
    if options.keep_classes is not None and batch.model is not None:
        batch.model.prototypes = batch.prototypes
        save_trained(batch.model, options.keep_classes)
    if any(file.status == "stopped" for file in report.files):
        raise KeyboardInterrupt
    return 1 if report.failed else 0


def _cut(options: argparse.Namespace) -> Cut:
    from napari_aeseg.regions.cuts.cut import Cut
    from napari_aeseg.regions.objects.settings import ObjectSettings

    names = [field.name for field in fields(ObjectSettings)]
    settings = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
    of_objects = [name for name in settings if name != "min_size"]
    if of_objects and not options.objects:
        name = of_objects[0].replace("_", "-")
        raise InputError(f"--{name} is for objects: add --objects.")
    if options.objects:
        return Cut("objects", **settings)
    settings["refine"] = options.refine
    if options.classes_from:
        return Cut("classes", **settings)
    if options.classes is not None:
        return Cut("classes", n_classes=options.classes, **settings)
    return Cut("regions", options.regions, options.threshold, **settings)


def _model(options: argparse.Namespace, batch: Batch) -> Model | None:
    """Return the given model, that of an earlier run, or a new one; None for hierarchies alone."""
    from napari_aeseg.api import load_model
    from napari_aeseg.batch import is_hierarchy, stem_of

    images = [file for file in batch.files if not is_hierarchy(file)]
    if options.model is not None:
        model = load_model(options.model)
    elif not images:
        return None
    else:
        path = batch.output / f"model{MODEL_SUFFIX}"
        if batch.is_one_file:
            path = batch.output.with_name(f"{stem_of(batch.output)}{MODEL_SUFFIX}")
        if batch.existing == "skip" and path.exists():
            print(f"using {path}")
            model = load_model(path)
        else:
            if batch.existing == "refuse":
                refuse_existing([path], "add --overwrite or --skip-existing")
            print(
                f"no --model: training on {len(images)} image{'s' if len(images) > 1 else ''} "
                "first (--model base needs no training)"
            )
            params = TrainingParams()
            # Images that cannot be read are listed in the report.
            model = train_on_files(images, params, options, skip_failed=True, blocks=batch.blocks)
            save_trained(model, path)
    _check_number_of_classes(options.classes, model)
    return model


def _check_number_of_classes(number: int | None, model: Model) -> None:
    """Raise InputError for another number of classes than the model has stored."""
    if number is None or model.prototypes is None:
        return
    stored = len(model.prototypes.centres)
    if number != stored:
        names = f" ({', '.join(model.prototypes.names)})" if model.prototypes.names else ""
        raise InputError(
            f"--classes {number}: the model has {stored} classes{names}. Give --classes "
            f"{stored}, or another model."
        )


def _print_report(report: BatchReport) -> None:
    for file in report.files:
        if file.status == "done":
            labels = "1 label" if file.labels == 1 else f"{file.labels} labels"
            print(
                f"{file.path.name}: {file.text}; {labels} in {file.seconds:.1f} s; wrote "
                f"{', '.join(path.name for path in file.written)} in {file.written[0].parent}"
            )
            for note in file.notes:
                print(f"{file.path.name}: {note}")
        elif file.status != "failed":
            print(file)
    for file in report.failed:
        name = "" if file.path.name in file.text else f"{file.path.name}: "
        print(f"napari-aeseg: {name}{file.text}", file=sys.stderr)
    print(report.summary)
