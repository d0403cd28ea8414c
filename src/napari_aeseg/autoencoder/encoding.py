"""Running the tiles of an image through a network: in threads on the CPU, ahead of a GPU."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch

from napari_aeseg.autoencoder.device import (
    Precision,
    dtype_of,
    is_accelerator,
    keep_to_one_thread,
    without_tf32,
)
from napari_aeseg.autoencoder.network import channels_last, copied
from napari_aeseg.autoencoder.planning import places
from napari_aeseg.images.parallel import cores, in_threads
from napari_aeseg.images.tiles import read_tile, tile_view

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from napari_aeseg.autoencoder.network import Autoencoder
    from napari_aeseg.images.tiles import Tile

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
        Level to (F, *cells), cells of `Architecture.cell(level)` pixels, margin included. Level 0
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
