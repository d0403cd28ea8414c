"""Sums of features per patch on the CPU, each tile in the thread that encoded it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.encoding import cell_centres
from napari_aeseg.autoencoder.planning import PIECE
from napari_aeseg.progress import raise_if_stopped

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.encoding import EncodedTile
    from napari_aeseg.progress import StopFlag


class HostSums:
    """Adds up the features of tiles, and their squares, per patch.

    Sums do not depend on the tiles, bit for bit: they are taken over the part of a patch in each
    square (cube) of a fixed grid, and these are added in double precision, in which the order does
    not show.

    Parameters
    ----------
    patches : ndarray of int, shape space
        Patch ids 0 .. P-1, all present.
    number : int
        P.
    channels : dict of int to int
        Features of each level.
    cells : dict of int to tuple of int
        Pixels along each axis that one value of each level stands for.
    stop : StopFlag, optional
        Checked while cells are dealt out to patches.

    Raises
    ------
    StoppedError
        When asked to stop.
    """

    def __init__(
        self,
        patches: np.ndarray,
        number: int,
        channels: dict[int, int],
        cells: dict[int, tuple[int, ...]],
        stop: StopFlag | None = None,
    ) -> None:
        self._cells = cells
        self._sampled = {}
        for step in set(cells.values()):
            raise_if_stopped(stop, "encode")
            self._sampled[step] = _SampledPatches(patches, step, number)
        # Each level adds to columns of its own: nothing is to be joined at the end.
        width = sum(channels.values())
        self._mean, self._second = (np.zeros((number, width)) for _ in range(2))
        end = np.cumsum(list(channels.values()))
        self._columns = {
            level: slice(stop - features, stop)
            for stop, (level, features) in zip(end.tolist(), channels.items(), strict=True)
        }

    def of_tile(self, encoded: EncodedTile) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Return, per level, patches and double sums of their features and squares.

        To be called in any thread.
        """
        runs = {step: patches.runs(encoded) for step, patches in self._sampled.items()}
        found = {}
        for level, features in encoded.features.items():
            ids, cells, starts = runs[self._cells[level]]
            # (F, *cells), channels last in memory: rows of features without a copy.
            rows = features.movedim(0, -1).flatten(0, -2).float()
            summed = sums_of_runs(rows, torch.from_numpy(cells), torch.from_numpy(starts)).double()
            first = np.flatnonzero(np.diff(ids, prepend=-1))  # piece of each patch
            if len(first) < len(ids):
                all_rows = torch.arange(len(ids))
                summed = F.embedding_bag(all_rows, summed, torch.from_numpy(first), mode="sum")
            found[level] = ids[first], summed.numpy()
        return found

    def add(self, found: dict[int, tuple[np.ndarray, np.ndarray]]) -> None:
        """Add what `of_tile` has found."""
        for level, (ids, summed) in found.items():
            sums, squares = np.split(summed, 2, axis=1)
            columns = self._columns[level]
            self._mean[:, columns][ids] += sums
            self._second[:, columns][ids] += squares

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return means and mean squares, each of shape (P, F); to be called once, at the end."""
        for level, columns in self._columns.items():
            count = self._sampled[self._cells[level]].count[:, np.newaxis]
            self._mean[:, columns] /= count
            self._second[:, columns] /= count
        return self._mean.astype(np.float32), self._second.astype(np.float32)


def sums_of_runs(rows: torch.Tensor, cells: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Sum rows of features, and their squares, over runs of cells.

    Parameters
    ----------
    rows : Tensor, shape (N, F)
        Squared in place: memory of their size would be got and given back for every tile.
    cells : Tensor of int, shape (n,)
        Which rows, run after run.
    starts : Tensor of int, shape (R,)
        Where in `cells` each run begins; the last one ends at the end.

    Returns
    -------
    Tensor, shape (R, 2 F)

    Examples
    --------
    >>> rows = torch.tensor([[1.0], [2.0], [3.0]])
    >>> sums_of_runs(rows, torch.tensor([0, 2, 1]), torch.tensor([0, 2])).tolist()
    [[4.0, 10.0], [2.0, 4.0]]
    """
    # Gathers and adds in one go, 15 times as fast as index_add_.
    sums = F.embedding_bag(cells, rows, starts, mode="sum")
    squares = F.embedding_bag(cells, rows.square_(), starts, mode="sum")
    return torch.cat([sums, squares], 1)


class _SampledPatches:
    """Patch ids at the cells of a level: the id at each cell's centre, and no patch left out."""

    def __init__(self, patches: np.ndarray, step: tuple[int, ...], number: int) -> None:
        self.step = step
        space = patches.shape[-len(step) :]
        self.centres = [cell_centres(n, s) for n, s in zip(space, step, strict=True)]
        self.patches = patches
        # An index of dots and arrays is more than numpy's stubs can follow.
        at_centres: Any = (..., *np.ix_(*self.centres))
        count = np.bincount(patches[at_centres].ravel(), minlength=number)
        self.count = count.astype(np.float32)
        missing = np.flatnonzero(self.count == 0)
        last = np.zeros(number, np.intp)
        if len(missing):
            last[patches.ravel()] = np.arange(patches.size)
        self.missing = missing
        at = np.stack(np.unravel_index(last[missing], patches.shape), 1)
        self.missing_plane = at[:, : -len(step)]
        self.missing_cell = at[:, -len(step) :] // step
        self.count[missing] = 1

    def runs(self, encoded: EncodedTile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what is to be summed in a tile, one piece of each patch after the other.

        Returns
        -------
        ids : ndarray of int, shape (R,)
            The patch of each piece, ascending.
        cells : ndarray of int, shape (n,)
            Flat indices in what the tile has encoded.
        starts : ndarray of int, shape (R,)
            Which cell is the first of each piece.
        """
        ids, cells, pieces = self._of(encoded)
        order = _sorting(pieces)
        order = order[_sorting(ids[order])]
        ids, pieces = ids[order], pieces[order]
        begins = (np.diff(ids, prepend=-1) != 0) | (np.diff(pieces, prepend=-1) != 0)
        starts = np.flatnonzero(begins)
        return ids[starts], cells[order], starts

    def _of(self, encoded: EncodedTile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the patch of each cell of a tile, the cell, and the piece that it is in."""
        tile, step = encoded.tile, self.step
        first = np.array([s.start // n for s, n in zip(tile.inner, step, strict=True)])
        stop = np.array([-(-s.stop // n) for s, n in zip(tile.inner, step, strict=True)])
        margin = np.array([s.start // n for s, n in zip(tile.keep, step, strict=True)])
        size = tuple(n // s for n, s in zip(tile.size, step, strict=True))
        centres = (c[a:b] for c, a, b in zip(self.centres, first, stop, strict=True))
        ids = self.patches[encoded.plane][np.ix_(*centres)].ravel()
        inner = np.ix_(*(m + np.arange(n) for m, n in zip(margin, stop - first, strict=True)))
        cells = np.ravel_multi_index(inner, size).ravel()
        # In cells, of which a large one is a piece of its own.
        side = np.maximum(PIECE[len(step)] // np.array(step), 1)
        number = tuple((-(-(stop - first) // side)).tolist())
        grid = np.ix_(*(np.arange(n) // s for n, s in zip(stop - first, side, strict=True)))
        pieces = np.ravel_multi_index(grid, number).ravel()
        if not len(self.missing):
            return ids, cells, pieces
        at = self.missing_cell
        here = ((at >= first) & (at < stop)).all(axis=1)
        here &= (self.missing_plane == encoded.plane).all(axis=1)
        extra = np.ravel_multi_index(tuple((at[here] - first + margin).T), size)
        beside = np.ravel_multi_index(tuple(((at[here] - first) // side).T), number)
        return (
            np.concatenate([ids, self.missing[here]]),
            np.concatenate([cells, extra]),
            np.concatenate([pieces, beside]),
        )


def _sorting(values: np.ndarray) -> np.ndarray:
    """Return the order of whole numbers; equal ones stay as they are."""
    low = values.min()
    # numpy sorts numbers of 16 bits without comparing them.
    narrow = values.max() - low < 2**16
    return np.argsort((values - low).astype(np.uint16) if narrow else values, kind="stable")
