"""Objects of a sequence: found in each frame, and followed from one to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.progress import raise_if_stopped
from napari_aeseg.regions.cuts.objects import ObjectSearch

if TYPE_CHECKING:
    from napari_aeseg.progress import StopFlag


class SearchInTime:
    """An `ObjectSearch` for each frame; an object keeps its label while it overlaps itself.

    Parameters
    ----------
    brightness : ndarray of float, shape space
        From `brightness_of`, with time.
    axis : int
        Which axis is time.
    """

    def __init__(self, brightness: np.ndarray, axis: int) -> None:
        self._axis = axis
        self._searches = [ObjectSearch(frame) for frame in np.moveaxis(brightness, axis, 0)]

    def find(
        self,
        foreground: np.ndarray | None = None,
        min_size: int | None = None,
        stop: StopFlag | None = None,
    ) -> np.ndarray:
        """Find objects; see `find_objects`. Bright or dark ones are taken, the same in all frames.

        Raises
        ------
        InputError
            As `find_objects` does.
        StoppedError
            When asked to stop.
        """
        bright = None
        if foreground is None and len(self._searches) > 1:
            quality = np.sum([s.quality(min_size, stop) for s in self._searches], axis=0)
            bright = bool(quality[0] >= quality[1])
        inside = [None] * len(self._searches)
        if foreground is not None:
            inside = list(np.moveaxis(foreground, self._axis, 0))
        frames = []
        for search, here in zip(self._searches, inside, strict=True):
            raise_if_stopped(stop, "objects")
            frames.append(search.find(here, min_size, stop, bright))
        return np.stack(linked(frames), axis=self._axis)


def linked(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return labels of frames such that an object has the same in all of them.

    An object is that of the frame before if each is what the other overlaps most. Else, as after a
    division or where it appears, it is a new one.

    Parameters
    ----------
    frames : list of ndarray of int32
        All of one shape, 0 for background.

    Examples
    --------
    >>> frames = [np.array([1, 1, 0, 2, 2]), np.array([2, 2, 2, 0, 1]), np.array([0, 0, 1, 1, 2])]
    >>> [labels.tolist() for labels in linked(frames)]
    [[1, 1, 0, 2, 2], [1, 1, 1, 0, 2], [0, 0, 1, 1, 2]]
    """
    found: list[np.ndarray] = []
    last = 0
    for labels in frames:
        number = int(labels.max(initial=0))
        names = np.zeros(number + 1, np.int32)
        if found:
            here, before = _same(labels, found[-1])
            names[here] = before
        new = np.flatnonzero(names[1:] == 0) + 1
        names[new] = np.arange(last + 1, last + 1 + len(new))
        last += len(new)
        found.append(names[labels])
    return found


def _same(labels: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of two frames that overlap each other most, the first of equals."""
    both = (labels > 0) & (before > 0)
    pairs, pixels = np.unique(np.stack([labels[both], before[both]]), axis=1, return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    pairs = pairs[:, order]
    first = [np.isin(np.arange(len(order)), np.unique(row, return_index=True)[1]) for row in pairs]
    return tuple(pairs[:, first[0] & first[1]])
