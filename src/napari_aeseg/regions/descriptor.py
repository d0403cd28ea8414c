"""The descriptor: what patches are compared by, assembled from their moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_aeseg.regions.graph import averaged

if TYPE_CHECKING:
    from napari_aeseg.regions.graph import RegionGraph
    from napari_aeseg.regions.statistics import PatchStatistics

_AUTO_SCALE = 16.0


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Positions of patches in the space in which they are compared.

    Parameters
    ----------
    raw : ndarray of float32, shape (P, D)
        Mean and log-energy of each feature, before whitening.
    whitening : ndarray of float64, shape (D, E)
        Linear map after which the noise between neighbouring patches has unit variance.
    """

    raw: np.ndarray
    whitening: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """Whitened positions, shape (P, E)."""
        return self.raw @ self.whitening


def describe(
    statistics: PatchStatistics, graph: RegionGraph, balance: float, scale: float | Literal["auto"]
) -> Descriptor:
    steps = round(((_AUTO_SCALE if scale == "auto" else scale) - 1) / 5)
    mean = averaged(graph, statistics.mean, statistics.count, steps)
    second = averaged(graph, statistics.second, statistics.count, steps)
    energy = np.log(np.maximum(second - mean**2, 1e-6))
    raw = np.concatenate([mean, energy], 1).astype(np.float64)
    raw -= raw.mean(0)
    a, b = graph.edges.T
    d = raw[a] - raw[b]
    q = (d**2 / np.maximum(raw.var(0), 1e-9)).sum(1)
    d = d[q <= np.median(q)]
    noise = d.T @ d / max(len(d), 1)
    noise += np.eye(len(noise)) * (np.trace(noise) / len(noise) * 0.1 + 1e-9)
    values, vectors = np.linalg.eigh(noise)
    return Descriptor(raw, vectors / np.sqrt(values))
