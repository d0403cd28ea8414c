"""Uneven illumination: light that falls off along an image is taken out before anything else."""

from __future__ import annotations

import numpy as np

_CELL = 16  # pixels along each side of the cells that are compared
_FEWEST_CELLS = 6  # along each side, else the image is left alone
_QUIET = 0.8  # share of the neighbouring cells, the most alike, that the gradient is fitted to
_ROUNDS = 4
# Where cells differ by less than this (standard deviation of the logarithm of brightness) but for
# the gradient, it is fitted to the cells themselves.
_HOMOGENEOUS = 0.2
# Least share of the variance of brightness between cells that goes with the gradient.
_LEAST_GAIN = 0.3
# The square of a smaller number, or of its inverse, is hardly a float32.
_TINY = 1e-15


def illumination(pixels: np.ndarray) -> np.ndarray | None:
    """Return the illumination along an image, where there clearly is a gradient.

    Light multiplies: where it falls off, brightness and contrast fall off by the same factor. Both
    are measured in cells of 16 x 16 pixels. An exponential gradient is fitted to the logarithm of
    brightness by the differences between the four fifths of neighbouring cells that differ least,
    so that borders do not count, and, where cells are nearly alike otherwise, to the cells
    themselves. It is believed if dividing by it makes brightness clearly more even, and contrast
    not less.

    Parameters
    ----------
    pixels : ndarray of float, shape (C, *space)
        Intensities, 0 where there is no light. Images with negative values are left alone, and so
        are volumes, stacks (of more than one slice) and images of less than 96 pixels along a side.

    Returns
    -------
    ndarray of float32, shape space, or None
        What to divide the image by, 1 in the middle; None if there is no clear gradient.

    Examples
    --------
    >>> texture = np.random.default_rng(0).random((1, 128, 128))
    >>> light = np.exp(-np.linspace(-1, 1, 128)) * np.ones((128, 1))
    >>> illumination(texture) is None
    True
    >>> bool(np.abs(illumination(texture * light) / light - 1).max() < 0.2)
    True
    """
    space = pixels.shape[1:]
    pixels = pixels.reshape(len(pixels), *(n for n in space if n > 1))
    cells = [n // _CELL for n in pixels.shape[1:]]
    if len(cells) != 2 or min(cells) < _FEWEST_CELLS or pixels.min() < 0:
        return None
    view = _ordinary(pixels.mean(axis=0))
    blocks = view[: cells[0] * _CELL, : cells[1] * _CELL].reshape(cells[0], _CELL, cells[1], _CELL)
    brightness, contrast = blocks.mean(axis=(1, 3)), blocks.std(axis=(1, 3))
    least = 1e-3 * brightness.mean(), 1e-3 * contrast.mean()
    if not all(least):
        return None
    logs = [np.log(brightness + least[0]), np.log(contrast + least[1])]
    slope = _slope(logs[0])
    place = np.indices(cells).reshape(2, -1)
    for values, least_gain in zip(logs, (_LEAST_GAIN, 0), strict=True):
        flat = values.ravel()
        if (flat - slope @ place).var() >= (1 - least_gain) * flat.var():
            return None
    left = logs[0].ravel() - slope @ place
    if left.std() < _HOMOGENEOUS:
        slope = _refined(slope, logs[0].ravel(), place)
    y, x = (
        np.exp(s * (np.arange(n) - n / 2) / _CELL) for s, n in zip(slope, view.shape, strict=True)
    )
    return (y[:, np.newaxis] * x).astype(np.float32).reshape(space)


def _ordinary(view: np.ndarray) -> np.ndarray:
    """Bring immense and tiny brightness to 1 at most: their squares are no numbers, or 0."""
    peak = float(view.max())
    return view if _TINY < peak < 1 / _TINY or peak == 0 else view.astype(np.float64) / peak


def _slope(values: np.ndarray) -> np.ndarray:
    """Change per cell along each axis, by the neighbours that differ least from it."""
    return np.array([_usual(np.diff(values, axis=axis).ravel()) for axis in (0, 1)])


def _refined(slope: np.ndarray, values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Fit the gradient to the cells themselves, starting from it, without those furthest off."""
    terms = np.vstack([place, np.ones(place.shape[1])])
    left = values - slope @ place
    fit = np.append(slope, np.median(left))
    for _ in range(_ROUNDS):
        distance = np.abs(values - fit @ terms)
        near = distance <= np.quantile(distance, _QUIET)
        fit = np.linalg.lstsq(terms[:, near].T, values[near], rcond=None)[0]
    return fit[:2]


def _usual(difference: np.ndarray) -> float:
    """Mean of the differences without those furthest from it."""
    centre = float(np.median(difference))
    for _ in range(_ROUNDS):
        distance = np.abs(difference - centre)
        centre = float(difference[distance <= np.quantile(distance, _QUIET)].mean())
    return centre
