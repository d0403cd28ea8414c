"""Uneven light: a slow change over the whole image that is not a difference between regions."""

from __future__ import annotations

import numpy as np

from napari_aeseg.regions.whitening import QUIET, some_of

# The gradient is looked for again without the edges that it does not explain.
_ROUNDS = 3
# With fewer edges, a gradient is not to be told from a border.
_FEWEST_EDGES = 60
# Least share of a feature's variance that must go with the gradient.
_LEAST_GAIN = 0.1


def without_gradient(values: np.ndarray, edges: np.ndarray, centroid: np.ndarray) -> np.ndarray:
    """Remove what changes evenly along the image.

    A gradient shows as the same small difference between neighbours everywhere, a border as a large
    one in few places. It is therefore fitted to the differences across the quieter edges, and taken
    out of the features whose variance clearly falls by that, never more of it than is there.

    Parameters
    ----------
    values : ndarray of float, shape (P, D)
    edges : ndarray of int, shape (E, 2)
    centroid : ndarray of float64, shape (P, ndim)

    Returns
    -------
    ndarray of the same type, shape (P, D)

    Examples
    --------
    >>> place = np.arange(100.0)[:, np.newaxis]
    >>> edges = np.stack([np.arange(99), np.arange(1, 100)], axis=1)
    >>> step = (place >= 50) * 3.0
    >>> bool(np.ptp(without_gradient(step + place / 10, edges, place) - step) < 1e-9)
    True
    >>> bool((without_gradient(step, edges, place) == step).all())
    True
    """
    if len(edges) < _FEWEST_EDGES:
        return values
    extent = np.ptp(centroid, axis=0)
    place = (centroid - centroid.mean(axis=0)) / np.where(extent > 0, extent, 1)
    edges = some_of(edges)
    step = place[edges[:, 0]] - place[edges[:, 1]]
    difference = values[edges[:, 0]] - values[edges[:, 1]]
    usual = np.abs(difference).mean(axis=0)
    usual[usual == 0] = 1
    slope = np.zeros((place.shape[1], values.shape[1]))
    for _ in range(_ROUNDS):
        length = (((difference - step @ slope) / usual) ** 2).sum(axis=1)
        quiet = length <= np.quantile(length, QUIET)
        slope = np.linalg.lstsq(step[quiet], difference[quiet], rcond=None)[0]
    # What the variance of each feature would be without a share of its gradient, from moments only.
    place = place.astype(values.dtype)
    scatter = place.T @ place / len(place)
    size = np.einsum("id,ij,jd->d", slope, scatter, slope)
    along = np.einsum("id,id->d", slope, place.T @ values / len(values))
    share = np.clip(along / np.where(size > 0, size, 1), 0, 1)
    gain = share * (2 * along - share * size)
    taken = np.where(gain > _LEAST_GAIN * values.var(axis=0), share * slope, 0)
    if not taken.any():
        return values
    return values - place @ taken.astype(values.dtype)
