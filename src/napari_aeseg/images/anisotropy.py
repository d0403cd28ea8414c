"""How much longer voxels are along Z than along Y and X."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg.images.axes import Axes


def z_ratio(voxel_size: Sequence[float] | None, axes: Axes, name: str = "image") -> float:
    """Return how long voxels are along Z, in units of their width.

    Parameters
    ----------
    voxel_size : sequence of float or None
        One length for each of Z, Y and X that the image has, in its order, in any unit; a number
        for T may stand among them, and does not count. None takes voxels for cubes.
    axes : Axes
        Of the image.
    name : str
        What errors call the image.

    Returns
    -------
    float
        1 for images without Z. Width is the geometric mean along Y and X.

    Raises
    ------
    InputError
        If there are too few or too many numbers, or one is not above 0.

    Examples
    --------
    >>> from napari_aeseg.images.axes import read_axes
    >>> z_ratio((2, 0.5, 0.5), read_axes((20, 64, 64), "ZYX"))
    4.0
    """
    if voxel_size is None:
        return 1.0
    try:
        lengths = [float(length) for length in voxel_size]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"voxel_size = {voxel_size!r}: give numbers, one for each axis."
        ) from error
    letters = axes.space if len(lengths) == len(axes.space) else axes.space.replace("T", "")
    if len(lengths) != len(letters):
        raise InputError(
            f"voxel_size = {tuple(lengths)} does not fit {name}, read as {axes}: give "
            f"{len(letters)} numbers, for {', '.join(letters)}."
        )
    if not all(math.isfinite(length) and length > 0 for length in lengths):
        raise InputError(f"voxel_size = {tuple(lengths)}: give finite numbers above 0.")
    of = dict(zip(letters, lengths, strict=True))
    return of["Z"] / math.sqrt(of["Y"] * of["X"]) if "Z" in of else 1.0


def common_voxel_size(images: Sequence[Axes]) -> tuple[float, ...] | None:
    """Return the size of voxels that all images have; None if it is not known, or not the same.

    Examples
    --------
    >>> from napari_aeseg.images.axes import read_axes
    >>> near = read_axes((20, 64, 64), "ZYX").measured((2, 1, 1))
    >>> common_voxel_size([near, near]), common_voxel_size([near, near.measured((4, 1, 1))])
    ((2.0, 1.0, 1.0), None)
    """
    sizes = {axes.voxel_size for axes in images}
    return sizes.pop() if len(sizes) == 1 else None
