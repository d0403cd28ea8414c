"""What an unfinished training needs, besides the weights and the record, to go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from napari_aeseg.autoencoder.architecture import AS_IN_PARAMS
from napari_aeseg.errors import InputError
from napari_aeseg.params import TrainingParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from napari_aeseg.autoencoder.model import Model, TrainingRecord
    from napari_aeseg.autoencoder.network import Autoencoder

# Of torch's generator: how many numbers are made at once, and where its state says how many of
# them are left, and which comes next.
_NUMBERS, _LEFT, _FOLLOWING = 624, slice(8, 12), slice(16, 24)
# What AdamW keeps for each weight.
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """State of a training between two steps.

    Weights are in the model, steps and losses in its record; with them, training goes on as if it
    had never stopped.

    Parameters
    ----------
    batch_size : int
        Crops a step; less than asked for where memory was short.
    crops : dict
        State of the numpy generator that draws crops, as plain values.
    noise : Tensor of uint8
        State of the torch generator that draws noise.
    moments : dict of str to Tensor
        What AdamW keeps, named "exp_avg.<weight>" and "exp_avg_sq.<weight>"; on the CPU.
    """

    batch_size: int
    crops: dict[str, Any]
    noise: torch.Tensor
    moments: dict[str, torch.Tensor]

    @classmethod
    def of(
        cls,
        network: Autoencoder,
        optimizer: torch.optim.Optimizer,
        crops: np.random.Generator,
        noise: torch.Generator,
        batch_size: int,
    ) -> Checkpoint:
        """Take the state of a training that has taken a step; nothing is shared with it."""
        moments = {
            f"{key}.{name}": optimizer.state[weight][key].detach().to("cpu", copy=True)
            for name, weight in network.named_parameters()
            for key in _MOMENTS
        }
        return cls(batch_size, dict(crops.bit_generator.state), noise.get_state(), moments)

    def restore(
        self,
        network: Autoencoder,
        optimizer: torch.optim.Optimizer,
        crops: np.random.Generator,
        noise: torch.Generator,
        steps: int,
    ) -> None:
        """Put the state into a training whose network has its weights, after so many steps."""
        crops.bit_generator.state = self.crops
        noise.set_state(self.noise)
        for name, weight in network.named_parameters():
            # Laid out in memory as the weights are, so that sums are rounded alike.
            kept = {
                key: torch.empty_like(weight).copy_(self.moments[f"{key}.{name}"])
                for key in _MOMENTS
            }
            optimizer.state[weight] = {"step": torch.tensor(float(steps)), **kept}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors for a model file."""
        return {"noise": self.noise, **self.moments}

    def values(self) -> dict[str, Any]:
        """Return the plain values for a model file; 128-bit numbers as text."""
        state = {k: str(v) for k, v in self.crops["state"].items()}
        return {"batch_size": self.batch_size, "crops": {**self.crops, "state": state}}

    @classmethod
    def from_file(
        cls,
        values: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        network: Autoencoder,
        record: TrainingRecord,
    ) -> Checkpoint:
        """Make a checkpoint of what was read from a model file.

        Parameters
        ----------
        values, tensors : mapping
            As `values` and `tensors` gave them.
        network : Autoencoder
            With the weights of the file.
        record : TrainingRecord

        Raises
        ------
        KeyError, TypeError, ValueError
            If anything is missing, odd, or does not fit the network or the record.
        """
        _check_record(record, network)
        params = TrainingParams(**record.params)
        batch_size = values["batch_size"]
        if type(batch_size) is not int or not 1 <= batch_size <= params.batch_size:
            raise ValueError(f"batch_size = {batch_size!r} of {params.batch_size}")
        moments = {k: v for k, v in tensors.items() if k != "noise"}
        _check_moments(moments, network)
        noise = tensors["noise"]
        _check_noise(noise)
        return cls(batch_size, _crops_state(values["crops"]), noise, moments)


def reset(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Bring AdamW's state back in order after a step that failed, `steps` before it."""
    for state in optimizer.state.values():
        if all(key in state for key in _MOMENTS):
            state["step"].fill_(float(steps))
        else:  # memory ran out as it was made: to be made again
            state.clear()


def moved_to(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Move AdamW's state to a device, where the weights are already."""
    for state in optimizer.state.values():
        state |= {key: state[key].to(device) for key in _MOMENTS if key in state}


def _check_record(record: TrainingRecord, network: Autoencoder) -> None:
    """Raise ValueError unless this is the record of an unfinished training of this network."""
    params = TrainingParams(**record.params)
    architecture = network.architecture
    known = params.dimensions in ("auto", f"{architecture.dimensions}D")
    if not known or any(getattr(params, k) != getattr(architecture, k) for k in AS_IN_PARAMS):
        raise ValueError("the parameters of the training are not those of the network")
    steps = record.steps
    if type(steps) is not int or not 1 <= steps < params.steps or len(record.losses) != steps:
        raise ValueError(f"{steps!r} of {params.steps} steps with {len(record.losses)} losses")
    if not all(isinstance(loss, float) and math.isfinite(loss) for loss in record.losses):
        raise ValueError("losses that are no numbers")
    if not isinstance(record.seconds, float | int) or not math.isfinite(record.seconds):
        raise ValueError(f"seconds = {record.seconds!r}")
    if not all(isinstance(note, str) for note in record.notes):
        raise ValueError("notes that are no texts")
    for image in record.images:
        shape, axes = image["shape"], image["axes"]
        if not isinstance(shape, list) or not isinstance(axes, str) or len(axes) != len(shape):
            raise ValueError(f"image {image!r}")


def _check_moments(moments: Mapping[str, torch.Tensor], network: Autoencoder) -> None:
    """Raise ValueError unless there are two finite moments for every weight."""
    expected = {
        f"{key}.{name}": (weight.shape, weight.dtype)
        for name, weight in network.named_parameters()
        for key in _MOMENTS
    }
    found = {name: (moment.shape, moment.dtype) for name, moment in moments.items()}
    odd = sorted(
        k for k in found.keys() | expected.keys() if found.get(k, ()) != expected.get(k, ())
    )
    if odd:
        raise ValueError(f"state of the optimiser; differing: {', '.join(odd[:5])}")
    for name, moment in moments.items():
        if not bool(torch.isfinite(moment).all()):
            raise ValueError(f"{name} with NaN or infinite values")
        if name.startswith("exp_avg_sq.") and bool((moment < 0).any()):
            raise ValueError(f"{name} with negative values")


def _check_noise(noise: torch.Tensor) -> None:
    """Raise ValueError unless this is the state of a torch generator that can be drawn from."""
    try:
        torch.Generator().set_state(noise)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"state of the noise: {error}") from error
    state = noise.numpy().tobytes()
    left, following = (int.from_bytes(state[part], "little") for part in (_LEFT, _FOLLOWING))
    # Together one more than the numbers there are, or less; torch reads behind them otherwise.
    if not 1 <= left <= _NUMBERS + 1 - following:
        raise ValueError(f"state of the noise with {left} numbers left from the {following}th on")


def _crops_state(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a PCG64 generator; raise ValueError for what cannot be one."""
    if set(values) != {"bit_generator", "state", "has_uint32", "uinteger"}:
        raise ValueError(f"state of the crops with {sorted(values)}")
    state = {name: int(values["state"][name]) for name in ("state", "inc")}
    whole = values["uinteger"]
    if (
        values["bit_generator"] != "PCG64"
        or not all(0 <= number < 2**128 for number in state.values())
        or state["inc"] % 2 == 0
        or values["has_uint32"] not in (0, 1)
        or type(whole) is not int
        or not 0 <= whole < 2**32
    ):
        raise ValueError("state of the crops that no generator has")
    return {
        "bit_generator": "PCG64",
        "state": state,
        "has_uint32": int(values["has_uint32"]),
        "uinteger": whole,
    }


def params_to_resume(model: Model | None, params: TrainingParams | None) -> TrainingParams:
    """Return the parameters with which a training goes on.

    Parameters
    ----------
    model : Model or None
        To go on from.
    params : TrainingParams or None
        What was asked for; None for those of the model.

    Raises
    ------
    InputError
        If there is no model, its training is finished, or `params` differ from its own.
    """
    if model is None:
        raise InputError("There is nothing to resume: give the unfinished model as init.")
    if model.checkpoint is None:
        raise InputError(
            f"There is nothing to resume: the training of this model ended after "
            f"{model.record.steps} steps. Given as init, not to be resumed, a new training starts "
            "from its weights."
        )
    own = TrainingParams(**model.record.params)
    if params is None:
        return own
    given = params.model_dump()
    # Asked for by name, or left to be chosen as it was.
    if params.dimensions in ("auto", f"{model.architecture.dimensions}D"):
        given["dimensions"] = own.dimensions
    odd = [f"{k} = {given[k]!r}, not {v!r}" for k, v in own.model_dump().items() if given[k] != v]
    if odd:
        raise InputError(
            f"A training goes on with the parameters it began with; differing: {', '.join(odd)}. "
            "Leave them out, or start a new training from the weights: give the model as init, "
            "not to be resumed."
        )
    return own


def check_images_to_resume(
    record: TrainingRecord, images: Sequence[tuple[str, Sequence[int], str | None]]
) -> None:
    """Raise InputError unless these are as the images that a training began with.

    Parameters
    ----------
    record : TrainingRecord
    images : sequence of (name, shape, axes)
        Axes are None while nobody has named them.
    """
    if len(images) != len(record.images):
        raise InputError(
            f"The training to resume had {len(record.images)} image(s), not {len(images)}: give "
            "the same images in the same order."
        )
    for (name, shape, axes), known in zip(images, record.images, strict=True):
        if list(shape) != known["shape"] or axes not in (None, known["axes"]):
            raise InputError(
                f"{name} has shape {tuple(shape)}{f' ({axes})' if axes else ''}, but the training "
                f"to resume had {known.get('name', 'an image')} of shape {tuple(known['shape'])} "
                f"({known['axes']}) in its place: give the same images in the same order."
            )
