"""Moments of patches at several scales, standardised, and how much noise they have.

The full noise model is that of all features. The local one is that of shallow features, whose
receptive fields are small, so that they do not see across borders.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.images.parallel import cores, in_threads
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.compare.trend import gradient_of, is_volume, relative_centroid
from napari_aeseg.regions.compare.whitening import (
    NoiseModel,
    edge_differences,
    noise_variance,
    quietest,
    sampled_edges,
)
from napari_aeseg.regions.patches.graph import (
    RegionGraph,
    averaged,
    averaging_matrix,
    averagings_for_scale,
)
from napari_aeseg.regions.tree.ward import MAX_EXACT_NODES, REGIONS_AFTER_ROUNDS, SharedMerges

if TYPE_CHECKING:
    from scipy import sparse

    from napari_aeseg.regions.patches.statistics import PatchStatistics


# Below the scale of textures, regions are compared by the image and the first level alone: the
# receptive fields of deeper levels reach across borders.
_DEEPEST_SHALLOW_LEVEL = 1
# Part of a feature's mean variance that is added before the logarithm: without it, the difference
# between nearly flat and quite flat patches would outweigh all others.
_FLOOR = 0.1
# A feature whose variance is a smaller part of its mean square than this is constant: rounding in
# float32 makes up to 1e-6 of it.
_FLAT = 1e-5
# Patches that are enough to estimate how features vary; of more, every n-th is taken.
_ENOUGH_PATCHES = 8_192
# Patches whose energies are computed together, rows of a thread, features averaged together.
_PATCHES_TOGETHER, _ROWS, _FEATURES = 1024, 8192, 32
# Most threads: each needs its own memory.
_THREADS = 4
# Scales whose moments are kept besides 1.
_SCALES_KEPT = 2
# Patches that shared merges join to one region.
_PATCHES_PER_SHARED_REGION = 4


# Largest number of a calibration: products of four are finite.
_LARGEST = 1e50
_NOISE_MODELS = ("full_noise", "local_noise")
_NOISE_PARTS = tuple(f.name for f in fields(NoiseModel))


class LogMoments:
    """Mean and log-variance (energy) of each feature at one scale, not standardised yet.

    Nothing in it depends on how features are weighted. Energies and standardised values are never
    stored: they are computed for some rows at a time, and mapped to positions at once.

    `mean` and `second`, float32, shape (P, F), are mean features and mean squared features,
    averaged over `scale` patches. `calibration` is of patches that were joined to these.

    Attributes
    ----------
    offset : ndarray of float32, shape (D,), D = 2 F
        Average over the image of the mean and the log-energy of each feature.
    spread : ndarray of float64, shape (D,)
        Standard deviation of each over the image; infinite where it is the same everywhere.
    shallow : ndarray of bool, shape (D,)
        Which values are of shallow features.
    full_noise, local_noise : NoiseModel
        Of all values, and of the shallow ones.
    floor : ndarray of float32, shape (F,)
        Added to each feature's variance before its logarithm was taken.
    unit : float
        Geometric mean of the noise of shallow features' means.
    """

    def __init__(
        self,
        level: np.ndarray,
        centroid: np.ndarray,
        edges: np.ndarray,
        mean: np.ndarray,
        second: np.ndarray,
        scale: float,
        stop: StopFlag | None = None,
        calibration: FeatureCalibration | None = None,
    ) -> None:
        self.scale = float(scale)
        self.number = len(mean)
        self._mean, self._second, self._centroid = mean, second, centroid
        self.shallow = np.tile(is_shallow(level), 2)
        flat, usual = _flat_and_usual(mean, second)
        raise_if_stopped(stop, "tree")
        # An odd step: most images have an even number of patches per row, and an even step would
        # sample the same columns only.
        sample = slice(None, None, (self.number // _ENOUGH_PATCHES) | 1)
        if calibration is None:
            self.floor = (_FLOOR * usual + np.finfo(np.float32).tiny).astype(np.float32)
            self.offset = np.zeros(2 * len(level), np.float32)
            values = self.centred(sample)
            self.offset = values.mean(axis=0)
            values -= self.offset
            spread = values.std(axis=0, dtype=np.float64)
            spread[np.tile(flat, 2) | (spread == 0)] = np.inf
        else:
            self.floor = calibration.floor
            self.offset = calibration.offset.astype(np.float32)
            values, spread = self.centred(sample), np.full(len(calibration.gain), np.inf)
            np.divide(1, calibration.gain, out=spread, where=calibration.gain > 0)
        self.spread = spread
        raise_if_stopped(stop, "tree")
        edges = sampled_edges(edges)
        difference = self.differences(edges)
        if calibration is None:
            of_means = difference[:, : len(level)][:, self.shallow[: len(level)]]
            self.unit = float(np.exp(np.log(noise_variance(quietest(of_means))).mean() / 2))
        else:
            self.unit = calibration.unit
        difference /= spread
        values *= (1 / spread).astype(np.float32)
        step = edge_differences(centroid, edges)
        self._slope = gradient_of(difference, step, values, centroid[sample])
        if calibration is not None:
            self.full_noise, self.local_noise = calibration.full_noise, calibration.local_noise
            return
        if self._slope.any():
            difference -= step @ self._slope
            values -= (centroid[sample] @ self._slope).astype(np.float32)
        raise_if_stopped(stop, "tree")
        self.full_noise = self.local_noise = NoiseModel.of(difference, values)
        if not self.shallow.all():
            raise_if_stopped(stop, "tree")
            self.local_noise = NoiseModel.of(difference[:, self.shallow], values[:, self.shallow])

    def centred(
        self, rows: np.ndarray | slice = slice(None), columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Return values of some patches, less `offset`, float32, shape (P', D); all by default.

        `columns`, bool, shape (D,), are the values that are needed.
        """
        columns = np.ones_like(self.shallow) if columns is None else columns
        of_mean, of_energy = np.split(columns, 2)
        mean, second = (
            part[rows] if isinstance(rows, slice) else part.take(rows, axis=0)
            for part in (self._mean, self._second)
        )
        values = np.empty((len(mean), np.count_nonzero(columns)), np.float32)
        means, energies = np.split(values, [np.count_nonzero(of_mean)], axis=1)
        floor, offset = self.floor[of_energy], self.offset[columns]
        for start in range(0, len(mean), _PATCHES_TOGETHER):  # they stay in the processor's cache
            part = slice(start, start + _PATCHES_TOGETHER)
            means[part] = _chosen(mean[part], of_mean)
            energy = np.square(_chosen(mean[part], of_energy))
            np.subtract(_chosen(second[part], of_energy), energy, out=energy)
            np.maximum(energy, 0, out=energy)
            energy += floor
            np.log(energy, out=energies[part])
            values[part] -= offset
        return values

    def differences(self, edges: np.ndarray) -> np.ndarray:
        """Return differences of values across edges, float64, shape (E, D)."""
        return (self.centred(edges[:, 0]) - self.centred(edges[:, 1])).astype(np.float64)

    @property
    def raw(self) -> np.ndarray:
        """Mean and log-energy of each feature, shape (P, D)."""
        return self.centred() + self.offset

    def map_of(self, white: np.ndarray) -> np.ndarray:
        """Turn a linear map on standardised values into the same map on `raw`.

        Row i is divided by ``spread[i]``.
        """
        return white / self.spread[:, np.newaxis]

    def map_of_shallow(self) -> np.ndarray:
        """Return the map from `raw` to positions by shallow features alone, shape (D, E)."""
        white = self.local_noise.map(1.0, np.ones(int(self.shallow.sum())))
        full = np.zeros((len(self.spread), white.shape[1]))
        full[self.shallow] = white
        return self.map_of(full)

    def mapped(self, matrix: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Return ``(raw - origin) @ matrix``, float32, shape (P, E), without computing `raw`."""
        mapped = self._times(matrix)
        mapped += ((self.offset - origin) @ matrix).astype(np.float32)
        return mapped

    def positions(self, white: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return standardised values (the chosen ones) times `white`, float32, shape (P, E)."""
        full = np.zeros((len(self.spread), white.shape[1]))
        full[chosen] = white
        positions, slope = self._times(self.map_of(full)), (self._slope @ full).astype(np.float32)
        if slope.any():
            positions -= self._centroid.astype(np.float32) @ slope
        return positions

    def _times(self, matrix: np.ndarray) -> np.ndarray:
        """Return ``centred() @ matrix``, float32, shape (P, E), some rows at a time."""
        columns = np.asarray(matrix.any(axis=1))
        needed = matrix[columns].astype(np.float32)
        product = np.empty((self.number, matrix.shape[1]), np.float32)

        def fill(rows: slice) -> None:
            np.matmul(self.centred(rows, columns), needed, out=product[rows])

        parts = (slice(i, i + _ROWS) for i in range(0, self.number, _ROWS))
        threads = min(_THREADS, cores()) if self.number > _ROWS else 1
        deque(in_threads(fill, parts, threads), maxlen=0)
        return product


@dataclass(frozen=True, slots=True)
class FeatureCalibration:
    """How the moments of small patches vary, at the scale at which they were joined.

    After joining, neighbours mostly lie on two sides of a border, so that their differences
    overestimate the noise: it is estimated before joining.
    """

    scale: float  # patches averaged over
    contrast: float  # highest of a feature between patches that are not averaged
    unit: float  # as of `LogMoments`
    floor: np.ndarray  # added to each feature's variance before its logarithm, float32, shape (F,)
    offset: np.ndarray  # mean of each value, float64, shape (2 F,)
    gain: np.ndarray  # 1 over its spread, float64, shape (2 F,); 0 where it is the same everywhere
    full_noise: NoiseModel  # of all values
    local_noise: NoiseModel  # of those of shallow features

    @classmethod
    def of(cls, moments: LogMoments, contrast: float) -> FeatureCalibration:
        """Return the calibration of patches that are not joined yet, from their moments."""
        return cls(
            moments.scale,
            contrast,
            moments.unit,
            moments.floor,
            moments.offset.astype(np.float64),
            1 / moments.spread,
            moments.full_noise,
            moments.local_noise,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that is not a plain number, by names for `of_parts`."""
        arrays = {"floor": self.floor, "offset": self.offset, "gain": self.gain}
        for model in _NOISE_MODELS:
            arrays |= {
                f"{model}/{part}": getattr(getattr(self, model), part) for part in _NOISE_PARTS
            }
        return arrays

    def numbers(self) -> dict[str, float]:
        """Return the plain numbers, by names for `of_parts`."""
        return {"scale": self.scale, "contrast": self.contrast, "unit": self.unit}

    @classmethod
    def of_parts(
        cls, numbers: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> FeatureCalibration:
        """Return the calibration with these parts; ValueError if a number is out of range."""
        plain = {name: float(numbers[name]) for name in ("scale", "contrast", "unit")}
        if not (1 <= plain["scale"] < np.inf and 0 <= plain["contrast"] < np.inf):
            raise ValueError(f"scale {plain['scale']}, contrast {plain['contrast']}")
        if not 1 / _LARGEST <= plain["unit"] <= _LARGEST:
            raise ValueError(f"unit {plain['unit']}")
        if not all((np.abs(a.astype(np.float64)) <= _LARGEST).all() for a in arrays.values()):
            raise ValueError(f"numbers that are NaN or above {_LARGEST:g}")
        positive = ("floor", "full_noise/inverse_deviation", "local_noise/inverse_deviation")
        if any((arrays[name] <= 0).any() for name in positive) or (arrays["gain"] < 0).any():
            raise ValueError("noise, or what is added to it, is not above 0")
        full_noise, local_noise = (
            NoiseModel(*(arrays[f"{model}/{part}"] for part in _NOISE_PARTS))
            for model in _NOISE_MODELS
        )
        floor, offset, gain = (arrays[name] for name in ("floor", "offset", "gain"))
        scale, contrast, unit = plain.values()
        return cls(scale, contrast, unit, floor, offset, gain, full_noise, local_noise)


class MomentsCache:
    """Moments of one image by scale; those of a few scales are kept.

    Hierarchies of the same patches with different weights share one cache. With `time`, the axis of
    time, noise is estimated within frames: the next frame mostly shows the same piece of a texture,
    not another one. With the `calibration` of patches that were joined to these, moments are
    averaged already, at its scale: it replaces any other scale.
    """

    def __init__(
        self,
        statistics: PatchStatistics,
        graph: RegionGraph,
        time: int | None = None,
        calibration: FeatureCalibration | None = None,
    ) -> None:
        self._statistics, self._graph = statistics, graph
        self.calibration = calibration
        #: What "auto" chose; it depends on the moments alone.
        self.auto_scale: float | None = None
        #: Neighbours; in time series, those of one frame.
        self.edges = graph.edges if time is None else _within_frames(statistics, graph, time)
        self._by_scale: dict[float, LogMoments] = {}
        self._shared: SharedMerges | None = None

    def at(self, scale: float, stop: StopFlag | None = None) -> LogMoments:
        """Return the moments averaged over `scale` patches."""
        scale = self._scale(scale)
        moments = self._by_scale.get(scale)
        if moments is None:
            moments = self._compute(scale, stop)
            if scale != 1:  # keep scale 1 and the newest `_SCALES_KEPT` others
                others = [s for s in list(self._by_scale) if s != 1]
                for old in others[: max(0, len(others) + 1 - _SCALES_KEPT)]:
                    self._by_scale.pop(old, None)
            self._by_scale[scale] = moments
        return moments

    def _scale(self, scale: float) -> float:
        return scale if self.calibration is None else self.calibration.scale

    @property
    def centroid(self) -> np.ndarray:
        """Centre of each patch in pixels, shape (P, ndim)."""
        return self._statistics.centroid

    @cached_property
    def _averaging(self) -> sparse.csr_array:
        return averaging_matrix(self._graph, self._statistics.count, np.float32)

    def shared_merges(self, stop: StopFlag | None = None) -> SharedMerges | None:
        """Return merges of patches that look alike at scale 1, for trees of any scale.

        They leave a quarter of the patches, 4,000 at least. None where all patches are merged in
        exact order.
        """
        number = self._graph.number
        if self._shared is None and number > MAX_EXACT_NODES:
            fine = self.at(1.0, stop)
            equal = np.ones(int(fine.shallow.sum()))
            positions = fine.positions(fine.local_noise.map(1.0, equal), fine.shallow)
            count, edges = self._statistics.count, self._graph.edges
            left = max(number // _PATCHES_PER_SHARED_REGION, 2 * REGIONS_AFTER_ROUNDS)
            self._shared = SharedMerges.down_to(edges, positions, count, left, stop)
        return self._shared

    def shallow_at(self, scale: float, stop: StopFlag | None = None) -> LogMoments:
        """Return the moments of the shallow features alone, a sixth of them all.

        Where the moments of all features are needed anyway, these are returned.
        """
        if scale == 1 or self.calibration is not None:
            return self.at(scale, stop)
        return self._compute(scale, stop, is_shallow(self._statistics.level))

    def _compute(
        self, scale: float, stop: StopFlag | None, features: np.ndarray | slice = slice(None)
    ) -> LogMoments:
        """Moments of some features, averaged over `scale` patches."""
        statistics = self._statistics
        level = statistics.level[features]
        mean, second = statistics.mean[:, features], statistics.second[:, features]
        centroid = relative_centroid(statistics.centroid)
        n_averagings = 0.0
        if self.calibration is None:
            n_averagings = averagings_for_scale(self._graph, scale, is_volume(centroid))
        if n_averagings and len(self._graph.edges):
            mean = self._averaged(mean, n_averagings, stop)
            second = self._averaged(second, n_averagings, stop)
        return LogMoments(level, centroid, self.edges, mean, second, scale, stop, self.calibration)

    def _averaged(
        self, values: np.ndarray, n_averagings: float, stop: StopFlag | None
    ) -> np.ndarray:
        matrix, result = self._averaging, np.empty(values.shape, np.float32)

        def fill(features: slice) -> None:
            result[:, features] = averaged(matrix, values[:, features], n_averagings, stop)

        # A few features at a time: averaging copies them.
        parts = (slice(i, i + _FEATURES) for i in range(0, values.shape[1], _FEATURES))
        deque(in_threads(fill, parts, min(_THREADS, cores())), maxlen=0)
        return result


def _within_frames(statistics: PatchStatistics, graph: RegionGraph, time: int) -> np.ndarray:
    """Edges between patches of one frame; all where there are none."""
    frame = statistics.centroid[:, time]
    # Patches joined to larger ones may reach into the next frame.
    within = graph.edges[np.abs(frame[graph.edges[:, 0]] - frame[graph.edges[:, 1]]) < 0.5]
    return within if len(within) else graph.edges


def is_shallow(level: np.ndarray) -> np.ndarray:
    """Which features are shallow: of the image and the first level."""
    return level <= max(_DEEPEST_SHALLOW_LEVEL, int(level.min()))


def _chosen(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return some columns; all without a copy."""
    return values if columns.all() else values.compress(columns, axis=1)


def _flat_and_usual(mean: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which features are flat, and the mean variance of each within patches, (F,)."""
    usual, square, between = np.zeros((3, mean.shape[1]))
    centre = mean[:: len(mean) // _ENOUGH_PATCHES | 1].mean(axis=0)
    for start in range(0, len(mean), _PATCHES_TOGETHER):  # parts stay in the processor's cache
        rows = slice(start, start + _PATCHES_TOGETHER)
        square += second[rows].sum(axis=0)
        variance = second[rows] - mean[rows] * mean[rows]
        usual += np.maximum(variance, 0, out=variance).sum(axis=0)
        between += ((mean[rows] - centre) ** 2).sum(axis=0)
    return usual + between <= _FLAT * square, usual / len(mean)
