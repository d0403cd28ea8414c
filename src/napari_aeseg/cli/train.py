"""``napari-aeseg train``: a model of image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_aeseg.cli.options import (
    MODEL_SUFFIX,
    Commands,
    add_axes,
    add_device,
    add_images,
    add_params,
    add_voxel_size,
    given,
    image_paths,
    model_or_base,
    refuse_existing,
)
from napari_aeseg.cli.progress import (
    run_with_progress,
    save_somewhere,
    say_trained,
    stop_at_interrupt,
)
from napari_aeseg.errors import ModelFileError
from napari_aeseg.images.axes import common_voxel_size
from napari_aeseg.params import PRESETS, TrainingParams

if TYPE_CHECKING:
    import argparse


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("train", help="train a model on image files")
    parser.set_defaults(run=_run)
    add_images(parser)
    parser.add_argument("--output", type=Path, required=True, help=f"model file (*{MODEL_SUFFIX})")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--init",
        type=model_or_base,
        help="model file to start from, or 'base' for the one that comes along",
    )
    start.add_argument(
        "--resume", type=Path, metavar="MODEL", help="unfinished model file to go on with"
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="parameters to begin with; the options below change single ones. "
        + " ".join(f"{name}: {preset.description}" for name, preset in PRESETS.items()),
    )
    parser.add_argument(
        "--autosave",
        type=float,
        metavar="SECONDS",
        help="write the model so far every so many seconds, to be resumed if need be",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    add_device(parser)
    add_axes(parser)
    add_voxel_size(parser)
    add_params(parser, TrainingParams)


def _run(options: argparse.Namespace) -> int:
    from napari_aeseg.api import train_steps
    from napari_aeseg.io.atomic import check_writable
    from napari_aeseg.io.images import open_file
    from napari_aeseg.large.build import pixels_in_memory

    path: Path = options.output
    if not path.name.endswith(MODEL_SUFFIX):
        path = path.with_name(path.name + MODEL_SUFFIX)
    params = _params(options)
    if not options.overwrite:
        ways_out = "--overwrite"
        if options.resume is None and _is_unfinished(path):
            ways_out = f"--resume {path} --overwrite to go on with it, or --overwrite to begin anew"
        refuse_existing([path], ways_out)
    check_writable(path.parent)
    files = image_paths(options)
    names = [file.name for file in files]
    read = [open_file(file, pixels_in_memory()) for file in files]
    readings = [opened.read_axes(options.axes, options.voxel_size) for opened in read]
    path.parent.mkdir(parents=True, exist_ok=True)
    with stop_at_interrupt("what was learnt is kept") as stop:
        work = train_steps(
            [opened.array for opened in read],
            params,
            [options.axes or opened.axes for opened in read],
            options.device,
            options.resume or options.init,
            stop,
            names,
            resume=options.resume is not None,
            snapshot_seconds=options.autosave,
            voxel_size=common_voxel_size(readings),
        )
        model = run_with_progress(work, path)
        say_trained(model, names)
        save_somewhere(model, path)
    print(f"wrote {path}")
    if model.unfinished:
        print(f"the training is unfinished; go on with --resume {path}")
        raise KeyboardInterrupt
    return 0


def _is_unfinished(path: Path) -> bool:
    """Whether a file has a training that was cut short, by a kill for example."""
    from napari_aeseg.autoencoder.model_file import read_header

    try:
        return path.is_file() and "resume" in read_header(path)
    except ModelFileError:
        return False


def _params(options: argparse.Namespace) -> TrainingParams | None:
    """Return what was asked for: preset, then single options; None to resume with the model's."""
    changes = {} if options.preset is None else PRESETS[options.preset].changes
    asked = {**changes, **given(options, TrainingParams)}
    if options.resume is None:
        return TrainingParams(**asked)
    if not asked and options.preset is None:
        return None
    from napari_aeseg.api import load_model

    # So that an error names only what differs.
    defaults = TrainingParams().model_dump() if options.preset is not None else {}
    return TrainingParams(**{**load_model(options.resume).record.params, **defaults, **asked})
