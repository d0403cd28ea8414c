"""Running an image through a network, tile by tile: in threads on the CPU, ahead of a GPU."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch

from napari_aeseg.autoencoder.device import (
    is_accelerator,
    number_of_threads,
    use_one_thread,
    without_tf32,
)
from napari_aeseg.autoencoder.network import Autoencoder, channels_last, inference_copy
from napari_aeseg.errors import DeviceError, is_out_of_memory
from napari_aeseg.images.parallel import cores, in_threads
from napari_aeseg.images.tiles import Tile, plan_tiles, planes, tile_view
from napari_aeseg.progress import Progress

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.architecture import Architecture

_T = TypeVar("_T")
_R = TypeVar("_R")

Source = Literal["encoder", "decoder"]
#: The error for features that are not finite, or have no finite squares.
NOT_FINITE = (
    "Features of this image are NaN, infinite or beyond 10^15: the model is unusable. Train or "
    "load another one."
)
#: Tiles of planes and of volumes begin at multiples of so many pixels, so that no tile border runs
#: through these squares (cubes), however large tiles are: sums are taken over each of them first.
SQUARE = 8

# Larger tiles save less than 5 % of margins, and a stop is heard between two tiles.
_LARGEST_TILE = 2048
# When memory runs out, tiles are halved down to this; the CPU begins with tiles of its own size.
_SMALLEST_TILE, _CPU_TILE = 64, 384  # of 512: half as much memory again, and no faster
# Part of a GPU's free memory that a tile may take; the rest is for cuDNN and for other programs.
_MEMORY_SHARE = 0.25
# Side of a cube for a tile size. Smaller cubes are mostly margin; the default takes half a GB.
_CUBE = 1 / 4
# Threads that copy tiles into pinned memory: one moves some GB/s, a GPU takes more.
_READERS = 4
# Tiles that a GPU may be behind: one in work, one that waits.
_AHEAD = 2
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class EncodedTile:
    """Features of one tile, each level at its own resolution, still on the device."""

    plane: tuple[int, ...]  # index of the plane, or of the volume for a 3D network
    tile: Tile  # where it lies in the plane or volume
    # Level to (F, *cells), cells of `Architecture.stride(level)` pixels, margin included.
    features: dict[int, torch.Tensor]


def map_tiles(
    network: Autoencoder,
    work: Callable[[EncodedTile], _R],
    pixels: np.ndarray,
    levels: tuple[int, ...],
    source: Source = "encoder",
    device: torch.device = _CPU,
    tile_size: int = _CPU_TILE,
    tiles: list[tuple[tuple[int, ...], Tile]] | None = None,
) -> Generator[_R, None, None]:
    """Encode an image of shape (C, *space) tile by tile; yield what `work` returns for each tile.

    `network` is on the CPU; another device gets a copy. `work` is called with each `EncodedTile` in
    inference mode: on the CPU in one of several threads, else in the calling thread, while the
    device may still compute the tile. Results come in the order of `tiles_to_encode`; they do not
    depend on `tile_size` (pixels along each side, see `tile_shape`), nor on which `tiles` are
    chosen, by default all. Level 0 is the image itself, or the reconstruction for the decoder.
    """
    if device.type != "cpu":
        network = inference_copy(network, device)
    if tiles is None:
        tiles = tiles_to_encode(
            network.architecture, pixels.shape[1:], tile_size, decoded=source == "decoder"
        )

    @torch.inference_mode()
    def encode(place: tuple[tuple[int, ...], Tile], x: torch.Tensor) -> _R:
        x = channels_last(x[None])
        with without_tf32(device), torch.autocast(device.type, enabled=False):
            features = (
                network.encoder_features(x, max(levels))
                if source == "encoder"
                else network.decoder_features(x)
            )
        return work(EncodedTile(*place, {i: features[i][0] for i in levels}))

    def read(place: tuple[tuple[int, ...], Tile]) -> np.ndarray:
        plane, tile = place
        # An index of slices and numbers is more than numpy's stubs can follow.
        index: Any = (slice(None), *plane)
        return tile_view(pixels[index], tile)

    if is_accelerator(device):
        return _map_ahead(encode, read, tiles, device)
    threads = number_of_threads()
    # Each tile to a thread scales better than all threads to each tile, and suffers less when other
    # programs take a core.
    return in_threads(
        lambda place: encode(place, torch.from_numpy(np.array(read(place)))),
        tiles,
        min(threads, len(tiles)),
        partial(use_one_thread, threads),
    )


def retry_on_oom(
    run: Callable[[torch.device, int], Generator[Progress, None, _T]],
    device: torch.device,
    tile_size: int,
    stage: str = "encode",
) -> Generator[Progress, None, _T]:
    """Do work tile by tile, again with smaller tiles and then on the CPU when memory runs out.

    `run`, given a device and the tile size, begins the work; its result depends on neither. Events
    of `stage` tell of each retry. DeviceError if even the CPU runs out of memory.
    """
    while True:
        try:
            # Closed before the next try: threads of the failed one still hold memory.
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
                device, tile_size = torch.device("cpu"), _CPU_TILE  # larger tiles leave its cache
            else:
                raise DeviceError(
                    "The CPU ran out of memory with the smallest tiles; close other programs or "
                    "take a part of the image."
                ) from error
        yield Progress(stage, 0, 1, str(device), message=message)


def tiles_to_encode(
    architecture: Architecture, space: tuple[int, ...], tile_size: int, *, decoded: bool = False
) -> list[tuple[tuple[int, ...], Tile]]:
    """Return which plane or volume and which tile of it to encode, for all tiles of an image.

    `space` is the shape of the image without channels; `decoded` makes margins wide enough for the
    decoder.
    """
    dimensions = architecture.dimensions
    sides = zip(tile_shape(tile_size, architecture, space), architecture.total_stride, strict=True)
    tiles = plan_tiles(
        space[-dimensions:],
        tuple(-(-n // max(m, SQUARE)) * max(m, SQUARE) for n, m in sides),
        architecture.receptive_radius(decoded=decoded),
        architecture.total_stride,
    )
    return list(product(planes(space, dimensions), tiles))


def tile_shape(
    tile_size: int, architecture: Architecture, space: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return the sides of tiles without margin, one for each axis that the network sees.

    Planes are cut into squares of `tile_size` pixels, volumes into blocks that are cubes in
    physical size, a quarter of it along Y and X. What an image of the shape `space` does not need
    along Z goes to Y and X; planes are cut evenly, since margins cost most in a thin rest.

    Examples
    --------
    >>> from napari_aeseg.autoencoder.architecture import Architecture
    >>> tile_shape(384, Architecture(channels=1, dimensions=3, z_levels=1))
    (48, 96, 96)
    >>> tile_shape(384, Architecture(channels=1, dimensions=3, z_levels=1), (12, 900, 900))
    (12, 192, 192)
    >>> tile_shape(384, Architecture(channels=1), (400, 700))
    (200, 350)
    """
    if architecture.dimensions == 2:
        plane = (tile_size, tile_size) if space is None else space[-2:]
        rows, columns = (-(-n // -(-n // tile_size)) for n in plane)
        return rows, columns
    side = max(round(tile_size * _CUBE), 1)
    depth = max(side // 2**architecture.z_levels, 1)
    if space is None or space[-3] >= depth:
        return (depth, side, side)
    side = int(side * (depth / space[-3]) ** 0.5)
    return (space[-3], side, side)


def device_tile_size(tile_size: int, device: torch.device, architecture: Architecture) -> int:
    """Return the tile size for a device: doubled, up to 2048, while much CUDA memory is free.

    On a CPU, larger tiles would leave its cache.
    """
    if device.type != "cuda":
        return tile_size
    free, _ = torch.cuda.mem_get_info(device)
    radius = architecture.receptive_radius(decoded=False)
    while 2 * tile_size <= _LARGEST_TILE:
        sides = tile_shape(2 * tile_size, architecture)
        pixels = math.prod(n + 2 * r for n, r in zip(sides, radius, strict=True))
        if pixels * bytes_per_pixel(architecture) > _MEMORY_SHARE * free:
            break
        tile_size *= 2
    return tile_size


def bytes_per_pixel(architecture: Architecture) -> int:
    """Return the memory that encoding takes for each pixel of a tile, in float32."""
    levels = sum(
        n / math.prod(architecture.stride(i)) for i, n in enumerate(architecture.level_channels)
    )
    # All levels of two tiles are in memory until they are summed, and two more arrays of the finest
    # level: the last convolution, and a copy for sums.
    return int(4 * (2 * levels + 2 * architecture.width))


def _map_ahead(
    encode: Callable[[_T, torch.Tensor], _R],
    read: Callable[[_T], np.ndarray],
    tiles: list[_T],
    device: torch.device,
) -> Generator[_R, None, None]:
    """Give a device its next tiles before it has finished the last, but not too many."""
    started: deque[torch.cuda.Event] = deque()
    with closing(to_device(read, tiles, device)) as tensors:  # an early end stops its threads
        for tile, x in zip(tiles, tensors, strict=True):
            yield encode(tile, x)
            if device.type == "cuda":
                started.append(torch.cuda.current_stream(device).record_event())
                if len(started) >= _AHEAD:
                    started.popleft().synchronize()


def to_device(
    read: Callable[[_T], np.ndarray], items: Iterable[_T], device: torch.device
) -> Generator[torch.Tensor, None, None]:
    """Bring arrays that `read` returns to a device, each while it works on the one before.

    Threads copy them into pinned memory, from which CUDA copies them in a stream of its own. Other
    devices take them from plain memory, waiting for each.
    """
    copying = torch.cuda.Stream(device) if device.type == "cuda" else None
    work = in_threads(
        lambda item: pinned(read(item), device), items, min(_READERS, max(cores(), 2))
    )
    with closing(work) as tensors:
        for tensor in tensors:
            if copying is None:
                yield tensor.to(device)
            else:
                with torch.cuda.stream(copying):
                    copy = tensor.to(device, non_blocking=True)
                current = torch.cuda.current_stream(device)
                current.wait_stream(copying)  # the device waits, this thread does not
                # Its memory must not be given to the next one before it has been read.
                copy.record_stream(current)
                yield copy


def pinned(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy an array into memory from which a device takes it: for CUDA, pinned memory.

    From elsewhere, torch would first wait for all work of the device.
    """
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    tensor = torch.empty(array.shape, dtype=dtype, pin_memory=device.type == "cuda")
    np.copyto(tensor.numpy(), array)
    return tensor
