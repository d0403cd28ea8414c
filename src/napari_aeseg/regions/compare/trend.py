"""The trend of uneven light: a slow change over the image that is no difference of regions."""

from __future__ import annotations

import numpy as np

from napari_aeseg.regions.compare.whitening import QUIET

# The gradient is looked for again without the edges that it does not explain.
_ROUNDS = 3
# With fewer edges, a gradient and a border look alike.
_FEWEST_EDGES = 60
# With fewer patches along an axis of a volume or sequence, a border looks like a gradient.
_FEWEST_ALONG = 16  # with 8 to 11, two textures in a volume: covering .61 instead of .94
# Least share of a feature's variance that must go with the gradient.
_LEAST_GAIN = 0.1  # detrending every feature loses the alloy and textures


def relative_centroid(centroid: np.ndarray) -> np.ndarray:
    """Return where patches are, in units of the image's extent, about 0; shape (P, ndim)."""
    extent = np.ptp(centroid, axis=0)
    return (centroid - centroid.mean(axis=0)) / np.where(extent > 0, extent, 1)


def is_volume(place: np.ndarray) -> bool:
    """Whether patches lie along more than two axes: in slices or in time."""
    return bool((np.ptp(place, axis=0) > 0).sum() > 2)


def gradient_of(
    difference: np.ndarray, step: np.ndarray, values: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """Return the gradient along the image by which each feature is detrended, shape (ndim, D).

    It is 0 for most features. A gradient shows as the same small difference between neighbours
    everywhere, a border as a large one in few places. It is therefore fitted to the differences
    across the quieter edges, and only for features whose variance clearly falls by that. In volumes
    and sequences, it is not looked for along axes that are less than 16 patches long.

    `difference` (E, D) and `step` (E, ndim) are those of values and places across some edges;
    `values` (P, D) and `place` (P, ndim, from `relative_centroid`) are of enough patches.
    """
    if len(difference) < _FEWEST_EDGES:
        return np.zeros((place.shape[1], values.shape[1]))
    if is_volume(place):
        step = np.where(np.quantile(np.abs(step), 0.9, axis=0) * _FEWEST_ALONG > 1, 0, step)
    usual = np.abs(difference).mean(axis=0)
    usual[usual == 0] = 1  # of constant features: no division by 0
    # Only linear: trends of higher order also remove real differences.
    slope = np.zeros((place.shape[1], values.shape[1]))
    scaled = difference / usual
    squared = np.einsum("ij,ij->i", scaled, scaled)
    for _ in range(_ROUNDS):
        # Squared length of scaled - step @ tilt, from products that are small.
        tilt = slope / usual
        length = squared + np.einsum(  # not of all differences: 0.10 instead of 0.36 s
            "ij,ij->i", step @ (tilt @ tilt.T) - 2 * (scaled @ tilt.T), step
        )
        quiet = step * (length <= np.quantile(length, QUIET))[:, np.newaxis]
        # A pseudo-inverse: along an axis of one patch there are no steps.
        slope = np.linalg.pinv(quiet.T @ quiet, hermitian=True) @ (quiet.T @ difference)
    # What the variance of each feature would be without a share of its gradient, from moments only.
    scatter = place.T @ place / len(place)
    size = np.einsum("id,ij,jd->d", slope, scatter, slope)
    along = np.einsum("id,id->d", slope, place.T.astype(values.dtype) @ values / len(values))
    share = np.clip(along / np.where(size > 0, size, 1), 0, 1)
    gain = share * (2 * along - share * size)
    return np.where(gain > _LEAST_GAIN * values.var(axis=0), share * slope, 0)
