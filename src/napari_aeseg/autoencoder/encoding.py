"""Running the tiles of an image through a network: in threads on the CPU, ahead of a GPU."""

from __future__ import annotations

import math
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch

from napari_aeseg.autoencoder.device import (
    Precision,
    dtype_of,
    is_accelerator,
    is_out_of_memory,
    keep_to_one_thread,
    without_tf32,
)
from napari_aeseg.autoencoder.network import channels_last, copied
from napari_aeseg.errors import DeviceError
from napari_aeseg.images.parallel import cores, in_threads
from napari_aeseg.images.tiles import plan_tiles, planes, read_tile, tile_view
from napari_aeseg.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.autoencoder.network import Autoencoder
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
    sides = zip(tile_shape(tile_size, architecture, space), architecture.total_stride, strict=True)
    tiles = plan_tiles(
        space[-dimensions:],
        tuple(-(-n // max(m, piece)) * max(m, piece) for n, m in sides),
        architecture.receptive_radius(decoded=decoded),
        architecture.total_stride,
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
    reach = architecture.receptive_radius(decoded=False)
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
        n / math.prod(architecture.stride(i)) for i, n in enumerate(architecture.level_channels)
    )
    return int(4 * (2 * kept + 2 * architecture.width))


_T = TypeVar("_T")

_SMALLEST_TILE, _CPU_TILE = 64, 512


def retry_on_oom(
    run: Callable[[torch.device, int], Generator[Progress, None, _T]],
    device: torch.device,
    tile_size: int,
    stage: str = "encode",
) -> Generator[Progress, None, _T]:
    """Do work tile by tile, again with smaller tiles and then on the CPU when memory runs out.

    Parameters
    ----------
    run : callable
        Given a device and the side of tiles, begins the work; what it returns depends on neither.
    device : torch.device
    tile_size : int
        Halved down to 64 pixels.
    stage : str
        Of the events that tell of it.

    Yields
    ------
    Progress

    Raises
    ------
    DeviceError
        If even the CPU runs out of memory.
    """
    while True:
        try:
            with closing(run(device, tile_size)) as work:
                return (yield from work)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if tile_size // 2 >= _SMALLEST_TILE:
                tile_size //= 2
                message = f"{device} ran out of memory: going on with tiles of {tile_size}."
            elif is_accelerator(device):
                message = f"{device} ran out of memory: going on with the CPU."
                device, tile_size = torch.device("cpu"), _CPU_TILE
            else:
                raise DeviceError(
                    "The CPU ran out of memory with the smallest tiles; close other programs or "
                    "take a part of the image."
                ) from error
        yield Progress(stage, 0, 1, str(device), message=message)


Source = Literal["encoder", "decoder"]
T = TypeVar("T")
R = TypeVar("R")

# Threads that copy tiles into pinned memory: one moves some GB/s, a GPU takes more.
_READERS = 4
# Tiles that a GPU may be behind: one in work, one that waits.
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class EncodedTile:
    """Features of one tile, each level at its own resolution, still on the device.

    Parameters
    ----------
    plane : tuple of int
        Index of the Y-X plane, or of the Z-Y-X volume for a 3D network.
    tile : Tile
        Where it lies in the plane or volume.
    features : dict of int to Tensor
        Level to (F, *cells), cells of `Architecture.stride(level)` pixels, margin included. Level 0
        of the encoder is float32, the others have the precision that was asked for.
    """

    plane: tuple[int, ...]
    tile: Tile
    features: dict[int, torch.Tensor]


def map_encoded(
    network: Autoencoder,
    work: Callable[[EncodedTile], R],
    pixels: np.ndarray,
    levels: tuple[int, ...],
    source: Source,
    device: torch.device,
    tile_size: int,
    precision: Precision = "float32",
) -> Generator[R, None, None]:
    """Encode an image tile by tile and do some work on each.

    Parameters
    ----------
    network : Autoencoder
        On the CPU; another device gets a copy.
    work : callable
        Called with each `EncodedTile`, in inference mode: on the CPU in one of several threads,
        else in the calling thread, while the device still works on the tile.
    pixels : ndarray of float32, shape (C, *space)
    levels : tuple of int
    source : {"encoder", "decoder"}
    device : torch.device
    tile_size : int
        Pixels along each side, see `tile_shape`. The result does not depend on it.
    precision : {"float32", "bfloat16"}
        Of weights and activations.

    Yields
    ------
    what `work` returns
        In the order of `places`.

    Raises
    ------
    DeviceError
        If the device does not know the precision.
    """
    dtype = dtype_of(precision, device)
    if device.type != "cpu" or dtype != torch.float32:
        network = copied(network, device).to(dtype)
    todo = places(network.architecture, pixels.shape[1:], tile_size, decoded=source == "decoder")

    @torch.inference_mode()
    def encoded(place: tuple[tuple[int, ...], Tile], x: torch.Tensor) -> R:
        x = channels_last(x[None])
        with without_tf32(device):
            found = (
                network.encoder_features(x.to(dtype), max(levels))
                if source == "encoder"
                else network.decoder_features(x.to(dtype))
            )
        if source == "encoder":
            found[0] = x
        return work(EncodedTile(*place, {i: found[i][0] for i in levels}))

    def read(place: tuple[tuple[int, ...], Tile], how: Callable[..., np.ndarray]) -> np.ndarray:
        plane, tile = place
        # An index of slices and numbers is more than numpy's stubs can follow.
        whole_plane: Any = (slice(None), *plane)
        return how(pixels[whole_plane], tile)

    if is_accelerator(device):
        return _mapped_ahead(encoded, partial(read, how=tile_view), todo, device)
    usual = torch.get_num_threads()
    # Each tile to a thread scales better than all threads to each tile, and stands it when
    # other programs take a core.
    return in_threads(
        lambda place: encoded(place, torch.from_numpy(read(place, read_tile))),
        todo,
        min(usual, len(todo)),
        partial(keep_to_one_thread, usual),
    )


def _mapped_ahead(
    encoded: Callable[[T, torch.Tensor], R],
    read: Callable[[T], np.ndarray],
    places: list[T],
    device: torch.device,
) -> Generator[R, None, None]:
    """Hand a device its tiles before it has done the last ones, but not too many."""
    begun: deque[torch.cuda.Event] = deque()
    with closing(moved(read, places, device)) as tensors:
        for place, x in zip(places, tensors, strict=True):
            yield encoded(place, x)
            if device.type == "cuda":
                begun.append(torch.cuda.current_stream(device).record_event())
                if len(begun) >= _AHEAD:
                    begun.popleft().synchronize()


def moved(
    read: Callable[[T], np.ndarray], items: Iterable[T], device: torch.device
) -> Generator[torch.Tensor, None, None]:
    """Bring arrays to a device, each while the device works on the one before.

    Threads copy them into pinned memory, from which CUDA takes them by itself, in a stream of its
    own. Other devices take them from plain memory, waiting for each.

    Parameters
    ----------
    read : callable
        Returns the array of an item; a view, if it can: it is copied in any case.
    items : iterable
    device : torch.device

    Yields
    ------
    Tensor
        In the order of the items.

    Examples
    --------
    >>> rows = np.arange(4).reshape(2, 2)
    >>> [t.tolist() for t in moved(lambda i: rows[i], [1, 0], torch.device("cpu"))]
    [[2, 3], [0, 1]]
    """
    aside = torch.cuda.Stream(device) if device.type == "cuda" else None
    work = in_threads(
        lambda item: ready_for(device, read(item)), items, min(_READERS, max(cores(), 2))
    )
    with closing(work) as tensors:
        for tensor in tensors:
            if aside is None:
                yield tensor.to(device)
            else:
                with torch.cuda.stream(aside):
                    there = tensor.to(device, non_blocking=True)
                current = torch.cuda.current_stream(device)
                current.wait_stream(aside)
                # Its memory must not be given to the next one before it has been read.
                there.record_stream(current)
                yield there


def ready_for(device: torch.device, array: np.ndarray) -> torch.Tensor:
    """Copy an array to where a device takes it from: for CUDA, pinned memory.

    From elsewhere, torch would first wait for all that the device has been given.

    Examples
    --------
    >>> ready_for(torch.device("cpu"), np.arange(4)[::2])
    tensor([0, 2])
    """
    kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
    tensor = torch.empty(array.shape, dtype=kind, pin_memory=device.type == "cuda")
    np.copyto(tensor.numpy(), array)
    return tensor


def cell_centres(length: int, step: int) -> np.ndarray:
    """Return the pixel of each cell's centre; a cell at the far border may be cut short.

    Examples
    --------
    >>> cell_centres(9, 4).tolist()
    [2, 6, 8]
    """
    return np.minimum(np.arange(step // 2, length + step // 2, step), length - 1)
