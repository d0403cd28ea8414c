"""``napari-aeseg info``: the contents of a model file, a saved hierarchy or an image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_aeseg.cli.options import model_or_base
from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.params import BASE_MODEL, HIERARCHY_SUFFIX, MODEL_SUFFIX

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.regions.hierarchy import Hierarchy

# A row of a damaged file could be endless.
_MAX_CHARACTERS = 5000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "file",
        type=model_or_base,
        help=f"model file (*{MODEL_SUFFIX}), 'base', hierarchy (*{HIERARCHY_SUFFIX}), or image",
    )
    parser.add_argument("--json", action="store_true", help="the whole header, as JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    path = Path(options.file)
    header: dict[str, Any]
    # With --json, the arrays of models and hierarchies are not read.
    if options.file == BASE_MODEL or path.suffix == ".safetensors" or _is_safetensors(path):
        from napari_aeseg.api import load_model
        from napari_aeseg.autoencoder.model_file import read_header

        header = read_header(options.file)
        rows = {} if options.json else _model_rows(header, load_model(options.file))
    elif path.name.endswith(HIERARCHY_SUFFIX):
        from napari_aeseg.regions.hierarchy import load_hierarchy
        from napari_aeseg.regions.hierarchy_file import hierarchy_header

        header = hierarchy_header(path)
        rows = {} if options.json else _hierarchy_rows(header, load_hierarchy(path))
    else:
        header = rows = _image_rows(path)
    if options.json:
        print(json.dumps(header, indent=2))
        return 0
    for name, value in rows.items():
        print(f"{name:11} {sanitized(value, _MAX_CHARACTERS)}")
    return 0


def _is_safetensors(path: Path) -> bool:
    """Whether a file of any name has this format: first the length of a JSON header."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(10)[8:] == b'{"'


def _model_rows(header: dict[str, Any], model: Model) -> dict[str, str]:
    record = model.record
    images = [f"{i['name']} {tuple(i['shape'])} {i['axes']}" for i in record.images]
    rows = {
        "format": f"{header['format_version']} (napari-aeseg {header['package_version']}, "
        f"torch {header['torch_version']})",
        "network": _listed(model.architecture.as_dict()),
        "channels": "any number" if model.any_channels else "as in training",
        "intensity": "each image by its own percentiles",
        "images": "; ".join(images),
        "training": f"{record.steps} steps in {record.seconds:.1f} s on {record.device}",
        "loss": "none",
        "parameters": _listed(record.params),
        "notes": "; ".join(record.notes) or "none",
        "prototypes": "none",
    }
    if model.intensity is not None:
        rows["intensity"] = (
            f"of the training images: {model.intensity.low} to {model.intensity.high}"
        )
    if model.unfinished:
        rows["training"] += ", unfinished: can be resumed"
    if record.losses:
        rows["loss"] = f"first {record.losses[0]:.4f}, last {record.losses[-1]:.4f}"
    if model.prototypes is not None:
        names = ", ".join(model.prototypes.names)
        rows["prototypes"] = f"{len(model.prototypes.centres)} classes {names}".strip()
    return rows


def _hierarchy_rows(header: dict[str, Any], tree: Hierarchy) -> dict[str, str]:
    levels = ", ".join(map(str, sorted(set(tree.statistics.level.tolist()))))
    return {
        "format": f"{header['format_version']} (napari-aeseg {header['package_version']})",
        "image": str(tree.axes),
        "patches": str(tree.n_patches),
        "features": f"{header['features']} of levels {levels}",
        "parameters": _listed(dict([*tree.params, *tree.comparison])),
        "model": tree.model_fingerprint,
        "merge tree": "built" if header["has_tree"] else "not built yet",
        "suggested": f"{tree.suggest_n_regions()} regions, {tree.suggest_n_classes()} classes",
        "notes": "; ".join(tree.notes) or "none",
    }


def _image_rows(path: Path) -> dict[str, str]:
    """Describe an image; zarr and TIFF files are not loaded."""
    from napari_aeseg.io.images import open_file
    from napari_aeseg.io.ome_zarr import aeseg_attributes, is_zarr
    from napari_aeseg.large.build import needs_blocks

    if not path.exists():
        raise InputError(f"There is no file {str(path)!r}.")
    if path.is_dir() and not is_zarr(path):
        raise InputError(
            f"{path} is a folder, not a model, a saved hierarchy or an image. Give a file in it."
        )
    opened = open_file(path, largest=0)
    array = opened.array
    # Those of dask arrays have many sizes, of which the largest is shown.
    chunks = getattr(array, "chunksize", getattr(array, "chunks", array.shape))
    axes = opened.read_axes()
    size = ", ".join(f"{axis} {length:g}" for axis, length in opened.voxel_size.items())
    rows = {
        "image": str(axes),
        "type": f"{array.dtype}, {array.size * array.dtype.itemsize / 1e6:.4g} MB",
        "chunks": " x ".join(map(str, chunks)),
        "pixel size": f"{size} {opened.unit}".strip() if size else "not known",
        "processed": "in blocks" if needs_blocks(array) else "as a whole",
        "notes": "; ".join(opened.notes) or "none",
    }
    note = aeseg_attributes(path)
    if note is not None:
        complete = bool(note.get("complete"))
        rows["labels"] = "complete" if complete else "incomplete; run again to resume"
    return rows


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
