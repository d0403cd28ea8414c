"""How much memory is free, and whether an array of a file fits into it."""

from __future__ import annotations

import math
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
