"""Random crops of the images, as the autoencoder is trained on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_aeseg.images.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg.images.intensity import Image
    from napari_aeseg.params import TrainingParams

# Pixels of each image that are enough to know its variance.
_ENOUGH_PIXELS = 1_000_000


class CropSampler:
    """Draws random crops out of all planes of all images, augmented, on the device.

    Parameters
    ----------
    images : sequence of Image
        A `Pool` counts as the whole image that its windows are from.
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
        areas = np.array(list(map(_area, images, self.stacks)), float)
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

    def variance(self) -> float:
        """Return the mean squared error of predicting the mean of each channel."""
        mean = square = torch.zeros(())
        for chance, stack in zip(self.chances.tolist(), self.stacks, strict=True):
            pixels = stack.movedim(1, 0).reshape(stack.shape[1], -1)
            # In double on the CPU: MPS has none.
            pixels = pixels[:, :: max(1, pixels.shape[1] // _ENOUGH_PIXELS)].cpu().double()
            mean = mean + chance * pixels.mean(dim=1)
            square = square + chance * pixels.square().mean(dim=1)
        return float((square - mean.square()).clamp(min=0).mean())


def _area(image: Image, stack: torch.Tensor) -> int:
    """How much an image counts: its pixels."""
    if isinstance(image, Pool):
        return math.prod(image.space_shape)
    return stack.shape[0] * stack.shape[-2] * stack.shape[-1]
