"""Pixels classified by brightness, so that classes from strokes have details below patches.

Features of a pixel are brightness, gradient and Laplacian of the image smoothed by Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from napari_aeseg.images.parallel import cores, in_threads
from napari_aeseg.prototypes import N_FEATURES, StrokeExamples

# Standard deviations of the Gaussians in pixels; more of them add nothing to what patches know.
_SIGMAS = (1, 2, 4)
# Where the features of each Gaussian's brightness are.
_LEVELS = np.arange(0, N_FEATURES, 3)
# A feature of a pixel depends on pixels up to here.
_REACH = 4 * max(_SIGMAS) + 4
# Gradients and Laplacians vary by orders of magnitude: logarithms, linear below these.
_FAINT_GRADIENT, _STEEPNESS = 0.05, 5.0
# Part of the covariance that is taken from the whole image, and of that on the diagonal alone: a
# stroke sees little of how its class varies.
_OF_IMAGE, _DIAGONAL = 0.1, 0.5
# Weight of the linear rule: neighbouring pixels are no independent evidence.
_WEIGHT_OF_LEVELS = 0.3
# Weight of the curved rule for many strokes, its noise, and pixels of a class it is made of.
_WEIGHT_OF_DETAILS, _NOISE, _CENTRES = 2.0, 0.1, 40
# Pixels of a strip, and pixels that are compared with all centres together.
_STRIP, _TOGETHER = 2**19, 2**14
# Strips whose features are kept: a second stroke is answered sooner.
_STRIPS_KEPT = 16


class BrightnessFeatures:
    """Features of the pixels of one image, computed strip by strip along the first axis.

    `brightness` has any number of axes, of which `smoothed` says along which there are structures:
    not along time.
    """

    def __init__(self, brightness: np.ndarray, smoothed: tuple[int, ...]) -> None:
        self._brightness = brightness
        self._axes = tuple(axis for axis in smoothed if brightness.shape[axis] > 1)
        sample = brightness.ravel()[:: brightness.size // _STRIP + 1].astype(np.float64)
        self.mean, self.spread = float(sample.mean()), float(sample.std()) or 1.0
        rows = max(1, _STRIP * len(brightness) // brightness.size)
        self.strips = [slice(i, i + rows) for i in range(0, len(brightness), rows)]
        self._kept: dict[tuple[int, float, float], np.ndarray] = {}

    def of_strip(self, rows: slice, mean: float, spread: float) -> np.ndarray:
        """Return features, float32, shape (rows, ..., F), of brightness less `mean` by `spread`."""
        key = (rows.start, mean, spread)
        if key in self._kept:
            return self._kept[key]
        start = max(0, rows.start - _REACH)
        part = self._brightness[start : rows.stop + _REACH].astype(np.float32)
        inside = slice(rows.start - start, rows.stop - start)
        features = np.stack(self._features((part - mean) / spread), axis=-1)[inside]
        if len(self._kept) < _STRIPS_KEPT:
            self._kept[key] = features
        return features

    def _features(self, image: np.ndarray) -> list[np.ndarray]:
        features = []
        for sigma in _SIGMAS:
            sigmas = [sigma if axis in self._axes else 0 for axis in range(image.ndim)]
            smooth = ndimage.gaussian_filter(image, sigmas)
            square, laplacian = np.zeros_like(image), np.zeros_like(image)
            for axis in self._axes:
                if image.shape[axis] > 1:
                    slope = np.gradient(smooth, axis=axis)
                    square += slope**2
                    laplacian += np.gradient(slope, axis=axis)
            gradient = np.log(sigma * np.sqrt(square) + _FAINT_GRADIENT)
            bend = np.sign(laplacian) * np.log1p(_STEEPNESS * sigma**2 * np.abs(laplacian))
            features += [smooth, gradient, bend]
        return features

    def at(self, place: np.ndarray) -> np.ndarray:
        """Return the features, float64, of pixels at flat indices, ascending, shape (N, F)."""
        row = self._brightness.size // len(self._brightness)
        features = [np.empty((0, N_FEATURES))]
        for rows in self.strips:
            inside = place[(place >= rows.start * row) & (place < rows.stop * row)]
            if len(inside):
                flat = self.of_strip(rows, self.mean, self.spread).reshape(-1, N_FEATURES)
                features.append(flat[inside - rows.start * row].astype(np.float64))
        return np.concatenate(features)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (F,) and covariance (F, F) of the features, from pixels of each strip."""
        step = self._brightness.size // _STRIP + 7
        strips = (self.of_strip(rows, self.mean, self.spread) for rows in self.strips)
        sample = np.concatenate([s.reshape(-1, N_FEATURES)[::step] for s in strips])
        return sample.mean(axis=0, dtype=np.float64), np.cov(sample.T.astype(np.float64), ddof=0)


class PixelRules:
    """How much the brightness around a pixel speaks for each of the classes with examples.

    A linear discriminant of the brightness (shrunk towards a diagonal covariance), and kernel ridge
    regression with a Gaussian kernel on all features. The second follows what it has seen closely:
    it has no weight where every class has one stroke, more with each further one.
    """

    def __init__(self, examples: StrokeExamples) -> None:
        classes, label = examples.classes, examples.pixel_class
        self._offset = examples.pixel_mean
        self._scale = np.sqrt(np.diagonal(examples.pixel_covariance)) + 1e-6
        pixels = (examples.pixels - self._offset) / self._scale
        correlation = examples.pixel_covariance / np.outer(self._scale, self._scale)
        levels = pixels[:, _LEVELS]
        centre = np.array([levels[label == k].mean(axis=0) for k in classes])
        within = np.mean([np.cov(levels[label == k].T, ddof=0) for k in classes], axis=0)
        within += _OF_IMAGE * (correlation[np.ix_(_LEVELS, _LEVELS)] - within)
        diagonal = np.diag(np.diagonal(within))
        within += _DIAGONAL * (diagonal - within) + 1e-4 * np.eye(len(_LEVELS))
        linear = np.linalg.solve(within, centre.T)
        self._linear = _WEIGHT_OF_LEVELS * linear
        self._constant = -0.5 * _WEIGHT_OF_LEVELS * (centre.T * linear).sum(axis=0)
        strokes_of_class = len(examples.stroke_class) / len(classes)
        self._weight = _WEIGHT_OF_DETAILS * (1 - 1 / strokes_of_class)
        chosen = np.concatenate([spread_out(np.flatnonzero(label == k), _CENTRES) for k in classes])
        self._centres = pixels[chosen]
        member = label[chosen][:, np.newaxis] == classes
        # Each class weighs the same, however many pixels it has.
        noise = _NOISE * (member @ member.sum(axis=0)) * len(classes) / len(chosen)
        target = member - 1 / len(classes)
        kernel = self._kernel(self._centres, self._centres)
        self._coefficients = self._weight * np.linalg.solve(kernel + np.diag(noise), target)

    @staticmethod
    def _kernel(pixels: np.ndarray, centres: np.ndarray) -> np.ndarray:
        square = (pixels**2).sum(axis=1)[:, np.newaxis] + (centres**2).sum(axis=1)
        square -= 2 * pixels @ centres.T
        square /= -2 * N_FEATURES
        return np.asarray(np.exp(square, out=square))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return a score for each class, (n, K), of features (n, F)."""
        pixels = ((features - self._offset) / self._scale).astype(np.float32)
        score = pixels[:, _LEVELS] @ self._linear.astype(np.float32)
        score += self._constant.astype(np.float32)
        if self._weight:
            centres = self._centres.astype(np.float32)
            coefficients = self._coefficients.astype(np.float32)
            for i in range(0, len(pixels), _TOGETHER):
                rows = slice(i, i + _TOGETHER)
                score[rows] += self._kernel(pixels[rows], centres) @ coefficients
        return score


def scores_of_pixels(
    features: BrightnessFeatures,
    examples: StrokeExamples,
    patches: np.ndarray,
    of_patch: np.ndarray,
    side: tuple[int, ...],
    reduce: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Add scores of pixels to those of patches, and reduce them to one number for each pixel.

    Scores `of_patch`, shape (P, K), are averaged over `side` pixels along each axis: a pixel at the
    border of a patch knows of the next one. `reduce` turns scores (..., K) into the result (...).
    """
    rules = PixelRules(examples)
    mean, spread = map(float, examples.brightness)
    of_patch = of_patch.astype(np.float32)
    reach = side[0]
    size = (*(n + 1 if n > 1 else 1 for n in side), 1)

    def of_strip(rows: slice) -> np.ndarray:
        start = max(0, rows.start - reach)
        smooth = of_patch[patches[start : rows.stop + reach]]
        smooth = ndimage.uniform_filter(smooth, size, mode="nearest")
        smooth = smooth[rows.start - start : rows.stop - start]
        pixels = features.of_strip(rows, mean, spread)
        smooth += rules(pixels.reshape(-1, N_FEATURES)).reshape(smooth.shape)
        return reduce(smooth)

    return np.concatenate(list(in_threads(of_strip, features.strips, min(2, cores()))))


def spread_out(values: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many of the values, evenly spaced."""
    return values[np.linspace(0, len(values) - 1, min(most, len(values))).astype(int)]
