"""What becomes of encoding when memory runs out: smaller tiles, then the CPU."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import torch

from napari_aeseg.autoencoder.device import is_accelerator, is_out_of_memory
from napari_aeseg.errors import DeviceError
from napari_aeseg.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_T = TypeVar("_T")

_SMALLEST_TILE, _CPU_TILE = 64, 512


def in_memory(
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
