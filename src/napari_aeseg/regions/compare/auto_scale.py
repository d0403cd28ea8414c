"""The scale "auto": whether the parts of an image differ in colour or in texture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from napari_aeseg.regions.compare.whitening import sampled_edges

if TYPE_CHECKING:
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.regions.compare.moments import LogMoments, MomentsCache

_SCALE_OF_TEXTURES = 16.0
# Images of fewer patches have no room for two textures.
_FEWEST_PATCHES = 64
# By all whitened features, neighbours are this much more correlated than by colour alone where
# colour does not tell the parts of an image apart. Measured: -.6 to .25 on cells, tissue, particles
# and rocks, .3 to 1 on textures (docs/how_it_works.md).
_COLOUR_FALLS_SHORT = 0.28
# Neighbours that are less correlated than this are nearly independent: colour shows nothing.
_NO_COLOUR = 0.15
# Of two directions with variances this near to each other, chance decides which one is the largest.
_NEARLY_THE_LARGEST = 0.7
# What 16 averaged patches are to tell apart is larger than the average, which is five sides of a
# patch wide: of the correlation of neighbours, this share is left so far apart. Measured: up to .25
# in electron micrographs of nerves, .35 and more wherever averages are better.
_SIDES_APART, _STILL_ALIKE, _DIRECTIONS = 6, 0.3, 8
# In small images, parts cannot be wider than a few patches: this share of the image is far enough.
_SHARE_APART = 0.25
# Patches that are compared with one so far away.
_FAR_PAIRS = 4096
# Skewness of an exponential distribution. Colours with a heavier tail are of few bright things on a
# dark ground, or the reverse: small, so that neighbours differ, but plain to see.
_HEAVY_TAIL = 2.0


def auto_scale(level: np.ndarray, cache: MomentsCache, stop: StopFlag | None = None) -> float:
    """Return 1 where brightness and colour alone tell parts apart, 16 for textures.

    What is visible at a glance is alike in neighbouring patches. If neighbours are much more
    correlated by all whitened features than by the means of level 0 (one minus Geary's contiguity
    ratio [1]_, along the direction of the largest variance), or hardly at all by the latter, the
    parts differ in texture, and a texture is known only from several patches. Averages of these
    tell parts apart that are larger than the averages are: some direction is correlated over such a
    distance (the largest autocorrelation of a combination of features [2]_). Few patches far from
    all others in colour are things of another colour, however small.

    References
    ----------
    .. [1] R. C. Geary, The contiguity ratio and statistical mapping, The Incorporated Statistician
           5, 1954.
    .. [2] P. Switzer, A. Green, Min/max autocorrelation factors for multivariate spatial imagery,
           Technical Report 6, Department of Statistics, Stanford University, 1984.
    """
    moments = cache.at(1.0, stop)
    if moments.number < _FEWEST_PATCHES:
        return 1.0
    colour = _main_axes(moments, colour_map(moments, level), 1)[0]
    if _skewness(colour) > _HEAVY_TAIL:
        return 1.0
    white = moments.full_noise.map(1.0, np.ones(len(moments.spread)))
    features = _main_axes(moments, white[:, :2], 2)
    clear = [x for x in features if x.var() >= _NEARLY_THE_LARGEST * features[0].var()]
    by_all_features = max(_correlation(x, cache.edges) for x in clear)
    by_colour = _correlation(colour, cache.edges)
    if by_colour > max(_NO_COLOUR, by_all_features - _COLOUR_FALLS_SHORT):
        return 1.0
    directions = _main_axes(moments, white[:, :_DIRECTIONS], _DIRECTIONS)
    return 1.0 if _alike_far_apart(directions, cache) < _STILL_ALIKE else _SCALE_OF_TEXTURES


def colour_map(moments: LogMoments, level: np.ndarray) -> np.ndarray:
    """Return the map from standardised values to mean colours, not whitened, shape (D, F0).

    Their noise, the same for all channels, is 1 on average. A channel that is the same everywhere
    is left out.
    """
    channels = np.flatnonzero(level == 0)
    channels = channels[np.isfinite(moments.spread[channels])]
    spread = moments.spread[channels]
    white = np.zeros((len(moments.spread), len(channels)))
    if len(channels):
        noise = spread / moments.full_noise.inverse_deviation[channels]
        white[channels, np.arange(len(channels))] = spread / np.sqrt((noise**2).mean())
    return white


def _main_axes(moments: LogMoments, white: np.ndarray, number: int) -> np.ndarray:
    """Positions along the directions of most variance, mean 0, the largest first, (1.., P)."""
    positions = moments.positions(white).astype(np.float64)
    if not positions.shape[1]:
        return np.zeros((1, len(positions)))
    positions -= positions.mean(axis=0)
    covariance = np.atleast_2d(np.cov(positions, rowvar=False, bias=True))
    directions = np.linalg.eigh(covariance)[1][:, ::-1]
    return np.asarray((positions @ directions[:, :number]).T)


def _correlation(along: np.ndarray, edges: np.ndarray) -> float:
    """Correlation of neighbours; 0 without any variance."""
    variance = float(along.var())
    if variance == 0:
        return 0.0
    edges = sampled_edges(edges)
    return 1 - float(((along[edges[:, 0]] - along[edges[:, 1]]) ** 2).mean()) / (2 * variance)


def _alike_far_apart(along: np.ndarray, cache: MomentsCache) -> float:
    """Return how much of the correlation of neighbours is left far apart in a slice.

    1 where neighbours are not correlated, or no patches are so far apart.
    """
    centroid = cache.centroid
    edges = sampled_edges(cache.edges)
    step = np.abs(centroid[edges[:, 0], -2:] - centroid[edges[:, 1], -2:]).max(axis=1)
    side = float(np.quantile(step, 0.75))  # the other neighbours lie in another slice
    first = np.arange(0, len(centroid), -(-len(centroid) // _FAR_PAIRS))
    moved = centroid[first].astype(np.float64)
    rows, sign = np.arange(len(first)), np.array([1, -1])
    far = min(_SIDES_APART * side, _SHARE_APART * np.ptp(centroid[:, -2:], axis=0).min())
    moved[rows, rows // 2 % 2 - 2] += far * sign[rows % 2]
    distance, second = cKDTree(centroid).query(moved)
    pairs = np.stack([first, second], axis=1)[distance < side]
    near = _largest_correlation(along, edges)
    return _largest_correlation(along, pairs) / near if near > 0 and len(pairs) else 1.0


def _largest_correlation(along: np.ndarray, pairs: np.ndarray) -> float:
    """Largest correlation of pairs of patches in any combination of `along`, (M, P)."""
    deviation = along.std(axis=1)
    along, deviation = along[deviation > 0], deviation[deviation > 0]
    if not len(along):
        return 0.0
    difference = (along[:, pairs[:, 0]] - along[:, pairs[:, 1]]) / deviation[:, np.newaxis]
    # Axes of most variance are uncorrelated: the smallest eigenvalue is that of the best direction.
    return 1 - float(np.linalg.eigvalsh(difference @ difference.T / (2 * len(pairs)))[0])


def _skewness(along: np.ndarray) -> float:
    """Magnitude of the skewness of values with mean 0; 0 without any variance."""
    variance = float(along.var())
    return abs(float((along**3).mean())) / variance**1.5 if variance else 0.0
