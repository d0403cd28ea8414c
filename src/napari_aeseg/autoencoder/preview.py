"""What a network makes of the middle of an image, to watch it learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from napari_aeseg.autoencoder.network import Autoencoder, channels_last
from napari_aeseg.images.tiles import plan_tiles, read_tile
from napari_aeseg.images.training_windows import WindowSample
from napari_aeseg.progress import TrainingPreview

if TYPE_CHECKING:
    import numpy as np

    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.images.intensity import Image

# Rows and columns of a preview at most: a fraction of a second on a CPU.
_SIDE = 512
# The same of a volume, and how many slices are encoded for it.
_BLOCK = (16, 128, 128)


class TrainingPreviewer:
    """Reconstructs the middle of an image with a network that is being trained.

    The middle of its middle plane is shown: 512 x 512 pixels at most. By a 3D network, 128 x 128 of
    a few slices, without a margin, as it sees crops in training.
    """

    def __init__(self, image: Image, architecture: Architecture) -> None:
        self.image = image
        space = image.space_shape
        self.plane = tuple(n // 2 for n in space[:-2])
        # On the grid of the pooling windows, so that it equals that part of a whole reconstruction.
        grid = architecture.total_stride
        dimensions = len(grid)
        self.stack = self.plane[: len(space) - dimensions]
        if dimensions == 2:
            margin = architecture.receptive_radius(decoded=True)
            largest: tuple[int, ...] = (_SIDE, _SIDE)
        else:
            margin = (0, 0, 0)
            # Two values of the code hold the middle, wherever it lies in them.
            largest = tuple(map(max, _BLOCK, (2 * n for n in grid)))
        size = space[-dimensions:]
        corner = tuple(
            max(n - m, 0) // 2 // g * g for n, m, g in zip(size, largest, grid, strict=True)
        )
        tile = plan_tiles(tuple(map(min, size, largest)), largest, margin, grid)[0]
        start = tuple(a + c for a, c in zip(tile.start, corner, strict=True))
        self.tile = replace(tile, start=start)
        self.corner = corner[-2:]
        # Which of the slices of a volume is shown.
        self.slice = tuple(p - c for p, c in zip(self.plane[-1:], corner[:-2], strict=False))
        self._window: np.ndarray | None = None  # of an image that is not loaded

    def preview(self, network: Autoencoder) -> TrainingPreview:
        """Return the reconstruction by the network as it is now, in the units of the image."""
        device = next(network.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            x = torch.from_numpy(self._pixels()).to(device)[None]
            rebuilt = network(channels_last(x))[0]
            scaled = rebuilt[(slice(None), *self.tile.keep)].float().cpu().numpy()
        shown: Any = (slice(None), *self.slice)
        out = self.image.intensity.undo(scaled[shown])
        if self.image.light is not None:
            inner = (slice(c, c + n) for c, n in zip(self.corner, out.shape[1:], strict=True))
            out *= self.image.light[self.plane][tuple(inner)]
        axes = self.image.axes.letters.replace("T", "").replace("Z", "")
        out = out.transpose(["CYX".index(a) for a in axes]) if "C" in axes else out[0]
        if axes == "XY":
            out = out.T
        # Where the preview lies, one number for each axis but C.
        stack = [a for a in "TZ" if a in self.image.axes.letters]
        position = dict(zip([*stack, "Y", "X"], [*self.plane, *self.corner], strict=True))
        return TrainingPreview(out, axes, tuple(position[a] for a in self.image.axes.space))

    def _pixels(self) -> np.ndarray:
        """Return the tile with its margin."""
        if isinstance(self.image, WindowSample):
            if self._window is None:
                self._window = self.image.tile(self.stack, self.tile)
            return self._window
        # An index of slices and numbers is more than numpy's stubs can follow.
        stack: Any = (slice(None), *self.stack)
        return read_tile(self.image.pixels[stack], self.tile)
