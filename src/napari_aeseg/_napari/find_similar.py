"""Examples that the user clicks, and the segments that look like them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from napari_aeseg.regions.cuts.cut import Mode
    from napari_aeseg.regions.hierarchy import Hierarchy

    Place = tuple[int, ...]


@dataclass(frozen=True)
class Examples:
    """Pixels of segments that are what the user looks for, and of others that are not."""

    mode: Mode  # whose segments they are
    wanted: tuple[Place, ...] = ()
    unwanted: tuple[Place, ...] = ()

    def clicked(self, place: Place, labels: np.ndarray, similar: np.ndarray) -> Examples:
        """Return the examples after a click on a segment; `similar` are the ids of those shown.

        A segment that is not shown becomes an example, one that is shown is not wanted; a second
        click takes this back.
        """
        label = labels[place]
        if label == 0:
            raise InputError("There is no segment here: click one.")
        wanted, unwanted = (
            tuple(p for p in places if labels[p] != label)
            for places in (self.wanted, self.unwanted)
        )
        if (wanted, unwanted) != (self.wanted, self.unwanted):
            return replace(self, wanted=wanted, unwanted=unwanted)
        if label in similar:
            return replace(self, unwanted=(*self.unwanted, place))
        return replace(self, wanted=(*self.wanted, place))


class Similarities:
    """How much each segment of an image looks like the examples; the newest are remembered."""

    def __init__(self) -> None:
        self._newest: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()

    def similar(
        self, image: Any, tree: Hierarchy, labels: np.ndarray, examples: Examples, least: float
    ) -> np.ndarray:
        """Return the ids of the labels that have this similarity at least."""
        newest = self._newest.get(image)
        is_known = newest is not None and newest[0] is tree and newest[1] == examples
        if newest is None or not is_known or not np.array_equal(newest[2], labels):
            wanted, unwanted = (
                sorted({int(labels[place]) for place in places} - {0})
                for places in (examples.wanted, examples.unwanted)
            )
            if not wanted:  # it is background now
                return np.zeros(0, int)
            newest = (tree, examples, labels, *tree.similarity_to(labels, wanted, unwanted))
            self._newest[image] = newest
        *_, ids, similarity = newest
        return np.asarray(ids[(similarity >= least) & (similarity > 0)])


def only(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the labels with these ids, and 0 for all others."""
    largest = int(labels.max(initial=0))
    new = np.zeros(largest + 1, labels.dtype)  # by old label
    ids = ids[ids <= largest]
    new[ids] = ids
    return new[labels]
