"""Random crops of the images, on which the autoencoder is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_aeseg.autoencoder.network import channels_last
from napari_aeseg.images.training_windows import WindowSample

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.images.intensity import Image
    from napari_aeseg.params import TrainingParams

# Pixels of each image from which its variance is estimated.
_VARIANCE_PIXELS = 1_000_000


class CropSampler:
    """Draws random crops from all planes or volumes of all images, augmented.

    Images smaller than a crop are mirrored to its size; a `WindowSample` counts as the whole image
    that its windows are from. `shape` has the sides of a crop, `batch_size` the crops for a step:
    of volumes, as many as have the voxels of ``params.batch_size`` planes.
    """

    def __init__(
        self, images: Sequence[Image], params: TrainingParams, architecture: Architecture
    ) -> None:
        slices = max(i.pixels.shape[-3] for i in images)
        self.shape = crop_shape(params.crop_size, architecture, slices)
        self.batch_size = params.batch_size
        if architecture.dimensions == 3:
            pixels = params.batch_size * params.crop_size**2
            self.batch_size = max(pixels // math.prod(self.shape), 1)
        self.augment = params.augment
        # With isotropic voxels, cubic crops may be turned in every direction.
        self._isotropic = not architecture.z_levels and len(set(self.shape)) == 1
        self.stacks = [self._stack(image) for image in images]
        sizes = np.array(list(map(_size, images, self.stacks)), float)
        # Constant images have nothing to teach; they would only dilute the batches.
        sizes[[i.is_constant for i in images]] = 0
        self.probabilities = sizes / sizes.sum()  # each pixel is as likely as any other

    def _stack(self, image: Image) -> torch.Tensor:
        """Return the planes or volumes of an image as (N, C, *space), none smaller than a crop."""
        pixels = image.pixels
        space = pixels.shape[-len(self.shape) :]
        pixels = np.moveaxis(pixels.reshape(len(pixels), -1, *space), 0, 1)
        missing = [max(0, m - n) for m, n in zip(self.shape, space, strict=True)]
        pixels = np.pad(pixels, [(0, 0), (0, 0), *((0, m) for m in missing)], mode="reflect")
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def move_to(self, device: torch.device) -> None:
        """Bring the images to a device, on which crops are then drawn."""
        # One by one: what has been moved is free again.
        for i, stack in enumerate(self.stacks):
            self.stacks[i] = stack.to(device)

    def draw(self, number: int, rng: np.random.Generator) -> torch.Tensor:
        """Return `number` crops, shape (number, C, *shape), channels last in memory."""
        crops = []
        for i in rng.choice(len(self.stacks), size=number, p=self.probabilities):
            stack = self.stacks[i]
            crop = stack[rng.integers(stack.shape[0])]
            sides = zip(crop.shape[1:], self.shape, strict=True)
            starts = [int(rng.integers(n - m + 1)) for n, m in sides]
            window = (slice(a, a + m) for a, m in zip(starts, self.shape, strict=True))
            crop = crop[(slice(None), *window)]
            crops.append(self._augmented(crop, rng) if self.augment else crop)
        return channels_last(torch.stack(crops))

    def _augmented(self, crop: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Flip and turn a crop; out of its slices only if it is an isotropic cube."""
        crop = torch.rot90(crop, int(rng.integers(4)), (-2, -1))
        crop = crop.flip(-1) if rng.integers(2) else crop
        if len(self.shape) == 3:
            crop = crop.flip(1) if rng.integers(2) else crop
            if self._isotropic:
                # With the flips and turns before: any of the 48 ways to lay a cube.
                crop = crop.permute(0, *np.roll([1, 2, 3], rng.integers(3)).tolist())
        return crop

    def variance(self) -> float:
        """Return the mean squared error of predicting the mean of each channel."""
        mean = square = torch.zeros((), dtype=torch.float64, device="cpu")
        for probability, stack in zip(self.probabilities.tolist(), self.stacks, strict=True):
            pixels = stack.movedim(1, 0).reshape(stack.shape[1], -1)
            # In double on the CPU: MPS has none.
            pixels = pixels[:, :: max(1, pixels.shape[1] // _VARIANCE_PIXELS)].cpu().double()
            mean = mean + probability * pixels.mean(dim=1)
            square = square + probability * pixels.square().mean(dim=1)
        return float((square - mean.square()).clamp(min=0).mean())  # below 0 by rounding


def _size(image: Image, stack: torch.Tensor) -> int:
    """Return the number of pixels or voxels of an image."""
    if isinstance(image, WindowSample):
        return math.prod(image.space_shape)
    return stack.numel() // stack.shape[1]


def crop_shape(crop_size: int, architecture: Architecture, slices: int) -> tuple[int, ...]:
    """Return the sides of crops, multiples of the total stride.

    `crop_size` pixels along Y and X, and the same physical length along Z, but at most `slices`:
    those of the deepest image.

    Examples
    --------
    >>> from napari_aeseg.autoencoder.architecture import Architecture
    >>> volumes = Architecture(channels=1, dimensions=3, z_levels=1)
    >>> crop_shape(64, volumes, 100), crop_shape(64, volumes, 9)
    ((32, 64, 64), (12, 64, 64))
    """
    depth = min(crop_size // 2**architecture.z_levels, slices)
    sides = (depth, crop_size, crop_size)[-architecture.dimensions :]
    return tuple(-(-n // m) * m for n, m in zip(sides, architecture.total_stride, strict=True))
