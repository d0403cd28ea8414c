"""The parts of a model file, checked before anything is made of them.

A part that cannot be used raises a KeyError, TypeError or ValueError that says what is odd.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import torch

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.model import TrainingRecord
from napari_aeseg.autoencoder.network import Autoencoder
from napari_aeseg.errors import ModelFileError, shown
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.prototypes import Prototypes

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        raise ValueError(f"intensity {shown(values)} for {channels} channel(s)")
    return IntensityRange(low, high)


def record_of(header: Mapping[str, Any]) -> TrainingRecord:
    """Return the record of the training; `check_record` says whether it can be relied on."""
    training = dict(header["training"])
    for name in ("images", "losses", "notes"):
        if not isinstance(training[name], list):
            raise TypeError(f"{name} = {shown(repr(training[name]))} is no list")
        training[name] = tuple(training[name])
    if training.get("voxel_size") is not None:
        training["voxel_size"] = numbers_of("voxel_size", training["voxel_size"])
    training["losses"] = tuple(map(_as_float, training["losses"]))
    if "seconds" in training:
        training["seconds"] = _as_float(training["seconds"])
    if not isinstance(training.get("precision", ""), str):
        raise ValueError(f"precision = {shown(repr(training['precision']))}")
    return TrainingRecord(**training)


def _as_float(value: Any) -> Any:
    """Return a whole number as one of float64, unless it is beyond reason: others stay."""
    return float(value) if type(value) is int and abs(value) < 2**63 else value


def check_record(record: TrainingRecord) -> None:
    """Raise an error unless every part of a record is of the kind that it is said to be."""
    for name, values in ("losses", list(record.losses)), ("seconds", [record.seconds]):
        numbers_of(name, values)
        if not all(type(number) is float for number in values):
            raise TypeError(f"{name} = {shown(repr(values), 100)}")
    for text in (record.device, *record.notes):
        text_of("device and notes", text)
    if type(record.steps) is not int or record.steps < 0:
        raise ValueError(f"steps = {shown(repr(record.steps))}")
    if not isinstance(record.params, dict):
        raise TypeError(f"params = {shown(record.params)}")
    json.dumps(record.params, allow_nan=False)  # else it could not be saved again
    for image in record.images:
        _check_image(image)


def text_of(name: str, value: object) -> str:
    """Return a text; raise TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{name} = {shown(repr(value))} is no text")
    return value


def numbers_of(name: str, values: object) -> tuple[float, ...]:
    """Return a list of finite numbers as a tuple; raise TypeError or ValueError for others."""
    if not isinstance(values, list) or any(type(n) not in (int, float) for n in values):
        raise TypeError(f"{name} = {shown(repr(values), 100)} is no list of numbers")
    numbers = tuple(map(float, values))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} has NaN or infinite values")
    return numbers


def _check_image(image: Any) -> None:
    """Raise an error unless these are the name, shape and axes of an image."""
    name, shape, axes = image["name"], image["shape"], image["axes"]
    if not isinstance(shape, list) or any(type(n) is not int or n < 1 for n in shape):
        raise ValueError(f"image of shape {shown(repr(shape))}")
    if len(text_of("axes", axes)) != len(shape):
        raise ValueError(f"axes {shown(repr(axes))} of an image of shape {shown(shape)}")
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
            f"{shown(', '.join(odd[:5]))}{' ...' if len(odd) > 5 else ''}."
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
