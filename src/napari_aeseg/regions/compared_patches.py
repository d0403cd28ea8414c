"""Patches compared in one way: the descriptor, the merge tree, and the thresholds of its merges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.images.parallel import one_blas_thread
from napari_aeseg.regions.compare.descriptor import Descriptor, describe, is_coarse
from napari_aeseg.regions.compare.whitening import whitening_within_regions
from napari_aeseg.regions.cuts.classes import BASE_REGIONS, class_tree
from napari_aeseg.regions.cuts.minimum_size import without_small_regions
from napari_aeseg.regions.tree.contrast import merged_by_contrast
from napari_aeseg.regions.tree.merge_tree import (
    SMALLEST_THRESHOLD,
    MergeTree,
    cost_of,
    threshold_of,
)
from napari_aeseg.regions.tree.ward import ward_tree

if TYPE_CHECKING:
    from napari_aeseg.params import ComparisonParams
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.regions.compare.moments import MomentsCache
    from napari_aeseg.regions.patches.graph import RegionGraph
    from napari_aeseg.regions.patches.statistics import PatchStatistics

# Patches that a region has on average, at least, where it tells what varies within regions.
_PATCHES_OF_REGION = 12
_FEWEST_REGIONS = 8


@dataclass(eq=False)
class ComparedPatches:
    """The patches of one image, compared in one way; computed when it is needed."""

    statistics: PatchStatistics
    graph: RegionGraph
    size: np.ndarray  # of each patch in units of the average patch, shape (P,)
    params: ComparisonParams
    moments: MomentsCache
    ward: MergeTree | None = None  # merges in the order of Ward's criterion
    descriptor: Descriptor | None = None
    _tree: MergeTree | None = None
    # The smallest region in pixels, and what `without_small_regions` returns for it.
    _large: tuple[int, np.ndarray, MergeTree] | None = None

    def described(self, stop: StopFlag | None = None) -> Descriptor:
        """Return the descriptor; `stop` is checked while it is computed."""
        if self.descriptor is None:
            with one_blas_thread():
                self.descriptor = describe(
                    self.statistics, self.graph, self.params, stop, self.moments
                )
        return self.descriptor

    def merged_by_ward(self, stop: StopFlag | None = None) -> MergeTree:
        """Return the merge tree in the order in which it is built: base classes are cut from it."""
        if self.ward is None:
            positions, shared = self.described(stop).values, self.described().shared_merges
            self.ward = ward_tree(self.graph.edges, positions, self.size, stop, shared)
        return self.ward

    def merged(self, stop: StopFlag | None = None) -> MergeTree:
        """Return the merge tree that regions are cut from; `stop` is checked while it is built."""
        if self._tree is None:
            ward = self.merged_by_ward(stop)
            positions, graph = self.described().values, self.graph
            # Averages over many patches have no sharp borders; by what is left of contrast, single
            # bricks would come before two textures.
            self._tree = (
                ward.ordered_by_area()
                if is_coarse(self.described().scale)
                else merged_by_contrast(ward, graph.edges, graph.border, positions, stop)
            )
        return self._tree

    def merged_above(self, min_size: int) -> tuple[np.ndarray, MergeTree]:
        """Return the tree of regions of at least `min_size` pixels, and the leaf of each patch."""
        if self._large is None or self._large[0] != min_size:
            pixels = self.statistics.count
            large = without_small_regions(self.merged(), self.graph, pixels, min_size)
            self._large = min_size, *large
        return self._large[1:]

    @property
    def merges(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Children and cost of the tree by Ward's criterion; None before it is built."""
        return None if self.ward is None else (self.ward.children, self.ward.cost)

    @cached_property
    def base_classes(self) -> tuple[np.ndarray, MergeTree]:
        """Base region of each patch, and the tree that groups them; see `class_tree`."""
        positions, within = self.described().appearance, self.whitening_of_classes
        if within is not None:
            positions = positions @ within.astype(np.float32)
        return class_tree(self.merged_by_ward(), positions, self.size)

    @cached_property
    def whitening_of_classes(self) -> np.ndarray | None:
        """Map from `Descriptor.appearance` to where classes are compared, (E, E); None if equal."""
        if self.params.whitening == "neighbours":
            return None
        tree, positions = self.merged_by_ward(), self.described().appearance
        number = max(min(BASE_REGIONS, tree.leaves // _PATCHES_OF_REGION), _FEWEST_REGIONS)
        region = tree.cut(min(number, tree.leaves)) - 1
        return whitening_within_regions(positions, region, self.size)

    def whitened_otherwise(self, params: ComparisonParams) -> ComparedPatches:
        """Return the same descriptor and trees with `params` that differ in the whitening only."""
        return replace(self, params=params)

    @cached_property
    def merge_thresholds(self) -> np.ndarray:
        """The largest threshold at which each merge is not done yet, shape (P - 1,)."""
        return threshold_of(self.merged().cost, self.described().unit)

    @cached_property
    def edge_strength(self) -> np.ndarray:
        """The threshold at which both ends of each edge become one region, shape (E,)."""
        return self.merge_thresholds[self.merged().merges_joining(self.graph.edges)]

    def merge_heights(self, group: np.ndarray, number: int) -> np.ndarray:
        """Return the threshold at which a part of each group first merges with another group.

        Groups are 0 .. number - 1 by patch, shape (P,); 1 for the only group.
        """
        first = self.merged().merges_leaving(group, number)
        return np.append(self.merge_thresholds, 1.0)[first]

    def n_regions_at(self, threshold: float, min_size: int = 1) -> int:
        """Return how many regions a threshold from 0 to 1 leaves."""
        _, tree = self.merged_above(min_size)
        return tree.count_below(cost_of(threshold, self.described().unit))

    def threshold_at(self, n_regions: int, min_size: int = 1) -> float:
        """Return the smallest threshold that leaves at most `n_regions` regions."""
        _, tree = self.merged_above(min_size)
        if n_regions >= tree.leaves:
            return 0.0
        threshold = float(threshold_of(tree.cost[-n_regions], self.described().unit))
        # Rounded down by a few units in the last place at most.
        while self.n_regions_at(threshold, min_size) > n_regions:
            threshold = max(float(np.nextafter(threshold, 1)), SMALLEST_THRESHOLD)
        return threshold
