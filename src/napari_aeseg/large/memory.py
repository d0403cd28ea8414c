"""Giving back memory that is not in use."""

from __future__ import annotations

import ctypes
import sys

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
