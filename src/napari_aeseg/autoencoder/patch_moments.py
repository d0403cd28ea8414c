"""Sums of features per patch, taken tile by tile on the device; features are never kept."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.device import choose_device, dtype_of, is_accelerator
from napari_aeseg.autoencoder.encoding import (
    PIECE,
    cell_centres,
    moved,
    places,
    ready_for,
    retry_on_oom,
    usual_tile_size,
)
from napari_aeseg.autoencoder.model import NO_NUMBERS
from napari_aeseg.errors import InputError
from napari_aeseg.progress import Clock, Progress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_aeseg.autoencoder.device import Precision
    from napari_aeseg.autoencoder.encoding import EncodedTile, Source
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.images.intensity import Image
    from napari_aeseg.progress import StopFlag


class CpuMoments:
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


# Pixels of patch ids that are brought to the device at a time.
_BLOCK = 2**24


class GpuMoments:
    """Adds up the features of tiles, and their squares, per patch, on a device.

    Patch ids and sums are there from the first tile to the last; nothing else crosses over. Which
    cell belongs to which patch is as of `pooling_steps`.

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
    device : torch.device
    stop : StopFlag, optional
        Checked while patch ids are brought to the device.

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
        device: torch.device,
        stop: StopFlag | None = None,
    ) -> None:
        dimensions = len(next(iter(cells.values())))
        self._stacked = patches.shape[:-dimensions]
        self._ids = _on_device(patches.reshape(-1, *patches.shape[-dimensions:]), device, stop)
        self._steps = cells
        self._cells = {}
        for step in set(cells.values()):
            raise_if_stopped(stop, "encode")
            self._cells[step] = _Cells(self._ids, step, number)
        ends = np.cumsum([0, *channels.values()])
        self._columns = {
            level: slice(int(a), int(b))
            for level, a, b in zip(channels, ends, ends[1:], strict=False)
        }
        self._sums, self._squares = (
            torch.zeros((number, int(ends[-1])), device=device) for _ in range(2)
        )

    def of_tile(self, encoded: EncodedTile) -> EncodedTile:
        """Return the tile itself: the device does one thing after the other."""
        return encoded

    def add(self, encoded: EncodedTile) -> None:
        """Add a tile; the device may still be at work on it afterwards."""
        plane = 0
        for index, n in zip(encoded.plane, self._stacked, strict=True):
            plane = plane * n + index
        places = {step: cells.of(plane, encoded) for step, cells in self._cells.items()}
        for level, features in encoded.features.items():
            place = places[self._steps[level]]
            columns = self._columns[level]
            sums, squares = self._sums[:, columns], self._squares[:, columns]
            # Rows of features: one copy, without the margin.
            rows = features[place.window].movedim(0, -1).float().flatten(0, -2)
            sums.index_add_(0, place.ids, rows)
            squares.index_add_(0, place.ids, rows * rows)
            if len(place.further):
                rows = features[place.further_at].T.float()
                sums.index_add_(0, place.further, rows)
                squares.index_add_(0, place.further, rows * rows)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return means and mean squares, each of shape (P, F); to be called once, at the end."""
        for level, columns in self._columns.items():
            count = self._cells[self._steps[level]].count[:, None]
            self._sums[:, columns] /= count
            self._squares[:, columns] /= count
        return self._sums.cpu().numpy(), self._squares.cpu().numpy()


def _on_device(planes: np.ndarray, device: torch.device, stop: StopFlag | None) -> torch.Tensor:
    """Bring patch ids of shape (N, Y, X) or (N, Z, Y, X) to a device, as int32."""
    there = torch.empty(planes.shape, dtype=torch.int32, device=device)
    lines = planes.reshape(-1, planes.shape[-1])
    height = max(1, _BLOCK // planes.shape[-1])
    starts = range(0, len(lines), height)
    blocks = moved(lambda start: lines[start : start + height], starts, device)
    with closing(blocks):
        for start, block in zip(starts, blocks, strict=True):
            there.flatten(0, -2)[start : start + height] = block
            raise_if_stopped(stop, "encode")
    return there


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tile's cells of a level are, without the margin, and the patch of each.

    An index of slices and tensors is more than torch's stubs can follow.
    """

    window: Any
    ids: torch.Tensor
    # Patches without a cell centre, and the cell that each takes.
    further: torch.Tensor
    further_at: Any


class _Cells:
    """The patch at the centre of each cell of a level, and no patch left out."""

    def __init__(self, ids: torch.Tensor, step: tuple[int, ...], number: int) -> None:
        self.step, self.length = step, ids.shape[1]
        self.ids = ids
        for axis, apart in enumerate(step, 1):
            if apart > 1:
                centres = torch.from_numpy(cell_centres(ids.shape[axis], apart))
                self.ids = self.ids.index_select(axis, centres.to(ids.device))
        count = torch.zeros(number, dtype=torch.int32, device=ids.device)
        count.index_add_(0, self.ids.flatten(), count.new_ones(()).expand(self.ids.numel()))
        self.count = count.clamp(min=1).float()
        # Of patches without a centre, the last pixel: in the order of the image.
        pixels = (count == 0).index_select(0, ids.flatten()).nonzero()[:, 0]
        last = np.full(number, -1)
        last[ids.flatten()[pixels].cpu().numpy()] = pixels.cpu().numpy()
        at = np.sort(last[last >= 0])
        # Rows of all planes (slices of all volumes) counted through, and where in them.
        self.line, within = np.divmod(at, math.prod(ids.shape[2:]))
        self.within = np.unravel_index(within, ids.shape[2:])
        self.missing = np.argsort(last, kind="stable")[number - len(at) :].astype(np.int32)

    def of(self, plane: int, encoded: EncodedTile) -> _Place:
        """Return where a tile's cells are."""
        tile, step = encoded.tile, self.step
        inner = [
            slice(s.start // n, -(-s.stop // n)) for s, n in zip(tile.inner, step, strict=True)
        ]
        margin = [s.start // n for s, n in zip(tile.keep, step, strict=True)]
        ends = np.minimum([inner[0].start * step[0], inner[0].stop * step[0]], self.length)
        band = slice(*np.searchsorted(self.line, plane * self.length + ends))
        cells = [self.line[band] - plane * self.length, *(w[band] for w in self.within)]
        cells = [c // n for c, n in zip(cells, step, strict=True)]
        here = np.ones(len(cells[0]), bool)
        for cell, window in zip(cells[1:], inner[1:], strict=True):
            here &= (cell >= window.start) & (cell < window.stop)
        places = zip(cells, inner, margin, strict=True)
        further = np.stack(
            [self.missing[band][here], *(c[here] - i.start + m for c, i, m in places)]
        )
        device = self.ids.device
        patch, *at = ready_for(device, further).to(device, non_blocking=device.type == "cuda")
        return _Place(
            (
                slice(None),
                *(slice(m, m + i.stop - i.start) for i, m in zip(inner, margin, strict=True)),
            ),
            self.ids[plane][tuple(inner)].flatten(),
            patch,
            (slice(None), *at),
        )


# Sums of larger ones do not fit float32.
_LARGEST_SQUARE = 1e30


@dataclass(frozen=True, slots=True)
class PooledFeatures:
    """First and second moments of features in every patch.

    Parameters
    ----------
    mean : ndarray of float32, shape (P, F)
        Mean feature vector.
    second : ndarray of float32, shape (P, F)
        Mean squared features.
    level : ndarray of int, shape (F,)
        Which level each feature comes from.
    """

    mean: np.ndarray
    second: np.ndarray
    level: np.ndarray


def pooling_steps(
    model: Model,
    image: Image,
    patches: np.ndarray,
    levels: tuple[int, ...] | None = None,
    source: Source = "encoder",
    device: str = "auto",
    tile_size: int = 512,
    stop: StopFlag | None = None,
    precision: Precision = "float32",
) -> Generator[Progress, None, PooledFeatures]:
    """Encode an image and sum its features per patch; a generator that returns the moments.

    A level of lower resolution is sampled once per cell, at the cell's centre; a patch that has no
    cell centre takes the cell of its last pixel.

    Parameters
    ----------
    model : Model
    image : Image
        From `model.read`.
    patches : ndarray of int, shape space
        Patch ids 0 .. P-1, all present.
    levels : tuple of int, optional
        All by default; 0 is the image itself.
    source : {"encoder", "decoder"}
    device : str
        When it runs out of memory, tiles are halved down to 64 pixels, then the CPU takes over;
        an event says so.
    tile_size : int
        Pixels along each side, see `tile_shape`; the result does not depend on it. CUDA devices
        with free memory take larger ones, up to 2048.
    stop : StopFlag, optional
        Checked at every tile.
    precision : {"float32", "bfloat16"}
        Of weights and activations; sums are float32. In bfloat16 regions change: one
        pixel in ten or more on texture mosaics (docs/performance.md).

    Yields
    ------
    Progress

    Returns
    -------
    PooledFeatures

    Raises
    ------
    StoppedError
        When asked to stop.
    InputError
        If features are not finite, or too large for their squares.
    DeviceError
        If even the CPU runs out of memory, or the device does not compute in the precision.
    """
    levels = model.levels(levels)
    chosen = choose_device(device)
    dtype_of(precision, chosen)
    tile_size = usual_tile_size(tile_size, chosen, model.architecture)
    run = partial(_pool, model, image, patches, levels, source, stop, precision)
    return (yield from retry_on_oom(run, chosen, tile_size))


def _pool(
    model: Model,
    image: Image,
    patches: np.ndarray,
    levels: tuple[int, ...],
    source: Source,
    stop: StopFlag | None,
    precision: Precision,
    device: torch.device,
    tile_size: int,
) -> Generator[Progress, None, PooledFeatures]:
    number = int(patches.max()) + 1
    channels = {level: model.level_channels(source)[level] for level in levels}
    cells = {level: model.architecture.stride(level) for level in levels}
    # What `of_tile` hands on is what `add` takes.
    sums: Any = (
        GpuMoments(patches, number, channels, cells, device, stop)
        if is_accelerator(device)
        else CpuMoments(patches, number, channels, cells, stop)
    )
    total = len(places(model.architecture, patches.shape, tile_size))
    clock = Clock(total)
    # In a name of its own, so that it can be closed: nothing works on when this is stopped.
    tiles = model.map_tiles(sums.of_tile, image, levels, source, device, tile_size, precision)
    with closing(tiles):
        for done, found in enumerate(tiles, 1):
            sums.add(found)
            yield Progress("encode", done, total, str(device), clock.seconds_left(done))
            raise_if_stopped(stop, "encode")
    mean, second = sums.moments()
    if not (np.isfinite(mean).all() and (second <= _LARGEST_SQUARE).all()):
        raise InputError(NO_NUMBERS)
    return PooledFeatures(mean, second, np.repeat(levels, [channels[i] for i in levels]))
