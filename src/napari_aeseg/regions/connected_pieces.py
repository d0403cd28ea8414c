"""Connected pieces of labels, found from runs of equal labels along rows: fast, any dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

# Attempts to mend a label by a part around the break, before all of the label is restored.
_LOCAL_REPAIRS = 3


@dataclass(frozen=True, slots=True)
class Pieces:
    """Runs of equal labels along the last axis, and the connected piece that each belongs to."""

    start: np.ndarray  # flat index of each run's first pixel
    length: np.ndarray
    label: np.ndarray  # of each run
    piece: np.ndarray  # of each run, from 0

    @property
    def number(self) -> int:
        """Number of pieces."""
        return int(self.piece.max(initial=-1)) + 1

    @property
    def size(self) -> np.ndarray:
        """Pixels of each piece."""
        return np.bincount(self.piece, self.length, self.number).astype(np.int64)

    def by_pixel(self, of_piece: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return a value of each piece in all of its pixels."""
        return np.repeat(of_piece[self.piece], self.length).reshape(shape)

    @property
    def label_of_piece(self) -> np.ndarray:
        """The label of each piece."""
        labels = np.empty(self.number, self.label.dtype)
        labels[self.piece] = self.label
        return labels

    def labelled(self, labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Mark the pixels with one of some labels."""
        return np.repeat(np.isin(self.label, labels), self.length).reshape(shape)

    def any_in_piece(self, mask: np.ndarray) -> np.ndarray:
        """Return for each piece whether one of its pixels is in the mask."""
        is_in_mask = np.zeros(self.number, bool)
        is_in_mask[self.piece[np.logical_or.reduceat(mask.ravel(), self.start)]] = True
        return is_in_mask

    def pixels(self, chosen: np.ndarray) -> np.ndarray:
        """Return flat indices of all pixels of the chosen pieces, ascending."""
        runs = np.flatnonzero(chosen[self.piece])
        length = self.length[runs]
        ends = np.cumsum(length)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - length, length)
        return np.repeat(self.start[runs], length) + within


def connected_pieces(labels: np.ndarray) -> Pieces:
    """Return the pieces of equal labels that are connected by faces."""
    flat, shape = labels.ravel(), labels.shape
    begins = np.empty(flat.size, bool)
    begins[:1] = True
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[:: shape[-1]] = True
    start = np.flatnonzero(begins)
    label = flat[start]
    pairs = []
    for axis in range(labels.ndim - 1):
        stride = int(np.prod(shape[axis + 1 :]))
        along = start // stride % shape[axis]
        # Where two runs overlap, one of them begins.
        for run, shift in (
            (np.flatnonzero(along < shape[axis] - 1), stride),
            (np.flatnonzero(along > 0), -stride),
        ):
            other = start[run] + shift
            equal = flat[other] == label[run]
            run, other = run[equal], other[equal]
            pairs.append(np.stack([run, np.searchsorted(start, other, "right") - 1]))
    one, two = np.concatenate(pairs, 1) if pairs else np.empty((2, 0), np.int64)
    links = sparse.coo_array((np.ones(len(one), bool), (one, two)), (len(start),) * 2)
    piece = sparse.csgraph.connected_components(links, directed=False)[1]
    return Pieces(start, np.diff(start, append=flat.size), label, piece)


def connected_as_before(
    new: np.ndarray, old: np.ndarray, before: Pieces, reach: Sequence[int], min_size: int = 1
) -> np.ndarray:
    """Undo changes of labels that broke a label, or made it vanish; `new` is written to.

    Labels that are connected in `old` are so afterwards, no label is missing, and no piece of a
    label lies where the label was not. `before` are the pieces of `old`, `reach` is how far around
    a break changes are undone. Where pieces of `min_size` pixels or more were, no piece has fewer.
    """
    was_large = before.size >= min_size
    all_labels, n_pieces = np.unique(before.label_of_piece, return_counts=True)
    connected = all_labels[n_pieces == 1]
    attempts = 0
    while True:
        pieces = connected_pieces(new)
        label = pieces.label_of_piece
        is_old = pieces.any_in_piece(new == old)
        missing = np.setdiff1d(all_labels, label[is_old])
        if len(missing) or not is_old.all():
            to_undo = before.labelled(missing, old.shape)
            to_undo.flat[pieces.pixels(~is_old)] = True
            np.copyto(new, old, where=to_undo)
            continue
        broken = np.isin(label, connected) & ~_largest(pieces, label)
        if (too_small := pieces.size < min_size).any():
            large_before = (new == old) & before.by_pixel(was_large, new.shape)
            broken |= too_small & pieces.any_in_piece(large_before)
        if not broken.any():
            return new
        attempts += 1
        split = np.unique(label[broken])
        was_split = before.labelled(split, old.shape)
        for box in _boxes_around(pieces, broken, old.shape, reach):
            np.copyto(new[box], old[box], where=was_split[box])
        if attempts > _LOCAL_REPAIRS:
            np.copyto(new, old, where=was_split | np.isin(new, split))


def _largest(pieces: Pieces, label: np.ndarray) -> np.ndarray:
    """Mark the largest piece of each label."""
    by_size = np.lexsort((np.bincount(pieces.piece, pieces.length), label))
    is_largest = np.zeros(len(label), bool)
    is_largest[by_size[np.flatnonzero(np.diff(label[by_size], append=label.max() + 1))]] = True
    return is_largest


def _boxes_around(
    pieces: Pieces, chosen: np.ndarray, shape: tuple[int, ...], reach: Sequence[int]
) -> list[tuple[slice, ...]]:
    """Return a box around each chosen piece, larger by `reach` along each axis."""
    runs = np.flatnonzero(chosen[pieces.piece])
    runs = runs[np.argsort(pieces.piece[runs], kind="stable")]
    begins = np.flatnonzero(np.diff(pieces.piece[runs], prepend=-1))
    first = np.array(np.unravel_index(pieces.start[runs], shape))
    last = first.copy()
    last[-1] += pieces.length[runs] - 1
    margin = np.array(reach)[:, np.newaxis]
    low = (np.minimum.reduceat(first, begins, axis=1) - margin).clip(min=0)
    high = np.maximum.reduceat(last, begins, axis=1) + margin + 1
    return [tuple(map(slice, *ends)) for ends in zip(low.T.tolist(), high.T.tolist(), strict=True)]
