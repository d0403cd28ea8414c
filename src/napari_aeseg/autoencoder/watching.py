"""Pictures of what the network makes of an image, to watch it learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from napari_aeseg.autoencoder.network import channels_last
from napari_aeseg.images.tiles import plan_tiles, read_tile
from napari_aeseg.images.windows import Pool
from napari_aeseg.progress import Picture

if TYPE_CHECKING:
    import numpy as np

    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.autoencoder.network import Autoencoder
    from napari_aeseg.images.intensity import Image

# Rows and columns of a picture at most: a fraction of a second on a CPU.
_SIDE = 512
# The same of a volume, and how many slices are looked at for it.
_BLOCK = (16, 128, 128)


class Watcher:
    """Reconstructs the middle of an image with a network that learns.

    Parameters
    ----------
    image : Image
        The middle of its middle plane is looked at: 512 x 512 pixels at most. By a 3D network,
        128 x 128 of a few slices, without a margin, as it sees crops in training.
    architecture : Architecture
    """

    def __init__(self, image: Image, architecture: Architecture) -> None:
        self.image = image
        space = image.space_shape
        self.plane = tuple(n // 2 for n in space[:-2])
        # On the grid of the pooling windows, so that it is what a whole reconstruction has there.
        grid = architecture.reduction
        seen = len(grid)
        self.stack = self.plane[: len(space) - seen]
        margin = architecture.reach(decoded=True) if seen == 2 else (0,) * seen
        # Two cells of the code hold the middle, wherever it lies in them.
        most = (_SIDE, _SIDE) if seen == 2 else tuple(map(max, _BLOCK, (2 * n for n in grid)))
        corner = tuple(
            max(n - m, 0) // 2 // g * g for n, m, g in zip(space[-seen:], most, grid, strict=True)
        )
        tile = plan_tiles(tuple(map(min, space[-seen:], most)), most, margin, grid)[0]
        start = tuple(a + c for a, c in zip(tile.start, corner, strict=True))
        self.tile = replace(tile, start=start)
        self.corner = corner[-2:]
        # Which of the slices looked at is shown.
        self.shown = tuple(p - c for p, c in zip(self.plane[-1:], corner[:-2], strict=False))
        self._read: np.ndarray | None = None  # of an image that is not loaded

    def picture(self, network: Autoencoder) -> Picture:
        """Return what the network makes of it now, in the units of the image."""
        device = next(network.parameters()).device
        pixels = self._pixels()
        with torch.inference_mode():
            x = torch.from_numpy(pixels).to(device)[None]
            made = network(channels_last(x))[0]
            kept = made[(slice(None), *self.tile.keep)].float().cpu().numpy()
        shown: Any = (slice(None), *self.shown)
        out = self.image.intensity.undo(kept[shown])
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
                self._read = self.image.tile(self.stack, self.tile)
            return self._read
        # An index of slices and numbers is more than numpy's stubs can follow.
        stack: Any = (slice(None), *self.stack)
        return read_tile(self.image.pixels[stack], self.tile)

    def _offset(self) -> tuple[int, ...]:
        """Where the picture lies, one number for each axis but C."""
        letters = self.image.axes.letters
        stack = [a for a in "TZ" if a in letters]
        where = dict(zip([*stack, "Y", "X"], [*self.plane, *self.corner], strict=True))
        return tuple(where[a] for a in self.image.axes.space)
