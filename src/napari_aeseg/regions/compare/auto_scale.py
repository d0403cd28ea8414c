"""The scale "auto": whether the parts of an image differ in colour or in texture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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


def auto_scale(level: np.ndarray, cache: MomentsCache, stop: StopFlag | None = None) -> float:
    """Return 1 where brightness and colour alone tell parts apart, 16 for textures.

    What is visible at a glance is alike in neighbouring patches. If neighbours are much more
    correlated by all whitened features than by the means of level 0 (one minus Geary's contiguity
    ratio [1]_, along the direction of the largest variance), or hardly at all by the latter, the
    parts differ in texture, and a texture is known only from several patches.

    References
    ----------
    .. [1] R. C. Geary, The contiguity ratio and statistical mapping, The Incorporated Statistician
           5, 1954.
    """
    moments = cache.at(1.0, stop)
    if len(moments.centred) < _FEWEST_PATCHES:
        return 1.0
    white = moments.full_noise.map(1.0, np.ones(len(moments.spread)))[:, :1]
    by_all_features = _correlation(moments, white, cache.edges)
    by_colour = _correlation(moments, colour_map(moments, level), cache.edges)
    colour_is_enough = by_colour > max(_NO_COLOUR, by_all_features - _COLOUR_FALLS_SHORT)
    return 1.0 if colour_is_enough else _SCALE_OF_TEXTURES


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


def _correlation(moments: LogMoments, white: np.ndarray, edges: np.ndarray) -> float:
    """Correlation of neighbours along the direction of the largest variance; 0 without any."""
    if not white.shape[1]:
        return 0.0
    positions = moments.positions(white).astype(np.float64)
    covariance = np.atleast_2d(np.cov(positions, rowvar=False, bias=True))
    along = positions @ np.linalg.eigh(covariance)[1][:, -1]
    variance = float(along.var())
    if variance == 0:
        return 0.0
    edges = sampled_edges(edges)
    return 1 - float(((along[edges[:, 0]] - along[edges[:, 1]]) ** 2).mean()) / (2 * variance)
