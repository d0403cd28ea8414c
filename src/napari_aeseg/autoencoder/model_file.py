"""The model file: safetensors with a JSON header. No pickle, nothing is ever executed.

Model files are passed between people: whatever is read is checked before it is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import safetensors
import safetensors.torch
import torch

from napari_aeseg.autoencoder.adamw import ADAM_STATE
from napari_aeseg.autoencoder.architecture import PARAM_FIELDS, Architecture
from napari_aeseg.autoencoder.network import Autoencoder, from_weights
from napari_aeseg.autoencoder.resume import Checkpoint, TrainingRecord
from napari_aeseg.errors import ModelFileError, sanitized
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.io.atomic_write import atomic_write
from napari_aeseg.params import BASE_MODEL, MODEL_SUFFIX, TrainingParams
from napari_aeseg.prototypes import Prototypes, StrokeExamples

_T = TypeVar("_T")

#: Raised whenever an older package could misread the file.
FORMAT_VERSION = 1
#: The key of the safetensors metadata that holds the JSON text.
HEADER_KEY = "napari-aeseg"
#: The model that ships with the package, made by tools/make_base_model.py.
BASE_FILE = Path(__file__).parents[1] / f"{BASE_MODEL}{MODEL_SUFFIX}"
# Parts of every header; "resume" and "prototypes" are there if the model has them.
_PARTS = (
    *("package_version", "torch_version", "architecture", "intensity", "training", "any_channels"),
)
# Prefixes of the names of tensors that are not weights.
_RESUME, _PROTOTYPES = "resume.", "prototypes."

# Bytes of a header (a million losses are 23 MB), and the number of tensors.
_MAX_HEADER, MAX_TENSORS = 2**25, 10_000
# Lists and objects in JSON, and values: each becomes a Python object of some 60 bytes.
_MAX_NESTED, _MAX_VALUES = 200_000, 1_500_000
# torch has no tensors of more axes.
_MAX_AXES = 32
# Whole numbers from here on are not the losses or seconds of anything.
_MAX_INT = 2**63
_LIMITS = {"channels": 4096, "levels": 6, "width": 256, "convolutions": 4}
_EXPECTED = f"Expected a *{MODEL_SUFFIX} file written by napari-aeseg."
# What safetensors and torch raise on impossible numbers, and on files too long to be mapped.
_READ_ERRORS = (
    *(safetensors.SafetensorError, OSError, MemoryError, RuntimeError, ValueError, TypeError),
)
# What the checks below raise.
_VALUE_ERRORS = (KeyError, TypeError, ValueError, OverflowError)


class ModelContents(NamedTuple):
    """All that a model file holds: the parameters of `Model`, in their order."""

    network: Autoencoder
    intensity: IntensityRange | None
    record: TrainingRecord
    checkpoint: Checkpoint | None
    prototypes: Prototypes | None
    any_channels: bool


def write_model_file(path: str | PathLike[str], contents: ModelContents) -> None:
    """Write a model file atomically; FileNotFoundError if there is no such folder."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to save in.")
    intensity, checkpoint = contents.intensity, contents.checkpoint
    prototypes = contents.prototypes
    header: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "package_version": version("napari-aeseg"),
        "torch_version": str(torch.__version__),
        "architecture": contents.network.architecture.as_dict(),
        "intensity": None if intensity is None else {"low": intensity.low, "high": intensity.high},
        "training": asdict(contents.record),
        "any_channels": contents.any_channels,
    }
    tensors = contents.network.state_dict()
    if checkpoint is not None:
        header["resume"] = {"batch_size": checkpoint.batch_size}
        tensors |= {_RESUME + k: v for k, v in checkpoint.moments.items()}
    if prototypes is not None:
        header["prototypes"] = {
            "scale": float(prototypes.scale),
            "names": prototypes.names,
            "colors": prototypes.colors,
        }
        arrays = {"centres": prototypes.centres, "whitening": prototypes.whitening}
        arrays |= {} if prototypes.examples is None else prototypes.examples.arrays
        tensors |= {_PROTOTYPES + k: torch.tensor(v, device="cpu") for k, v in arrays.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    data = safetensors.torch.save(tensors, {HEADER_KEY: json.dumps(header, allow_nan=False)})
    with atomic_write(path) as part:
        part.write_bytes(data)


@torch.inference_mode(False)  # such weights could not be trained
def read_model_file(path: str | PathLike[str]) -> ModelContents:
    """Read a model file; "base" is the one that ships with the package.

    ModelFileError if it is damaged, foreign, newer, or its parts do not fit each other.
    """
    path = _file(path)
    header = read_header(path)
    tensors = _read_tensors(path)
    # Tensors of parts that the header does not name are left among the weights, and refused.
    moments = _take(tensors, _RESUME) if "resume" in header else {}
    arrays = _take(tensors, _PROTOTYPES) if "prototypes" in header else {}
    part, checkpoint, prototypes = "header", None, None
    try:
        architecture = _architecture(header["architecture"])
        intensity = _intensity(header["intensity"], architecture.channels)
        record = _record(header["training"])
        for name in ("package_version", "torch_version"):
            _of_type(str, name, header[name])
        any_channels = _of_type(bool, "any_channels", header["any_channels"])
        if any_channels and intensity is not None:
            raise ValueError(f"any_channels = {any_channels} with intensity {intensity}")
        network = _network(architecture, tensors, path.name)
        part = "state of the training"
        if "resume" in header:
            checkpoint = _checkpoint(header["resume"], moments, network, record)
        part = "prototypes"
        if "prototypes" in header:
            prototypes = _prototypes(header["prototypes"], arrays)
    except _VALUE_ERRORS as error:
        raise ModelFileError(
            f"The {part} in {path.name} cannot be used ({sanitized(error)})."
        ) from error
    return ModelContents(network, intensity, record, checkpoint, prototypes, any_channels)


def read_header(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the JSON header of a model file ("base" too) without reading its weights.

    It has the parts in `_PARTS`; "resume" too if the training is unfinished, and "prototypes" if
    the model has them. ModelFileError if this is no model file of this project, or a newer one.
    """
    path = _file(path)
    text = _read_metadata(path)
    if text is None:
        raise ModelFileError(
            f"{path.name} is a safetensors file, but not one written by napari-aeseg: it has no "
            f"'{HEADER_KEY}' header."
        )
    _check_json_size(text, path.name)
    try:
        header = json.loads(text)
        format_version = header["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"The header of {path.name} cannot be read ({sanitized(error)})."
        ) from error
    if type(format_version) is not int or format_version < 1:  # True is an instance of int
        raise ModelFileError(
            f"{path.name} has an impossible format version, {sanitized(repr(format_version), 50)}."
        )
    if format_version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path.name} has format {sanitized(format_version, 50)}, written by napari-aeseg "
            f"{sanitized(header.get('package_version', '?'), 50)}; this version reads up to format "
            f"{FORMAT_VERSION}. Update napari-aeseg to read it."
        )
    missing = [name for name in _PARTS if name not in header]
    if missing:
        raise ModelFileError(f"The header of {path.name} is incomplete: no {', '.join(missing)}.")
    return dict(header)


def _file(path: str | PathLike[str]) -> Path:
    """Return the file; only the very text "base" means the one that ships with the package."""
    return BASE_FILE if isinstance(path, str) and path == BASE_MODEL else Path(path)


# -- safetensors


def _read_metadata(path: Path) -> str | None:
    """Return the text of the header, None if a safetensors file has none."""
    if not path.exists():
        raise FileNotFoundError(
            f"There is no model file {str(path)!r}. {BASE_MODEL!r} is the model of the package."
        )
    if not path.is_file():
        raise ModelFileError(f"{path.name} is not a file. {_EXPECTED}")
    try:
        with path.open("rb") as data:
            length = int.from_bytes(data.read(8), "little")
            if length > _MAX_HEADER:
                raise ValueError(f"its header claims to have {length} bytes")
            _check_json_size(data.read(length), path.name)
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(HEADER_KEY)
    except _READ_ERRORS as error:
        raise ModelFileError(
            f"{path.name} is not a model file, or it is damaged or cut short "
            f"({sanitized(error)}). {_EXPECTED}"
        ) from error


def _check_json_size(text: str | bytes, name: str) -> None:
    """Raise ModelFileError if JSON has more parts than any of ours, before it is parsed."""
    raw = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    nested, values = raw.count(b"{") + raw.count(b"["), raw.count(b",")
    if nested > _MAX_NESTED or values > _MAX_VALUES:
        raise ModelFileError(
            f"The header of {name} cannot be read (it has {values} values in {nested} parts: too "
            f"many). {_EXPECTED}"
        )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return copies of the tensors of a file."""
    size = path.stat().st_size
    tensors = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > MAX_TENSORS:
                raise ValueError(f"{len(names)} tensors")
            for name in names:
                shape = file.get_slice(name).get_shape()
                # An empty tensor can claim any number of rows, and fits into the file.
                if len(shape) > _MAX_AXES or any(n > size for n in shape):
                    raise ValueError(f"{name} has a shape that no tensor has")
                # Without a copy they are views of the mapped file: if that were shortened, reading
                # them would end the process.
                tensors[name] = file.get_tensor(name).clone()
    except _READ_ERRORS as error:
        raise ModelFileError(
            f"The weights of {path.name} cannot be read ({sanitized(error)})."
        ) from error
    return tensors


def _take(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Remove the tensors of a prefix, and return them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


# -- the parts of a file, checked


def _architecture(values: Mapping[str, Any]) -> Architecture:
    """Return the architecture; sizes that we never write are refused before they take memory."""
    architecture = Architecture(**values)
    for name, most in _LIMITS.items():
        _whole(name, getattr(architecture, name), 1, most)
    if architecture.decoder not in ("transposed", "unpooling"):
        raise ValueError(f"decoder = {architecture.decoder!r} is not known")
    _whole("dimensions", architecture.dimensions, 2, 3)
    most = architecture.levels if architecture.dimensions == 3 else 0
    _whole("z_levels", architecture.z_levels, 0, most)
    return architecture


def _intensity(values: Any, channels: int) -> IntensityRange | None:
    """Return the range, two finite numbers for each channel, or None."""
    if values is None:
        return None
    low, high = (_numbers(f"intensity {name}", values[name]) for name in ("low", "high"))
    if not len(low) == len(high) == channels:
        raise ValueError(f"intensity {sanitized(values)} for {channels} channel(s)")
    return IntensityRange(low, high)


def _record(values: Mapping[str, Any]) -> TrainingRecord:
    """Return the record of the training."""
    if set(values) != {field.name for field in fields(TrainingRecord)}:
        raise ValueError(f"training has {sorted(values)}")
    params, voxel_size = values["params"], values["voxel_size"]
    if not isinstance(params, dict):
        raise TypeError(f"params = {sanitized(params)}")
    json.dumps(params, allow_nan=False)  # else it could not be saved again
    return TrainingRecord(
        params=params,
        images=tuple(map(_image, _of_type(list, "images", values["images"]))),
        steps=_whole("steps", values["steps"], 0, _MAX_INT),
        losses=_numbers("losses", values["losses"]),
        seconds=_numbers("seconds", [values["seconds"]])[0],
        device=_of_type(str, "device", values["device"]),
        notes=tuple(
            _of_type(str, "notes", note) for note in _of_type(list, "notes", values["notes"])
        ),
        voxel_size=None if voxel_size is None else _numbers("voxel_size", voxel_size),
        precision=_of_type(str, "precision", values["precision"]),
    )


def _image(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return name, shape and axes of an image."""
    name, axes = _of_type(str, "name", values["name"]), _of_type(str, "axes", values["axes"])
    shape = [_whole("shape", n, 1, _MAX_INT) for n in _of_type(list, "shape", values["shape"])]
    if len(axes) != len(shape):
        raise ValueError(f"axes {sanitized(repr(axes))} of an image of shape {sanitized(shape)}")
    return {"name": name, "shape": shape, "axes": axes}


def _network(
    architecture: Architecture, weights: Mapping[str, torch.Tensor], name: str
) -> Autoencoder:
    """Return the network with its weights; `name` is what errors call the file."""
    expected = Autoencoder(architecture, device="meta").state_dict()
    differing = _differing(weights, expected.items())
    if differing:
        raise ModelFileError(
            f"The weights of {name} do not fit its architecture; differing: {differing}."
        )
    if not all(bool(torch.isfinite(t).all()) for t in weights.values()):
        raise ModelFileError(f"{name} has weights that are NaN or infinite; train again.")
    return from_weights(architecture, weights)


def _checkpoint(
    values: Mapping[str, Any],
    moments: Mapping[str, torch.Tensor],
    network: Autoencoder,
    record: TrainingRecord,
) -> Checkpoint:
    """Return the checkpoint, if it is one of an unfinished training of this network."""
    params, architecture = TrainingParams(**record.params), network.architecture
    if params.dimensions not in ("auto", f"{architecture.dimensions}D") or any(
        getattr(params, name) != getattr(architecture, name) for name in PARAM_FIELDS
    ):
        raise ValueError("the parameters of the training are not those of the network")
    steps, losses = record.steps, record.losses
    if not 1 <= steps < params.steps or len(losses) != steps:
        raise ValueError(f"{steps} of {params.steps} steps with {len(losses)} losses")
    batch_size = _whole("batch_size", values["batch_size"], 1, params.batch_size)
    expected = (
        (f"{key}.{name}", weight)
        for name, weight in network.named_parameters()
        for key in ADAM_STATE
    )
    differing = _differing(moments, expected)
    if differing:
        raise ValueError(f"state of the optimiser; differing: {differing}")
    for name, moment in moments.items():
        if not bool(torch.isfinite(moment).all()):
            raise ValueError(f"{name} with NaN or infinite values")
        if name.startswith("exp_avg_sq.") and bool((moment < 0).any()):
            raise ValueError(f"{name} with negative values")
    return Checkpoint(batch_size, dict(moments))


def _prototypes(values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Prototypes:
    """Return the prototypes; `Prototypes` checks what is in them."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    centres, whitening = arrays.pop("centres"), arrays.pop("whitening")
    if set(values) != {"scale", "names", "colors"}:
        raise ValueError(f"values {sorted(values)}")
    return Prototypes(
        centres,
        whitening,
        values["scale"],
        tuple(_of_type(list, "names", values["names"])),
        tuple(_of_type(list, "colors", values["colors"])),
        StrokeExamples.of_arrays(arrays) if arrays else None,
    )


# -- values of one kind; raise TypeError or ValueError for others


def _differing(
    tensors: Mapping[str, torch.Tensor], expected: Iterable[tuple[str, torch.Tensor]]
) -> str:
    """Return names that are missing, unknown, or of another shape or dtype; "" for none."""
    read = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    ours = {name: (tensor.shape, tensor.dtype) for name, tensor in expected}
    names = sorted(k for k in read.keys() | ours.keys() if read.get(k) != ours.get(k))
    return sanitized(", ".join(names[:5])) + " ..." * (len(names) > 5)


def _of_type(kind: type[_T], name: str, value: object) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"{name} = {sanitized(repr(value))} is not a {kind.__name__}")
    return value


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(
            f"{name} = {sanitized(repr(value))} is not a whole number from {least} to {most}"
        )
    return value


def _numbers(name: str, values: object) -> tuple[float, ...]:
    """Return a list of finite numbers as a tuple of floats."""
    numbers: list[Any] = _of_type(list, name, values)
    if any(type(n) not in (int, float) for n in numbers):
        raise TypeError(f"{name} = {sanitized(repr(values), 100)} is not a list of numbers")
    if not all(abs(n) < _MAX_INT if type(n) is int else math.isfinite(n) for n in numbers):
        raise ValueError(f"{name} has NaN, infinite or immense values")
    return tuple(map(float, numbers))
