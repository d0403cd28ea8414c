"""The model file: safetensors with a JSON header. No pickle, nothing is ever executed."""

from __future__ import annotations

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.model import Model, TrainingRecord
from napari_aeseg.autoencoder.network import Autoencoder
from napari_aeseg.autoencoder.resume import Checkpoint
from napari_aeseg.errors import ModelFileError, sanitized
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.io.atomic import atomic_write
from napari_aeseg.params import BASE_MODEL
from napari_aeseg.prototypes import Prototypes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike


#: Bytes of a header, and how many tensors there may be. A million losses are 23 MB.
MOST_HEADER, MOST_TENSORS = 2**25, 10_000
# Lists and objects in JSON, and values: each becomes an object of Python of some 60 bytes.
_MOST_NESTED, _MOST_VALUES = 200_000, 1_500_000
# torch knows no tensors of more axes.
_MOST_AXES = 32
_EXPECTED = "Expected a *.aeseg.safetensors file written by napari-aeseg."
# What safetensors and torch raise on numbers that they cannot work with, and on files that are
# longer than what can be mapped.
_ERRORS = (
    *(safetensors.SafetensorError, OSError, MemoryError, RuntimeError, ValueError, TypeError),
)


def check_json(text: str | bytes, name: str) -> None:
    """Raise ModelFileError if JSON has more parts than any of ours; `name` is of the file."""
    one = str if isinstance(text, str) else str.encode
    nested = text.count(one("{")) + text.count(one("["))  # type: ignore[arg-type]
    values = text.count(one(","))  # type: ignore[arg-type]
    if nested > _MOST_NESTED or values > _MOST_VALUES:
        raise ModelFileError(
            f"The header of {name} cannot be read (it has {values} values in {nested} parts: too "
            f"many). {_EXPECTED}"
        )


def read_metadata(path: Path, key: str) -> str | None:
    """Return a text of the metadata of a file, None if there is none of this name.

    Raises
    ------
    ModelFileError
        If this is no such file, or its header is too large.
    """
    if not path.is_file():
        raise ModelFileError(f"{path.name} is not a file. {_EXPECTED}")
    try:
        _check_head(path)
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(key)
    except _ERRORS as error:
        raise _damaged(path, error) from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file whose metadata was read; none refers to the file any more.

    Raises
    ------
    ModelFileError
        If they cannot be read.
    """
    size = path.stat().st_size
    found = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > MOST_TENSORS:
                raise ValueError(f"{len(names)} tensors")
            for name in names:
                shape = file.get_slice(name).get_shape()
                # Of nothing, any number of rows would fit into the file.
                if len(shape) > _MOST_AXES or any(n > size for n in shape):
                    raise ValueError(f"{name} has a shape that no tensor has")
                # Tensors are views of the mapped file: whoever shortens it would end the process.
                found[name] = file.get_tensor(name).clone()
    except _ERRORS as error:
        raise ModelFileError(
            f"The weights of {path.name} cannot be read ({sanitized(error)})."
        ) from error
    return found


def _check_head(path: Path) -> None:
    """Raise an error if the header is longer, or has more parts, than that of any model."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MOST_HEADER:
            raise ValueError(f"its header claims to have {length} bytes")
        check_json(file.read(length), path.name)


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{path.name} is not a model file, or it is damaged or cut short ({sanitized(error)}). "
        f"{_EXPECTED}"
    )


def architecture_of(header: Mapping[str, Any]) -> Architecture:
    """Return the architecture; values that no model of ours has are refused before they cost."""
    architecture = Architecture(**header["architecture"])
    limits = {"channels": 4096, "levels": 6, "width": 256, "convolutions": 4}
    for name, most in limits.items():
        value = getattr(architecture, name)
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} = {value!r} is not a whole number from 1 to {most}")
    if architecture.decoder not in ("transposed", "unpooling"):
        raise ValueError(f"decoder = {architecture.decoder!r} is not known")
    if type(architecture.dimensions) is not int or architecture.dimensions not in (2, 3):
        raise ValueError(f"dimensions = {architecture.dimensions!r} is neither 2 nor 3")
    most = architecture.levels if architecture.dimensions == 3 else 0
    if type(architecture.z_levels) is not int or not 0 <= architecture.z_levels <= most:
        raise ValueError(
            f"z_levels = {architecture.z_levels!r} is not a whole number from 0 to {most}"
        )
    return architecture


def intensity_of(header: Mapping[str, Any], channels: int) -> IntensityRange | None:
    """Return the range, two finite numbers for each channel, or None."""
    values = header["intensity"]
    if values is None:
        return None
    low, high = (numbers_of(f"intensity {name}", values[name]) for name in ("low", "high"))
    if not len(low) == len(high) == channels:
        raise ValueError(f"intensity {sanitized(values)} for {channels} channel(s)")
    return IntensityRange(low, high)


def record_of(header: Mapping[str, Any]) -> TrainingRecord:
    """Return the record of the training; `check_record` says whether it can be relied on."""
    training = dict(header["training"])
    for name in ("images", "losses", "notes"):
        if not isinstance(training[name], list):
            raise TypeError(f"{name} = {sanitized(repr(training[name]))} is no list")
        training[name] = tuple(training[name])
    if training.get("voxel_size") is not None:
        training["voxel_size"] = numbers_of("voxel_size", training["voxel_size"])
    training["losses"] = tuple(map(_as_float, training["losses"]))
    if "seconds" in training:
        training["seconds"] = _as_float(training["seconds"])
    if not isinstance(training.get("precision", ""), str):
        raise ValueError(f"precision = {sanitized(repr(training['precision']))}")
    return TrainingRecord(**training)


def _as_float(value: Any) -> Any:
    """Return a whole number as one of float64, unless it is beyond reason: others stay."""
    return float(value) if type(value) is int and abs(value) < 2**63 else value


def check_record(record: TrainingRecord) -> None:
    """Raise an error unless every part of a record is of the kind that it is said to be."""
    for name, values in ("losses", list(record.losses)), ("seconds", [record.seconds]):
        numbers_of(name, values)
        if not all(type(number) is float for number in values):
            raise TypeError(f"{name} = {sanitized(repr(values), 100)}")
    for text in (record.device, *record.notes):
        text_of("device and notes", text)
    if type(record.steps) is not int or record.steps < 0:
        raise ValueError(f"steps = {sanitized(repr(record.steps))}")
    if not isinstance(record.params, dict):
        raise TypeError(f"params = {sanitized(record.params)}")
    json.dumps(record.params, allow_nan=False)  # else it could not be saved again
    for image in record.images:
        _check_image(image)


def text_of(name: str, value: object) -> str:
    """Return a text; raise TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{name} = {sanitized(repr(value))} is no text")
    return value


def numbers_of(name: str, values: object) -> tuple[float, ...]:
    """Return a list of finite numbers as a tuple; raise TypeError or ValueError for others."""
    if not isinstance(values, list) or any(type(n) not in (int, float) for n in values):
        raise TypeError(f"{name} = {sanitized(repr(values), 100)} is no list of numbers")
    numbers = tuple(map(float, values))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} has NaN or infinite values")
    return numbers


def _check_image(image: Any) -> None:
    """Raise an error unless these are the name, shape and axes of an image."""
    name, shape, axes = image["name"], image["shape"], image["axes"]
    if not isinstance(shape, list) or any(type(n) is not int or n < 1 for n in shape):
        raise ValueError(f"image of shape {sanitized(repr(shape))}")
    if len(text_of("axes", axes)) != len(shape):
        raise ValueError(f"axes {sanitized(repr(axes))} of an image of shape {sanitized(shape)}")
    text_of("name", name)


def network_of(
    architecture: Architecture, weights: Mapping[str, torch.Tensor], name: str
) -> Autoencoder:
    """Return the network with its weights; raise ModelFileError for weights that do not fit.

    `name` is what the error calls the file.
    """
    # Without initial weights: neither is memory taken twice, nor anybody's random state changed.
    with torch.device("meta"):
        network = Autoencoder(architecture)
    expected = {k: (tuple(v.shape), v.dtype) for k, v in network.state_dict().items()}
    found = {k: (tuple(v.shape), v.dtype) for k, v in weights.items()}
    if found != expected:
        odd = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
        raise ModelFileError(
            f"The weights of {name} do not fit its architecture; differing: "
            f"{sanitized(', '.join(odd[:5]))}{' ...' if len(odd) > 5 else ''}."
        )
    if not all(bool(torch.isfinite(t).all()) for t in weights.values()):
        raise ModelFileError(f"{name} has weights that are NaN or infinite; train again.")
    network.load_state_dict(weights, assign=True)
    return network


def prototype_parts(prototypes: Prototypes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the plain values and the tensors of prototypes."""
    values = {
        "scale": float(prototypes.scale),
        "names": prototypes.names,
        "colors": prototypes.colors,
    }
    arrays = {"centres": prototypes.centres, "whitening": prototypes.whitening}
    return values, {k: torch.tensor(v) for k, v in arrays.items()}


def prototypes_of(values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Prototypes:
    """Return prototypes of what `prototype_parts` gave."""
    if set(tensors) != {"centres", "whitening"}:
        raise ValueError(f"tensors {sorted(tensors)}")
    if set(values) != {"scale", "names", "colors"}:
        raise ValueError(f"values {sorted(values)}")
    if not all(isinstance(values[name], list) for name in ("names", "colors")):
        raise ValueError("names and colors that are no lists")
    return Prototypes(
        tensors["centres"].numpy(),
        tensors["whitening"].numpy(),
        values["scale"],
        tuple(values["names"]),
        tuple(values["colors"]),
    )


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
    with atomic_write(path) as part:
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
            f"The header of {path.name} cannot be read ({sanitized(error)})."
        ) from error
    if type(written) is not int or written < 1:
        raise ModelFileError(
            f"{path.name} has an impossible format version, {sanitized(repr(written), 50)}."
        )
    if written > FORMAT_VERSION:
        raise ModelFileError(
            f"{path.name} has format {sanitized(written, 50)}, written by napari-aeseg "
            f"{sanitized(header.get('package_version', '?'), 50)}; this version reads up to format "
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
            f"The header of {path.name} is incomplete or wrong ({sanitized(error)})."
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
            f"The {what} in {path.name} cannot be used ({sanitized(error)})."
        ) from error
    return model


def _taken(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Take the tensors of a prefix out of all, and return them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
