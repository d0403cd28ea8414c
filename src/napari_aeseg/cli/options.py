"""Options that commands share, and how their texts become values."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_origin

from napari_aeseg.errors import InputError
from napari_aeseg.params import BASE_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

#: What `add_subparsers` returns.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

MODEL_SUFFIX = ".aeseg.safetensors"


def model_or_base(text: str) -> Path | str:
    """Return the path of a model file; only the very word means the model that comes along."""
    return text if text == BASE_MODEL else Path(text)


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number of 1 or more")
    return int(text)


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text}: give a number from 0 to 1")
    return number


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the image files; see `image_paths`."""
    parser.add_argument(
        "images", nargs="+", type=Path, help="image files (also zarr), or folders of them"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)"
    )


def add_axes(parser: argparse.ArgumentParser) -> None:
    """Add --axes."""
    parser.add_argument("--axes", help="one letter per dimension, such as YXC (default: inferred)")


def add_voxel_size(parser: argparse.ArgumentParser) -> None:
    """Add --voxel-size."""
    parser.add_argument(
        "--voxel-size",
        nargs="+",
        type=length,
        metavar=("Z", "Y"),
        help="size of a pixel along each of Z, Y and X that the images have, in their order, such "
        "as 2 0.5 0.5 (default: what OME-TIFF, OME-Zarr and ImageJ files say, else 1)",
    )


def length(text: str) -> float:
    """Return a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: give numbers above 0, and images before them")
    return number


def add_params(parser: argparse.ArgumentParser, kind: type[BaseModel]) -> None:
    """Add an option for every parameter of a stage."""
    group = parser.add_argument_group(f"{kind.__name__}")
    for name, field in kind.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        text = f"{field.description} (default: {field.default})".replace("%", "%%")
        if field.annotation is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        else:
            group.add_argument(option, type=_reader(field), metavar=_metavar(field), help=text)


def _reader(field: FieldInfo) -> Callable[[str], Any]:
    """Return what turns the text of an option into a value; pydantic checks it afterwards."""
    if "tuple" in str(field.annotation):
        return lambda text: tuple(int(part) for part in text.split(","))
    return str


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not None and all(
        isinstance(a, str) for a in get_args(field.annotation)
    ):
        return "{" + ",".join(get_args(field.annotation)) + "}"
    return "N[,N...]" if "tuple" in str(field.annotation) else "VALUE"


def given(options: argparse.Namespace, kind: type[BaseModel]) -> dict[str, Any]:
    """Return the parameters of a stage that were given as options."""
    values = {n: getattr(options, n) for n in kind.model_fields}
    return {n: v for n, v in values.items() if v is not None}


def image_paths(options: argparse.Namespace) -> list[Path]:
    """Return the image files, with those of a folder in its place."""
    if not any(path.is_dir() for path in options.images):
        return list(options.images)
    from napari_aeseg.batch import image_files, is_hierarchy
    from napari_aeseg.io.file_array import is_zarr

    folders = [p for p in options.images if p.is_dir() and not (is_hierarchy(p) or is_zarr(p))]
    nested = [image_files(path) if path in folders else [path] for path in options.images]
    return [path for paths in nested for path in paths]


def refuse_existing(paths: list[Path], ways_out: str) -> None:
    """Raise InputError if there are files that would be replaced."""
    existing = [str(path) for path in paths if path.exists()]
    if existing:
        more = f" and {len(existing) - 3} more" if len(existing) > 3 else ""
        verb = "exists" if len(existing) == 1 else "exist"
        raise InputError(
            f"{', '.join(existing[:3])}{more} {verb} already: choose another --output, or add "
            f"{ways_out}."
        )
