"""``napari-aeseg segment IMAGE --output LABELS``: one image, one file of labels, however large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg.cli.options import MODEL_SUFFIX, refuse_existing
from napari_aeseg.cli.progress import shown, stop_at_interrupt
from napari_aeseg.errors import InputError
from napari_aeseg.params import HIERARCHY_SUFFIX

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.params import SegmentationParams
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.regions.cuts.cut import Cut
    from napari_aeseg.regions.hierarchy import Hierarchy


def is_labels_file(output: Path) -> bool:
    """Return whether an output is the file of the labels, not a folder for results."""
    from napari_aeseg.io.labels import WRITTEN

    return output.suffix.lower() in WRITTEN


def segment_to_file(
    options: argparse.Namespace, files: list[Path], params: SegmentationParams, cut: Cut
) -> int:
    """Segment one image and write its labels, as OME-Zarr or BigTIFF, and a table if asked to."""
    from napari_aeseg.batch_job import table_of
    from napari_aeseg.cli.segment import check_classes, model_of
    from napari_aeseg.io.atomic import whole_file
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
        tree = _hierarchy(options, files[0], model, params, cut, stop)
        prototypes = None if model is None else model.prototypes
        labels = cut.labels(tree, prototypes=prototypes, stop=stop)
        axes = tree.axes
        labels_path.parent.mkdir(parents=True, exist_ok=True)
        for path in tables:
            table = table_of(tree, labels, cut, prototypes, stop)
            with whole_file(path) as part:
                table.to_csv(part, index=False)
        for path in hierarchies:
            tree.save(path)
        unit = "" if axes.unit == "pixel" else axes.unit
        shown(write_labels_steps(labels, labels_path, axes.space, axes.spacing, unit, stop))
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
    cut: Cut,
    stop: StopFlag,
) -> Hierarchy:
    """Return the hierarchy of an image, or one that was saved."""
    from napari_aeseg.api import hierarchy_steps
    from napari_aeseg.batch_job import refuse_objects_of_blocks, saved_hierarchy
    from napari_aeseg.cli.segment import blocks_of
    from napari_aeseg.io.images import open_file
    from napari_aeseg.large.build import pixels_in_memory

    if model is None or file.name.endswith(HIERARCHY_SUFFIX):
        return saved_hierarchy(file, model, params)
    opened = open_file(file, pixels_in_memory())
    refuse_objects_of_blocks(cut, opened.array, blocks_of(options), options.store)
    return shown(
        hierarchy_steps(
            opened.array,
            model,
            params,
            opened.reading(options.axes, options.voxel_size),
            options.device,
            stop,
            file.name,
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
