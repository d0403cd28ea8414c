"""Measurements of labels, and the mean features of patches as colours.

The table of `Hierarchy.table` is what the functions in `COLUMNS` return: a new column is one more
function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage, sparse

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_rectangular
from napari_aeseg.images.napari_layers import labels_of_layer
from napari_aeseg.regions.connected_pieces import connected_pieces
from napari_aeseg.regions.lazy_labels import is_lazy, labels_by_patch
from napari_aeseg.regions.objects.candidates import radius_of
from napari_aeseg.regions.shapes import shape_columns

if TYPE_CHECKING:
    import pandas as pd

    from napari_aeseg.images.axes import Axes
    from napari_aeseg.regions.compared_patches import ComparedPatches
    from napari_aeseg.regions.patches.statistics import PatchStatistics

    Columns = dict[str, np.ndarray]

# Labels are kept in signed integers.
_LARGEST_LABEL = np.iinfo(np.int64).max
# Percentiles of each principal component that become 0 and 255.
_LOW, _HIGH = 1, 99
# A feature that varies by a smaller part of its magnitude is constant: float32 rounds by 1e-7.
_FLAT = 1e-5
# In units of one feature's deviation; a component with less is rounding, not appearance.
_LEAST_SPAN = 0.02


class LabelledImage:
    """Labels on the patches of an image, with the values that columns are computed from.

    A label is the sum of its members: whole patches where labels are unions of patches, else
    pixels.
    """

    def __init__(
        self,
        patches: Any,
        axes: Axes,
        compared: ComparedPatches,
        labels: np.ndarray,
        pixel_size: np.ndarray | None,
        class_of: np.ndarray | None,
        pixels_of_image: np.ndarray | None = None,
        pieces: bool = False,
    ) -> None:
        self.patches, self.axes, self.compared = patches, axes, compared
        self.statistics, self.pixel_size, self.class_of = compared.statistics, pixel_size, class_of
        self.pixels_of_image = pixels_of_image  # (C, *space)
        number = compared.graph.number
        # Label of each patch, shape (P,); None where patches have several.
        labels = labels_of_layer(labels, axes)
        # Label of each piece where these are rows, else None.
        self.label_of_piece: np.ndarray | None = None
        if pieces:
            labels, self.label_of_piece = _numbered_pieces(labels, patches, axes)
        labels, self.of_patch = checked_labels(labels, patches, number, axes.space)
        members = (labels if self.of_patch is None else self.of_patch).ravel().astype(np.int64)
        # A number for the label of each member; which numbers are rows of the table: all but that
        # of label 0; the labels of these rows.
        if members.max(initial=0) <= members.size:  # else counting takes too much memory
            rows = np.flatnonzero(np.bincount(members))
            self.bins, self.rows = members, rows[rows > 0]
            self.index = self.rows
        else:
            from pandas import factorize

            self.bins, values = factorize(members, sort=True)
            self.rows = np.flatnonzero(values)
            self.index = values[self.rows]

    @cached_property
    def row_of_patch(self) -> np.ndarray:
        """Which of `bins` most pixels of each patch are in, shape (P,)."""
        if self.of_patch is not None:
            return self.bins
        return majority_of_patch(self.bins, self.patches, self.compared.graph.number)

    @cached_property
    def pixels(self) -> np.ndarray:
        """Pixels of each row, float64."""
        return self.total(None if self.of_patch is None else self.statistics.count)

    def total(self, values: np.ndarray | None = None) -> np.ndarray:
        """Sum over the members of each row of a value for each member, by default 1."""
        return np.bincount(self.bins, values)[self.rows]

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over the pixels of each row of a value for each member."""
        by_patch = self.of_patch is not None
        return self.total(values * self.statistics.count if by_patch else values) / self.pixels

    @cached_property
    def row_of_pixel(self) -> np.ndarray:
        """Number 1 .. n of the row that each pixel is in, 0 for none, shape of the image."""
        number = np.zeros(int(self.bins.max(initial=0)) + 1, np.int32)
        number[self.rows] = np.arange(1, len(self.rows) + 1)
        rows = number[self.bins]
        return (rows if self.of_patch is None else rows[self.patches.ravel()]).reshape(
            self.patches.shape
        )

    def mean_of_image(self, image: np.ndarray) -> np.ndarray:
        """Mean over the pixels of each row of an image of the same shape."""
        values = image.ravel()
        if self.of_patch is not None:
            values = np.bincount(self.patches.ravel(), values, self.compared.graph.number)
        return self.total(values) / self.pixels


def _label(labelled: LabelledImage) -> Columns:
    return {} if labelled.label_of_piece is None else {"label": labelled.label_of_piece}


def _area(labelled: LabelledImage) -> Columns:
    pixels = labelled.pixels
    if labelled.pixel_size is None:
        return {"area": pixels.astype(np.int64)}
    area = pixels * np.prod(labelled.pixel_size)
    return {"area": area, "area_pixels": pixels.astype(np.int64)}


def _share(labelled: LabelledImage) -> Columns:
    return {"area_share": labelled.pixels / np.prod(labelled.patches.shape, dtype=float)}


def _centroid(labelled: LabelledImage) -> Columns:
    shape = labelled.patches.shape
    columns = {}
    for axis, letter in enumerate(labelled.axes.space.lower()):
        if labelled.of_patch is not None:
            coordinate = labelled.statistics.centroid[:, axis]
        else:
            along = [-1 if i == axis else 1 for i in range(len(shape))]
            coordinate = np.broadcast_to(np.arange(shape[axis]).reshape(along), shape).ravel()
        size = 1.0 if labelled.pixel_size is None else labelled.pixel_size[axis]
        columns[f"centroid_{letter}"] = labelled.mean(coordinate) * size
    return columns


def _shape(labelled: LabelledImage) -> Columns:
    """Shapes of pieces, and of labels on a background; of parts of a partition they say little."""
    if is_lazy(labelled.patches) or "T" in labelled.axes.space:
        return {}
    if labelled.label_of_piece is None and labelled.row_of_pixel.all():
        return {}
    rows = labelled.row_of_pixel
    single = tuple(axis for axis, n in enumerate(rows.shape) if n == 1)[: rows.ndim - 2]
    sides = np.ones(rows.ndim) if labelled.pixel_size is None else labelled.pixel_size
    sides = np.delete(sides, single)
    return shape_columns(rows.squeeze(single), len(labelled.rows), sides.tolist())


def _intensities(labelled: LabelledImage) -> Columns:
    """Mean of each channel; with the pixels of the image also the extremes."""
    columns = {}
    if labelled.pixels_of_image is not None:
        rows, index = labelled.row_of_pixel, np.arange(1, len(labelled.rows) + 1)
        for channel, image in enumerate(labelled.pixels_of_image, 1):
            for name, measure in (
                ("mean", ndimage.mean),
                ("min", ndimage.minimum),
                ("max", ndimage.maximum),
            ):
                columns[f"{name}_{channel}"] = np.asarray(measure(image, rows, index))
        return columns
    for channel, of_patch in enumerate(labelled.statistics.intensity.T, 1):
        by_patch = labelled.of_patch is not None
        values = of_patch if by_patch else of_patch[labelled.patches].ravel()
        columns[f"mean_{channel}"] = labelled.mean(values)
    return columns


def _border_strength(labelled: LabelledImage) -> Columns:
    """Mean strength along the border to everything else, weighted by its length."""
    graph, number = labelled.compared.graph, int(labelled.bins.max()) + 1
    a, b = labelled.row_of_patch[graph.edges].T
    outer = a != b
    length = graph.border[outer].astype(float)
    strength = length * labelled.compared.edge_strength[outer]
    ends = np.concatenate([a[outer], b[outer]])
    total = np.bincount(ends, np.tile(strength, 2), number)
    border = np.bincount(ends, np.tile(length, 2), number)
    mean = total / np.where(border > 0, border, np.nan)
    return {"border_strength": mean[labelled.rows]}


def _merge_height(labelled: LabelledImage) -> Columns:
    """Threshold at which a part of the label merges with something outside it."""
    number = int(labelled.bins.max()) + 1
    height = merge_heights(labelled.compared, labelled.row_of_patch, number)
    return {"merge_height": height[labelled.rows]}


def _majority_class(labelled: LabelledImage) -> Columns:
    """The class of most pixels of each label, of several the first in order."""
    if labelled.class_of is None:
        return {}
    from pandas import factorize

    class_of, by_patch = labelled.class_of, labelled.of_patch is not None
    code, names = factorize(class_of.ravel(), sort=True)
    bins, weight = labelled.bins, labelled.statistics.count if by_patch else None
    if by_patch and class_of.ndim > 1:
        bins, weight = bins[labelled.patches].ravel(), None
    elif not by_patch and class_of.ndim == 1:
        code = code[labelled.patches].ravel()
    # A hash table, because np.unique sorts: five times slower for pixels.
    pair, keys = factorize(bins * len(names) + code)
    best_last = keys[np.lexsort((-keys, np.bincount(pair, weight)))]
    best = np.zeros(int(bins.max()) + 1, np.int64)
    best[best_last // len(names)] = best_last % len(names)
    return {"class": names[best[labelled.rows]]}


#: The columns of a table, in order; a function returns none where they do not apply.
COLUMNS: tuple[Callable[[LabelledImage], Columns], ...] = (
    _label,
    _area,
    _share,
    _centroid,
    _shape,
    _intensities,
    _border_strength,
    _merge_height,
    _majority_class,
)


def region_table(
    patches: Any,
    axes: Axes,
    compared: ComparedPatches,
    labels: np.ndarray,
    classes: np.ndarray | None,
    spacing: Sequence[float] | None,
    unit: str,
    maps: Mapping[str, Any],
    pixels: np.ndarray | None = None,
    pieces: bool = False,
) -> pd.DataFrame:
    """Measure each label; see `Hierarchy.table`. Without `spacing`, pixels are counted."""
    import pandas as pd

    pixel_size = None if spacing is None else _checked_spacing(spacing, patches.ndim)
    if maps and is_lazy(patches):
        raise InputError(
            f"{', '.join(maps)}: images in blocks have tables without maps. Leave them out."
        )
    class_of = None if classes is None else _checked_classes(classes, patches, compared)
    labelled = LabelledImage(patches, axes, compared, labels, pixel_size, class_of, pixels, pieces)
    images = {name: _checked_map(name, m, patches.shape) for name, m in maps.items()}
    columns: Columns = {"index": labelled.index}
    for column in COLUMNS:
        columns |= column(labelled)
    if taken := sorted(set(images) & set(columns)):
        raise InputError(f"{', '.join(taken)}: the table has a column of this name; rename it.")
    columns |= {name: labelled.mean_of_image(image) for name, image in images.items()}
    table = pd.DataFrame(columns)
    table.attrs["unit"] = unit
    return table


def _numbered_pieces(labels: np.ndarray, patches: Any, axes: Axes) -> tuple[Any, np.ndarray]:
    """Number the connected pieces of labels from 1, and return the label of each."""
    if is_lazy(patches):
        raise InputError("Images in blocks have tables of labels only: leave out pieces.")
    labels = _whole_numbers(labels, patches.shape, axes.space)
    pieces = connected_pieces(labels)
    labelled = np.flatnonzero(pieces.label_of_piece)
    labelled = labelled[np.argsort(pieces.label_of_piece[labelled], kind="stable")]
    number = np.zeros(pieces.number, np.int64)
    number[labelled] = np.arange(1, len(labelled) + 1)
    return pieces.by_pixel(number, labels.shape), pieces.label_of_piece[labelled]


def checked_labels(
    labels: object, patches: Any, number: int, space: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return labels as an array, and the label of each patch; None where patches have several.

    Of a lazy array of patches, no pixel is computed: both are by patch, and other labels raise
    InputError.
    """
    if is_lazy(patches):
        by_patch = labels_by_patch(labels, patches, number, "The labels")
        by_patch = _whole_numbers(by_patch, (number,), "patches")
        return by_patch, by_patch
    array = _whole_numbers(labels, patches.shape, space)
    return array, patch_values(array, patches, number)


def _whole_numbers(labels: object, shape: tuple[int, ...], space: str) -> np.ndarray:
    check_rectangular(labels, "labels")
    array = np.asarray(labels)
    if array.shape != shape:
        raise InputError(f"labels have shape {array.shape}, the image has {shape} ({space}).")
    if array.dtype.kind not in "bui" or (array.size and array.min() < 0):
        raise InputError("labels must be whole numbers of 0 or more; 0 is left out.")
    if array.size and array.max() > _LARGEST_LABEL:
        raise InputError(f"labels go up to {array.max()}: give numbers up to {_LARGEST_LABEL}.")
    return array


def patch_values(values: np.ndarray, patches: np.ndarray, number: int) -> np.ndarray | None:
    """Return the value of each patch, shape (P,), or None where patches have several."""
    of_patch = np.zeros(number, values.dtype)
    of_patch[patches.ravel()] = values.ravel()
    return of_patch if np.array_equal(of_patch[patches], values) else None


def majority_of_patch(values: np.ndarray, patches: np.ndarray, number: int) -> np.ndarray:
    """Return the value that most pixels of each patch have, shape (P,), of equals the largest."""
    names, code = np.unique(values.ravel(), return_inverse=True)
    ones = np.ones(code.size, np.int64)
    pixels = sparse.coo_array((ones, (patches.ravel(), code)), (number, len(names))).tocsr().tocoo()
    patch, code = pixels.coords
    order = np.lexsort((code, pixels.data, patch))
    majority = np.zeros(number, np.int64)
    majority[patch[order]] = code[order]  # of equal places, the last stays
    return names[majority]


def merge_heights(compared: ComparedPatches, group: np.ndarray, number: int) -> np.ndarray:
    """Return the threshold at which each group of patches first merges; NaN of none, float64."""
    occurs = np.bincount(group, minlength=number) > 0
    heights = np.full(number, np.nan)
    row = np.cumsum(occurs) - 1
    heights[occurs] = compared.merge_heights(row[group], int(occurs.sum()))
    return heights


def _checked_spacing(spacing: Sequence[float], ndim: int) -> np.ndarray:
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


def _checked_classes(classes: object, patches: Any, compared: ComparedPatches) -> np.ndarray:
    """Classes by patch where each patch has one, else by pixel."""
    number = compared.graph.number
    if is_lazy(patches):
        classes = labels_by_patch(classes, patches, number, "The classes")
    array = np.asarray(classes)
    if array.shape not in ((number,), patches.shape) or array.dtype.kind not in "buiUO":
        raise InputError(
            f"classes are an array of {array.dtype} with shape {array.shape}: give whole numbers "
            f"or names, one for each pixel {patches.shape} or each patch {(number,)}."
        )
    if array.shape == (number,):
        return array
    of_patch = patch_values(array, patches, number)
    return array if of_patch is None else of_patch


def feature_colors(statistics: PatchStatistics) -> np.ndarray:
    """Return the first three principal components of the mean features, as red, green and blue.

    Uint8, shape (P, 3): 0 to 255 from the 1st to the 99th percentile. Features of level 1 and
    deeper are used where there are such, each divided by its standard deviation; patches count by
    their pixels. Each component points to where its largest loading is positive; components that
    are constant, or that do not exist, are 0.
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


def object_table(labels: Any, axes: Axes) -> pd.DataFrame:
    """Measure objects of an image in blocks chunk by chunk: area (volume), centre and diameter."""
    import dask.array as da
    import pandas as pd

    labels = da.asarray(labels)
    number = int(labels.max())
    sums = np.zeros((1 + labels.ndim, number + 1))
    starts = [np.cumsum((0, *along))[:-1] for along in labels.chunks]
    for index in product(*map(range, labels.numblocks)):
        chunk = np.asarray(labels.blocks[index])
        at = np.nonzero(chunk)
        ids = chunk[at]
        sums[0] += np.bincount(ids, minlength=number + 1)
        for axis, places in enumerate(at):
            sums[1 + axis] += np.bincount(ids, places + starts[axis][index[axis]], number + 1)
    spacing = axes.spacing or (1.0,) * labels.ndim
    area = sums[0, 1:] * np.prod(spacing)
    table = pd.DataFrame({"index": np.arange(1, number + 1), "area": area})
    for axis, letter in enumerate(axes.space):
        table[f"centroid_{letter.lower()}"] = sums[1 + axis, 1:] / sums[0, 1:] * spacing[axis]
    return table.assign(equivalent_diameter=2 * radius_of(area, labels.ndim))
