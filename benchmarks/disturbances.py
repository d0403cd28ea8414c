"""Images made harder, to see how much of a method's score is left: ``quality.py --disturbance``.

Each takes an image, its truth and a random generator, and returns another image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage import color

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def uneven_light(image: NDArray, truth: NDArray, _rng: np.random.Generator) -> NDArray:
    """Light that falls off along the diagonal, exponentially, to a fifth."""
    along_axes = np.meshgrid(*(np.linspace(0, 1, n) for n in truth.shape), indexing="ij")
    light = (5.0 ** -(sum(along_axes) / truth.ndim)).astype(np.float32)
    return image * light.reshape(*truth.shape, *[1] * (image.ndim - truth.ndim))


def pure_colours(_image: NDArray, truth: NDArray, rng: np.random.Generator) -> NDArray:
    """Every region in one colour: equal lightness, different hue, no texture."""
    ids, region = np.unique(truth, return_inverse=True)
    hue = 2 * np.pi * rng.permutation(len(ids)) / len(ids)
    lab = np.stack([np.full(len(ids), 65.0), 40 * np.cos(hue), 40 * np.sin(hue)], axis=1)
    return np.round(255 * color.lab2rgb(lab)[region.reshape(truth.shape)]).astype(np.uint8)


def noisy_background(image: NDArray, truth: NDArray, rng: np.random.Generator) -> NDArray:
    """Noise behind the objects, with the deviation of their contrast to it."""
    behind = truth == 0
    pixels = image.astype(np.float32)
    contrast = abs(pixels[~behind].mean() - pixels[behind].mean())
    noise = rng.normal(0, contrast, image.shape).astype(np.float32)
    noise[~behind] = 0
    return pixels + noise


DISTURBANCES: dict[str, Callable[[NDArray, NDArray, np.random.Generator], NDArray]] = {
    "uneven-light": uneven_light,
    "pure-colours": pure_colours,
    "noisy-background": noisy_background,
}
