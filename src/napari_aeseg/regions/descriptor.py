"""The descriptor: what patches are compared by, assembled from their moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.regions.graph import averaged

if TYPE_CHECKING:
    from napari_aeseg.regions.graph import RegionGraph
    from napari_aeseg.regions.statistics import PatchStatistics

# "auto" averages over six patches and looks how much the contrast grows. If neighbouring patches of
# a texture are independent draws, it grows nearly with their number; if they already show parts of
# one thing, it does not grow. Growth up to which each scale is taken:
_SCALE_BY_GROWTH = ((1.8, 1.0), (2.8, 6.0), (np.inf, 16.0))
# Part of a feature's mean variance that is added before the logarithm: without it, the difference
# between nearly flat and quite flat patches would outweigh all others.
_FLOOR = 0.1
# A feature whose variance is a smaller part of its mean square than this is the same everywhere:
# rounding in float32 makes up to 1e-6 of it.
_FLAT = 1e-5
# Share of the edges, the quietest, from which the noise is estimated; the others may cross borders.
_QUIET = 0.8
# Noise is shrunk towards equal noise in all directions: it is estimated from few edges.
_SHRINKAGE = 0.1
# Directions of the whitened space that are kept: the rest adds time, not difference.
_MOST_DIRECTIONS = 32


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Positions of patches in the space in which they are compared.

    Parameters
    ----------
    raw : ndarray of float64, shape (P, D)
        Mean and log-energy of each feature, averaged over neighbours.
    whitening : ndarray of float64, shape (D, E)
        Linear map to the space in which patches are compared; there, the noise between
        neighbouring patches of one texture has unit variance in every direction.
    scale : float
        Patches averaged over; what "auto" has chosen.
    """

    raw: np.ndarray
    whitening: np.ndarray
    scale: float

    @property
    def values(self) -> np.ndarray:
        """Positions, shape (P, E)."""
        return self.raw @ self.whitening


def describe(
    statistics: PatchStatistics,
    graph: RegionGraph,
    balance: float = 0.5,
    scale: float | Literal["auto"] = "auto",
) -> Descriptor:
    """Assemble the descriptor of every patch.

    Each feature gives two numbers, its mean and the logarithm of its variance ("energy"), both
    over the patch and its neighbours. The whole is whitened by the covariance of differences
    between neighbouring patches, without the largest fifth of them, which may cross borders.
    Ward's criterion on whitened positions is a likelihood-ratio test for "same texture" [1]_.

    Parameters
    ----------
    statistics : PatchStatistics
    graph : RegionGraph
    balance : float
        0 compares brightness and colour (means of level 0) only, 1 texture (all the rest) only.
    scale : float or "auto"
        Patches averaged over. "auto" takes 1, 6 or 16, the larger, the more the contrast (the
        largest variance between patches, in units of the noise) grows by averaging over six.

    Returns
    -------
    Descriptor

    References
    ----------
    .. [1] A. A. Green et al., A transformation for ordering multispectral data in terms of image
           quality with implications for noise removal (minimum noise fraction), IEEE TGRS 26, 1988.
    """
    if balance == 0 and not (statistics.level == 0).any():
        raise InputError(
            "balance = 0 compares brightness and colour only, which are level 0, and level 0 is "
            "not among the levels used: add it, or raise the balance."
        )
    if scale != "auto":
        return _describe(statistics, graph, balance, float(scale))[0]
    fine, contrast = _describe(statistics, graph, balance, 1.0)
    averaged_six, grown = _describe(statistics, graph, balance, 6.0)
    chosen = next(s for most, s in _SCALE_BY_GROWTH if grown <= most * max(contrast, 1e-12))
    if chosen == 1.0:
        return fine
    if chosen == averaged_six.scale:
        return averaged_six
    return _describe(statistics, graph, balance, chosen)[0]


def _describe(
    statistics: PatchStatistics, graph: RegionGraph, balance: float, scale: float
) -> tuple[Descriptor, float]:
    """Return the descriptor and its contrast: the largest variance in units of the noise."""
    steps = round((scale - 1) / 5)
    mean = averaged(graph, statistics.mean, statistics.count, steps)
    second = averaged(graph, statistics.second, statistics.count, steps)
    variance = np.maximum(second - mean**2, 0)
    energy = np.log(variance + _FLOOR * variance.mean(axis=0) + np.finfo(np.float32).tiny)
    raw = np.concatenate([mean, energy], axis=1).astype(np.float64)
    spread = raw.std(axis=0)
    flat = variance.mean(axis=0) + mean.var(axis=0) <= _FLAT * second.mean(axis=0)
    spread[np.tile(flat, 2) | (spread == 0)] = np.inf
    z = (raw - raw.mean(axis=0)) / spread
    # The symmetric root keeps the axes, so that brightness and texture can be weighted after it.
    whitening = _inverse_root(_noise(z, graph.edges))
    is_brightness = np.concatenate([statistics.level == 0, np.zeros(mean.shape[1], bool)])
    whitening *= np.where(is_brightness, 2 * (1 - balance), 2 * balance)
    covariance = whitening.T @ (z.T @ z / len(z)) @ whitening
    contrasts, directions = np.linalg.eigh(covariance)
    directions = directions[:, ::-1][:, :_MOST_DIRECTIONS]
    return Descriptor(raw, whitening @ directions / spread[:, np.newaxis], scale), contrasts[-1]


def _noise(z: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Covariance of the noise: half that of differences across the quieter edges."""
    if not len(edges):
        return np.eye(z.shape[1])
    difference = z[edges[:, 0]] - z[edges[:, 1]]
    length = (difference**2).sum(axis=1)
    difference = difference[length <= np.quantile(length, _QUIET)]
    covariance = difference.T @ difference / (2 * len(difference))
    level = np.trace(covariance) / len(covariance)
    return covariance + np.eye(len(covariance)) * (_SHRINKAGE * level or 1.0)


def _inverse_root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric inverse square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors / np.sqrt(values)) @ vectors.T
