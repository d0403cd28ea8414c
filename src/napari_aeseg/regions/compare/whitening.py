"""Whitening: the space in which the noise between neighbouring patches is the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_aeseg.regions.patches.statistics import region_means

# Share of the edges, the quietest, from which the noise is estimated; the others may cross borders.
QUIET = 0.8  # the quieter half loses textures, all edges lose the alloy (docs/how_it_works.md)
# Edges that are enough to estimate the noise; of more, every n-th is taken.
_ENOUGH_EDGES = 10_000
# Directions of the whitened space that are kept: the rest adds time, not difference.
_MOST_DIRECTIONS = 64
# Noise of a feature is at least this part of the average, and this much: no measurement is exact.
_LEAST_PART, _LEAST_NOISE = 1e-3, 1e-6


def sampled_edges(edges: np.ndarray) -> np.ndarray:
    """Return edges spread over the whole image, enough to estimate from."""
    return edges[:: max(1, len(edges) // _ENOUGH_EDGES)]


def edge_differences(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return differences across edges, float64, shape (E, D)."""
    return (values[edges[:, 0]] - values[edges[:, 1]]).astype(np.float64)


def quietest(difference: np.ndarray) -> np.ndarray:
    """Return the shortest four fifths of differences, shape (E', D): others may be borders."""
    if not len(difference):
        return difference
    length = np.einsum("ij,ij->i", difference, difference)
    return difference[length <= np.quantile(length, QUIET)]


def noise_variance(difference: np.ndarray) -> np.ndarray:
    """Return the noise variance of each feature, shape (D,), from `quietest` differences."""
    # A difference of two patches has twice the noise of one.
    noise = (difference**2).sum(axis=0) / max(2 * len(difference), 1)
    return noise + max(_LEAST_PART * float(noise.mean()), _LEAST_NOISE)


def whitening_within_regions(
    positions: np.ndarray, region: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return the linear map to the space where patches vary alike in all directions within regions.

    Regions are then compared as by Fisher's linear discriminant [1]_, with regions in place of
    classes. `positions` are (P, E), `region` 0 .. R-1 of each patch and `weight` its size, both
    (P,); the map is (E, E), the identity where all patches are like their region.

    References
    ----------
    .. [1] R. A. Fisher, The use of multiple measurements in taxonomic problems, Annals of Eugenics
           7, 1936.

    Examples
    --------
    >>> positions = np.array([[0.0, 0], [4, 1], [0, 3], [4, 2]])
    >>> white = positions @ whitening_within_regions(positions, np.array([0, 0, 1, 1]), np.ones(4))
    >>> np.round(np.ptp(white[:2], axis=0), 1)  # before, 4 and 1
    array([2., 2.])
    """
    difference = positions - region_means(positions, region, weight)[region]
    covariance = (difference * (weight / weight.sum())[:, np.newaxis]).T @ difference
    variance, vectors = np.linalg.eigh(covariance.astype(np.float64))
    least = _LEAST_PART * variance.max(initial=0)
    if least <= 0:
        return np.eye(len(covariance))
    # The symmetric root keeps the axes.
    return (vectors / np.sqrt(np.maximum(variance, 0) + least)) @ vectors.T


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """How features vary, between neighbours and over the image: what whitening needs."""

    inverse_deviation: np.ndarray  # 1 over the noise of each feature, shape (D,)
    eigenvalues: np.ndarray  # of the noise's covariance in units of its deviation, shape (D,)
    vectors: np.ndarray  # of the same, shape (D, D)
    covariance: np.ndarray  # over the image, shape (D, D)

    @classmethod
    def of(cls, difference: np.ndarray, values: np.ndarray) -> NoiseModel:
        """Estimate from differences between neighbours (E, D) and values of patches (P, D)."""
        difference = quietest(difference)
        inverse = 1 / np.sqrt(noise_variance(difference))
        noise = inverse[:, np.newaxis] * (difference.T @ difference) * inverse
        eigenvalues, vectors = np.linalg.eigh(noise / max(2 * len(difference), 1))
        centre = values.mean(axis=0, dtype=np.float64)  # float32 sums lose digits
        # From products: no centred copy of all values.
        covariance = (values.T @ values) / len(values) - np.outer(centre, centre)
        return cls(inverse, eigenvalues, vectors, covariance)

    def map(self, tolerance: float, weight: np.ndarray) -> np.ndarray:
        """Return the linear map to the space in which patches are compared, shape (D, min(D, 64)).

        The noise is half the covariance of differences between neighbouring patches, in units of
        each feature's own noise. To it, `tolerance` times unit noise is added, equal in all
        directions: 0 makes this the maximum-noise-fraction transform [1]_, a large one leaves each
        feature divided by its own noise. `weight` (D,) is the importance of each feature, applied
        after whitening (which keeps the axes). Directions of the largest variance come first.

        References
        ----------
        .. [1] A. A. Green et al., A transformation for ordering multispectral data in terms of
               image quality with implications for noise removal, IEEE TGRS 26, 1988.
        """
        # Few patches leave some directions without differences; rounding makes them negative.
        root = np.sqrt(np.maximum(self.eigenvalues, 1e-3) + tolerance)
        # The symmetric root keeps the axes, so that features can be weighted after it.
        symmetric = (self.vectors / root) @ self.vectors.T
        white = self.inverse_deviation[:, np.newaxis] * symmetric * weight
        directions = np.linalg.eigh(white.T @ self.covariance @ white)[1]
        return white @ directions[:, ::-1][:, :_MOST_DIRECTIONS]  # eigh sorts upwards

    def highest_contrast(self) -> float:
        """Return the largest variance of a feature in units of its noise."""
        return float((np.diagonal(self.covariance) * self.inverse_deviation**2).max())
