"""Measurements per label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_rectangular
from napari_aeseg.regions.lazy_labels import is_lazy, known_by_patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from napari_aeseg.regions.hierarchy import Inspected
    from napari_aeseg.regions.patches.statistics import PatchStatistics


# Percentiles of each principal component that become 0 and 255.
_LOW, _HIGH = 1, 99
# A feature that varies by a smaller part of its magnitude is constant: float32 rounds by 1e-7.
_FLAT = 1e-5
# In units of one feature's deviation; a component with less is rounding, not appearance.
_LEAST_SPAN = 0.02


def feature_colors(statistics: PatchStatistics) -> np.ndarray:
    """Return the first three principal components of the mean features, as red, green and blue.

    Parameters
    ----------
    statistics : PatchStatistics
        Features of level 1 and deeper are used where there are such, each divided by its standard
        deviation; patches count by their pixels.

    Returns
    -------
    ndarray of uint8, shape (P, 3)
        0 to 255 from the 1st to the 99th percentile. Each component points to where its largest
        loading is positive. Components that are constant, or that do not exist, are 0.
    """
    deep = statistics.level >= 1
    values = statistics.mean[:, deep if deep.any() else slice(None)].astype(np.float64)
    weight = statistics.count / statistics.count.sum()
    magnitude = np.sqrt(weight @ values**2)
    values -= weight @ values
    deviation = np.sqrt(weight @ values**2)
    values /= np.where(deviation > _FLAT * magnitude, deviation, np.inf)
    _, axes = np.linalg.eigh((values * weight[:, np.newaxis]).T @ values)
    axes = axes[:, ::-1][:, :3]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1, 1)
    components = np.zeros((len(values), 3))
    components[:, : axes.shape[1]] = values @ axes
    low, high = np.percentile(components, (_LOW, _HIGH), axis=0)
    span = np.where(high - low > _LEAST_SPAN, high - low, np.inf)
    return (255 * np.clip((components - low) / span, 0, 1)).round().astype(np.uint8)


# What the numbers of labels are kept in is signed.
_LARGEST_LABEL = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class _Members:
    """What adds to which label: whole patches if possible, else pixels.

    `bins` gives a number to each member; `rows` says which of these numbers are rows of the table,
    and `index` their labels. `weight` has the pixels of each member, None for single ones.
    """

    bins: np.ndarray
    rows: np.ndarray
    index: np.ndarray
    weight: np.ndarray | None

    @property
    def whole(self) -> bool:
        """Whether members are patches."""
        return self.weight is not None

    def total(self, values: np.ndarray | None = None) -> np.ndarray:
        """Sum over the members of each row."""
        return np.bincount(self.bins, values)[self.rows]

    def weighted(self, values: np.ndarray) -> np.ndarray:
        """Sum over the pixels of each row of a value for each member."""
        return self.total(values if self.weight is None else values * self.weight)


def region_table(
    tree: Inspected,
    labels: np.ndarray,
    classes: np.ndarray | None,
    spacing: Sequence[float] | None,
    unit: str,
    maps: Mapping[str, Any],
) -> pd.DataFrame:
    """Measure each label; see `Hierarchy.table`. Without `spacing`, pixels are counted."""
    import pandas as pd

    shape = tree.patches.shape
    size = _checked_spacing(spacing, len(shape))
    of_patch: np.ndarray | None
    if is_lazy(tree.patches):
        if maps:
            raise InputError(f"{', '.join(maps)}: no maps of an image worked on in blocks.")
        of_patch = known_by_patch(labels, tree.patches, tree.graph.number, "The labels")
        labels = checked_labels(of_patch, (tree.graph.number,), "patches")
    else:
        labels = checked_labels(labels, shape, tree.axes.space)
        of_patch = labels_of_patches(labels, tree.patches, tree.graph.number)
    checked_maps = {name: _checked_map(name, m, shape) for name, m in maps.items()}
    class_of = None if classes is None else _checked_classes(classes, tree)
    members = _members(labels, of_patch, tree)
    pixels = members.total(members.weight)
    columns: dict[str, np.ndarray] = {"index": members.index}
    if spacing is None:
        columns["area"] = pixels.astype(np.int64)
    else:
        columns["area"] = pixels * np.prod(size)
        columns["area_pixels"] = pixels.astype(np.int64)
    for axis, letter in enumerate(tree.axes.space.lower()):
        columns[f"centroid_{letter}"] = (
            members.weighted(_places(members, tree, axis)) / pixels * size[axis]
        )
    for channel, mean in enumerate(tree.statistics.intensity.T, 1):
        here = mean if members.whole else mean[tree.patches].ravel()
        columns[f"mean_{channel}"] = members.weighted(here) / pixels
    if of_patch is not None:
        columns |= _relations(tree, of_patch)
    if class_of is not None:
        columns["class"] = _majority(members, class_of, tree)
    _refuse_known(checked_maps, columns)
    for name, values in checked_maps.items():
        columns[name] = _total_of(members, values, tree) / pixels
    table = pd.DataFrame(columns)
    table.attrs["unit"] = unit
    return table


def checked_labels(labels: object, shape: tuple[int, ...], space: str) -> np.ndarray:
    """Return labels as an array, or raise InputError."""
    check_rectangular(labels, "labels")
    array = np.asarray(labels)
    if array.shape != shape:
        raise InputError(f"labels have shape {array.shape}, the image has {shape} ({space}).")
    if array.dtype.kind not in "bui" or (array.size and array.min() < 0):
        raise InputError("labels must be whole numbers of 0 or more; 0 is left out.")
    if array.size and array.max() > _LARGEST_LABEL:
        raise InputError(f"labels go up to {array.max()}: give numbers up to {_LARGEST_LABEL}.")
    return array


def labels_of_patches(values: np.ndarray, patches: np.ndarray, number: int) -> np.ndarray | None:
    """Return the value of each patch, shape (P,), or None where patches have several."""
    of_patch = np.zeros(number, values.dtype)
    of_patch[patches.ravel()] = values.ravel()
    return of_patch if np.array_equal(of_patch[patches], values) else None


def _members(labels: np.ndarray, of_patch: np.ndarray | None, tree: Inspected) -> _Members:
    from pandas import factorize

    members = (labels.ravel() if of_patch is None else of_patch).astype(np.int64)
    weight = None if of_patch is None else tree.statistics.count
    if members.max(initial=0) <= members.size:
        rows = np.flatnonzero(np.bincount(members))
        rows = rows[rows > 0]
        return _Members(members, rows, rows, weight)
    bins, known = factorize(members, sort=True)
    rows = np.flatnonzero(known)
    return _Members(bins, rows, known[rows], weight)


def _places(members: _Members, tree: Inspected, axis: int) -> np.ndarray:
    """Where each member lies along an axis."""
    if members.whole:
        return tree.statistics.centroid[:, axis]
    shape = tree.patches.shape
    place = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.broadcast_to(place, shape).ravel()


def _total_of(members: _Members, image: np.ndarray, tree: Inspected) -> np.ndarray:
    """Sum of an image over each label."""
    values = image.ravel()
    if members.whole:
        values = np.bincount(tree.patches.ravel(), values, tree.graph.number)
    return members.total(values)


def _relations(tree: Inspected, of_patch: np.ndarray) -> dict[str, np.ndarray]:
    """How labels differ from what is around them: along their borders, and in the tree."""
    index, row = np.unique(of_patch, return_inverse=True)
    a, b = row[tree.graph.edges].T
    outer = a != b
    length = tree.graph.border[outer].astype(float)
    strength = length * tree.edge_strength[outer]
    ends = np.concatenate([a[outer], b[outer]])
    total = np.bincount(ends, np.tile(strength, 2), len(index))
    border = np.bincount(ends, np.tile(length, 2), len(index))
    mean = total / np.where(border > 0, border, np.nan)
    height = np.append(tree.merge_thresholds, 1.0)[tree.tree.merges_leaving(row, len(index))]
    labelled = index > 0
    return {"border_strength": mean[labelled], "merge_height": height[labelled]}


def _majority(members: _Members, class_of: np.ndarray, tree: Inspected) -> np.ndarray:
    """The class of most pixels of each label, of several the first in order."""
    from pandas import factorize

    code, known = factorize(class_of.ravel(), sort=True)
    bins, weight = members.bins, members.weight
    if members.whole and class_of.ndim > 1:
        bins, weight = bins[tree.patches].ravel(), None
    elif not members.whole and class_of.ndim == 1:
        code = code[tree.patches].ravel()
    # A hash table, because np.unique sorts: five times slower for pixels.
    pair, keys = factorize(bins * len(known) + code)
    best_last = keys[np.lexsort((-keys, np.bincount(pair, weight)))]
    best = np.zeros(int(bins.max()) + 1, np.int64)
    best[best_last // len(known)] = best_last % len(known)
    return known[best[members.rows]]


def _checked_spacing(spacing: Sequence[float] | None, ndim: int) -> np.ndarray:
    if spacing is None:
        return np.ones(ndim)
    size = np.asarray(spacing)
    fits = size.shape == (ndim,) and size.dtype.kind in "uif"
    if not fits or not (np.isfinite(size) & (size > 0)).all():
        raise InputError(f"spacing = {spacing!r}: give {ndim} numbers above 0, one for each axis.")
    return size.astype(float)


def _checked_map(name: str, values: object, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != shape or array.dtype.kind not in "buif":
        raise InputError(
            f"{name} is an array of {array.dtype} with shape {array.shape}: give real numbers, one "
            f"for each pixel of {shape}."
        )
    return array


def _checked_classes(classes: object, tree: Inspected) -> np.ndarray:
    """Classes by patch if they can be had so, else by pixel."""
    if is_lazy(tree.patches):
        classes = known_by_patch(classes, tree.patches, tree.graph.number, "The classes")
    array = np.asarray(classes)
    by_patch, by_pixel = (tree.graph.number,), tree.patches.shape
    if array.shape not in (by_patch, by_pixel) or array.dtype.kind not in "buiUO":
        raise InputError(
            f"classes are an array of {array.dtype} with shape {array.shape}: give whole numbers "
            f"or names, one for each pixel {by_pixel} or each patch {by_patch}."
        )
    if array.shape == by_patch:
        return array
    of_patch = labels_of_patches(array, tree.patches, tree.graph.number)
    return array if of_patch is None else of_patch


def _refuse_known(maps: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray]) -> None:
    if taken := sorted(set(maps) & set(columns)):
        raise InputError(f"{', '.join(taken)}: a column of this name is there already; rename it.")
