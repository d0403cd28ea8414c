"""Scalar maps of an image that objects are searched in."""

from __future__ import annotations

import numpy as np

# Weights of red, green and blue (Rec. 709).
_LUMINANCE = (0.2125, 0.7154, 0.0721)
# Light that comes through, relative to white, is at least this: noise has no logarithm.
_LEAST_LIGHT = 0.02
# Pixels from which the stains are estimated.
_SAMPLE = 100_000
# Pixels that are computed together: wide numbers in the processor's cache only.
_TOGETHER = 65_536
# Sine of the angle between the densities of two stains, at least.
_LEAST_ANGLE = 0.05


def brightness_of(pixels: np.ndarray) -> np.ndarray:
    """Return the brightness of each pixel of (C, *space), float16: three channels are RGB."""
    weight = _LUMINANCE if len(pixels) == 3 else [1 / len(pixels)] * len(pixels)
    flat = pixels.reshape(len(pixels), -1)
    brightness = np.empty(flat.shape[1], np.float16)
    for part in _parts(flat.shape[1]):
        brightness[part] = np.asarray(weight, np.float32) @ flat[:, part]
    return brightness.reshape(pixels.shape[1:])


def stain_of(pixels: np.ndarray) -> np.ndarray | None:
    """Return how little blue stain each pixel of RGB (3, *space) has, float16; None of others.

    Two stains span a plane of optical densities; the directions farthest apart in it are those of
    the stains [1]_. That which lets most blue through, such as haematoxylin, is measured, with the
    sign changed: stained nuclei are dark, as they are in the brightness.

    References
    ----------
    .. [1] M. Macenko et al., A method for normalizing histology slides for quantitative analysis,
       IEEE International Symposium on Biomedical Imaging 2009.
    """
    if len(pixels) != 3:
        return None
    flat = pixels.reshape(3, -1)
    sample = flat[:, :: max(1, flat.shape[1] // _SAMPLE)].astype(np.float64)
    black, white = sample.min(axis=1), np.percentile(sample, 99, axis=1)
    span = np.maximum(white - black, 1e-6)

    def density(values: np.ndarray, channel: int) -> np.ndarray:
        light = (values - np.float32(black[channel])) / np.float32(span[channel])
        return -np.log(np.clip(light, _LEAST_LIGHT, 1.2))

    densities = np.stack([density(sample[c], c) for c in range(3)])
    axes = np.linalg.eigh(np.cov(densities))[1][:, :0:-1]  # of the plane
    axes = axes * np.sign([axes[:, 0].sum(), axes[0, 1] - axes[2, 1]])  # the second one bluer
    together = densities.sum(axis=0)
    is_stained = together > np.percentile(together, 30)
    in_plane = (axes.T @ densities)[:, is_stained if is_stained.any() else slice(None)]
    red, blue = np.percentile(np.arctan2(in_plane[1], in_plane[0]), [1, 99])
    # Densities that the other stain alone has are 0, and a pixel of this one alone has its own.
    direction = np.array([-np.sin(red), np.cos(red)]) / max(np.sin(blue - red), _LEAST_ANGLE)
    weight = axes @ direction
    stain = np.empty(flat.shape[1], np.float16)
    for part in _parts(flat.shape[1]):
        total = np.zeros(len(flat[0, part]), np.float32)
        for channel in range(3):
            total -= np.float32(weight[channel]) * density(flat[channel, part], channel)
        stain[part] = total
    return stain.reshape(pixels.shape[1:])


def _parts(number: int) -> list[slice]:
    return [slice(i, i + _TOGETHER) for i in range(0, number, _TOGETHER)]


def channels_of(pixels: np.ndarray) -> np.ndarray | None:
    """Return all channels of (C, *space), float16; None of an image that has one."""
    return pixels.astype(np.float16) if len(pixels) > 1 else None
