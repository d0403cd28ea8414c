"""Classes found anew beside those before: names and colours stay on what they were given to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_aeseg.regions.hierarchy import Hierarchy


def class_pairs(before: Hierarchy, after: Hierarchy, number: int) -> list[int]:
    """Return for each of the new classes, from 0, which old one it has most pixels in common with.

    Every old class is given once. Without common pixels to count, each is itself.
    """
    common = _in_common(before, after, number)
    return list(range(number)) if common is None else _pairs(common)


def share_in_common(before: Hierarchy, after: Hierarchy, number: int) -> float | None:
    """Return the share of pixels in the class of `class_pairs`; None if pixels are not compared."""
    common = _in_common(before, after, number)
    if common is None:
        return None
    return float(common[np.arange(number), _pairs(common)].sum() / common.sum())


def alike_lines(before: Hierarchy, after: Hierarchy, number: int) -> list[str]:
    """Say how alike the classes of two models are, if they can be compared."""
    if number > before.max_classes:
        return []
    share = share_in_common(before, after, number)
    if share is None:
        return []
    text = f"{share:.0%} of the pixels have the same class as with the model before."
    return [f"{text} Choose the better model in the list."]


def _pairs(common: np.ndarray) -> list[int]:
    from scipy.optimize import linear_sum_assignment  # a window opens sooner without it

    return [int(i) for i in linear_sum_assignment(-common)[1]]


def _in_common(before: Hierarchy, after: Hierarchy, number: int) -> np.ndarray | None:
    """Pixels of each new class in each old one; None for images in blocks or of other sizes."""
    if before.patches is after.patches:
        old, new = before.class_of_patch(number), after.class_of_patch(number)
        weight = after.statistics.count
    elif before.is_lazy or after.is_lazy or before.patches.shape != after.patches.shape:
        return None
    else:
        old, new = (
            tree.map_to_pixels(tree.class_of_patch(number)).ravel() for tree in (before, after)
        )
        weight = np.ones(old.size)
    common = np.zeros((number, number))
    np.add.at(common, (new - 1, old - 1), weight)
    return common


def names_on(pairs: list[int], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the new classes; one that was not named has its own number.

    Examples
    --------
    >>> names_on([1, 0], ("gland", "class 2"))
    ('class 1', 'gland')
    """
    return tuple(
        f"class {new}" if names[old] == f"class {old + 1}" else names[old]
        for new, old in enumerate(pairs, 1)
    )


def colors_on(pairs: list[int], colors: tuple[str, ...]) -> tuple[str, ...]:
    """Return the colours of the new classes."""
    return tuple(colors[old] for old in pairs)
