"""Training the autoencoder on random crops of the images."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.device import choose_device, is_out_of_memory
from napari_aeseg.autoencoder.model import Model, TrainingRecord
from napari_aeseg.autoencoder.network import Architecture, Autoencoder, placed
from napari_aeseg.errors import DeviceError, InputError
from napari_aeseg.events import Clock, TrainingProgress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_aeseg.events import StopFlag
    from napari_aeseg.images.intensity import Image, IntensityRange
    from napari_aeseg.params import TrainingParams

_SECONDS_BETWEEN_EVENTS = 0.1


def training_steps(
    images: Sequence[Image],
    params: TrainingParams,
    device: str = "auto",
    init: Model | None = None,
    stop: StopFlag | None = None,
    intensity: IntensityRange | None = None,
) -> Generator[TrainingProgress, None, Model]:
    """Train an autoencoder; a generator of events that returns the model.

    Each step draws random crops from random images (an image is drawn as often as its area says),
    flips and turns them, adds noise, and takes one AdamW step on the mean squared difference
    between the reconstruction and the clean crop. The learning rate warms up over the first tenth
    and then follows a cosine to zero.

    Parameters
    ----------
    images : sequence of Image
        With equal numbers of channels.
    params : TrainingParams
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    init : Model, optional
        Weights to start from; its architecture is kept.
    stop : StopFlag, optional
        Checked at every step; the model so far is returned.
    intensity : IntensityRange, optional
        Stored in the model: the range by which every later image is to be scaled.

    Yields
    ------
    TrainingProgress
        At most ten a second, and one for the last step.

    Returns
    -------
    Model
        On the CPU.

    Raises
    ------
    InputError
        If all images are constant, their channels differ, or they differ from those of `init`;
        or if the learning rate is so high that the loss is no longer a number.
    StoppedError
        If asked to stop before the first step.
    DeviceError
        If the device runs out of memory even with single crops.

    References
    ----------
    .. [1] P. Vincent et al., Extracting and composing robust features with denoising autoencoders,
           ICML 2008.
    .. [2] I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    architecture = _architecture(images, params, init)
    # What is recorded is what was built: with `init`, its architecture.
    built = architecture.as_dict()
    del built["channels"]
    params = params.but(**built)
    chosen = choose_device(device)
    torch_generator = torch.Generator().manual_seed(params.seed)
    rng = np.random.default_rng(params.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        network = Autoencoder(architecture)
    if init is not None:
        network.load_state_dict(init.network.state_dict())
    placed(network, chosen).train()

    sampler = CropSampler(images, params, architecture.reduction, chosen)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
    )
    losses: list[float] = []
    notes: list[str] = []
    batch_size = params.batch_size
    start = last_event = time.perf_counter()
    clock = Clock(params.steps)
    reported = 0

    for step in range(params.steps):
        if step == 0:
            raise_if_stopped(stop, "train")
        if stop is not None and stop.is_set():
            notes.append(f"Stopped after {step} of {params.steps} steps.")
            break
        for group in optimizer.param_groups:
            group["lr"] = params.learning_rate * _schedule(step, params.steps)
        message = ""
        while True:
            clean = sampler.draw(batch_size, rng)
            noise = torch.randn(clean.shape, generator=torch_generator).to(chosen)
            try:
                loss = _step(network, optimizer, clean, clean + params.noise * noise)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if batch_size == 1:
                    raise DeviceError(
                        f"{chosen} ran out of memory with a single crop of {sampler.size} pixels. "
                        "Choose smaller crops, a smaller width, or the device 'cpu'."
                    ) from error
            optimizer.zero_grad(set_to_none=True)
            batch_size //= 2
            message = f"{chosen} ran out of memory: going on with batches of {batch_size}."
            notes.append(message)
        if not math.isfinite(loss):
            raise InputError(
                f"Training went astray: the loss of step {step + 1} is {loss}. Choose a learning "
                f"rate below {params.learning_rate}."
            )
        losses.append(loss)
        now = time.perf_counter()
        if now - last_event > _SECONDS_BETWEEN_EVENTS or step + 1 == params.steps or message:
            last_event = now
            yield TrainingProgress(
                "train",
                step + 1,
                params.steps,
                str(chosen),
                clock.seconds_left(step + 1),
                message,
                loss=loss,
                losses=tuple(losses[reported:]),
            )
            reported = len(losses)

    record = TrainingRecord(
        params=params.model_dump(),
        images=tuple(
            {"name": i.name, "shape": list(i.axes.shape), "axes": i.axes.letters} for i in images
        ),
        steps=len(losses),
        losses=tuple(losses),
        seconds=time.perf_counter() - start,
        device=str(chosen),
        notes=tuple(notes),
    )
    return Model(network.to("cpu"), intensity, record)


def _architecture(
    images: Sequence[Image], params: TrainingParams, init: Model | None
) -> Architecture:
    """Check that the images can be trained on together and return the network to build."""
    channels = {len(i.pixels) for i in images}
    if len(channels) > 1:
        listing = ", ".join(f"{i.name}: {len(i.pixels)}" for i in images)
        raise InputError(
            f"The images have different numbers of channels ({listing}): name the axes if they "
            "were misread, or train on them one by one."
        )
    if all(i.is_constant for i in images):
        names = ", ".join(i.name for i in images)
        raise InputError(
            f"Nothing to learn from: every channel of {names} has one value only. "
            "Choose other images."
        )
    if init is None:
        return Architecture(
            channels.pop(), params.levels, params.width, params.convolutions, params.decoder
        )
    if channels != {init.architecture.channels}:
        raise InputError(
            f"The images have {channels.pop()} channel(s), the model to start from has "
            f"{init.architecture.channels}; start without it."
        )
    return init.architecture


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, then a cosine to zero."""
    warm = max(steps // 10, 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def _step(
    network: Autoencoder, optimizer: torch.optim.Optimizer, clean: torch.Tensor, noisy: torch.Tensor
) -> float:
    """Take one optimisation step on a batch and return its loss."""
    optimizer.zero_grad(set_to_none=True)
    loss = F.mse_loss(network(noisy), clean)
    loss.backward()
    # One step on a rare bright crop must not undo the steps before it.
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


class CropSampler:
    """Draws random crops out of all planes of all images, augmented, on the device.

    Parameters
    ----------
    images : sequence of Image
    params : TrainingParams
        `crop_size` and `augment` are used. Images smaller than a crop are mirrored to its size.
    reduction : int
        Crop sides are multiples of this.
    device : torch.device
    """

    def __init__(
        self, images: Sequence[Image], params: TrainingParams, reduction: int, device: torch.device
    ) -> None:
        self.size = -(-params.crop_size // reduction) * reduction
        self.augment = params.augment
        self.stacks = [self._stack(image).to(device) for image in images]
        areas = np.array([s.shape[0] * s.shape[-2] * s.shape[-1] for s in self.stacks], float)
        # Constant images have nothing to teach; they would only dilute the batches.
        areas[[i.is_constant for i in images]] = 0
        self.chances = areas / areas.sum()

    def _stack(self, image: Image) -> torch.Tensor:
        """Return the planes of an image as (N, C, H, W), none smaller than a crop."""
        pixels = image.pixels
        pixels = np.moveaxis(pixels.reshape(len(pixels), -1, *pixels.shape[-2:]), 0, 1)
        missing = [max(0, self.size - n) for n in pixels.shape[-2:]]
        pixels = np.pad(pixels, [(0, 0), (0, 0), *((0, m) for m in missing)], mode="reflect")
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def draw(self, number: int, rng: np.random.Generator) -> torch.Tensor:
        """Return `number` crops, shape (number, C, size, size), channels last in memory."""
        crops = []
        for which in rng.choice(len(self.stacks), size=number, p=self.chances):
            stack = self.stacks[which]
            plane = rng.integers(stack.shape[0])
            y, x = (rng.integers(n - self.size + 1) for n in stack.shape[-2:])
            crop = stack[plane, :, y : y + self.size, x : x + self.size]
            if self.augment:
                crop = torch.rot90(crop, int(rng.integers(4)), (1, 2))
                crop = crop.flip(2) if rng.integers(2) else crop
            crops.append(crop)
        return torch.stack(crops).contiguous(memory_format=torch.channels_last)
