"""One training: its network, its optimiser, and what happens in a step."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.architecture import AS_IN_PARAMS, Architecture, z_levels_for
from napari_aeseg.autoencoder.crops import CropSampler
from napari_aeseg.autoencoder.device import (
    choose_device,
    dtype_of,
    is_accelerator,
    is_out_of_memory,
    oom_as_device_error,
    precision_used,
)
from napari_aeseg.autoencoder.model import Model, TrainingRecord
from napari_aeseg.autoencoder.network import Autoencoder, copied, placed
from napari_aeseg.autoencoder.resume import Checkpoint, moved_to, reset
from napari_aeseg.errors import DeviceError, InputError
from napari_aeseg.images.axes import z_ratio
from napari_aeseg.images.windows import WindowSample
from napari_aeseg.params import TrainingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg.autoencoder.device import Precision
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.images.intensity import Image, IntensityRange


# Fewer steps than this tell nothing.
_ENOUGH_STEPS = 50
# Final loss in units of the variance above which nothing was learnt. Measured: samples and other
# photographs 0.05 - 0.6, noise of all kinds and all but constant images 0.96 - 1.3.
_FLAT = 0.8
# Variance below which an image, scaled to its percentiles, is all but constant.
_CONSTANT = 0.005
# Third to last quarter of the losses: above the first, more steps can make a flat loss fall; above
# the second, they are sure to help. Measured: 0.8 - 1.05 for trainings that were long enough.
_FALLING, _STEEP = 1.1, 2.0


def running_mean(losses: Sequence[float], number: int) -> float:
    """Return the mean of the last losses."""
    return float(np.mean(losses[-number:]))


def warnings_about(losses: Sequence[float], variance: float, learning_rate: float) -> list[str]:
    """Return what looks wrong with a training, its likely cause, and what to do.

    Parameters
    ----------
    losses : sequence of float
        Of every step of a training that came to its end.
    variance : float
        The loss of predicting nothing but the mean.
    learning_rate : float

    Returns
    -------
    list of str
        Sentences for the user; mostly none.

    Examples
    --------
    >>> warnings_about(np.linspace(0.2, 0.01, 100), 0.1, 0.004)[0][:34]
    'The loss was still falling steeply'
    >>> warnings_about([0.01] * 100, 0.1, 0.004)
    []
    """
    if len(losses) < _ENOUGH_STEPS:
        return []
    values = np.asarray(losses)
    tenths = [float(part.mean()) for part in np.array_split(values, 10)]
    fall = _fall(values)
    if tenths[-1] <= _FLAT * variance:
        if fall < _STEEP:
            return []
        return ["The loss was still falling steeply at the end: more steps would help."]
    nothing = (
        f"The network has learnt next to nothing: its loss, {tenths[-1]:.2g}, is hardly better "
        f"than that of predicting the mean, {variance:.2g}."
    )
    return [f"{nothing} {_cause(tenths, fall, variance, learning_rate)}"]


def _cause(tenths: Sequence[float], fall: float, variance: float, learning_rate: float) -> str:
    """Return why nothing was learnt, most likely, and what to do."""
    rose = min(tenths) < tenths[-1] / 2
    if rose or (fall <= _FALLING and tenths[-1] > 2 * variance):
        how = "rose in the end" if rose else "stayed far above it"
        return f"The loss {how}: choose a learning rate below {learning_rate:g}."
    if variance < _CONSTANT:
        return (
            "The images are all but constant: crop them to where there is something to see, or "
            "choose others."
        )
    if fall > _FALLING:
        return "It was still falling: take more steps, or a higher learning rate."
    usual: float = TrainingParams.model_fields["learning_rate"].default
    other = usual if learning_rate < usual / 4 else learning_rate / 3
    return (
        "Either neighbouring pixels have nothing in common, as in noise: then smooth or bin the "
        f"images; or the learning rate, {learning_rate:g}, does not suit: then try {other:.2g}."
    )


def _fall(values: np.ndarray) -> float:
    """Third quarter of the losses over the last; by mean or median, whichever says less."""
    third, last = np.array_split(values, 4)[2:]
    # Rare bright crops move the mean, and nothing else.
    pairs = [(float(of(third)), float(of(last))) for of in (np.mean, np.median)]
    return min(a / b if b > 0 else np.inf for a, b in pairs)


# Fewer slices are seen by no deeper level as more than their border.
_ENOUGH_SLICES = 16
# With longer voxels, neighbouring slices have less in common than 3D costs.
_LONGEST_VOXELS = 2.5


def architecture_for(
    images: Sequence[Image],
    params: TrainingParams,
    init: Model | None = None,
    voxel_size: Sequence[float] | None = None,
) -> tuple[Architecture, list[str]]:
    """Check that the images can be trained on together and return the network to build.

    Parameters
    ----------
    images : sequence of Image
    params : TrainingParams
    init : Model, optional
        To start from: its architecture is kept.
    voxel_size : sequence of float, optional
        See `z_ratio`; the same for all images.

    Returns
    -------
    Architecture
    list of str
        What the user should know about the choice.

    Raises
    ------
    InputError
        If the images differ in channels or all are constant, do not fit `init`, `voxel_size` or
        the dimensions asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_aeseg.images.intensity import read_image
    >>> from napari_aeseg.params import TrainingParams
    >>> volume = read_image(np.arange(16 * 8 * 8).reshape(16, 8, 8), "ZYX")
    >>> architecture_for([volume], TrainingParams(), voxel_size=(2, 1, 1))[0].total_stride
    (4, 8, 8)
    """
    channels = _channels(images)
    ratio = max(z_ratio(voxel_size, i.axes, i.name) for i in images)
    if init is not None:
        return _kept(init, channels, images, params), _notes(init.architecture, ratio, voxel_size)
    dimensions = _dimensions(images, params, None if voxel_size is None else ratio)
    architecture = Architecture(
        channels,
        params.levels,
        params.width,
        params.convolutions,
        params.decoder,
        dimensions,
        z_levels_for(ratio, params.levels) if dimensions == 3 else 0,
    )
    return architecture, _notes(architecture, ratio, voxel_size)


def _channels(images: Sequence[Image]) -> int:
    """Return the number of channels that all images have."""
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
    return channels.pop()


def _kept(
    init: Model, channels: int, images: Sequence[Image], params: TrainingParams
) -> Architecture:
    """Return the architecture of the model to start from, if it fits."""
    architecture = init.architecture
    if channels != architecture.channels:
        raise InputError(
            f"The images have {channels} channel(s), the model to start from has "
            f"{architecture.channels}; start without it."
        )
    if params.dimensions not in ("auto", f"{architecture.dimensions}D"):
        raise InputError(
            f"dimensions = {params.dimensions!r}, but the model to start from is "
            f"{architecture.dimensions}D: leave dimensions at 'auto', or start without it."
        )
    if architecture.dimensions == 3:
        _check_volumes(images, "The model to start from is 3D")
    return architecture


def _dimensions(images: Sequence[Image], params: TrainingParams, ratio: float | None) -> int:
    """Return 2 or 3, as was asked for or as suits the images.

    Stacks of slices whose distance nobody named are seen in 2D: that is right for all of them.
    So are images that are learnt from by windows.
    """
    if params.dimensions == "3D":
        _check_volumes(images, "dimensions = '3D'")
    if params.dimensions != "auto":
        return int(params.dimensions[0])
    deep = all(
        _slices(i.axes) >= _ENOUGH_SLICES and not isinstance(i, WindowSample) for i in images
    )
    return 3 if deep and ratio is not None and ratio <= _LONGEST_VOXELS else 2


def _slices(axes: Axes) -> int:
    """Return the number of slices; 0 without Z."""
    return axes.shape[axes.letters.index("Z")] if "Z" in axes.letters else 0


def _check_volumes(images: Sequence[Image], why: str) -> None:
    """Raise InputError unless all images have slices, and are not learnt from by windows."""
    for image in images:
        if isinstance(image, WindowSample):
            raise InputError(
                f"{why}, but {image.name} is learnt from by windows, which are planes: choose "
                "dimensions = '2D'."
            )
        if not _slices(image.axes):
            raise InputError(
                f"{why}, but {image.name} has no slices, read as {image.axes}: name the axes if "
                "they were misread, or train in 2D."
            )


def _notes(
    architecture: Architecture, ratio: float, voxel_size: Sequence[float] | None
) -> list[str]:
    """Return what the user should know of a network of volumes."""
    if architecture.dimensions == 2:
        return []
    if voxel_size is None:
        return ["Voxels were taken for cubes in 3D: give voxel_size if slices are further apart."]
    return list(filter(None, [anisotropy_warning(architecture, ratio), _flat(architecture)]))


def _flat(architecture: Architecture) -> str:
    if architecture.z_levels < architecture.levels:
        return ""
    return (
        "Voxels are so long in Z that no level looks across slices: 2D gives much the same, faster."
    )


def anisotropy_warning(architecture: Architecture, ratio: float) -> str:
    """Return a note when voxels are not as long in Z as those that a network was made for.

    Parameters
    ----------
    architecture : Architecture
    ratio : float
        Length of the voxels along Z, in units of their width, see `z_ratio`.

    Returns
    -------
    str
        Empty when they are, or the network sees planes.

    Examples
    --------
    >>> anisotropy_warning(Architecture(channels=1, dimensions=3, z_levels=2), 1.0)
    'The network was made for voxels about 4 times as long in Z as wide, these are 1 times as long.'
    >>> anisotropy_warning(Architecture(channels=1, dimensions=3, z_levels=2), 5.0)
    ''
    """
    suited = z_levels_for(ratio, architecture.levels)
    if architecture.dimensions == 2 or suited == architecture.z_levels:
        return ""
    return (
        f"The network was made for voxels about {2**architecture.z_levels} times as long in Z as "
        f"wide, these are {ratio:.3g} times as long."
    )


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
        self.params = params.updated(**{name: getattr(architecture, name) for name in AS_IN_PARAMS})
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
        with oom_as_device_error("the images", "Train on fewer or smaller ones."):
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
