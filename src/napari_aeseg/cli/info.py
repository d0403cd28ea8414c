"""``napari-aeseg info``: what a model file or a saved hierarchy holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_aeseg.cli.options import MODEL_SUFFIX, Commands, model_or_base
from napari_aeseg.params import HIERARCHY_SUFFIX

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.regions.hierarchy import Hierarchy


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("info", help="print what a model or a saved hierarchy holds")
    parser.set_defaults(run=_run)
    parser.add_argument(
        "file",
        type=model_or_base,
        help=f"model file (*{MODEL_SUFFIX}), 'base', or hierarchy (*{HIERARCHY_SUFFIX})",
    )
    parser.add_argument("--json", action="store_true", help="the whole header, as JSON")


def _run(options: argparse.Namespace) -> int:
    tell = _hierarchy if str(options.file).endswith(HIERARCHY_SUFFIX) else _model
    header, rows = tell(options.file, options.json)
    if options.json:
        print(json.dumps(header, indent=2))
    for name, value in rows.items():
        print(f"{name:11} {value}")
    return 0


def _model(path: Path | str, header_only: bool) -> tuple[dict[str, Any], dict[str, str]]:
    from napari_aeseg.autoencoder.model_file import load_model_file, read_header

    header = read_header(path)
    # Loading checks all that is printed.
    return header, {} if header_only else _rows(header, load_model_file(path))


def _hierarchy(path: Path | str, header_only: bool) -> tuple[dict[str, Any], dict[str, str]]:
    from napari_aeseg.regions.hierarchy_file import hierarchy_header, load_hierarchy

    header = hierarchy_header(path)
    return header, {} if header_only else _hierarchy_rows(header, load_hierarchy(path))


def _hierarchy_rows(header: dict[str, Any], tree: Hierarchy) -> dict[str, str]:
    return {
        "format": f"{header['format_version']} (napari-aeseg {header['package_version']})",
        "image": str(tree.axes),
        "patches": str(tree.n_patches),
        "features": f"{header['features']} of levels "
        f"{', '.join(map(str, sorted(set(tree.statistics.level.tolist()))))}",
        "parameters": ", ".join(f"{k} {v}" for k, v in tree.params.model_dump().items()),
        "model": tree.model_fingerprint,
        "merge tree": "built" if header["has_tree"] else "not built yet",
        "suggested": f"{tree.suggest_n_regions()} regions",
        "notes": "; ".join(tree.notes) or "none",
    }


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
