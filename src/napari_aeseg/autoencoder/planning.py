"""Which tiles of an image are encoded one after the other, and how large they are."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import torch

from napari_aeseg.images.tiles import plan_tiles, planes

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.images.tiles import Tile

# Larger tiles save less than 5 % of margins, and a stop is heard between two tiles.
_LARGEST_TILE = 2048
# Part of a GPU's free memory that a tile may take; the rest is for cuDNN and for other programs.
_SHARE = 0.25
# Tiles of planes and of volumes begin at multiples of so many pixels, so that these squares (cubes)
# are in one tile whole, however large tiles are: sums are taken over each of them first.
PIECE = {2: 8, 3: 8}
# Side of a cube for a tile size. Cubes of less are mostly margin; the default takes half a GB.
_CUBE = 3 / 16


def tile_shape(
    tile_size: int, architecture: Architecture, space: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return the sides of tiles, without margin.

    Parameters
    ----------
    tile_size : int
        Of planes, pixels along each side. Volumes are cut into blocks that are cubes in physical
        size, 3/16 of it along Y and X.
    architecture : Architecture
    space : tuple of int, optional
        Shape of the image: what a thin volume does not need along Z goes to Y and X.

    Returns
    -------
    tuple of int
        One for each axis that the network sees.

    Examples
    --------
    >>> from napari_aeseg.autoencoder.architecture import Architecture
    >>> tile_shape(512, Architecture(channels=1))
    (512, 512)
    >>> tile_shape(512, Architecture(channels=1, dimensions=3, z_levels=1))
    (48, 96, 96)
    >>> tile_shape(512, Architecture(channels=1, dimensions=3, z_levels=1), (12, 900, 900))
    (12, 192, 192)
    """
    if architecture.dimensions == 2:
        return (tile_size, tile_size)
    side = max(round(tile_size * _CUBE), 1)
    depth = max(side // 2**architecture.z_levels, 1)
    if space is None or space[-3] >= depth:
        return (depth, side, side)
    side = int(side * (depth / space[-3]) ** 0.5)
    return (space[-3], side, side)


def places(
    architecture: Architecture, space: tuple[int, ...], tile_size: int, *, decoded: bool = False
) -> list[tuple[tuple[int, ...], Tile]]:
    """Return all that is to be encoded of an image: which plane or volume, and which tile of it.

    Parameters
    ----------
    architecture : Architecture
    space : tuple of int
        Shape of the image, without channels.
    tile_size : int
        See `tile_shape`.
    decoded : bool
        Whether the margins are to be wide enough for the decoder.

    Examples
    --------
    >>> from napari_aeseg.autoencoder.architecture import Architecture
    >>> [len(places(Architecture(1, dimensions=d), (64, 70, 80), 256)) for d in (2, 3)]
    [64, 8]
    """
    dimensions = architecture.dimensions
    piece = PIECE[dimensions]
    sides = zip(tile_shape(tile_size, architecture, space), architecture.reduction, strict=True)
    tiles = plan_tiles(
        space[-dimensions:],
        tuple(-(-n // max(m, piece)) * max(m, piece) for n, m in sides),
        architecture.reach(decoded=decoded),
        architecture.reduction,
    )
    return list(product(planes(space, dimensions), tiles))


def usual_tile_size(tile_size: int, device: torch.device, architecture: Architecture) -> int:
    """Return the side of the tiles for a device: larger ones where much memory is free.

    Parameters
    ----------
    tile_size : int
        The least.
    device : torch.device
        All but CUDA devices get `tile_size`: on a CPU larger tiles leave its cache.
    architecture : Architecture

    Returns
    -------
    int
        A multiple of `tile_size` by a power of two, at most 2048 if `tile_size` is not larger.

    Examples
    --------
    >>> from napari_aeseg.autoencoder.architecture import Architecture
    >>> usual_tile_size(512, torch.device("cpu"), Architecture(channels=3))
    512
    """
    if device.type != "cuda":
        return tile_size
    free, _ = torch.cuda.mem_get_info(device)
    reach = architecture.reach(decoded=False)
    while 2 * tile_size <= _LARGEST_TILE:
        sides = tile_shape(2 * tile_size, architecture)
        pixels = math.prod(n + 2 * r for n, r in zip(sides, reach, strict=True))
        if pixels * bytes_per_pixel(architecture) > _SHARE * free:
            break
        tile_size *= 2
    return tile_size


def bytes_per_pixel(architecture: Architecture) -> int:
    """Return the memory that encoding takes for each pixel of a tile, in float32.

    What is needed of two tiles, all levels, is kept until it is summed; of the finest level, there
    are two more: the last convolution, and a copy for sums.

    Examples
    --------
    >>> from napari_aeseg.autoencoder.architecture import Architecture
    >>> bytes_per_pixel(Architecture(channels=1, levels=2, width=4))
    88
    """
    kept = sum(
        n / math.prod(architecture.cell(i)) for i, n in enumerate(architecture.level_channels)
    )
    return int(4 * (2 * kept + 2 * architecture.width))
