"""The descriptor: positions by which patches are compared, assembled from their moments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.params import ComparisonParams
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.compare.auto_scale import auto_scale, colour_map
from napari_aeseg.regions.compare.borders import refine_boundaries
from napari_aeseg.regions.compare.moments import LogMoments, MomentsCache

if TYPE_CHECKING:
    from napari_aeseg.regions.patches.graph import RegionGraph
    from napari_aeseg.regions.patches.statistics import PatchStatistics
    from napari_aeseg.regions.tree.ward import SharedMerges

# Scale from which patches are compared as parts of textures.
_COARSE = 3.5
# Tolerance (see `whitening`) where neighbouring regions are compared.
_TOLERANCE = 1.0
# Highest contrast of a feature at which the tolerance of classes is 1; it grows with the square.
_CONTRAST = 10.0
# Above this contrast there is no texture at all: only borders have energy.
_NO_TEXTURE = 200.0
_DEFAULTS = ComparisonParams()


@dataclass(frozen=True)
class Descriptor:
    """Positions of patches in the spaces in which they are compared.

    The noise between neighbouring patches of one texture has about unit variance in every direction
    of `values`. Patches averaged over many do not show the finest merges: a tree begins with
    `shared_merges` then.
    """

    values: np.ndarray  # float32, shape (P, E): neighbouring regions are compared by these
    scale: float  # patches averaged over; "auto" is resolved
    unit: float  # geometric mean of the noise: one unit of `values` in the encoder's units
    cache: MomentsCache
    tolerance: float  # of the whitening by which appearance is compared across the image
    weight: np.ndarray  # importance of each number, shape (D,)
    level: np.ndarray  # of each feature, shape (F,)
    shared_merges: SharedMerges | None = None

    @property
    def moments(self) -> LogMoments:
        """Moments of the patches, averaged over `scale` of them."""
        return self.cache.at(self.scale)

    @cached_property
    def raw(self) -> np.ndarray:
        """Mean and log-energy of each feature, averaged over neighbours, float32, shape (P, D)."""
        return self.moments.raw

    @cached_property
    def whitening(self) -> np.ndarray:
        """Map from `raw` to the space in which appearance is compared, float64, shape (D, E2)."""
        return self.moments.map_of(self._white)

    @cached_property
    def appearance(self) -> np.ndarray:
        """Positions by which regions are grouped into classes, float32, shape (P, E3)."""
        return self.values if is_coarse(self.scale) else self.moments.positions(self._white)

    @cached_property
    def _white(self) -> np.ndarray:
        """The map on standardised values: mean colours as they are beside whitened texture.

        Whitened as well, colours would lose what dominates an image.
        """
        moments, is_colour = self.moments, colour_of(self.level)
        if is_coarse(self.scale):
            return moments.full_noise.map(self.tolerance, self.weight)
        colour = colour_map(moments, self.level) * self.weight[is_colour].max(initial=0)
        texture = moments.full_noise.map(self.tolerance, np.where(is_colour, 0, self.weight))
        parts = [part for part in (colour, texture) if part.any()]
        return np.concatenate(parts, axis=1) if parts else texture


def describe(
    statistics: PatchStatistics,
    graph: RegionGraph,
    comparison: ComparisonParams = _DEFAULTS,
    stop: StopFlag | None = None,
    cache: MomentsCache | None = None,
) -> Descriptor:
    """Assemble the descriptor of every patch.

    Each feature gives two numbers, its mean and the logarithm of its variance ("energy"), both
    over the patch and its neighbours. A gradient of light along the image is removed, and the whole
    is whitened by the differences between neighbouring patches. Ward's criterion on whitened
    positions is a likelihood-ratio test for "same texture".

    Whitening helps where differences are small beside the noise. Where the contrast of single
    features is high, parts of one phase differ by more than noise, and whitening would stretch most
    the directions that say least: there, classes are compared by features divided by their own
    noise.

    A balance of 0 compares brightness and colour (means of level 0) only, 1 texture (all the rest)
    only. The scale "auto" is that of `auto_scale`.

    InputError is raised if only brightness is to be compared and level 0 is not among the features.
    """
    cache = MomentsCache(statistics, graph) if cache is None else cache
    level = statistics.level
    scale, tolerance, weight = resolve_comparison(level, cache, comparison, stop)
    if not is_coarse(scale):
        values, unit = _local_positions(cache, scale, weight, stop)
        return Descriptor(values, scale, unit, cache, tolerance, weight, level)
    moments = cache.at(scale, stop)
    if cache.calibration is not None:  # borders were refined before patches were joined
        values = moments.positions(moments.full_noise.map(_TOLERANCE, weight))
        return Descriptor(values, scale, moments.unit, cache, _TOLERANCE, weight, level)
    fine, shared = cache.at(1.0, stop), cache.shared_merges(stop)
    raise_if_stopped(stop, "tree")
    values = moments.positions(moments.full_noise.map(_TOLERANCE, weight))
    raise_if_stopped(stop, "tree")
    single = fine.positions(fine.full_noise.map(_TOLERANCE, weight))
    raise_if_stopped(stop, "tree")
    values, part = refine_boundaries(values, single, graph.edges, statistics.count, stop, shared)
    shared = None if shared is None else shared.within(part)  # none across sharp borders
    return Descriptor(values, scale, moments.unit, cache, _TOLERANCE, weight, level, shared)


def resolve_comparison(
    level: np.ndarray,
    cache: MomentsCache,
    comparison: ComparisonParams,
    stop: StopFlag | None = None,
) -> tuple[float, float, np.ndarray]:
    """Return the scale, with "auto" resolved, tolerance of classes, and weight of each number."""
    balance, scale = comparison.balance, comparison.scale
    if balance == 0 and not (level == 0).any():
        raise InputError(
            "balance = 0 compares brightness and colour only, which are level 0. Add level 0 to "
            "the levels, or raise the balance."
        )
    is_colour = colour_of(level)
    weight = np.where(is_colour, 2 * (1 - balance), 2 * balance)
    contrast = contrast_of(cache, stop)
    tolerance = (contrast / _CONTRAST) ** 2  # no fixed tolerance suits all images
    if scale == "auto":
        if cache.auto_scale is None:
            joined = cache.calibration
            cache.auto_scale = auto_scale(level, cache, stop) if joined is None else joined.scale
        scale = cache.auto_scale
    if contrast > _NO_TEXTURE and balance < 1:
        weight[len(level) :] = 0  # pure colours: 1.06 of the clean score instead of .85
    return float(scale), tolerance, weight


def colour_of(level: np.ndarray) -> np.ndarray:
    """Return which numbers of a descriptor are mean colours, bool, shape (D,)."""
    return np.concatenate([level == 0, np.zeros(len(level), bool)])


def contrast_of(cache: MomentsCache, stop: StopFlag | None = None) -> float:
    """Return the highest contrast of a feature between patches that are not averaged."""
    if cache.calibration is not None:
        return cache.calibration.contrast
    return cache.at(1.0, stop).full_noise.highest_contrast()


def is_coarse(scale: float) -> bool:
    """Return whether patches are compared as parts of textures, by all features."""
    return scale >= _COARSE


def _local_positions(
    cache: MomentsCache, scale: float, weight: np.ndarray, stop: StopFlag | None
) -> tuple[np.ndarray, float]:
    """Positions by shallow features, which do not see across borders, and their unit."""
    moments = cache.shallow_at(scale, stop)  # a sixth of the features: 0.07, not 0.48 s
    raise_if_stopped(stop, "tree")
    shallow = cache.at(1.0).shallow  # by all levels, photographs reach .55 instead of .58
    if not weight[shallow].any():
        moments = cache.at(scale, stop)
        return moments.positions(moments.full_noise.map(_TOLERANCE, weight)), moments.unit
    white = moments.local_noise.map(_TOLERANCE, weight[shallow])
    return moments.positions(white, moments.shallow), moments.unit
