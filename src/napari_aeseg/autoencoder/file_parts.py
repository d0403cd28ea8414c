"""The parts of a model file, checked before anything is made of them.

A part that cannot be used raises a KeyError, TypeError or ValueError that says what is odd.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.model import TrainingRecord
from napari_aeseg.autoencoder.network import Autoencoder
from napari_aeseg.errors import ModelFileError
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
    found = IntensityRange(tuple(map(float, values["low"])), tuple(map(float, values["high"])))
    for name, numbers in (("low", found.low), ("high", found.high)):
        if len(numbers) != channels or not all(map(math.isfinite, numbers)):
            raise ValueError(f"intensity {name} = {numbers} for {channels} channel(s)")
    return found


def record_of(header: Mapping[str, Any]) -> TrainingRecord:
    """Return the record of the training."""
    training = dict(header["training"])
    for name in ("images", "losses", "notes"):
        training[name] = tuple(training[name])
    if training.get("voxel_size") is not None:
        training["voxel_size"] = tuple(map(float, training["voxel_size"]))
    if not isinstance(training.get("precision", ""), str):
        raise ValueError(f"precision = {training['precision']!r}")
    return TrainingRecord(**training)


def network_of(
    architecture: Architecture, weights: Mapping[str, torch.Tensor], name: str
) -> Autoencoder:
    """Return the network with its weights; raise ModelFileError for weights that do not fit.

    `name` is what the error calls the file.
    """
    with torch.device("meta"):
        own = Autoencoder(architecture).state_dict()
    expected = {k: (tuple(v.shape), v.dtype) for k, v in own.items()}
    found = {k: (tuple(v.shape), v.dtype) for k, v in weights.items()}
    if found != expected:
        odd = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
        raise ModelFileError(
            f"The weights of {name} do not fit its architecture; differing: "
            f"{', '.join(odd[:5])}{' ...' if len(odd) > 5 else ''}."
        )
    if not all(bool(torch.isfinite(t).all()) for t in weights.values()):
        raise ModelFileError(f"{name} has weights that are NaN or infinite; train again.")
    network = Autoencoder(architecture)
    network.load_state_dict(weights)
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
