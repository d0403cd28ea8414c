"""Names and colours of classes stay on what they were given to when classes are found anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_aeseg.regions.hierarchy import Hierarchy


def class_pairs(before: Hierarchy, after: Hierarchy, number: int) -> list[int]:
    """Return for each of the new classes, from 0, which old one it has most pixels in common with.

    Every old class is given once. Without common pixels to count, each is itself.
    """
    from scipy.optimize import linear_sum_assignment  # a window opens sooner without it

    if before.patches is after.patches:
        old, new = before.class_of_patch(number), after.class_of_patch(number)
        weight = after.statistics.count
    elif before.is_lazy or after.is_lazy or before.patches.shape != after.patches.shape:
        return list(range(number))
    else:
        old, new = (
            tree.map_to_pixels(tree.class_of_patch(number)).ravel() for tree in (before, after)
        )
        weight = np.ones(old.size)
    common = np.zeros((number, number))
    np.add.at(common, (new - 1, old - 1), weight)
    return [int(i) for i in linear_sum_assignment(-common)[1]]


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
