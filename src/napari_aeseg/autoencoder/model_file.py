"""The model file: safetensors with a JSON header. No pickle, nothing is ever executed."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from napari_aeseg.autoencoder.file_parts import (
    architecture_of,
    check_record,
    intensity_of,
    network_of,
    prototype_parts,
    prototypes_of,
    record_of,
    text_of,
)
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.resume import Checkpoint
from napari_aeseg.autoencoder.tensor_file import check_json, read_metadata, read_tensors
from napari_aeseg.errors import ModelFileError, shown
from napari_aeseg.io.atomic import whole_file
from napari_aeseg.params import BASE_MODEL

if TYPE_CHECKING:
    from os import PathLike

#: Raised whenever an older package could misread the file; written is the least that will do.
FORMAT_VERSION = 2
#: The first that knows networks of volumes; those of planes are as they were.
_WITH_VOLUMES = 2
#: The key of the safetensors metadata that holds the JSON text.
HEADER_KEY = "napari-aeseg"
#: What the names of tensors begin with that are no weights.
RESUME, PROTOTYPES = "resume.", "prototypes."
#: The model that ships with the package, made by tools/make_base_model.py.
BASE_FILE = Path(__file__).parents[1] / f"{BASE_MODEL}.aeseg.safetensors"
_PARTS = ("package_version", "torch_version", "architecture", "intensity", "training")


def write_model(model: Model, path: str | PathLike[str]) -> None:
    """Write `model` to `path`: to a temporary file beside it, then renamed.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to save in.")
    header = {
        "format_version": _WITH_VOLUMES if model.architecture.dimensions == 3 else 1,
        "package_version": version("napari-aeseg"),
        "torch_version": str(torch.__version__),
        "architecture": model.architecture.as_dict(),
        "intensity": None
        if model.intensity is None
        else {"low": model.intensity.low, "high": model.intensity.high},
        "training": model.record.as_dict(),
        "any_channels": model.any_channels,
    }
    tensors = model.network.state_dict()
    if model.checkpoint is not None:
        header["resume"] = model.checkpoint.values()
        tensors |= {RESUME + k: v for k, v in model.checkpoint.tensors().items()}
    if model.prototypes is not None:
        header["prototypes"], arrays = prototype_parts(model.prototypes)
        tensors |= {PROTOTYPES + k: v for k, v in arrays.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    data = safetensors.torch.save(tensors, {HEADER_KEY: json.dumps(header, allow_nan=False)})
    with whole_file(path) as part:
        part.write_bytes(data)


def _file(path: str | PathLike[str]) -> Path:
    """Return the file that is meant: only the very text "base" means the shipped one."""
    return BASE_FILE if isinstance(path, str) and path == BASE_MODEL else Path(path)


def read_header(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the JSON header of a model file without reading its weights.

    Parameters
    ----------
    path : path-like or "base"

    Returns
    -------
    dict
        With "format_version", "package_version", "torch_version", "architecture", "intensity" and
        "training"; "any_channels" in files of today; "resume" if the training is unfinished,
        "prototypes" if the model has them.

    Raises
    ------
    ModelFileError
        If this is not a model file of this project, or one of a newer format.
    FileNotFoundError
        If there is no such file.
    """
    path = _file(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    text = read_metadata(path, HEADER_KEY)
    if text is None:
        raise ModelFileError(
            f"{path.name} is a safetensors file, but not one written by napari-aeseg: it has no "
            f"'{HEADER_KEY}' header."
        )
    check_json(text, path.name)
    try:
        header = json.loads(text)
        written = header["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"The header of {path.name} cannot be read ({shown(error)})."
        ) from error
    if type(written) is not int or written < 1:
        raise ModelFileError(
            f"{path.name} has an impossible format version, {shown(repr(written), 50)}."
        )
    if written > FORMAT_VERSION:
        raise ModelFileError(
            f"{path.name} has format {shown(written, 50)}, written by napari-aeseg "
            f"{shown(header.get('package_version', '?'), 50)}; this version reads up to format "
            f"{FORMAT_VERSION}. Update napari-aeseg to read it."
        )
    missing = [name for name in _PARTS if name not in header]
    if missing:
        raise ModelFileError(f"The header of {path.name} is incomplete: no {', '.join(missing)}.")
    return dict(header)


def load_model_file(path: str | PathLike[str]) -> Model:
    """Read a model file; "base" is the one that ships with the package.

    Raises
    ------
    ModelFileError
        If the file is damaged, foreign, newer, or its parts do not fit each other.
    FileNotFoundError
        If there is no such file.
    """
    path = _file(path)
    header = read_header(path)
    try:
        architecture = architecture_of(header)
        intensity = intensity_of(header, architecture.channels)
        record = record_of(header)
        for name in ("package_version", "torch_version"):
            text_of(name, header[name])
        any_channels = header.get("any_channels", False)
        if type(any_channels) is not bool or (any_channels and intensity is not None):
            raise ValueError(f"any_channels = {any_channels!r} with intensity {intensity}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(
            f"The header of {path.name} is incomplete or wrong ({shown(error)})."
        ) from error
    tensors = read_tensors(path)
    resume, prototypes = (
        _taken(tensors, prefix) if name in header else None
        for name, prefix in (("resume", RESUME), ("prototypes", PROTOTYPES))
    )
    model = Model(network_of(architecture, tensors, path.name), intensity, record)
    model.any_channels = any_channels
    what = "state of the training"
    try:
        if resume is not None:
            model.checkpoint = Checkpoint.from_file(header["resume"], resume, model.network, record)
        what = "prototypes"
        if prototypes is not None:
            model.prototypes = prototypes_of(header["prototypes"], prototypes)
        what = "record of the training"
        check_record(record)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(
            f"The {what} in {path.name} cannot be used ({shown(error)})."
        ) from error
    return model


def _taken(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Take the tensors of a prefix out of all, and return them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
