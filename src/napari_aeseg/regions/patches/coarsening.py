"""Patch coarsening: patches of one block that look alike are joined to larger ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.regions.compare.borders import refine_boundaries
from napari_aeseg.regions.compare.descriptor import contrast_of, is_coarse, resolve_comparison
from napari_aeseg.regions.compare.moments import FeatureCalibration, MomentsCache
from napari_aeseg.regions.compare.trend import is_volume, relative_centroid
from napari_aeseg.regions.patches.graph import (
    RegionGraph,
    averaged,
    averaging_matrix,
    averagings_for_scale,
)
from napari_aeseg.regions.patches.statistics import PatchStatistics, region_means
from napari_aeseg.regions.tree.ward import SharedMerges

if TYPE_CHECKING:
    from napari_aeseg.params import ComparisonParams
    from napari_aeseg.progress import StopFlag


@dataclass(frozen=True, slots=True)
class PatchCoarsening:
    """How the patches of a block are joined to larger ones, the same for all blocks of an image.

    Neighbours are joined by Ward's criterion in the space in which the whole image would be
    compared: by shallow features, or by all of them, averaged over neighbours and with refined
    borders. That space is estimated once, from parts of the image. The statistics of a larger patch
    are means of the values that are compared, so that the tree of the whole image continues as if
    the patches had been joined in it.

    Patches that simply grow with the image are much worse: on 16 mosaics of three textures, 1536 x
    1536 pixels, the covering of regions is .10 / .12 / .13 / .17 for patches of 500 / 1000 / 2000 /
    4500 pixels (at best .43 / .38 / .30 / .33, with another scale), against .41 / .47 / .51 / .53.

    `projection`, float32, shape (2 F, E), leads from means and log-variances, averaged over
    `calibration.scale` patches, to positions. `single_projection` and `single_floor` are those of
    single patches, not averaged, to positions by which borders are refined; it has no columns where
    they are not.
    """

    calibration: FeatureCalibration  # of the patches before it
    pixels_per_patch: float  # of an average patch after it
    projection: np.ndarray
    single_floor: np.ndarray
    single_projection: np.ndarray

    @classmethod
    def estimate(
        cls,
        parts: Sequence[tuple[PatchStatistics, RegionGraph]],
        pixels_per_patch: float,
        comparison: ComparisonParams,
        time: int | None = None,
        stop: StopFlag | None = None,
    ) -> PatchCoarsening:
        """Estimate from some parts of an image; parameters as of `describe` and `MomentsCache`."""
        statistics, graph = side_by_side(parts)
        cache = MomentsCache(statistics, graph, time)
        scale, _, weight = resolve_comparison(statistics.level, cache, comparison, stop)
        moments = cache.at(scale, stop)
        calibration = FeatureCalibration.of(moments, contrast_of(cache, stop))
        fine = cache.at(1.0, stop)
        single_projection = np.zeros((len(moments.spread), 0))
        if is_coarse(scale):
            projection, single_projection = (
                m.map_of(m.full_noise.map(1.0, weight)) for m in (moments, fine)
            )
        else:
            projection = moments.map_of_shallow()
        return cls(
            calibration,
            pixels_per_patch,
            projection.astype(np.float32),
            fine.floor,
            single_projection.astype(np.float32),
        )

    def coarsened(
        self, statistics: PatchStatistics, graph: RegionGraph, stop: StopFlag | None = None
    ) -> tuple[np.ndarray, PatchStatistics]:
        """Return the larger patch (P,) that each patch becomes part of, and statistics of these.

        Variances are those whose logarithm is the mean of that of their parts, averaged over
        `calibration.scale` patches, at `calibration.floor`.
        """
        mean, second = self._averaged(statistics, graph, stop)
        energy = _energy(mean, second, self.calibration.floor)
        number = max(1, round(float(statistics.count.sum()) / self.pixels_per_patch))
        region = np.arange(graph.number)
        if number < graph.number:
            positions = np.concatenate([mean, energy], axis=1) @ self.projection
            if self.single_projection.shape[1]:
                energies = _energy(statistics.mean, statistics.second, self.single_floor)
                single = np.concatenate([statistics.mean, energies], axis=1)
                single = single @ self.single_projection
                positions, _ = refine_boundaries(  # as `describe` does for a whole image
                    positions, single, graph.edges, statistics.count, stop
                )
            region = SharedMerges.down_to(
                graph.edges, positions, statistics.count, number, stop
            ).region
        return region, _joined_patches(statistics, mean, energy, self.calibration.floor, region)

    def _averaged(
        self, statistics: PatchStatistics, graph: RegionGraph, stop: StopFlag | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means and mean squares of features, averaged over neighbouring patches."""
        volume = is_volume(relative_centroid(statistics.centroid))
        n_averagings = averagings_for_scale(graph, self.calibration.scale, volume)
        if not n_averagings or not len(graph.edges):
            return statistics.mean, statistics.second
        # In float32, as the moments are: float64 would double their memory.
        matrix = averaging_matrix(graph, statistics.count, np.float32)
        return (
            averaged(matrix, statistics.mean, n_averagings, stop),
            averaged(matrix, statistics.second, n_averagings, stop),
        )


def _energy(mean: np.ndarray, second: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Logarithms of variances."""
    # Rounding makes the variances of flat patches negative.
    energy: np.ndarray = np.log(np.maximum(second - mean * mean, 0) + floor)
    return energy


def _joined_patches(
    statistics: PatchStatistics,
    mean: np.ndarray,
    energy: np.ndarray,
    floor: np.ndarray,
    region: np.ndarray,
) -> PatchStatistics:
    """Statistics of regions 0 .. R-1 that patches with these moments are joined to."""
    weight = statistics.count

    def means(values: np.ndarray) -> np.ndarray:
        return region_means(values, region, weight)

    mean = means(mean).astype(np.float32)
    variance = np.maximum(np.exp(means(energy)) - floor, 0)  # rounding may leave it below 0
    return PatchStatistics(
        np.bincount(region, weight),
        mean,
        (mean * mean + variance).astype(np.float32),
        statistics.level,
        means(statistics.centroid),
        means(statistics.intensity),
    )


def side_by_side(
    parts: Sequence[tuple[PatchStatistics, RegionGraph]],
) -> tuple[PatchStatistics, RegionGraph]:
    """Return several parts as one, without edges between them."""
    offsets = np.cumsum([0, *(graph.number for _, graph in parts)])
    # Offsets have one number more than there are parts.
    edges = [graph.edges + k for k, (_, graph) in zip(offsets, parts, strict=False)]

    by_patch = {
        name: np.concatenate([getattr(statistics, name) for statistics, _ in parts])
        for name in ("count", "mean", "second", "centroid", "intensity")
    }
    statistics = PatchStatistics(level=parts[0][0].level, **by_patch)
    border = np.concatenate([graph.border for _, graph in parts])
    return statistics, RegionGraph(int(offsets[-1]), np.concatenate(edges), border)
