"""One training: its network, its optimiser, and what happens in a step."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.architecture import AS_IN_PARAMS
from napari_aeseg.autoencoder.building import architecture_for
from napari_aeseg.autoencoder.crops import CropSampler
from napari_aeseg.autoencoder.device import (
    choose_device,
    dtype_of,
    is_accelerator,
    is_out_of_memory,
    memory_for,
    precision_used,
)
from napari_aeseg.autoencoder.diagnosis import running_mean, warnings_about
from napari_aeseg.autoencoder.model import Model, TrainingRecord
from napari_aeseg.autoencoder.network import Autoencoder, copied, placed
from napari_aeseg.autoencoder.resume import Checkpoint, moved_to, reset
from napari_aeseg.errors import DeviceError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg.autoencoder.device import Precision
    from napari_aeseg.images.intensity import Image, IntensityRange
    from napari_aeseg.params import TrainingParams

# Every so many steps, the weights are kept if they are the best so far, in case training goes
# astray.
_STEPS_BETWEEN_COPIES = 50


class Trainer:
    """The network, the optimiser, and all that changes from step to step.

    Parameters
    ----------
    images, params, device, init, intensity, resume, precision, voxel_size
        As of `training_steps`.

    Raises
    ------
    InputError
        If the images cannot be trained on together, or not from `init`.
    DeviceError
        If the device is not there, does not compute in the precision, or there is no memory for
        the images.
    """

    def __init__(
        self,
        images: Sequence[Image],
        params: TrainingParams,
        device: str,
        init: Model | None,
        intensity: IntensityRange | None,
        resume: bool,
        precision: Precision = "float32",
        voxel_size: Sequence[float] | None = None,
    ) -> None:
        if init is not None and init.any_channels:
            init = init.fitted(len(images[0].pixels))
        if resume and init is not None:
            voxel_size = init.record.voxel_size
        architecture, notes = architecture_for(images, params, init, voxel_size)
        # What is recorded is what was built: with `init`, its architecture.
        self.params = params.but(**{name: getattr(architecture, name) for name in AS_IN_PARAMS})
        self.voxel_size = None if voxel_size is None else tuple(map(float, voxel_size))
        self.images, self.intensity = images, intensity
        self.device = choose_device(device)
        dtype_of(precision, self.device)
        self.precision = precision
        self.noise = torch.Generator().manual_seed(params.seed)
        self.rng = np.random.default_rng(params.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            self.network = Autoencoder(architecture)
        if init is not None:
            self.network.load_state_dict(init.network.state_dict())
        self.notes = notes
        # What the next event is to say.
        self._untold: list[str] = []
        self.sampler = self._placed_sampler()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
        )
        self.batch_size = self.sampler.batch_size
        self.losses: list[float] = []
        self.astray = False
        self._start = time.perf_counter()
        self._kept: tuple[int, float, Autoencoder] | None = None
        if resume and init is not None and init.checkpoint is not None:
            self._go_on(init.record, init.checkpoint)

    def _go_on(self, record: TrainingRecord, checkpoint: Checkpoint) -> None:
        """Take up an unfinished training, whose weights are there already."""
        checkpoint.restore(self.network, self.optimizer, self.rng, self.noise, record.steps)
        self.batch_size = checkpoint.batch_size
        self.losses = list(record.losses)
        self.notes = [*record.notes, f"Resumed after {record.steps} steps.", *self._untold]
        self._start -= record.seconds
        self._keep()

    @property
    def done(self) -> int:
        """Steps taken."""
        return len(self.losses)

    @property
    def ended(self) -> bool:
        """Whether there is no further step to take."""
        return self.astray or self.done >= self.params.steps

    def step(self) -> str:
        """Take one step; return what the user should know of it, mostly nothing."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.params.learning_rate * _schedule(self.done, self.params.steps)
        loss = self._step_in_memory()
        if math.isfinite(loss):
            self.losses.append(loss)
            if self.done % _STEPS_BETWEEN_COPIES == 0:
                self._keep()
        else:
            self._note(self._go_back(loss))
        if self.ended:
            self._note(*self._warnings())
        told, self._untold = self._untold, []
        return " ".join(told)

    def _note(self, *texts: str) -> None:
        """Put something into the record and into the next event."""
        self.notes += texts
        self._untold += texts

    def _placed_sampler(self) -> CropSampler:
        """Bring network and images to the device, or to the CPU if it has no memory for them."""
        what = self.images, self.params, self.network.architecture
        if is_accelerator(self.device):
            try:
                placed(self.network, self.device).train()
                return CropSampler(*what, self.device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._note(f"{self.device} has no memory for the images: training on the CPU.")
            self.device = torch.device("cpu")
        with memory_for("the images", "Train on fewer or smaller ones."):
            placed(self.network, self.device).train()
            return CropSampler(*what, self.device)

    def _step_in_memory(self) -> float:
        """Take one step with a batch that fits into memory, or on the CPU; return the loss."""
        crops, noise = self.rng.bit_generator.state, self.noise.get_state()
        while True:
            try:
                clean = self.sampler.draw(self.batch_size, self.rng)
                noisy = clean + self.params.noise * self._noise(clean.shape)
                return _step(self.network, self.optimizer, clean, noisy, self.precision)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch_size == 1 and not is_accelerator(self.device):
                    crop = " x ".join(map(str, self.sampler.shape))
                    raise DeviceError(
                        f"{self.device} ran out of memory with a single crop of {crop} pixels. "
                        "Choose smaller crops or a smaller width, or close other programs."
                    ) from error
            # As if the step had not been tried, but for what it changed of the weights if memory
            # ran out in the very middle of that.
            self.rng.bit_generator.state = crops
            self.noise.set_state(noise)
            self.optimizer.zero_grad(set_to_none=True)
            reset(self.optimizer, self.done)
            ran_out = self.device
            if self.batch_size > 1:
                self.batch_size //= 2
                how = f"batches of {self.batch_size}"
            else:
                self._go_to_cpu()
                how = f"the CPU, with batches of {self.batch_size}"
            self._note(f"{ran_out} ran out of memory: going on with {how}.")

    def _go_to_cpu(self) -> None:
        """Go on there, with batches of the size that was asked for."""
        self.device = torch.device("cpu")
        placed(self.network, self.device)
        moved_to(self.optimizer, self.device)
        self.sampler.stacks = [stack.to(self.device) for stack in self.sampler.stacks]
        self.batch_size = self.sampler.batch_size

    def _noise(self, shape: torch.Size) -> torch.Tensor:
        """Draw the noise of a step, on the device."""
        if not is_accelerator(self.device):
            return torch.randn(shape, generator=self.noise)
        # Seed and step tell what it is: when a training goes on, there is no state to be restored,
        # which every kind of device would have of its own.
        generator = torch.Generator(self.device).manual_seed((self.params.seed << 32) + self.done)
        return torch.randn(shape, generator=generator, device=self.device)

    def _keep(self) -> None:
        """Keep a copy of the weights if they are the best so far, and if there is memory for it."""
        mean = running_mean(self.losses, _STEPS_BETWEEN_COPIES)
        if self._kept is not None and mean >= self._kept[1]:
            return
        try:
            # On the CPU: a GPU may have no memory to spare.
            self._kept = self.done, mean, copied(self.network, torch.device("cpu"))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._note("There is no memory to keep the best weights in case training goes astray.")

    def _go_back(self, loss: float) -> str:
        """Return to the best weights so far, because the loss is not a number any more."""
        text = f"Training went astray: the loss of step {self.done + 1} is {loss}."
        advice = f"Choose a learning rate below {self.params.learning_rate:g}."
        if self._kept is None:
            raise InputError(f"{text} {advice}")
        steps, _, kept = self._kept
        self.network.load_state_dict(kept.state_dict())
        del self.losses[steps:]
        self.astray = True
        return f"{text} The model is that of step {steps}. {advice}"

    def _warnings(self) -> list[str]:
        """Return what looks wrong with the losses of a training that has ended."""
        if self.astray:
            return []
        try:
            variance = self.sampler.variance()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return ["There was no memory to check what was learnt."]
        return warnings_about(self.losses, variance, self.params.learning_rate)

    def snapshot(self) -> Model:
        """Return the model so far: a copy on the CPU, to be resumed if steps are left."""
        checkpoint = None if self.ended else self._checkpoint()
        return self._model(copied(self.network, torch.device("cpu")), checkpoint)

    def result(self) -> Model:
        """Return the model, on the CPU, to be resumed if steps are left; nothing more is trained.

        Nothing is copied that need not be: what was learnt is not lost for want of memory.
        """
        checkpoint = None
        try:
            checkpoint = None if self.ended else self._checkpoint()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._note("There was no memory for what is needed to resume the training.")
        self.optimizer.zero_grad(set_to_none=True)
        return self._model(placed(self.network, torch.device("cpu")), checkpoint)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint.of(self.network, self.optimizer, self.rng, self.noise, self.batch_size)

    def _model(self, network: Autoencoder, checkpoint: Checkpoint | None) -> Model:
        images = tuple(
            {"name": i.name, "shape": list(i.axes.shape), "axes": i.axes.letters}
            for i in self.images
        )
        record = TrainingRecord(
            params=self.params.model_dump(),
            images=images,
            steps=self.done,
            losses=tuple(self.losses),
            seconds=time.perf_counter() - self._start,
            device=str(self.device),
            notes=tuple(self.notes),
            voxel_size=self.voxel_size,
            precision=precision_used(self.precision, self.device),
        )
        return Model(network, self.intensity, record, checkpoint)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, then a cosine to zero."""
    warm = max(steps // 10, 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def _step(
    network: Autoencoder,
    optimizer: torch.optim.Optimizer,
    clean: torch.Tensor,
    noisy: torch.Tensor,
    precision: Precision = "float32",
) -> float:
    """Take one optimisation step on a batch and return its loss: NaN if the weights are lost."""
    optimizer.zero_grad(set_to_none=True)
    # Weights, and what AdamW makes of them, are float32 in any case.
    rounded = precision == "bfloat16"
    with torch.autocast(clean.device.type, torch.bfloat16) if rounded else nullcontext():
        made = network(noisy)
    loss = F.mse_loss(made.float(), clean)
    loss.backward()
    # One step on a rare bright crop must not undo the steps before it.
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    # A gradient that is no number spoils the weights, though the loss before the step was one.
    return float(loss.detach() + 0 * norm)
