"""Free memory: how much there is, whether an array fits, and how it is returned to the system."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_aeseg.errors import InputError


def free_memory() -> int:
    """Return the bytes of memory that are available."""
    import psutil

    return int(psutil.virtual_memory().available)


def check_fits(shape: Sequence[int], dtype: Any, name: str) -> None:
    """Raise InputError if an array of a file does not fit into free memory."""
    size, free = math.prod(shape) * np.dtype(dtype).itemsize, free_memory()
    if size > free:
        raise InputError(
            f"{name} claims to hold {tuple(shape)} {np.dtype(dtype)}, {size / 1e9:,.0f} GB, but "
            f"{free / 1e9:,.0f} GB of memory are free. It is damaged, or has to be read in blocks."
        )


# Parameter of mallopt in malloc.h; bytes from which an array is large.
_M_MMAP_THRESHOLD, _LARGE = -3, 4 * 2**20


def unmap_large_arrays_when_freed() -> None:
    """Let the C library return the memory of large arrays to the system as soon as they are freed.

    On Linux, it learns to keep freed memory in a pool for each thread, and threads come and go with
    every block: an image of 4096 x 4096 pixels in blocks takes 472 MiB instead of 242
    (``benchmarks/scale.py``).
    """
    library = _c_library()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def trim_heap() -> None:
    """Return freed memory of small arrays to the system; without it, the image takes 279 MiB."""
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def _c_library() -> ctypes.CDLL | None:
    """The C library if it has both functions (glibc)."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)  # the library that this process itself uses
    return library if hasattr(library, "malloc_trim") else None
