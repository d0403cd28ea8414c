"""Pictures of what the network makes of an image, to watch it learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from napari_aeseg.events import Picture
from napari_aeseg.images.pool import Pool
from napari_aeseg.images.tiles import plan_tiles, read_tile

if TYPE_CHECKING:
    import numpy as np

    from napari_aeseg.autoencoder.network import Architecture, Autoencoder
    from napari_aeseg.images.intensity import Image

# Rows and columns of a picture at most: a fraction of a second on a CPU.
_SIDE = 512


class Watcher:
    """Reconstructs the middle of an image with a network that learns.

    Parameters
    ----------
    image : Image
        The middle of its middle plane is looked at: 512 x 512 pixels at most.
    architecture : Architecture
    """

    def __init__(self, image: Image, architecture: Architecture) -> None:
        self.image = image
        *stack, rows, columns = image.space_shape
        self.plane = tuple(n // 2 for n in stack)
        # On the grid of the pooling windows, so that it is what a whole reconstruction has there.
        grid = architecture.reduction
        self.corner = tuple(max(n - _SIDE, 0) // 2 // grid * grid for n in (rows, columns))
        margin = architecture.reach(decoded=True)
        tile = plan_tiles((min(rows, _SIDE), min(columns, _SIDE)), _SIDE, margin, grid)[0]
        start = (tile.start[0] + self.corner[0], tile.start[1] + self.corner[1])
        self.tile = replace(tile, start=start)
        self._read: np.ndarray | None = None  # of an image that is not loaded

    def picture(self, network: Autoencoder) -> Picture:
        """Return what the network makes of it now, in the units of the image."""
        device = next(network.parameters()).device
        pixels = self._pixels()
        with torch.inference_mode():
            x = torch.from_numpy(pixels).to(device)[None]
            made = network(x.contiguous(memory_format=torch.channels_last))[0]
            kept = made[(slice(None), *self.tile.keep)].float().cpu().numpy()
        out = self.image.intensity.undo(kept)
        if self.image.light is not None:
            inner = (slice(c, c + n) for c, n in zip(self.corner, out.shape[1:], strict=True))
            out *= self.image.light[self.plane][tuple(inner)]
        axes = self.image.axes.letters.replace("T", "").replace("Z", "")
        out = out.transpose(["CYX".index(a) for a in axes]) if "C" in axes else out[0]
        if axes == "XY":
            out = out.T
        return Picture(out, axes, self._offset())

    def _pixels(self) -> np.ndarray:
        """What is looked at."""
        if isinstance(self.image, Pool):
            if self._read is None:
                self._read = self.image.tile(self.plane, self.tile)
            return self._read
        # An index of slices and numbers is more than numpy's stubs can follow.
        plane: Any = (slice(None), *self.plane)
        return read_tile(self.image.pixels[plane], self.tile)

    def _offset(self) -> tuple[int, ...]:
        """Where the picture lies, one number for each axis but C."""
        letters = self.image.axes.letters
        stack = [a for a in "TZ" if a in letters]
        where = dict(zip([*stack, "Y", "X"], [*self.plane, *self.corner], strict=True))
        return tuple(where[a] for a in self.image.axes.space)
