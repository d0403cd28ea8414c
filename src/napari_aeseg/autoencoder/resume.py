"""The record of a training, and the state from which an unfinished one is resumed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from napari_aeseg.errors import InputError
from napari_aeseg.params import TrainingParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.autoencoder.network import Autoencoder

#: What AdamW keeps for each weight.
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What happened in training.

    Parameters
    ----------
    params : dict
        The `TrainingParams` used, as plain values.
    images : tuple of dict
        Name, shape and axes of each image.
    steps : int
        Optimisation steps taken; fewer than asked for when training was stopped.
    losses : tuple of float
        Mean squared reconstruction error of each step.
    seconds : float
        Wall time.
    device : str
        Where it ran; where it ended, if it went on with the CPU.
    notes : tuple of str
        Whatever differed from what was asked for, such as a smaller batch.
    voxel_size : tuple of float or None
        As it was given, one number for each axis of space; None if it was not given.
    precision : str
        What was computed in: "float32", "bfloat16", or "tf32" where a GPU rounded float32.
    """

    params: dict[str, Any] = field(default_factory=dict)
    images: tuple[dict[str, Any], ...] = ()
    steps: int = 0
    losses: tuple[float, ...] = ()
    seconds: float = 0.0
    device: str = ""
    notes: tuple[str, ...] = ()
    voxel_size: tuple[float, ...] | None = None
    precision: str = "float32"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a file header."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """State of an unfinished training between two steps.

    The weights are in the model, steps and losses in its record, and random numbers follow from
    seed and step: with the checkpoint, training goes on as if it had never stopped.

    Parameters
    ----------
    batch_size : int
        Crops a step; less than asked for where memory was short.
    moments : dict of str to Tensor
        What AdamW keeps, named "exp_avg.<weight>" and "exp_avg_sq.<weight>"; on the CPU.
    """

    batch_size: int
    moments: dict[str, torch.Tensor]

    @classmethod
    def of(
        cls, network: Autoencoder, optimizer: torch.optim.Optimizer, batch_size: int
    ) -> Checkpoint:
        """Copy the state of a training."""
        moments = {
            f"{key}.{name}": optimizer.state[weight][key].detach().to("cpu", copy=True)
            for name, weight in network.named_parameters()
            for key in MOMENTS
        }
        return cls(batch_size, moments)


def set_moments(
    network: Autoencoder,
    optimizer: torch.optim.Optimizer,
    steps: int = 0,
    moments: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Give AdamW its moments after so many steps, by default the zeros with which it begins.

    AdamW would make them in its first step: if memory ran out in the middle, it would take half of
    them for the whole.
    """
    for name, weight in network.named_parameters():
        # Laid out in memory as the weights are, so that sums are rounded alike.
        values = {key: torch.zeros_like(weight, requires_grad=False) for key in MOMENTS}
        if moments is not None:
            for key, value in values.items():
                value.copy_(moments[f"{key}.{name}"])
        optimizer.state[weight] = {"step": torch.tensor(float(steps)), **values}


def params_to_resume(
    record: TrainingRecord, architecture: Architecture, params: TrainingParams | None
) -> TrainingParams:
    """Return the parameters with which a training goes on.

    Parameters
    ----------
    record : TrainingRecord
    architecture : Architecture
        Of the model to resume.
    params : TrainingParams or None
        What was asked for; None for those of the record.

    Raises
    ------
    InputError
        If `params` differ from those of the record.
    """
    recorded = TrainingParams(**record.params)
    if params is None:
        return recorded
    given = params.model_dump()
    # Asked for by name, or left to be chosen as it was.
    if params.dimensions in ("auto", f"{architecture.dimensions}D"):
        given["dimensions"] = recorded.dimensions
    differing = [
        f"{k} = {given[k]!r}, not {v!r}" for k, v in recorded.model_dump().items() if given[k] != v
    ]
    if differing:
        raise InputError(
            "A training is resumed with the parameters it began with; differing: "
            f"{', '.join(differing)}. Leave them out, or start a new training from the weights: "
            "give the model as init, without resume."
        )
    return recorded


def check_images_to_resume(
    record: TrainingRecord, images: Sequence[tuple[str, tuple[int, ...], str | None]]
) -> None:
    """Raise InputError unless these are as the images of a training.

    Parameters
    ----------
    record : TrainingRecord
    images : sequence of (name, shape, axes)
        Axes are None where those of the record are taken.
    """
    if len(images) != len(record.images):
        raise InputError(
            f"The training to resume had {len(record.images)} image(s), not {len(images)}: give "
            "the same images in the same order."
        )
    for (name, shape, axes), recorded in zip(images, record.images, strict=True):
        if list(shape) != recorded["shape"] or axes not in (None, recorded["axes"]):
            raise InputError(
                f"{name} has shape {tuple(shape)}{f' ({axes})' if axes else ''}, but the training "
                f"to resume had {recorded['name']} of shape {tuple(recorded['shape'])} "
                f"({recorded['axes']}) in its place: give the same images in the same order."
            )
