"""Fewer patches: those of one block that look alike are joined before the blocks are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.regions.borders import region_means
from napari_aeseg.regions.early import EarlyMerges
from napari_aeseg.regions.graph import RegionGraph
from napari_aeseg.regions.moments import Scales
from napari_aeseg.regions.statistics import PatchStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the patches of a block are joined to larger ones, the same for all blocks of an image.

    Neighbours that look most alike are joined, by Ward's criterion in the space in which things are
    told apart. That space is estimated from parts of the image, once.

    Parameters
    ----------
    pixels : float
        Of an average patch after it.
    floor : ndarray of float32, shape (F,)
        Added to variances before their logarithm is taken.
    matrix : ndarray of float32, shape (2 F, E)
        From means and log-variances to positions.
    """

    pixels: float
    floor: np.ndarray
    matrix: np.ndarray

    @classmethod
    def estimated(
        cls, parts: Sequence[tuple[PatchStatistics, RegionGraph]], pixels: float
    ) -> Reduction:
        """Estimate from some parts of an image."""
        statistics, graph = side_by_side(parts)
        moments = Scales(statistics, graph).at(1.0)
        return cls(pixels, moments.floor, moments.map_of_things().astype(np.float32))

    def region_of_patch(self, statistics: PatchStatistics, graph: RegionGraph) -> np.ndarray:
        """Return which of the larger patches each patch becomes a part of, shape (P,)."""
        number = max(1, round(float(statistics.count.sum()) / self.pixels))
        if number >= graph.number:
            return np.arange(graph.number)
        variance = np.maximum(statistics.second - statistics.mean**2, 0)
        raw = np.concatenate([statistics.mean, np.log(variance + self.floor)], axis=1)
        return EarlyMerges.found(graph.edges, raw @ self.matrix, statistics.count, number).region


def joined_patches(statistics: PatchStatistics, region: np.ndarray) -> PatchStatistics:
    """Return the statistics of regions 0 .. R-1 that patches are joined to, region (P,)."""
    weight = statistics.count

    def means(values: np.ndarray) -> np.ndarray:
        return region_means(values, region, weight)

    return PatchStatistics(
        np.bincount(region, weight),
        means(statistics.mean).astype(np.float32),
        means(statistics.second).astype(np.float32),
        statistics.level,
        means(statistics.centroid),
        means(statistics.intensity),
    )


def side_by_side(
    parts: Sequence[tuple[PatchStatistics, RegionGraph]],
) -> tuple[PatchStatistics, RegionGraph]:
    """Return several parts as one, without edges between them."""
    offsets = np.cumsum([0, *(graph.number for _, graph in parts)])
    edges = [graph.edges + k for k, (_, graph) in zip(offsets, parts, strict=False)]

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(statistics, name) for statistics, _ in parts])

    level = parts[0][0].level
    statistics = PatchStatistics(
        all_of("count"), all_of("mean"), all_of("second"), level, all_of("centroid"),
        all_of("intensity"),
    )  # fmt: skip
    border = np.concatenate([graph.border for _, graph in parts])
    return statistics, RegionGraph(int(offsets[-1]), np.concatenate(edges), border)
