"""Random windows of an image that is not loaded, to train on."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.intensity import Image
from napari_aeseg.images.tiles import Tile, tile_indices
from napari_aeseg.progress import Progress, StopFlag, raise_if_stopped

if TYPE_CHECKING:
    from napari_aeseg.images.blocks import BlockImage

# Bytes of the windows of an image, and of all images together.
_BYTES, _ALL_BYTES = 64 * 2**20, 256 * 2**20
# Smallest and largest number of windows of an image.
_FEWEST, _MOST = 16, 400
# Side of a window: in crops, and its limits in pixels.
_CROPS, _SHORTEST_SIDE, _LONGEST_SIDE = 4, 128, 512
# Sides are multiples of the total stride of any network.
_ALIGN = 64


@dataclass(frozen=True, slots=True)
class WindowSample(Image):
    """Random windows of an image that is not loaded, as the planes of a stack.

    `pixels` have the shape (C, windows, rows, columns); `axes` are those of the whole image,
    `source`.
    """

    source: BlockImage = field(kw_only=True)

    @property
    def space_shape(self) -> tuple[int, ...]:
        """Pixels along each axis of the whole image, in the order T, Z, Y, X."""
        return self.source.shape

    def tile(self, plane: tuple[int, ...], tile: Tile) -> np.ndarray:
        """Return the pixels of a tile of a plane of the image, shape (C, rows, columns)."""
        rows, columns = tile_indices(self.source.shape[-2:], tile)
        part = (
            *(slice(i, i + 1) for i in plane),
            *(slice(int(along.min()), int(along.max()) + 1) for along in (rows, columns)),
        )
        scaled = self.source.scaled(self.source.raw(part)).pixels
        flat = scaled.reshape(len(scaled), *scaled.shape[-2:])
        return flat[:, (rows - rows.min())[:, np.newaxis], columns - columns.min()]


def window_sample_steps(
    image: BlockImage,
    crop: int,
    seed: int,
    images: int = 1,
    stop: StopFlag | None = None,
    *,
    skip: bool = False,
) -> Generator[Progress, None, WindowSample]:
    """Read windows at random places; a generator of events that returns them.

    Training takes crops of the side `crop` out of the windows. The windows of all `images` share
    256 MB, at most 64 MB each. With `skip`, windows that cannot be read are left out; it is an
    error if none can.
    """
    *stack, rows, columns = image.shape
    # Several crops wide, so that each pixel that is read is used more than once.
    side = int(np.clip(_CROPS * crop, _SHORTEST_SIDE, _LONGEST_SIDE))
    side = max(side, -(-crop // _ALIGN) * _ALIGN)
    sides = [min(n, side) for n in (rows, columns)]
    share = min(_BYTES, _ALL_BYTES // max(images, 1))
    number = int(np.clip(share // (4 * image.axes.channels * math.prod(sides)), _FEWEST, _MOST))
    rng = np.random.default_rng(seed)
    windows: list[np.ndarray] = []
    unreadable: InputError | None = None
    for done in range(1, number + 1):
        raise_if_stopped(stop, "read")
        # Drawn also for windows that are left out later, so that the others stay the same.
        corner = [int(rng.integers(n)) for n in stack]
        corner += [
            int(rng.integers(n - s + 1)) for n, s in zip((rows, columns), sides, strict=True)
        ]
        size = [1] * len(stack) + sides
        part = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
        try:
            raw = image.raw(part)
        except InputError as error:
            if not skip:
                raise
            unreadable = error
        else:
            scaled = image.scaled(raw).pixels
            windows.append(scaled.reshape(len(scaled), *sides))
        yield Progress("read", done, number)
    if unreadable is not None and not windows:
        raise unreadable
    pixels = np.stack(windows, axis=1)
    return WindowSample(pixels, image.axes, image.intensity, image.name, source=image)
