"""``napari-aeseg train``: train a model on image files."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_aeseg.cli.options import (
    add_axes,
    add_device,
    add_images,
    add_params,
    given,
    image_paths,
    model_or_base,
)
from napari_aeseg.cli.progress import (
    print_training,
    run_with_progress,
    save_trained,
    stop_at_interrupt,
)
from napari_aeseg.errors import InputError, ModelFileError
from napari_aeseg.images.axes import common_voxel_size
from napari_aeseg.io.atomic_write import check_writable, refuse_existing
from napari_aeseg.params import MODEL_SUFFIX, PRESETS, TrainingParams
from napari_aeseg.progress import autosaved

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.model import Model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_images(parser)
    parser.add_argument("--output", type=Path, required=True, help=f"model file (*{MODEL_SUFFIX})")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--init",
        type=model_or_base,
        metavar="MODEL",
        help="model file to start from, or 'base' for the bundled model",
    )
    start.add_argument(
        "--resume", type=Path, metavar="MODEL", help="model file of an interrupted training"
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="parameters to start from; the options below change single ones. "
        + " ".join(f"{name}: {preset.description}" for name, preset in PRESETS.items()),
    )
    parser.add_argument(
        "--autosave",
        type=float,
        metavar="SECONDS",
        help="save the model so far at this interval; a training can be resumed from it",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_device(parser)
    add_axes(parser)
    add_params(parser, TrainingParams, "Training")


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    path: Path = options.output
    if not path.name.endswith(MODEL_SUFFIX):
        path = path.with_name(path.name + MODEL_SUFFIX)
    params = _params(options)
    if not options.overwrite:
        alternative = "add --overwrite"
        if options.resume is None and _is_unfinished(path):
            alternative = f"--resume {path} --overwrite to resume it, or --overwrite to start again"
        refuse_existing([path], alternative)
    check_writable(path.parent)
    files = image_paths(options)
    with stop_at_interrupt("the model so far is kept") as stop:
        model = train_on_files(
            files,
            params,
            options,
            autosave=path,
            init=options.resume or options.init,
            stop=stop,
            resume=options.resume is not None,
            snapshot_seconds=options.autosave,
        )
        save_trained(model, path)
    if model.unfinished:
        print(f"The training is unfinished. Resume it with --resume {path}")
        raise KeyboardInterrupt
    return 0


def train_on_files(
    files: list[Path],
    params: TrainingParams | None,
    options: argparse.Namespace,
    *,
    skip_failed: bool = False,
    autosave: Path | None = None,
    **settings: Any,
) -> Model:
    """Train on image files, with progress bars.

    With `skip_failed`, files that cannot be read are left out. `params` are None to resume a
    training with its own. `settings` are those of `napari_aeseg.api.train_steps`.
    """
    from napari_aeseg.api import train_steps
    from napari_aeseg.io.images import open_file
    from napari_aeseg.large.build import pixels_in_memory

    names, images, readings, errors = [], [], [], []
    set_files: set[str] = set()
    for file in files:
        if os.path.realpath(file) in set_files:  # of an image that was opened through another file
            continue
        try:
            image = open_file(file, pixels_in_memory(), options.resolution, options.series)
            readings.append(image.read_axes(options.axes, options.voxel_size))
        except InputError as error:
            if not skip_failed:
                raise
            errors.append(str(error))
        else:
            names.append(file.name)
            images.append(image)
            set_files |= set(map(os.path.realpath, image.files))
            if not skip_failed:  # else they are in the report
                print("".join(f"{file.name}: {note}\n" for note in image.notes), end="")
    if not images:
        raise InputError("\n".join(errors))
    if autosave is not None:
        autosave.parent.mkdir(parents=True, exist_ok=True)
    work = train_steps(
        [image.array for image in images],
        params,
        [options.axes or image.axes for image in images],
        options.device,
        names=names,
        voxel_size=common_voxel_size(readings),
        **settings,
    )
    model = run_with_progress(work if autosave is None else autosaved(work, autosave))
    print_training(model, names)
    return model


def _is_unfinished(path: Path) -> bool:
    """Whether a file has an interrupted training, for example by a kill."""
    from napari_aeseg.autoencoder.model_file import read_header

    try:
        return path.is_file() and "resume" in read_header(path)
    except ModelFileError:
        return False


def _params(options: argparse.Namespace) -> TrainingParams | None:
    """Return the preset changed by single options; None to resume with the model's parameters."""
    changes = {} if options.preset is None else PRESETS[options.preset].changes
    values = {**changes, **given(options, TrainingParams)}
    if options.resume is None:
        return TrainingParams(**values)
    if not values and options.preset is None:
        return None
    from napari_aeseg.api import load_model

    # Other parameters are the model's, so that an error names only those that differ.
    defaults = TrainingParams().model_dump() if options.preset is not None else {}
    return TrainingParams(**{**load_model(options.resume).record.params, **defaults, **values})
