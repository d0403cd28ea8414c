"""The descriptor: positions by which patches are compared, assembled from their moments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.params import ComparisonParams
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.compare.borders import refine_boundaries
from napari_aeseg.regions.compare.moments import LogMoments, MomentsCache

if TYPE_CHECKING:
    from napari_aeseg.regions.patches.graph import RegionGraph
    from napari_aeseg.regions.patches.statistics import PatchStatistics
    from napari_aeseg.regions.tree.ward import SharedMerges

# "auto" averages over six patches and measures how much the contrast grows. If neighbouring patches
# of a texture are independent draws, it grows with their number, else it hardly does. From this
# growth on, the image shows textures and gets this scale.
# Measured: 3.0 to 6.5 for textures, 1.1 to 2.4 for structures (docs/how_it_works.md).
_GROWTH_OF_TEXTURES, _SCALE_OF_TEXTURES = 2.7, 16.0
# Where a feature has a contrast above this, patches need no averaging.
_CLEAR = 25.0
# Scale from which patches are compared as parts of textures.
_COARSE = 3.5
# Tolerance (see `whitening`) where neighbouring regions are compared.
_TOLERANCE = 1.0
# Above this contrast there is no texture at all: only borders have energy.
_NO_TEXTURE = 1000.0
# Highest contrast of a feature at which the tolerance of classes is 1; it grows with the square.
_CONTRAST = 10.0
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
        return self.moments.full_noise.map(self.tolerance, self.weight)


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
    only. The scale "auto" takes 16 patches for textures: where no feature has a variance of 25
    times its noise, and the largest variance between patches in units of the noise grows by more
    than 2.7 when six are averaged. Else it takes 1.

    InputError is raised if only brightness is to be compared and level 0 is not among the features.
    """
    cache = MomentsCache(statistics, graph) if cache is None else cache
    scale, tolerance, weight = resolve_comparison(statistics.level, cache, comparison, stop)
    if not is_coarse(scale):
        values, unit = _local_positions(cache, scale, weight, stop)
        return Descriptor(values, scale, unit, cache, tolerance, weight)
    moments = cache.at(scale, stop)
    if cache.calibration is not None:  # borders were refined before patches were joined
        values = moments.positions(moments.full_noise.map(_TOLERANCE, weight))
        return Descriptor(values, scale, moments.unit, cache, _TOLERANCE, weight)
    fine, shared = cache.at(1.0, stop), cache.shared_merges(stop)
    raise_if_stopped(stop, "tree")
    values = moments.positions(moments.full_noise.map(_TOLERANCE, weight))
    raise_if_stopped(stop, "tree")
    single = fine.positions(fine.full_noise.map(_TOLERANCE, weight))
    raise_if_stopped(stop, "tree")
    values, part = refine_boundaries(values, single, graph.edges, statistics.count, stop, shared)
    shared = None if shared is None else shared.within(part)  # none across sharp borders
    return Descriptor(values, scale, moments.unit, cache, _TOLERANCE, weight, shared)


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
    is_brightness = np.concatenate([level == 0, np.zeros(len(level), bool)])
    weight = np.where(is_brightness, 2 * (1 - balance), 2 * balance)
    contrast = contrast_of(cache, stop)
    tolerance = (contrast / _CONTRAST) ** 2  # no fixed tolerance suits all images
    if scale == "auto" and cache.calibration is not None:
        scale = cache.calibration.scale
    elif scale == "auto":
        scale = 1.0
        if contrast < _CLEAR:
            single = cache.at(1.0, stop).full_noise.spread_along(tolerance, weight)
            six = cache.noise_at(6.0, stop).spread_along(tolerance, weight)
            if six > _GROWTH_OF_TEXTURES * single:
                scale = _SCALE_OF_TEXTURES
    if contrast > _NO_TEXTURE and balance < 1:
        weight[len(level) :] = 0  # pure colours: 1.06 of the clean score instead of .85
    return float(scale), tolerance, weight


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
