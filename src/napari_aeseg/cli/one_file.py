"""``napari-aeseg segment IMAGE --output LABELS``: one image, one file of labels, however large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg.cli.options import MODEL_SUFFIX, refuse_existing
from napari_aeseg.cli.progress import shown, stop_at_interrupt
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from napari_aeseg.params import SegmentationParams
    from napari_aeseg.regions.cut import Cut


def is_labels_file(output: Path) -> bool:
    """Return whether an output is the file of the labels, not a folder for results."""
    from napari_aeseg.images.saving import WRITTEN

    return output.suffix.lower() in WRITTEN


def segment_to_file(
    options: argparse.Namespace, files: list[Path], params: SegmentationParams, cut: Cut
) -> int:
    """Segment one image and write its labels, as OME-Zarr or BigTIFF, and a table if asked to."""
    from napari_aeseg.blockwise.building import pixels_in_memory
    from napari_aeseg.cli.segment import blocks_of, check_classes, model_of
    from napari_aeseg.images.files import open_file
    from napari_aeseg.images.saving import write_labels_steps
    from napari_aeseg.pipeline import hierarchy_steps

    labels_path: Path = options.output
    beside = [labels_path.with_name(f"{labels_path.name.split('.')[0]}_table.csv")]
    beside = beside if options.table else []
    _check(options, files, beside)
    opened = open_file(files[0], pixels_in_memory())
    labels_path.parent.mkdir(parents=True, exist_ok=True)
    model_path = labels_path.with_name(f"{labels_path.name.split('.')[0]}{MODEL_SUFFIX}")
    if options.model is None and not options.skip_existing:
        refuse_existing([model_path], "--skip-existing to go on with it")
    model = model_of(options, files, model_path)
    check_classes(model, options)
    with stop_at_interrupt("with --store, blocks that are done are kept") as stop:
        tree = shown(
            hierarchy_steps(
                opened.array,
                model,
                params,
                options.axes or opened.axes,
                options.device,
                stop,
                files[0].name,
                blocks=blocks_of(options),
                store=options.store,
            )
        )
        labels = cut.labels(tree, prototypes=model.prototypes, stop=stop)
        space = tree.axes.space
        size = opened.spacing(space)
        for path in beside:
            unit = opened.unit or "pixel"
            tree.table(labels, spacing=size, unit=unit).to_csv(path, index=False)
        shown(write_labels_steps(labels, labels_path, space, size, opened.unit, stop))
    for note in tree.notes:
        print(f"{files[0].name}: {note}")
    written = ", ".join(str(path) for path in [labels_path, *beside])
    print(f"{files[0].name}: {tree.axes}; {cut.title(tree)}; wrote {written}")
    return 0


def _check(options: argparse.Namespace, files: list[Path], beside: list[Path]) -> None:
    """Raise InputError for what cannot be done, before any work."""
    from napari_aeseg.images.lazy import is_ours

    path: Path = options.output
    if len(files) != 1:
        raise InputError(f"--output {path} is one file, but there are {len(files)} images: give a "
                         "folder.")  # fmt: skip
    if options.overwrite:
        raise InputError(f"--overwrite: {path} is never replaced; remove it first.")
    ours = is_ours(path)
    if ours is None or ours.get("complete"):
        refuse_existing([path], "nothing: it is never replaced")
    if not options.skip_existing:
        refuse_existing(beside, "--skip-existing")
