"""Moments of patches at one scale or several, with the statistics that comparing them needs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.images.parallel import cores, in_threads
from napari_aeseg.progress import raise_if_stopped
from napari_aeseg.regions.compare.trend import gradient_of, is_volume, relative_centroid
from napari_aeseg.regions.compare.whitening import (
    NoiseModel,
    edge_differences,
    noise_variance,
    quietest,
    sampled_edges,
)
from napari_aeseg.regions.patches.graph import averaged, averaging_matrix, averaging_steps
from napari_aeseg.regions.tree.ward import shared_merges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scipy import sparse

    from napari_aeseg.progress import StopFlag
    from napari_aeseg.regions.patches.graph import RegionGraph
    from napari_aeseg.regions.patches.statistics import PatchStatistics
    from napari_aeseg.regions.tree.ward import SharedMerges


# Products of four of them are finite.
_LARGEST = 1e50
_MODELS = ("full_noise", "local_noise")
_PARTS = ("inverse_deviation", "eigenvalues", "vectors", "covariance")


@dataclass(frozen=True, slots=True)
class FeatureCalibration:
    """How the moments of small patches vary, at the scale at which they were joined.

    Between neighbours that were not joined, there are borders more often than noise: how much noise
    there is has to be known from before.

    Parameters
    ----------
    scale : float
        Patches averaged over.
    contrast : float
        Highest contrast of a feature between patches that are not averaged.
    unit : float
        As of `Moments`.
    floor : ndarray of float32, shape (F,)
        Added to each feature's variance before its logarithm is taken.
    offset, gain : ndarray of float64, shape (2 F,)
        Mean of each number, and 1 over its spread; 0 of a number that is the same everywhere.
    full_noise, local_noise : NoiseModel
        Of all numbers, and of those by which things are told apart.
    """

    scale: float
    contrast: float
    unit: float
    floor: np.ndarray
    offset: np.ndarray
    gain: np.ndarray
    full_noise: NoiseModel
    local_noise: NoiseModel

    @classmethod
    def of(cls, moments: Moments, contrast: float) -> FeatureCalibration:
        """Return what is known from the moments of patches that are not joined yet."""
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
        found = {"floor": self.floor, "offset": self.offset, "gain": self.gain}
        for model in _MODELS:
            found |= {f"{model}/{part}": getattr(getattr(self, model), part) for part in _PARTS}
        return found

    def numbers(self) -> dict[str, float]:
        """Return the plain numbers, by names for `of_parts`."""
        return {"scale": self.scale, "contrast": self.contrast, "unit": self.unit}

    @classmethod
    def of_parts(
        cls, numbers: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> FeatureCalibration:
        """Return what `numbers` and `arrays` were taken from.

        Raises
        ------
        ValueError
            If a number is none that could be there.
        """
        plain = {name: float(numbers[name]) for name in ("scale", "contrast", "unit")}
        if not (1 <= plain["scale"] < np.inf and 0 <= plain["contrast"] < np.inf):
            raise ValueError(f"scale {plain['scale']}, contrast {plain['contrast']}")
        if not 1 / _LARGEST <= plain["unit"] <= _LARGEST:
            raise ValueError(f"unit {plain['unit']}")
        if any(
            not (np.abs(values.astype(np.float64)) <= _LARGEST).all() for values in arrays.values()
        ):
            raise ValueError(f"numbers that are NaN or above {_LARGEST:g}")
        positive = ("floor", "full_noise/inverse_deviation", "local_noise/inverse_deviation")
        if any((arrays[name] <= 0).any() for name in positive) or (arrays["gain"] < 0).any():
            raise ValueError("noise, or what is added to it, is not above 0")
        full_noise, local_noise = (
            NoiseModel(*(arrays[f"{model}/{part}"] for part in _PARTS)) for model in _MODELS
        )
        floor, offset, gain = (arrays[name] for name in ("floor", "offset", "gain"))
        scale, contrast, unit = plain.values()
        return cls(scale, contrast, unit, floor, offset, gain, full_noise, local_noise)


# Below the scale of textures, regions are told apart by the image and the first level alone: what
# deeper levels see reaches across borders.
_DEEPEST_LEVEL_OF_FINE_REGIONS = 1
# Part of a feature's mean variance that is added before the logarithm: without it, the difference
# between nearly flat and quite flat patches would outweigh all others.
_FLOOR = 0.1
# A feature whose variance is a smaller part of its mean square than this is the same everywhere:
# rounding in float32 makes up to 1e-6 of it.
_FLAT = 1e-5
# Patches that are enough to know how features vary; of more, every so many-th is taken.
_ENOUGH_PATCHES = 8_192
# Patches worked on together, and in one thread; features averaged together.
_TOGETHER, _ROWS, _FEATURES = 1024, 8192, 32
# MomentsCache whose moments are kept besides 1.
_SCALES_KEPT = 2


class Moments:
    """Mean and energy of each feature at one scale, standardised and without light gradient.

    Nothing in it depends on how features are weighted. What is standardised is never stored: it
    is a linear map of `centred` and the places of patches, joined to whatever map comes next.

    Parameters
    ----------
    level : ndarray of int, shape (F,)
        Which level each feature comes from.
    place : ndarray of float64, shape (P, ndim)
        From `relative_centroid`.
    edges : ndarray of int, shape (E, 2)
    both : ndarray of float32, shape (P, 2 F)
        Mean features and mean squared features, averaged over `scale` patches; written to.
    scale : float
    stop : StopFlag, optional
    known : FeatureCalibration, optional
        Of patches that were joined to these: how they are standardised, and their noise.

    Attributes
    ----------
    centred : ndarray of float32, shape (P, D)
        Mean and log-energy of each feature, less its average over the image.
    shallow : ndarray of bool, shape (D,)
        What things are told apart by.
    full_noise, local_noise : NoiseModel
        Of all numbers, and of the shallow ones.
    floor : ndarray of float32, shape (F,)
        Added to each feature's variance before its logarithm was taken.
    unit : float
        The usual noise of the means that things are told apart by.
    """

    def __init__(
        self,
        level: np.ndarray,
        place: np.ndarray,
        edges: np.ndarray,
        both: np.ndarray,
        scale: float,
        stop: StopFlag | None = None,
        known: FeatureCalibration | None = None,
    ) -> None:
        self.scale = float(scale)
        self.shallow = np.tile(is_shallow(level), 2)
        flat, self.floor = _mean_and_energy(both, None if known is None else known.floor)
        self.centred = both
        raise_if_stopped(stop, "tree")
        sample = slice(None, None, len(both) // _ENOUGH_PATCHES | 1)  # odd: rows are even
        if known is None:
            self.offset = self.centred[sample].mean(axis=0)
        else:
            self.offset = known.offset.astype(np.float32)
        self.centred -= self.offset
        if known is None:
            spread = self.centred[sample].std(axis=0, dtype=np.float64)
            spread[np.tile(flat, 2) | (spread == 0)] = np.inf
        else:
            spread = np.full(len(known.gain), np.inf)
            np.divide(1, known.gain, out=spread, where=known.gain > 0)
        self.spread = spread
        raise_if_stopped(stop, "tree")
        edges = sampled_edges(edges)
        difference = edge_differences(self.centred, edges)
        self._place = place
        if known is None:
            self.unit = _unit(difference[:, : len(level)][:, self.shallow[: len(level)]])
        else:
            self.unit = known.unit
        difference /= spread
        values = self.centred[sample] * (1 / spread).astype(np.float32)
        step = edge_differences(place, edges)
        self._slope = gradient_of(difference, step, values, place[sample])
        if known is not None:
            self.full_noise, self.local_noise = known.full_noise, known.local_noise
            return
        if self._slope.any():
            difference -= step @ self._slope
            values -= (place[sample] @ self._slope).astype(np.float32)
        raise_if_stopped(stop, "tree")
        self.full_noise = self.local_noise = NoiseModel.of(difference, values)
        if not self.shallow.all():
            raise_if_stopped(stop, "tree")
            self.local_noise = NoiseModel.of(difference[:, self.shallow], values[:, self.shallow])

    @property
    def raw(self) -> np.ndarray:
        """Mean and log-energy of each feature, shape (P, D)."""
        return self.centred + self.offset

    def map_of(self, white: np.ndarray) -> np.ndarray:
        """Return a map of standardised numbers as one from `raw`."""
        return white / self.spread[:, np.newaxis]

    def map_of_things(self) -> np.ndarray:
        """Return the map from `raw` to where patches are compared as things, shape (D, E)."""
        white = self.local_noise.map(1.0, np.ones(int(self.shallow.sum())))
        full = np.zeros((len(self.spread), white.shape[1]))
        full[self.shallow] = white
        return self.map_of(full)

    def positions(self, white: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return standardised numbers (the chosen ones) times `white`, float32, shape (P, E)."""
        full = np.zeros((len(self.spread), white.shape[1]))
        full[chosen] = white
        matrix = self.map_of(full).astype(np.float32)
        slope = (self._slope @ full).astype(np.float32)
        found = np.empty((len(self.centred), white.shape[1]), np.float32)

        def work(rows: slice) -> None:
            np.matmul(self.centred[rows], matrix, out=found[rows])
            if slope.any():
                found[rows] -= self._place[rows].astype(np.float32) @ slope

        parts = (slice(i, i + _ROWS) for i in range(0, len(found), _ROWS))
        deque(in_threads(work, parts, min(2, cores()) if len(found) > _ROWS else 1), maxlen=0)
        return found


class MomentsCache:
    """Moments of one image at the scales asked for so far; those of a few scales are kept.

    Hierarchies of the same patches with different weights share one.

    Parameters
    ----------
    statistics : PatchStatistics
    graph : RegionGraph
    time : int, optional
        Which axis is time. What neighbours differ by is then looked at within frames: from frame to
        frame it is mostly the same texture in the same place, not another piece of it.
    known : FeatureCalibration, optional
        Of patches that were joined to these. They are averaged then, at the scale of that and no
        other: what is asked for at another scale is answered with it.

    Examples
    --------
    >>> import napari_aeseg as aeseg
    >>> image = np.random.default_rng(0).random((64, 64))
    >>> model = aeseg.train(image, params=aeseg.TrainingParams(steps=1, width=2), device="cpu")
    >>> tree = aeseg.build_hierarchy(image, model, device="cpu")
    >>> scales = MomentsCache(tree.statistics, tree.graph)
    >>> scales.at(6.0) is scales.at(6.0)
    True
    """

    def __init__(
        self,
        statistics: PatchStatistics,
        graph: RegionGraph,
        time: int | None = None,
        known: FeatureCalibration | None = None,
    ) -> None:
        self._statistics, self._graph = statistics, graph
        self.known = known
        self._edges = graph.edges if time is None else _within_frames(statistics, graph, time)
        self._matrix: sparse.csr_array | None = None
        self._shallow: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._kept: dict[float, Moments] = {}
        self._models: dict[float, NoiseModel] = {}
        self._shared: list[SharedMerges | None] = []

    def at(self, scale: float, stop: StopFlag | None = None) -> Moments:
        """Return the moments averaged over `scale` patches."""
        scale = scale if self.known is None else self.known.scale
        found = self._kept.get(scale)
        if found is None:
            found = self._made(scale, stop)
            others = [s for s in list(self._kept) if s != 1]
            for old in others[: max(0, len(others) + 1 - _SCALES_KEPT)] if scale != 1 else []:
                self._kept.pop(old, None)
            self._kept[scale] = found
        return found

    def noise_at(self, scale: float, stop: StopFlag | None = None) -> NoiseModel:
        """Return how numbers vary at a scale whose moments need not be kept."""
        if scale not in self._models:
            scale = scale if self.known is None else self.known.scale
            kept = self._kept.get(scale)
            if kept is None and self._graph.number > 3 * _ENOUGH_PATCHES and 1 < scale <= 6:
                kept = self._of_some(scale, stop)
            self._models[scale] = (kept or self._made(scale, stop)).full_noise
        return self._models[scale]

    def _of_some(self, scale: float, stop: StopFlag | None) -> Moments:
        """Moments of no more patches than are looked at, at a scale of direct neighbours."""
        given, edges = self._statistics, sampled_edges(self._edges)
        sample = np.arange(0, self._graph.number, self._graph.number // _ENOUGH_PATCHES | 1)
        rows, place = np.unique(np.concatenate([edges.ravel(), sample]), return_inverse=True)
        matrix = self._averaging()[rows]
        both = np.empty((len(rows), 2 * len(given.level)), np.float32)
        where = relative_centroid(given.centroid)
        part = np.float32(min(1.0, averaging_steps(self._graph, scale, is_volume(where))))
        for values, into in zip((given.mean, given.second), np.split(both, 2, axis=1), strict=True):
            raise_if_stopped(stop, "tree")
            own = values[rows]
            into[:] = own + part * (matrix @ values - own)
        edges = place[: edges.size].reshape(edges.shape)
        return Moments(given.level, where[rows], edges, both, scale, stop)

    def _averaging(self) -> sparse.csr_array:
        if self._matrix is None:
            self._matrix = averaging_matrix(self._graph, self._statistics.count, np.float32)
        return self._matrix

    def shared_merges(self, stop: StopFlag | None = None) -> SharedMerges | None:
        """Return the merges of patches that look alike as they are, at no other weight or scale."""
        if not self._shared:
            fine = self.at(1.0, stop)
            even = np.ones(int(fine.shallow.sum()))
            positions = fine.positions(fine.local_noise.map(1.0, even), fine.shallow)
            count, edges = self._statistics.count, self._graph.edges
            self._shared.append(shared_merges(edges, positions, count, stop))
        return self._shared[0]

    def shallow_at(self, scale: float, stop: StopFlag | None = None) -> Moments:
        """Return the moments of the shallow features alone: a sixth of them all.

        At scale 1, and of patches that were joined, all are known anyway, and returned.
        """
        if scale == 1 or self.known is not None:
            return self.at(scale, stop)
        given = self._statistics
        if self._shallow is None:
            shallow = is_shallow(given.level)
            self._shallow = given.level[shallow], given.mean[:, shallow], given.second[:, shallow]
        return self._moments(*self._shallow, scale, stop)

    def _made(self, scale: float, stop: StopFlag | None) -> Moments:
        given = self._statistics
        return self._moments(given.level, given.mean, given.second, scale, stop)

    def _moments(
        self,
        level: np.ndarray,
        mean: np.ndarray,
        second: np.ndarray,
        scale: float,
        stop: StopFlag | None,
    ) -> Moments:
        place = relative_centroid(self._statistics.centroid)
        steps = averaging_steps(self._graph, scale, is_volume(place)) if self.known is None else 0
        both = np.empty((len(mean), 2 * len(level)), np.float32)
        halves = both[:, : len(level)], both[:, len(level) :]
        if steps and len(self._graph.edges):
            matrix = self._averaging()

            def fill(part: tuple[np.ndarray, np.ndarray]) -> None:
                part[0][:] = averaged(matrix, part[1], steps, stop)

            # A few features at a time: what is worked on is copied.
            work = (
                (into[:, i : i + _FEATURES], values[:, i : i + _FEATURES])
                for into, values in zip(halves, (mean, second), strict=True)
                for i in range(0, len(level), _FEATURES)
            )
            deque(in_threads(fill, work, min(2, cores())), maxlen=0)
        else:
            halves[0][:], halves[1][:] = mean, second
        return Moments(level, place, self._edges, both, scale, stop, self.known)


def _within_frames(statistics: PatchStatistics, graph: RegionGraph, time: int) -> np.ndarray:
    """Edges between patches of one frame; all where there are none."""
    when = statistics.centroid[:, time]
    # Patches joined to larger ones may reach into the next frame.
    within = graph.edges[np.abs(when[graph.edges[:, 0]] - when[graph.edges[:, 1]]) < 0.5]
    return within if len(within) else graph.edges


def is_shallow(level: np.ndarray) -> np.ndarray:
    """Which features things are told apart by: of the image and the first level."""
    return level <= max(_DEEPEST_LEVEL_OF_FINE_REGIONS, int(level.min()))


def _mean_and_energy(
    both: np.ndarray, floor: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Turn second moments into logarithms of variances; return which features are flat, the floor.

    The floor is what is added to each variance before the logarithm.
    """
    mean, second = np.split(both, 2, axis=1)
    usual, square = np.zeros(mean.shape[1]), np.zeros(mean.shape[1])
    parts = [slice(i, i + _TOGETHER) for i in range(0, len(mean), _TOGETHER)]
    for rows in parts:  # that stay in the processor's cache
        here = second[rows]
        square += here.sum(axis=0)
        here -= mean[rows] * mean[rows]
        np.maximum(here, 0, out=here)
        usual += here.sum(axis=0)
    usual /= len(mean)
    flat = usual + mean.var(axis=0) <= _FLAT * square / len(mean)
    if floor is None:
        floor = (_FLOOR * usual + np.finfo(np.float32).tiny).astype(np.float32)
    for rows in parts:
        second[rows] += floor
        np.log(second[rows], out=second[rows])
    return np.asarray(flat), floor


def _unit(difference: np.ndarray) -> float:
    """Geometric mean of the noise."""
    return float(np.exp(np.log(noise_variance(quietest(difference))).mean() / 2))
