"""``napari-aeseg info``: what a model file, a saved hierarchy or an image holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_aeseg.cli.options import MODEL_SUFFIX, Commands, model_or_base
from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.params import BASE_MODEL, HIERARCHY_SUFFIX

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.regions.hierarchy import Hierarchy

# How all files of models end.
_TENSORS = ".safetensors"
# Of one row: files can say anything.
_MOST_LETTERS = 5000


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "info", help="print what a model, a saved hierarchy or an image holds"
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "file",
        type=model_or_base,
        help=f"model file (*{MODEL_SUFFIX}), 'base', hierarchy (*{HIERARCHY_SUFFIX}), or image",
    )
    parser.add_argument("--json", action="store_true", help="the whole header, as JSON")


def _run(options: argparse.Namespace) -> int:
    header, rows = _teller(options.file)(options.file, options.json)
    if options.json:
        print(json.dumps(header, indent=2))
    for name, value in rows.items():
        print(f"{name:11} {sanitized(value, _MOST_LETTERS)}")
    return 0


def _teller(file: Path | str) -> Callable[[Any, bool], tuple[dict[str, Any], dict[str, str]]]:
    """Return what tells of a file of this kind: the whole header, and rows to print."""
    path = Path(file)
    if file == BASE_MODEL or path.name.endswith(_TENSORS) or _begins_as_a_model(path):
        return _model
    return _hierarchy if path.name.endswith(HIERARCHY_SUFFIX) else _image


def _begins_as_a_model(path: Path) -> bool:
    """Whether a file of any name is one of tensors: the length of a header of JSON comes first."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(10)[8:] == b'{"'


def _model(path: Path | str, header_only: bool) -> tuple[dict[str, Any], dict[str, str]]:
    from napari_aeseg.autoencoder.model_file import load_model_file, read_header

    header = read_header(path)
    # Loading checks all that is printed.
    return header, {} if header_only else _rows(header, load_model_file(path))


def _hierarchy(path: Path | str, header_only: bool) -> tuple[dict[str, Any], dict[str, str]]:
    from napari_aeseg.regions.hierarchy import load_hierarchy
    from napari_aeseg.regions.hierarchy_file import hierarchy_header

    header = hierarchy_header(path)
    return header, {} if header_only else _hierarchy_rows(header, load_hierarchy(path))


def _hierarchy_rows(header: dict[str, Any], tree: Hierarchy) -> dict[str, str]:
    return {
        "format": f"{header['format_version']} (napari-aeseg {header['package_version']})",
        "image": str(tree.axes),
        "patches": str(tree.n_patches),
        "features": f"{header['features']} of levels "
        f"{', '.join(map(str, sorted(set(tree.statistics.level.tolist()))))}",
        "parameters": ", ".join(f"{k} {v}" for k, v in (*tree.params, *tree.comparison)),
        "model": tree.model_fingerprint,
        "merge tree": "built" if header["has_tree"] else "not built yet",
        "suggested": f"{tree.suggest_n_regions()} regions",
        "notes": "; ".join(tree.notes) or "none",
    }


def _image(path: Path, header_only: bool) -> tuple[dict[str, str], dict[str, str]]:
    """What is known of an image, which is not read if it is zarr or TIFF."""
    from napari_aeseg.images.axes import read_axes
    from napari_aeseg.io.file_array import is_ours, is_zarr
    from napari_aeseg.io.images import open_file
    from napari_aeseg.large.build import needs_blocks

    if not path.exists():
        raise InputError(f"There is no file {str(path)!r}.")
    if path.is_dir() and not is_zarr(path):
        raise InputError(
            f"{path} is a folder, not a model, a saved hierarchy or an image: give a file of it."
        )
    opened = open_file(path, largest=0)
    array = opened.array
    axes = read_axes(array.shape, opened.axes, source="file")
    size = ", ".join(f"{a} {n:g}" for a, n in opened.voxel_size.items())
    rows = {
        "image": str(axes),
        "type": f"{array.dtype}, {array.size * array.dtype.itemsize / 1e6:.4g} MB",
        "chunks": " x ".join(map(str, getattr(array, "chunks", array.shape))),
        "pixel size": f"{size} {opened.unit}".strip() if size else "not known",
        "worked on": "in blocks" if needs_blocks(array) else "as a whole",
    }
    note = is_ours(path)
    if note is not None:
        rows["labels"] = "complete" if note.get("complete") else "unfinished: called again, goes on"
    return rows, {} if header_only else rows


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
