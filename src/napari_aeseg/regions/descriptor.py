"""The descriptor: what patches are compared by, assembled from their moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.regions.borders import with_sharp_borders
from napari_aeseg.regions.graph import averaged
from napari_aeseg.regions.light import without_gradient
from napari_aeseg.regions.whitening import noise_of, quiet_differences, whitening

if TYPE_CHECKING:
    from napari_aeseg.regions.graph import RegionGraph
    from napari_aeseg.regions.statistics import PatchStatistics

# "auto" averages over six patches and looks how much the contrast grows. If neighbouring patches of
# a texture are independent draws, it grows with their number, else it hardly does. Growth from
# which the image is taken for textures, and the scale then taken:
_GROWTH_OF_TEXTURES, _SCALE_OF_TEXTURES = 2.7, 16.0
# Where a feature has a contrast above this, patches are clear enough without averaging.
_CLEAR = 25.0
# Scale from which patches are compared as parts of textures.
_COARSE = 3.5
# Below it, regions are told apart by the image and the first level alone: what deeper levels see
# reaches across borders.
_DEEPEST_LEVEL_OF_FINE_REGIONS = 1
# Tolerance (see `whitening`) where neighbouring regions are compared.
_TOLERANCE = 1.0
# Above this contrast there is no texture at all: energy is where borders are, and nothing else.
_NO_TEXTURE = 1000.0
# Highest contrast of a feature at which the tolerance of classes is 1; it grows with the square.
_CONTRAST = 10.0
# Part of a feature's mean variance that is added before the logarithm: without it, the difference
# between nearly flat and quite flat patches would outweigh all others.
_FLOOR = 0.1
# A feature whose variance is a smaller part of its mean square than this is the same everywhere:
# rounding in float32 makes up to 1e-6 of it.
_FLAT = 1e-5


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Positions of patches in the spaces in which they are compared.

    Parameters
    ----------
    values : ndarray of float64, shape (P, E)
        What neighbouring regions are compared by. The noise between neighbouring patches of one
        texture has about unit variance in every direction.
    raw : ndarray of float32, shape (P, D)
        Mean and log-energy of each feature, averaged over neighbours.
    whitening : ndarray of float64, shape (D, E2)
        Linear map from `raw` to the space in which appearance is compared across the image.
    appearance : ndarray of float64, shape (P, E3)
        What regions are grouped into classes by.
    scale : float
        Patches averaged over; what "auto" has chosen.
    unit : float
        One unit of `values` in units of the encoder's features, which are the same in every image
        of one model: the geometric mean of the noise.
    """

    values: np.ndarray
    raw: np.ndarray
    whitening: np.ndarray
    appearance: np.ndarray
    scale: float
    unit: float


def describe(
    statistics: PatchStatistics,
    graph: RegionGraph,
    balance: float = 0.5,
    scale: float | Literal["auto"] = "auto",
) -> Descriptor:
    """Assemble the descriptor of every patch.

    Each feature gives two numbers, its mean and the logarithm of its variance ("energy"), both
    over the patch and its neighbours. A gradient of light along the image is removed, and the whole
    is whitened by the differences between neighbouring patches. Ward's criterion on whitened
    positions is a likelihood-ratio test for "same texture".

    Whitening helps where differences are small beside the noise. Where the contrast of single
    features is high, unlike parts of one phase differ by more than noise, and the finest
    directions, which whitening would stretch most, say least: there, classes are compared by
    features divided by their own noise.

    Parameters
    ----------
    statistics : PatchStatistics
    graph : RegionGraph
    balance : float
        0 compares brightness and colour (means of level 0) only, 1 texture (all the rest) only.
    scale : float or "auto"
        Patches averaged over. "auto" takes 16 for textures: where no feature has a variance of 25
        times its noise, and the largest variance between patches in units of the noise grows by
        more than 2.7 when six are averaged. Else it takes 1.

    Returns
    -------
    Descriptor
    """
    if balance == 0 and not (statistics.level == 0).any():
        raise InputError(
            "balance = 0 compares brightness and colour only, which are level 0, and level 0 is "
            "not among the levels used: add it, or raise the balance."
        )
    fine = _Moments(statistics, graph, 1.0, balance)
    contrast = fine.highest_contrast()
    tolerance = (contrast / _CONTRAST) ** 2
    if scale == "auto":
        scale = 1.0
        if contrast < _CLEAR:
            six = _Moments(statistics, graph, 6.0, balance)
            if six.spread_along(tolerance) > _GROWTH_OF_TEXTURES * fine.spread_along(tolerance):
                scale = _SCALE_OF_TEXTURES
    moments = fine if scale == 1 else _Moments(statistics, graph, scale, balance)
    if contrast > _NO_TEXTURE and balance < 1:
        moments.weight[len(statistics.level) :] = 0
    return _fine(moments, tolerance) if scale < _COARSE else _coarse(moments, fine)


def _fine(moments: _Moments, tolerance: float) -> Descriptor:
    """Return the descriptor for things: neighbours compared by what does not cross borders."""
    shallow = moments.shallow
    if not (moments.weight * shallow).any():
        shallow = np.ones_like(shallow)
    values = moments.z[:, shallow] @ moments.whitening(_TOLERANCE, shallow)
    white = moments.whitening(tolerance)
    return Descriptor(
        values, moments.raw, moments.map_of(white), moments.z @ white, moments.scale, moments.unit()
    )


def _coarse(moments: _Moments, fine: _Moments) -> Descriptor:
    """Return the descriptor for textures: all levels, averaged, with sharp borders."""
    white = moments.whitening(_TOLERANCE)
    own = fine.z @ fine.whitening(_TOLERANCE)
    values = with_sharp_borders(moments.z @ white, own, moments.edges, moments.count)
    return Descriptor(
        values, moments.raw, moments.map_of(white), values, moments.scale, moments.unit()
    )


class _Moments:
    """Mean and energy of each feature at one scale, standardised and without light gradient."""

    def __init__(
        self, statistics: PatchStatistics, graph: RegionGraph, scale: float, balance: float
    ) -> None:
        self.scale = float(scale)
        self.edges = graph.edges
        self.count = statistics.count
        steps = (scale - 1) / 5
        mean = averaged(graph, statistics.mean, statistics.count, steps)
        second = averaged(graph, statistics.second, statistics.count, steps)
        variance = np.maximum(second - mean**2, 0)
        energy = np.log(variance + _FLOOR * variance.mean(axis=0) + np.finfo(np.float32).tiny)
        self.raw = np.concatenate([mean, energy], axis=1)
        self.spread = self.raw.std(axis=0, dtype=np.float64)
        flat = variance.mean(axis=0) + mean.var(axis=0) <= _FLAT * second.mean(axis=0)
        self.spread[np.tile(flat, 2) | (self.spread == 0)] = np.inf
        z = self.raw - self.raw.mean(axis=0)
        z *= (1 / self.spread).astype(z.dtype)
        self.z = without_gradient(z, self.edges, statistics.centroid)
        level = np.tile(statistics.level, 2)
        self.shallow = level <= max(_DEEPEST_LEVEL_OF_FINE_REGIONS, int(level.min()))
        is_brightness = np.concatenate([statistics.level == 0, np.zeros(mean.shape[1], bool)])
        self.weight = np.where(is_brightness, 2 * (1 - balance), 2 * balance)

    def whitening(self, tolerance: float, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the map from `z` (of the chosen features) to the space of comparison."""
        return whitening(self.z[:, chosen], self.edges, tolerance, self.weight[chosen])

    def map_of(self, white: np.ndarray) -> np.ndarray:
        """Return a map from `z` as one from `raw`."""
        return white / self.spread[:, np.newaxis]

    def unit(self) -> float:
        """Return the usual noise of the means that regions without averaging are told apart by."""
        half = self.raw.shape[1] // 2
        means = self.raw[:, :half][:, self.shallow[:half]]
        return float(np.exp(np.log(noise_of(quiet_differences(means, self.edges))).mean() / 2))

    def highest_contrast(self) -> float:
        """Return the largest variance of a feature in units of its noise."""
        noise = noise_of(quiet_differences(self.z, self.edges))
        return float((self.z.var(axis=0) / noise).max())

    def spread_along(self, tolerance: float) -> float:
        """Return the largest variance in any direction of the whitened space."""
        return float((self.z @ self.whitening(tolerance)[:, :1]).var())
