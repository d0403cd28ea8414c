"""``napari-aeseg info``: what a model file holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_aeseg.cli.options import MODEL_SUFFIX, Commands, model_or_base

if TYPE_CHECKING:
    import argparse

    from napari_aeseg.autoencoder.model import Model


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("info", help="print what a model file holds")
    parser.set_defaults(run=_run)
    parser.add_argument("model", type=model_or_base, help=f"model file (*{MODEL_SUFFIX}) or 'base'")
    parser.add_argument("--json", action="store_true", help="the whole header, as JSON")


def _run(options: argparse.Namespace) -> int:
    from napari_aeseg.autoencoder.model_file import load_model_file, read_header

    header = read_header(options.model)
    if options.json:
        print(json.dumps(header, indent=2))
        return 0
    # Loading checks all that is printed.
    for name, value in _rows(header, load_model_file(options.model)).items():
        print(f"{name:11} {value}")
    return 0


def _rows(header: dict[str, Any], model: Model) -> dict[str, str]:
    record = model.record
    return {
        "format": f"{header['format_version']} (napari-aeseg {header['package_version']}, "
        f"torch {header['torch_version']})",
        "network": ", ".join(f"{k} {v}" for k, v in model.architecture.as_dict().items()),
        "channels": "any number" if model.any_channels else "as in training",
        "intensity": "each image by its own percentiles"
        if model.intensity is None
        else f"as the training images: {model.intensity.low} to {model.intensity.high}",
        "images": "; ".join(f"{i['name']} {tuple(i['shape'])} {i['axes']}" for i in record.images),
        "training": f"{record.steps} steps in {record.seconds:.1f} s on {record.device}"
        f"{', unfinished: can be resumed' * model.unfinished}",
        "loss": f"{record.losses[0]:.4f} at first, {record.losses[-1]:.4f} at last"
        if record.losses
        else "none",
        "parameters": ", ".join(f"{k} {v}" for k, v in record.params.items()),
        "notes": "; ".join(record.notes) or "none",
        "prototypes": "none"
        if model.prototypes is None
        else f"{len(model.prototypes.centres)} classes {', '.join(model.prototypes.names)}".strip(),
    }
