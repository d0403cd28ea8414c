"""Volumes of blobs on a background, with their labels: what the score of volumes is fitted to."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_MOST = 150


def drawn_volume(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Draw intensities and labels (Z, Y, X), and return them with the sides of a voxel.

    Size, density, shape, brightness, texture, blur, background, shading, noise, and the distance of
    slices are all chosen anew for each seed. Labels reach a quarter of the blur beyond a blob:
    people draw outlines where something begins.
    """
    rng = np.random.default_rng(seed)
    spacing = (float(rng.choice([1, 1, 2, 3])), 1.0, 1.0)
    width = int(rng.integers(64, 97))
    shape = (int(max(20, width / spacing[0] * rng.uniform(0.6, 1))), width, width)
    radius, blur = np.exp(rng.uniform(np.log(3.5), np.log(12))), rng.uniform(0.5, 2)
    distance, blob = _blobs(shape, spacing, radius, rng)
    brightness = np.exp(rng.uniform(0.1, 0.7) * rng.normal(size=_MOST + 1))
    volume = np.where(distance < 1, brightness[blob], 0)
    volume *= 1 + rng.uniform(0, 0.2) * _smooth_noise(shape, spacing, radius / 4, rng)
    if rng.random() < 0.4:
        volume[rng.random(shape) < 0.0005] += rng.uniform(2, 20)
    widths = [blur * rng.uniform(1, 2) / spacing[0], blur, blur]
    volume = ndimage.gaussian_filter(volume, widths) + 1
    volume += rng.uniform(0, 0.4) * _smooth_noise(shape, spacing, width / 5, rng)
    if rng.random() < 0.4:
        volume *= np.exp(-rng.uniform(0, 1.2) * np.linspace(0, 1, shape[0]))[:, None, None]
    noise = np.exp(rng.uniform(np.log(0.03), np.log(0.8))) * rng.normal(size=shape)
    volume += noise * (np.sqrt(np.maximum(volume, 0.1)) if rng.random() < 0.5 else 1)
    labels = np.where(distance < 1 + blur / 4 / radius, blob, 0)
    return volume.astype(np.float32), labels, spacing


def _smooth_noise(shape: tuple, spacing: tuple, width: float, rng: np.random.Generator):
    """Noise that is smooth over a width, of standard deviation 1, within two of these."""
    widths = [max(width / side, 0.5) for side in spacing]
    noise = ndimage.gaussian_filter(rng.normal(size=shape), widths)
    return (noise / noise.std()).clip(-2, 2)


def _blobs(shape: tuple, spacing: tuple, radius: float, rng: np.random.Generator):
    """Distance from the centre of the nearest blob, in its radii, and which blob it is, 1 .. n."""
    spread, dense = rng.uniform(0.05, 0.35), rng.uniform(0.05, 0.55)
    apart, bumps, elongation = rng.uniform(0.8, 1.15), rng.uniform(0, 0.12), rng.uniform(0, 0.3)
    sides = np.array(spacing)
    extent = np.array(shape) * sides
    nearest, blob = np.full(shape, 2.0), np.zeros(shape, int)
    drawn: list[tuple[np.ndarray, float]] = []
    for _ in range(4 * _MOST):
        size = sum(4 / 3 * np.pi * r**3 for _, r in drawn)
        if size > dense * extent.prod() or len(drawn) == _MOST:
            break
        r, centre = radius * np.exp(spread * rng.normal()), rng.uniform(0, 1, 3) * extent
        if any(np.linalg.norm(centre - c) < apart * (r + other) for c, other in drawn):
            continue
        drawn.append((centre, r))
        first = np.maximum((centre - 2.2 * r) // sides, 0).astype(int)
        last = ((centre + 2.2 * r) // sides).astype(int) + 2
        window = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        at = np.stack(np.mgrid[window], axis=-1)[tuple(slice(n) for n in nearest[window].shape)]
        axes = np.exp(elongation * rng.normal(size=3))
        turned = np.linalg.qr(rng.normal(size=(3, 3)))[0] * np.cbrt(axes.prod()) / axes / r
        distance = np.linalg.norm((at * sides - centre) @ turned, axis=-1)
        distance *= 1 + bumps * _smooth_noise(distance.shape, spacing, r / 2, rng)
        closer = distance < nearest[window]
        nearest[window][closer], blob[window][closer] = distance[closer], len(drawn)
    return nearest, blob
