"""Parts of an image that lie in one another or apart, and sums over the pixels of each."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


class NestedParts:
    """Parts of an image of which any two are nested or apart.

    Part 0 is the whole image; parts are numbered by their depth, so that all of one depth are
    handled together.

    Parameters
    ----------
    parents : ndarray of int, shape (N,)
        The next larger part of each. Part 0 is its own parent; parents come before children.
    part_of_pixel : ndarray of int, shape of the image
        The smallest part that each pixel lies in.

    Examples
    --------
    >>> parts = NestedParts(np.array([0, 0, 1]), np.array([0, 1, 2, 2]))
    >>> parts.sums(np.ones(4)).tolist()
    [4.0, 3.0, 2.0]
    """

    def __init__(self, parents: np.ndarray, part_of_pixel: np.ndarray) -> None:
        depths = [0] * len(parents)
        parent_of = parents.tolist()
        for part in range(1, len(parent_of)):
            depths[part] = depths[parent_of[part]] + 1
        depth = np.array(depths)
        order = np.argsort(depth, kind="stable")
        self.number = np.empty(len(order), np.int64)  # of each part as it was numbered before
        self.number[order] = np.arange(len(order))
        self.parents = self.number[parents[order]]
        self.shape = part_of_pixel.shape
        self.part_of_pixel = self.number.astype(np.int32)[part_of_pixel.ravel()]
        ends = np.searchsorted(depth[order], np.arange(1, depth.max() + 2)).tolist()
        self._rounds = [slice(a, b) for a, b in pairwise(ends)]
        # Depth first, a part and all inside it are a run, and its sum a difference of running sums.
        size = np.ones(len(order), np.int64)
        for parts in reversed(self._rounds):
            np.add.at(size, self.parents[parts], size[parts])
        self._first = np.zeros(len(order), np.int64)
        before = self._size_of_siblings_before(size)
        for parts in self._rounds:
            self._first[parts] = self._first[self.parents[parts]] + 1 + before[parts]
        self._last = self._first + size

    def _size_of_siblings_before(self, size: np.ndarray) -> np.ndarray:
        """How many parts lie in those of the same parent that have smaller numbers."""
        by_parent = np.argsort(self.parents[1:], kind="stable") + 1
        parent = self.parents[by_parent]
        running = np.cumsum(size[by_parent]) - size[by_parent]
        first = np.flatnonzero(np.diff(parent, prepend=-1))
        counts = np.diff(np.append(first, len(parent)))
        before = np.zeros(len(size), np.int64)
        before[by_parent] = running - np.repeat(running[first], counts)
        return before

    def __len__(self) -> int:
        return len(self.parents)

    def sums(self, image: np.ndarray) -> np.ndarray:
        """Sum of an image over the pixels of each part."""
        return self.totals(np.bincount(self.part_of_pixel, image.ravel(), len(self)))

    def around(self, pixel: int) -> list[int]:
        """Parts that a pixel, by its flat index, lies in, smallest first, without part 0."""
        part, found = int(self.part_of_pixel[pixel]), []
        while part:
            found.append(part)
            part = int(self.parents[part])
        return found

    def mask_of(self, part: int) -> np.ndarray:
        """Which pixels lie in a part, bool, shape of the image."""
        first = self._first[self.part_of_pixel]
        inside = (first >= self._first[part]) & (first < self._last[part])
        return inside.reshape(self.shape)

    def totals(self, values: np.ndarray) -> np.ndarray:
        """Sum of a value of each part over it and all parts inside it."""
        running = np.zeros(len(self) + 1)
        running[self._first + 1] = values
        running = np.cumsum(running)
        return running[self._last] - running[self._first]

    def best_cut(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Non-overlapping parts of the largest total value, and their image of labels 1 .. n."""
        outermost = self.best_parts(value)
        chosen = np.unique(outermost[outermost > 0])
        label = np.zeros(len(self), np.int32)
        label[chosen] = np.arange(1, len(chosen) + 1)
        return chosen, label[outermost][self.part_of_pixel].reshape(self.shape)

    def best_parts(self, value: np.ndarray) -> np.ndarray:
        """For each part, which of non-overlapping parts of the largest total it lies in, or 0.

        Parts of a value of 0 are not taken; a part is preferred to parts inside it of the same
        total. Part 0 is never taken.
        """
        inside, taken = np.zeros(len(self)), np.zeros(len(self), bool)
        for parts in reversed(self._rounds):
            taken[parts] = (value[parts] > 0) & (value[parts] >= inside[parts])
            best = np.where(taken[parts], value[parts], inside[parts])
            np.add.at(inside, self.parents[parts], best)
        outermost = np.zeros(len(self), np.int64)
        for parts in self._rounds:
            above = outermost[self.parents[parts]]
            own = np.where(taken[parts], np.arange(parts.start, parts.stop), 0)
            outermost[parts] = np.where(above > 0, above, own)
        return outermost
