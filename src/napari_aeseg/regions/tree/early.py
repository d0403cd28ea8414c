"""Early merges: the first of a large merge tree, made once and used in several trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.regions.tree import merge_tree
from napari_aeseg.regions.tree.rounds import merged_in_rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg.progress import StopFlag

# Patches that early merges join to one region.
_PER_EARLY_REGION = 4


def early_merges(
    edges: np.ndarray, positions: np.ndarray, weight: np.ndarray, stop: StopFlag | None = None
) -> EarlyMerges | None:
    """Return the cheapest merges, to begin other trees of the same patches with.

    Parameters
    ----------
    edges, positions, weight, stop
        As of `ward_tree`.

    Returns
    -------
    EarlyMerges or None
        A quarter of the patches is left, or a few thousand; None where there are no more.

    Raises
    ------
    StoppedError
        When asked to stop.
    """
    if len(positions) <= merge_tree.MOST_EXACT:
        return None
    left = max(len(positions) // _PER_EARLY_REGION, 2 * merge_tree.LEFT_BY_ROUNDS)
    return EarlyMerges.found(edges, positions, weight, left, stop)


@dataclass(frozen=True, slots=True)
class EarlyMerges:
    """Merges of patches into small regions, found once, with which several trees begin.

    Parameters
    ----------
    pairs : tuple of (ndarray of int64, ndarray of int64)
        Rounds of merges: each patch of the second array, with all that has been joined to it, is
        joined to that of the first.
    place : ndarray of int64, shape (P,)
        The patch that all patches of a region have been joined to.
    """

    pairs: tuple[tuple[np.ndarray, np.ndarray], ...]
    place: np.ndarray

    @classmethod
    def found(
        cls,
        edges: np.ndarray,
        positions: np.ndarray,
        weight: np.ndarray,
        number: int,
        stop: StopFlag | None = None,
    ) -> EarlyMerges:
        """Return those that lead to `number` regions; parameters as of `merged_in_rounds`."""
        pairs = merged_in_rounds(edges, positions, weight, number, stop).pairs
        return cls(tuple(pairs), _places(pairs, len(positions)))

    @property
    def region(self) -> np.ndarray:
        """Number 0 .. R-1 of each patch's region, shape (P,)."""
        return (np.cumsum(self.place == np.arange(len(self.place))) - 1)[self.place]

    def within(self, part: np.ndarray) -> EarlyMerges:
        """Return those of regions that are in one part each; `part` has shape (P,).

        Patches of the other regions are on their own again.
        """
        broken = np.zeros(len(self.place), bool)
        broken[self.place[part != part[self.place]]] = True
        broken = broken[self.place]
        pairs = tuple((a[~broken[a]], b[~broken[a]]) for a, b in self.pairs)
        return EarlyMerges(pairs, np.where(broken, np.arange(len(broken)), self.place))


def _places(pairs: Sequence[tuple[np.ndarray, np.ndarray]], patches: int) -> np.ndarray:
    """Patch that each patch ends up joined to."""
    place = np.arange(patches)
    for first, second in reversed(pairs):
        place[second] = place[first]
    return place
