"""Sums of features per patch that stay on a GPU until the last tile."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_aeseg.autoencoder.encoding import cell_centres, moved, ready_for
from napari_aeseg.progress import raise_if_stopped

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.encoding import EncodedTile
    from napari_aeseg.progress import StopFlag

# Pixels of patch ids that are brought to the device at a time.
_BLOCK = 2**24


class DeviceSums:
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
