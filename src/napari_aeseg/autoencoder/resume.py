"""The record of a training, and the state from which an unfinished one is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_aeseg.errors import InputError
from napari_aeseg.params import TrainingParams

if TYPE_CHECKING:
    import torch

    from napari_aeseg.autoencoder.architecture import Architecture


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What happened in training."""

    params: dict[str, Any] = field(default_factory=dict)  # the `TrainingParams` used
    images: tuple[dict[str, Any], ...] = ()  # name, shape and axes of each
    steps: int = 0  # taken; fewer than asked for when training was stopped
    losses: tuple[float, ...] = ()  # mean squared reconstruction error of each step
    seconds: float = 0.0  # wall time
    device: str = ""  # where it ended, if it went on with the CPU
    notes: tuple[str, ...] = ()  # what differed from what was asked for, such as a smaller batch
    voxel_size: tuple[float, ...] | None = None  # as given, one number for each axis of space
    precision: str = "float32"  # or "tf32" where a GPU rounded float32


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """State of an unfinished training between two steps.

    The weights are in the model, steps and losses in its record, and random numbers follow from
    seed and step: with the checkpoint, training goes on as if it had never stopped.
    """

    batch_size: int  # crops a step; less than asked for where memory was short
    # What AdamW keeps, named "exp_avg.<weight>" and "exp_avg_sq.<weight>"; on the CPU.
    moments: dict[str, torch.Tensor]


def params_to_resume(
    record: TrainingRecord, architecture: Architecture, params: TrainingParams | None
) -> TrainingParams:
    """Return the parameters with which a training goes on.

    InputError if `params` are given and differ from those of the record.
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
    """Raise InputError unless names, shapes and axes (None: any) are those of a training."""
    if len(images) != len(record.images):
        raise InputError(
            f"The training to resume had {len(record.images)} image(s), not {len(images)}: give "
            "the same images in the same order."
        )
    for (name, shape, axes), recorded in zip(images, record.images, strict=True):
        # A list: JSON has no tuples.
        if list(shape) != recorded["shape"] or axes not in (None, recorded["axes"]):
            raise InputError(
                f"{name} has shape {tuple(shape)}{f' ({axes})' if axes else ''}, but the training "
                f"to resume had {recorded['name']} of shape {tuple(recorded['shape'])} "
                f"({recorded['axes']}) in its place: give the same images in the same order."
            )
