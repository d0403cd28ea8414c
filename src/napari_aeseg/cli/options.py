"""Options that several commands share, and the conversion of their texts to values."""

from __future__ import annotations

import argparse
import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from napari_aeseg.errors import InputError
from napari_aeseg.params import BASE_MODEL

if TYPE_CHECKING:
    from pydantic import BaseModel

_Params = TypeVar("_Params", bound="BaseModel")


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
    """Add --axes, --voxel-size, --resolution and --series."""
    parser.add_argument("--axes", help="one letter per dimension, such as YXC (default: inferred)")
    parser.add_argument(
        "--voxel-size",
        nargs="+",
        type=length,
        metavar=("Z", "Y"),
        help="size of a voxel along each of Z, Y and X that the images have, in their order, such "
        "as 2 0.5 0.5 (default: from the metadata of OME-TIFF, OME-Zarr and ImageJ files, else 1)",
    )
    parser.add_argument(
        "--resolution",
        type=int,
        default=0,
        metavar="NUMBER",
        help="which resolution of images that have several, such as OME-Zarr and whole slides: 0 "
        "is the finest (default: 0)",
    )
    parser.add_argument(
        "--series",
        type=int,
        default=0,
        metavar="NUMBER",
        help="which image of files that hold several (series, scenes): 0 is the first (default: 0)",
    )


def add_params(
    parser: argparse.ArgumentParser, kind: type[BaseModel], heading: str
) -> argparse._ArgumentGroup:
    """Add an option for every parameter of a stage; return their group."""
    group = parser.add_argument_group(heading)
    for name, field in kind.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        text = f"{field.description} (default: {field.default})".replace("%", "%%")
        if field.title is not None and field.title.lower() != name.replace("_", " "):
            text = f"{field.title}: {text}"  # the name of the same control in the dock
        if field.annotation is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        elif "tuple" in str(field.annotation):
            group.add_argument(option, type=_whole_numbers, metavar="N[,N...]", help=text)
        else:  # pydantic converts and checks it later
            choices = [a for a in get_args(field.annotation) if isinstance(a, str)]
            is_choice = choices and len(choices) == len(get_args(field.annotation))
            metavar = "{" + ",".join(choices) + "}" if is_choice else "VALUE"
            group.add_argument(option, metavar=metavar, help=text)
    return group


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def given(options: argparse.Namespace, kind: type[BaseModel]) -> dict[str, Any]:
    """Return the parameters of a stage that were given as options."""
    values = {name: getattr(options, name) for name in kind.model_fields}
    return {name: value for name, value in values.items() if value is not None}


def params_of(options: argparse.Namespace, kind: type[_Params]) -> _Params:
    """Return the parameters of a stage: those given as options, else the defaults."""
    return kind(**given(options, kind))


def image_paths(options: argparse.Namespace) -> list[Path]:
    """Return the image files; a folder means all image files in it, * and ? those that fit.

    Shells of Windows leave * and ? to the programs.
    """
    paths = [path for given in options.images for path in _matching(given)]
    if not any(path.is_dir() for path in paths):
        return paths
    from napari_aeseg.batch import image_files, is_hierarchy
    from napari_aeseg.io.ome_zarr import is_zarr

    def files_of(path: Path) -> list[Path]:
        is_folder = path.is_dir() and not (is_hierarchy(path) or is_zarr(path))
        return image_files(path) if is_folder else [path]

    return [file for path in paths for file in files_of(path)]


def _matching(path: Path) -> list[Path]:
    """The files whose names fit a pattern, or the path itself if it is none."""
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    matching = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not matching:
        raise InputError(f"There is no file that fits {str(path)!r}.")
    return matching


def model_or_base(text: str) -> Path | str:
    """Return the path of a model file; "base" alone means the bundled model."""
    return text if text == BASE_MODEL else Path(text)


def length(text: str) -> float:
    """Return a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: give numbers above 0, and images before them")
    return number
