"""Uneven illumination: a gradient of light along an image is measured."""

from __future__ import annotations

import numpy as np

_CELL = 16  # pixels along each side of the cells that are compared
_FEWEST_CELLS = 6  # along each side, else no gradient is looked for
_INLIERS = 0.8  # share of the differences nearest to their centre that count
_ITERATIONS = 4
# If the cells without the gradient differ by less than this (standard deviation of the logarithm of
# brightness), the gradient is fitted to the cells themselves.
_HOMOGENEOUS = 0.2
# Smallest share of the variance of brightness between cells that the gradient has to explain.
_LEAST_GAIN = 0.3  # of the labelled images, only some scratch assays reach it
# The square of a smaller number, or of its inverse, leaves the range of float32.
_TINY = 1e-15


def illumination(pixels: np.ndarray) -> np.ndarray | None:
    """Return the illumination along an image if there clearly is a gradient.

    Light multiplies brightness and contrast by the same factor. Both are measured in cells of 16 x
    16 pixels. An exponential gradient is fitted to the logarithm of brightness: to the differences
    of neighbouring cells without the fifth that is furthest from their centre, so that borders do
    not count; and to the cells themselves if they are nearly alike otherwise. It is accepted if
    dividing by it makes brightness clearly more even, and contrast not less even.

    `pixels` have the shape (C, *space), 0 without light. Divide them by the result, float32 of the
    shape space, 1 in the middle. There is none for images with negative values, volumes, stacks of
    more than one slice, and images of less than 96 pixels along a side.
    """
    space = pixels.shape[1:]
    pixels = pixels.reshape(len(pixels), *(n for n in space if n > 1))
    cells = [n // _CELL for n in pixels.shape[1:]]
    if len(cells) != 2 or min(cells) < _FEWEST_CELLS or pixels.min() < 0:
        return None
    view = _within_float32(pixels.mean(axis=0))
    blocks = view[: cells[0] * _CELL, : cells[1] * _CELL].reshape(cells[0], _CELL, cells[1], _CELL)
    brightness, contrast = blocks.mean(axis=(1, 3)), blocks.std(axis=(1, 3))
    least = 1e-3 * brightness.mean(), 1e-3 * contrast.mean()  # the logarithm of 0 is infinite
    if not all(least):
        return None
    logs = [np.log(brightness + least[0]), np.log(contrast + least[1])]
    slope = _slope(logs[0])
    place = np.indices(cells).reshape(2, -1)
    for values, least_gain in zip(logs, (_LEAST_GAIN, 0), strict=True):
        flat = values.ravel()
        if (flat - slope @ place).var() >= (1 - least_gain) * flat.var():
            return None
    residual = logs[0].ravel() - slope @ place
    if residual.std() < _HOMOGENEOUS:
        slope = _fitted_to_cells(slope, logs[0].ravel(), place)
    y, x = (
        np.exp(s * (np.arange(n) - n / 2) / _CELL) for s, n in zip(slope, view.shape, strict=True)
    )
    return (y[:, np.newaxis] * x).astype(np.float32).reshape(space)


def _within_float32(view: np.ndarray) -> np.ndarray:
    """Scale immense and tiny brightness to at most 1: squares neither overflow nor vanish."""
    peak = float(view.max())
    return view if _TINY < peak < 1 / _TINY or peak == 0 else view.astype(np.float64) / peak


def _slope(values: np.ndarray) -> np.ndarray:
    """Change per cell along each axis, from differences of neighbours."""
    return np.array([_trimmed_mean(np.diff(values, axis=axis).ravel()) for axis in (0, 1)])


def _fitted_to_cells(slope: np.ndarray, values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Fit the gradient to the cells, starting from a slope, without those furthest from the fit."""
    terms = np.vstack([place, np.ones(place.shape[1])])
    fit = np.append(slope, np.median(values - slope @ place))  # unlike a mean, not moved by borders
    for _ in range(_ITERATIONS):
        distance = np.abs(values - fit @ terms)
        near = distance <= np.quantile(distance, _INLIERS)
        fit = np.linalg.lstsq(terms[:, near].T, values[near], rcond=None)[0]
    return fit[:2]


def _trimmed_mean(difference: np.ndarray) -> float:
    """Mean of the differences without those furthest from it."""
    centre = float(np.median(difference))  # borders would pull a mean away
    for _ in range(_ITERATIONS):
        distance = np.abs(difference - centre)
        centre = float(difference[distance <= np.quantile(distance, _INLIERS)].mean())
    return centre
