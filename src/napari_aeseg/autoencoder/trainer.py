"""One training: its network, optimiser and images, and what happens in a step."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.adamw import AdamW
from napari_aeseg.autoencoder.architecture import PARAM_FIELDS, architecture_for
from napari_aeseg.autoencoder.crops import CropSampler
from napari_aeseg.autoencoder.device import (
    choose_device,
    is_accelerator,
    oom_as_device_error,
    precision_used,
    training_modes,
    unless_out_of_memory,
)
from napari_aeseg.autoencoder.diagnosis import training_warnings
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.network import Autoencoder, inference_copy, move_to
from napari_aeseg.autoencoder.resume import Checkpoint, TrainingRecord
from napari_aeseg.errors import DeviceError, InputError
from napari_aeseg.params import TrainingParams

if TYPE_CHECKING:
    from napari_aeseg.images.intensity import Image, IntensityRange

# After so many steps, the weights are copied if they are the best so far: training may diverge.
_STEPS_BETWEEN_COPIES = 50
_CPU = torch.device("cpu")


class Trainer:
    """The network, the optimiser, and all that changes from step to step.

    Random numbers of a step follow from the seed and the number of the step alone, so that a
    training can be resumed, a step can be repeated, and other threads make no difference.

    `init` gives architecture and weights to start from. With `resume`, its unfinished training goes
    on, on the same images; on the CPU, the result is that of a training that was never stopped, bit
    for bit. `intensity` is stored in the model: the range by which every later image is to be
    scaled.
    """

    @training_modes()
    def __init__(
        self,
        images: Sequence[Image],
        params: TrainingParams | None = None,
        device: str = "auto",
        init: Model | None = None,
        intensity: IntensityRange | None = None,
        *,
        resume: bool = False,
        voxel_size: Sequence[float] | None = None,
    ) -> None:
        params = params or TrainingParams()
        if init is not None:
            init = init.fitted(len(images[0].pixels)) if init.any_channels else init
            voxel_size = init.record.voxel_size if resume else voxel_size
        architecture, self.notes = architecture_for(
            images, params, None if init is None else init.architecture, voxel_size
        )
        # What is recorded is what was built: with `init`, its architecture.
        self.params = params.updated(**{name: getattr(architecture, name) for name in PARAM_FIELDS})
        self.voxel_size = None if voxel_size is None else tuple(map(float, voxel_size))
        self.images, self.intensity = images, intensity
        self.device = choose_device(device)
        self.network = Autoencoder(
            architecture, torch.Generator("cpu").manual_seed(self.params.seed)
        )
        if init is not None:
            self.network.load_state_dict(init.network.state_dict())
        self.losses: list[float] = []
        self.diverged = False
        self._start = time.perf_counter()
        self.pending_messages: list[str] = []  # for the next event
        # Steps, mean loss and weights.
        self._best: tuple[int, float, Autoencoder] | None = None
        with oom_as_device_error("the images", "Train on fewer or smaller ones."):
            self.sampler = CropSampler(images, self.params, architecture)
            self.batch_size = self.sampler.batch_size
            self.optimizer = AdamW(self.network, self.params.weight_decay)
            if resume and init is not None and init.checkpoint is not None:
                self._resume(init.record, init.checkpoint)
            if unless_out_of_memory(lambda: self._place(self.device)) is None:
                self.note(f"{self.device} has no memory for the images: training on the CPU.")
                self._place(_CPU)

    def _resume(self, record: TrainingRecord, checkpoint: Checkpoint) -> None:
        """Take over an unfinished training whose weights are in the network."""
        decay = self.params.weight_decay
        self.optimizer = AdamW(self.network, decay, record.steps, checkpoint.moments)
        self.batch_size = checkpoint.batch_size
        self.losses = list(record.losses)
        self.notes = [*record.notes, f"Resumed after {record.steps} steps."]
        self._start -= record.seconds  # the time before counts, too
        self._copy_if_best()

    @property
    def done(self) -> int:
        """Steps taken."""
        return len(self.losses)

    @property
    def ended(self) -> bool:
        """Whether there is no further step to take."""
        return self.diverged or self.done >= self.params.steps

    def note(self, *texts: str) -> None:
        """Put something into the record and into the next event."""
        self.notes += texts
        self.pending_messages += texts

    def step(self) -> None:
        """Take one step.

        InputError if the loss is not finite and no weights were copied before; DeviceError if there
        is no memory, even for a single crop on the CPU.
        """
        advice = "Choose smaller crops or a smaller width."
        with oom_as_device_error("a training step", advice), training_modes(self.device.type):
            share = _schedule(self.done, self.params.steps)
            self.optimizer.learning_rate = self.params.learning_rate * share
            while (loss := unless_out_of_memory(self._try_step)) is None:
                self._need_less_memory()
            if math.isfinite(loss):
                self.losses.append(loss)
                if self.done % _STEPS_BETWEEN_COPIES == 0:
                    self._copy_if_best()
            else:
                self._restore_best(loss)
            if self.ended and not self.diverged:
                variance = unless_out_of_memory(self.sampler.variance)
                if variance is None:
                    self.note("There was no memory to check what was learned.")
                else:
                    self.note(*training_warnings(self.losses, variance, self.params.learning_rate))

    def _try_step(self) -> float:
        """Draw crops and noise, optimise, return the loss."""
        seeds = self.params.seed, self.done
        clean = self.sampler.draw(self.batch_size, np.random.default_rng(seeds))
        (seed,) = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
        # Noise follows from seed and step: a resumed training has no state to restore.
        generator = torch.Generator(self.device).manual_seed(int(seed))
        noise = torch.randn(
            clean.shape, generator=generator, dtype=torch.float32, device=self.device
        )
        return _optimise(self.network, self.optimizer, clean, clean + self.params.noise * noise)

    def _need_less_memory(self) -> None:
        """Halve the batch, or go on with the CPU; raise DeviceError if neither is left."""
        self.network.zero_grad(set_to_none=True)
        reason = f"{self.device} ran out of memory"
        if self.batch_size > 1:
            self.batch_size //= 2
            self.note(f"{reason}: going on with batches of {self.batch_size}.")
        elif is_accelerator(self.device):
            self._place(_CPU)
            self.batch_size = self.sampler.batch_size
            self.note(f"{reason}: going on with the CPU, with batches of {self.batch_size}.")
        else:
            crop = " x ".join(map(str, self.sampler.shape))
            raise DeviceError(
                f"{reason} with a single crop of {crop} pixels. Choose smaller crops or a smaller "
                "width, or close other programs."
            )

    def _place(self, device: torch.device) -> bool:
        """Bring network, optimiser and images to a device; return True."""
        move_to(self.network, device).train()
        self.optimizer.move_to(device)
        self.sampler.move_to(device)
        self.device = device
        return True

    def _copy_if_best(self) -> None:
        """Copy the weights if they are the best so far, and if there is memory for it."""
        # A single loss depends on the crops that were drawn.
        mean = float(np.mean(self.losses[-_STEPS_BETWEEN_COPIES:]))
        if self._best is not None and mean >= self._best[1]:
            return
        # On the CPU: a GPU may have no memory to spare.
        copy = unless_out_of_memory(lambda: inference_copy(self.network, _CPU))
        if copy is None:
            self.note("There is no memory for a copy of the best weights, in case of divergence.")
        else:
            self._best = self.done, mean, copy

    def _restore_best(self, loss: float) -> None:
        """Return to the best weights so far and end, because the loss is not finite any more."""
        cause = f"Training diverged: the loss at step {self.done + 1} is {loss}."
        advice = f"Choose a learning rate below {self.params.learning_rate:g}."
        if self._best is None:
            raise InputError(f"{cause} {advice}")
        steps, _, best = self._best
        self.network.load_state_dict(best.state_dict())
        del self.losses[steps:]  # they are of weights that are gone
        self.diverged = True
        self.note(f"{cause} The model is that of step {steps}. {advice}")

    @training_modes()
    def snapshot(self) -> Model:
        """Return the model so far: a copy on the CPU, to be resumed if steps are left."""
        return self._model(
            inference_copy(self.network, _CPU), None if self.ended else self._checkpoint()
        )

    @training_modes()
    def result(self) -> Model:
        """Return the model, on the CPU, to be resumed if steps are left; nothing more is trained.

        The network itself is used, so that lack of memory for a copy does not lose it.
        """
        checkpoint = None
        if not self.ended:
            checkpoint = unless_out_of_memory(self._checkpoint)
            if checkpoint is None:
                self.note("There was no memory for what is needed to resume the training.")
        self.network.zero_grad(set_to_none=True)  # gradients take as much memory as weights
        return self._model(move_to(self.network, _CPU), checkpoint)

    def _checkpoint(self) -> Checkpoint:
        """Copy the state of the training."""
        moments = self.optimizer.moments.items()
        copies = {name: values.to("cpu", copy=True) for name, values in moments}
        return Checkpoint(self.batch_size, copies)

    def _model(self, network: Autoencoder, checkpoint: Checkpoint | None) -> Model:
        record = TrainingRecord(
            params=self.params.model_dump(),
            images=tuple(
                {"name": i.name, "shape": list(i.axes.shape), "axes": i.axes.letters}
                for i in self.images
            ),
            steps=self.done,
            losses=tuple(self.losses),
            seconds=time.perf_counter() - self._start,
            device=str(self.device),
            notes=tuple(self.notes),
            voxel_size=self.voxel_size,
            precision=precision_used(self.device),
        )
        return Model(network, self.intensity, record, checkpoint)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, then a cosine to zero."""
    warm = max(steps // 10, 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def _optimise(
    network: Autoencoder,
    optimizer: AdamW,
    clean: torch.Tensor,
    noisy: torch.Tensor,
) -> float:
    """Take one optimisation step on a batch and return its loss: NaN if the weights are lost."""
    network.zero_grad(set_to_none=True)
    loss = F.mse_loss(network(noisy), clean)
    loss.backward()
    # One step on a rare bright crop must not undo the steps before it.
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    # A gradient that is not finite spoils the weights, though the loss before the step was finite.
    return float(loss.detach() + 0 * norm)
