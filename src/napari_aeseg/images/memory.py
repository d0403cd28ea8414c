"""How much memory is free, and whether an array of a file fits into it."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def free_memory() -> int:
    """Return how many bytes programs can still take.

    Examples
    --------
    >>> free_memory() > 0
    True
    """
    import psutil

    return int(psutil.virtual_memory().available)


def check_fits(shape: Sequence[int], dtype: Any, name: str) -> None:
    """Raise InputError if an array would not fit into free memory: a file may promise anything.

    Examples
    --------
    >>> check_fits((10**6, 10**7), "u1", "a.tif")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    napari_aeseg.errors.InputError: a.tif says that it holds (1000000, 10000000) uint8, ...
    """
    size, free = math.prod(shape) * np.dtype(dtype).itemsize, free_memory()
    if size > free:
        raise InputError(
            f"{name} says that it holds {tuple(shape)} {np.dtype(dtype)}, {size / 1e9:,.0f} GB: "
            f"{free / 1e9:,.0f} GB of memory are free. It is damaged, or to be worked on in blocks."
        )


# Of mallopt, in malloc.h; and bytes from which an array is large.
_MMAP_THRESHOLD, _LARGE = -3, 4 * 2**20


def return_large_arrays() -> None:
    """Have memory of large arrays go back to the system as soon as they are dropped.

    On Linux, the C library learns to keep what was freed, in a pool for each thread: threads come
    and go with every block, and 200 MB more stay in use after a few blocks.
    """
    library = _c_library()
    if library is not None:
        library.mallopt(_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Give memory that was freed, but is still held, back to the system."""
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def _c_library() -> ctypes.CDLL | None:
    """The C library, if it is one that has the two functions."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None
