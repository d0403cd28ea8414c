"""Sample images: they come with scikit-image, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage import data

_SIDE = 384
_CELLS = 7


def tissue() -> np.ndarray:
    """Return stained colon tissue: uint8, shape (512, 512, 3), axes YXC."""
    return np.asarray(data.immunohistochemistry())


def retina() -> np.ndarray:
    """Return a photograph of a retina: uint8, shape (1411, 1411, 3), axes YXC."""
    return np.asarray(data.retina())


def coins() -> np.ndarray:
    """Return coins on an uneven background: uint8, shape (303, 384), axes YX."""
    return np.asarray(data.coins())


def textures(seed: int = 0) -> np.ndarray:
    """Return a mosaic of brick, grass and gravel that only texture can separate.

    uint8, shape (384, 384). Each texture is scaled to the same mean grey and the same contrast.
    """
    rng = np.random.default_rng(seed + 1)
    crops = []
    for texture in (data.brick(), data.grass(), data.gravel()):
        y, x = (rng.integers(n - _SIDE + 1) for n in texture.shape)
        crop = texture[y : y + _SIDE, x : x + _SIDE].astype(float)
        crops.append(128 + 40 * (crop - crop.mean()) / crop.std())
    mosaic = np.choose(textures_truth(seed) - 1, crops)
    return np.clip(np.rint(mosaic), 0, 255).astype(np.uint8)


def textures_truth(seed: int = 0) -> np.ndarray:
    """Return the texture of each pixel of `textures`: 1 brick, 2 grass, 3 gravel.

    int32, shape (384, 384). Touching parts have different textures.
    """
    rng = np.random.default_rng(seed)
    # Voronoi cells of points on a ring and one in the middle: parts of similar size.
    angle = 2 * np.pi * (np.arange(_CELLS - 1) + rng.uniform(0, 1)) / (_CELLS - 1)
    ring = 0.5 + 0.33 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    points = np.concatenate([[[0.5, 0.5]], ring]) + rng.uniform(-0.04, 0.04, (_CELLS, 2))
    grid = np.moveaxis(np.mgrid[:_SIDE, :_SIDE], 0, -1) / _SIDE
    nearest = np.argmin(((grid[:, :, np.newaxis] - points) ** 2).sum(axis=-1), axis=-1)
    # The middle has one texture, the ring alternates between the other two.
    order = rng.permutation(3) + 1
    texture = order[np.array([0, *([1, 2] * _CELLS)])[:_CELLS]]
    return texture[nearest].astype(np.int32)


SAMPLES: dict[str, Callable[[], np.ndarray]] = {
    "tissue": tissue,
    "retina": retina,
    "coins": coins,
    "textures": textures,
}
