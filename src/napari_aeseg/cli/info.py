"""``napari-aeseg info``: what a model file or an image holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_aeseg.cli.options import MODEL_SUFFIX, Commands, model_or_base
from napari_aeseg.params import BASE_MODEL

if TYPE_CHECKING:
    import argparse

    from napari_aeseg.autoencoder.model import Model


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("info", help="print what a model file or an image holds")
    parser.set_defaults(run=_run)
    parser.add_argument(
        "model",
        type=model_or_base,
        help=f"model file (*{MODEL_SUFFIX}) or 'base'; or an image: zarr or TIFF",
    )
    parser.add_argument("--json", action="store_true", help="the whole header, as JSON")


def _run(options: argparse.Namespace) -> int:
    from napari_aeseg.images.lazy import TIFF, is_zarr

    path = Path(options.model)
    if options.model != BASE_MODEL and (path.suffix.lower() in TIFF or is_zarr(path)):
        rows = _image_rows(path)
        if options.json:
            print(json.dumps(rows, indent=2))
        else:
            print(*(f"{name:11} {value}" for name, value in rows.items()), sep="\n")
        return 0
    from napari_aeseg.autoencoder.model_file import load_model_file, read_header

    header = read_header(options.model)
    if options.json:
        print(json.dumps(header, indent=2))
        return 0
    # Loading checks all that is printed.
    for name, value in _rows(header, load_model_file(options.model)).items():
        print(f"{name:11} {value}")
    return 0


def _image_rows(path: Path) -> dict[str, str]:
    """What is known of an image without reading it."""
    from napari_aeseg.blockwise.building import needs_blocks
    from napari_aeseg.images.axes import read_axes
    from napari_aeseg.images.files import open_file
    from napari_aeseg.images.lazy import is_ours

    opened = open_file(path, largest=0)
    array = opened.array
    axes = read_axes(array.shape, opened.axes, source="file")
    size = ", ".join(f"{a} {n:g}" for a, n in opened.voxel_size.items())
    rows = {
        "image": str(axes),
        "type": f"{array.dtype}, {array.size * array.dtype.itemsize / 1e6:.4g} MB",
        "chunks": " x ".join(map(str, array.chunks)),
        "pixel size": f"{size} {opened.unit}".strip() if size else "not known",
        "worked on": "in blocks" if needs_blocks(array) else "as a whole",
    }
    note = is_ours(path)
    if note is not None:
        rows["labels"] = "complete" if note.get("complete") else "unfinished: called again, goes on"
    return rows


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
