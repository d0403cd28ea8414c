"""The hierarchy of one image: patches, what is known of them, and the merge tree to cut."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import channels_first
from napari_aeseg.images.checks import check_rectangular
from napari_aeseg.images.parallel import one_blas_thread
from napari_aeseg.regions.compare.descriptor import Descriptor, describe
from napari_aeseg.regions.compare.moments import MomentsCache
from napari_aeseg.regions.cuts.classes import (
    BASE_REGIONS,
    check_prototypes,
    class_tree,
    nearest_prototype,
    prototypes_of,
)
from napari_aeseg.regions.cuts.markers import (
    check_kind,
    checked_markers,
    labels_of_marks,
    marked_patches,
    marks_on_top,
    spread,
)
from napari_aeseg.regions.cuts.objects import ObjectSearch, ObjectSearchInTime
from napari_aeseg.regions.hierarchy_file import HierarchyParts, read_hierarchy, write_hierarchy
from napari_aeseg.regions.lazy_labels import (
    contour_lazily,
    is_lazy,
    known_by_patch,
    map_to_pixels_lazily,
    marks_lazily,
    marks_on_top_lazily,
    matches_image,
)
from napari_aeseg.regions.measure import (
    checked_labels,
    feature_colors,
    labels_of_patches,
    region_table,
)
from napari_aeseg.regions.patches.graph import contour_map
from napari_aeseg.regions.patches.statistics import channel_means
from napari_aeseg.regions.patches.superpixels import patch_shape
from napari_aeseg.regions.tree.merge_tree import (
    SMALLEST_THRESHOLD,
    MergeTree,
    cost_of,
    threshold_of,
)
from napari_aeseg.regions.tree.ward import ward_tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import pandas as pd

    from napari_aeseg.images.axes import Axes
    from napari_aeseg.params import ComparisonParams, SegmentationParams
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.compare.moments import FeatureCalibration
    from napari_aeseg.regions.patches.graph import RegionGraph
    from napari_aeseg.regions.patches.statistics import PatchStatistics


class Inspected(Protocol):
    """What is needed to look inside."""

    @property
    def patches(self) -> np.ndarray:
        """Patch ids, shape space."""

    def map_to_pixels(self, lut: np.ndarray) -> np.ndarray:
        """Labels from a value per patch."""

    @property
    def statistics(self) -> PatchStatistics:
        """What is known of each patch."""

    @property
    def graph(self) -> RegionGraph:
        """Which patches touch."""

    @property
    def axes(self) -> Axes:
        """How the image's dimensions were read."""

    @property
    def tree(self) -> MergeTree:
        """The merge tree."""

    @property
    def merge_thresholds(self) -> np.ndarray:
        """Threshold of each merge, shape (P - 1,)."""

    @property
    def edge_strength(self) -> np.ndarray:
        """Threshold at which both ends of each edge are one, shape (E,)."""


class Inspection:
    """The methods of `Hierarchy` that show and measure instead of segmenting."""

    def border_strength(self: Inspected) -> np.ndarray:
        """Return how strong the borders between patches are: the ultrametric contour map.

        Cut at any value, it gives the borders of the regions of that threshold [1]_.

        Returns
        -------
        ndarray of float32, shape of the space axes
            On pixels at the border of two patches, the threshold (0 to 1) at which these two
            become one region; the largest where several meet. 0 inside patches.

        References
        ----------
        .. [1] P. Arbelaez, Boundary extraction in natural images using ultrametric contour maps,
               CVPR workshops, 2006; P. Arbelaez et al., Contour detection and hierarchical image
               segmentation, IEEE Transactions on Pattern Analysis and Machine Intelligence 33,
               2011.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
        >>> model = aeseg.train(image, params=aeseg.TrainingParams(steps=1, width=2), device="cpu")
        >>> strength = aeseg.build_hierarchy(image, model, device="cpu").border_strength()
        >>> bool(strength[:, 14:18].max() == strength.max())
        True
        """
        if is_lazy(self.patches):
            lazy: np.ndarray = contour_lazily(self.patches, self.graph, self.edge_strength)
            return lazy
        return contour_map(self.patches, self.graph, self.edge_strength)

    def merge_height(self: Inspected, labels: np.ndarray | None = None) -> np.ndarray:
        """Return how long each region holds out: the threshold at which it first merges.

        Parameters
        ----------
        labels : ndarray of int, shape of the space axes, optional
            Unions of patches, such as `regions` and `classes` give; 0 is left out. By default,
            each patch by itself.

        Returns
        -------
        ndarray of float32, shape of the space axes
            From 0 to 1, the threshold at which a part of the region merges with something outside
            it; 1 for a label that is everywhere, 0 where there is no label.

        Raises
        ------
        InputError
            If the shape differs, or the labels are no unions of patches.
        """
        number = self.graph.number
        if labels is None:
            of_patch = np.arange(1, number + 1)
        elif is_lazy(self.patches):
            of_patch = known_by_patch(labels, self.patches, number, "The labels")
        else:
            checked = checked_labels(labels, self.patches.shape, self.axes.space)
            found = labels_of_patches(checked, self.patches, number)
            if found is None:
                raise InputError(
                    "These labels are no unions of patches, and only those are in the merge tree: "
                    "take labels from `regions`, `classes` or edits of them."
                )
            of_patch = found
        index, row = np.unique(of_patch, return_inverse=True)
        first = self.tree.merges_leaving(row, len(index))
        height = np.where(index > 0, np.append(self.merge_thresholds, 1.0)[first], 0)
        return self.map_to_pixels(height.astype(np.float32)[row])

    def feature_colors(self: Inspected) -> np.ndarray:
        """Return what the network sees as colours: principal components of the mean features.

        Returns
        -------
        ndarray of uint8, shape (*space, 3)
            Red, green and blue; see `napari_aeseg.regions.measure.feature_colors`. Colours mean
            nothing by themselves and differ from image to image: alike is what is alike.
        """
        colors = feature_colors(self.statistics)
        if is_lazy(self.patches):
            lazy: np.ndarray = map_to_pixels_lazily(self.patches, colors)
            return lazy
        return colors[self.patches]

    def table(
        self: Inspected,
        labels: np.ndarray,
        classes: np.ndarray | None = None,
        spacing: Sequence[float] | None = None,
        unit: str = "pixel",
        **maps: Any,
    ) -> pd.DataFrame:
        """Measure labelled segments.

        Parameters
        ----------
        labels : ndarray of int, shape of the space axes
            0 is left out. Usually from `regions` or `classes`, but any labels of this shape do. Of
            an image worked on in blocks: only what this hierarchy returned, as it is, or one label
            for each patch; it is measured by patch, no pixel is computed.
        classes : ndarray of int or str, shape of the space axes or (P,), optional
            Class ids or names, by pixel or by patch.
        spacing : sequence of float, optional
            Size of a pixel along each axis of the labels. By default that of the hierarchy's
            `voxel_size`, and 1 from frame to frame; without one, pixels are counted.
        unit : str
            Of `spacing`; kept in ``attrs["unit"]`` of the table.
        **maps : ndarray of float, shape of the space axes
            Images to average over each label, such as ``reconstruction_error=error``.

        Returns
        -------
        pandas.DataFrame
            One row per label:

            - "index": the label;
            - "area": pixels, or with a spacing their area (in a volume their volume: the name stays
              the one that napari and scikit-image use) and the pixels in "area_pixels";
            - "centroid_y", "centroid_x" (and "centroid_z"): pixels, or with a spacing in `unit`;
            - "mean_1" ...: mean of each channel in the units of the image; exact for unions of
              patches, else from the patches that the label overlaps;
            - "border_strength", only for unions of patches: mean of `border_strength` along the
              border to full_noise else, NaN without such a border;
            - "merge_height", only for unions of patches: threshold at which a part of the label
              merges with something outside it (see `merge_height`);
            - "class", with `classes`: that of most pixels, of equals the first in order;
            - the mean of each of `maps`, under its name.

        Raises
        ------
        InputError
            If a shape differs, the labels are not whole numbers of 0 or more, `spacing` is no
            number above 0 for each axis, or a map is named like another column; of an image worked
            on in blocks, for other labels and for maps.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
        >>> model = aeseg.train(image, params=aeseg.TrainingParams(steps=1, width=2), device="cpu")
        >>> tree = aeseg.build_hierarchy(image, model, device="cpu")
        >>> table = tree.table(tree.regions(1), spacing=(0.5, 0.5), unit="micrometre")
        >>> table.loc[0, ["area", "area_pixels", "centroid_x"]].tolist(), table.attrs["unit"]
        ([256.0, 1024.0, 7.75], 'micrometre')
        """
        if spacing is None:
            spacing, unit = self.axes.spacing, self.axes.unit
        return region_table(self, labels, classes, spacing, unit, maps)


#: Why images worked on in blocks have no objects.
OBJECTS_NEED_PIXELS = (
    "Objects follow pixels, which are not kept of an image that was worked on in blocks: take "
    "regions or classes, or a part of the image that fits into memory."
)
# Pixels that labels are looked up for together.
_PAINTED_TOGETHER = 500_000


@dataclass(frozen=True)
class Hierarchy(Inspection):
    """All segmentations of one image, coarse to fine.

    Made by `napari_aeseg.build_hierarchy`. Every method that returns labels is a look-up over the
    patches and answers at once.

    Parameters
    ----------
    patches : ndarray or dask array of int32, shape space
        Patch ids 0 .. P-1; -1 in parts of a dask array that could not be read. With a dask array,
        labels are dask arrays too: what is looked at is computed.
    statistics : PatchStatistics
    graph : RegionGraph
    axes : Axes
        How the image's dimensions were read, with the size of a voxel where it is known.
    params : SegmentationParams
        How the image was cut into patches and encoded.
    comparison : ComparisonParams
        How patches are compared.
    brightness : ndarray of float16, shape space, or None
        The image as objects are looked for in it; not known of images worked on in blocks.
    model_fingerprint : str
        Hash of the model that encoded the image.
    notes : tuple of str
        Whatever differed from what was asked for, such as a fallback to the CPU.
    coarse : tuple of dask array
        Of an image worked on in blocks: patch ids at every second, fourth, ... row and column.
    fine : FeatureCalibration, optional
        Of an image worked on in blocks whose patches were joined to larger ones: what was known of
        them before.

    Examples
    --------
    >>> import napari_aeseg as aeseg
    >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
    >>> model = aeseg.train(image, params=aeseg.TrainingParams(steps=1, width=2), device="cpu")
    >>> tree = aeseg.build_hierarchy(image, model, device="cpu")
    >>> np.unique(tree.regions(n_regions=2)).tolist()
    [1, 2]
    """

    patches: Any
    statistics: PatchStatistics
    graph: RegionGraph
    axes: Axes
    params: SegmentationParams
    comparison: ComparisonParams
    brightness: np.ndarray | None
    model_fingerprint: str = ""
    notes: tuple[str, ...] = ()
    coarse: tuple[Any, ...] = ()
    fine: FeatureCalibration | None = None
    # Shared with the hierarchies that `reweighted` returns.
    _scales: MomentsCache | None = field(default=None, repr=False, compare=False)
    _search: ObjectSearch | ObjectSearchInTime = field(default=None, repr=False, compare=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        time = self.axes.space.index("T") if "T" in self.axes.space else None
        if self._scales is None:
            object.__setattr__(
                self, "_scales", MomentsCache(self.statistics, self.graph, time, self.fine)
            )
        if self._search is None and self.brightness is not None:
            bright = self.brightness
            search = ObjectSearch(bright) if time is None else ObjectSearchInTime(bright, time)
            object.__setattr__(self, "_search", search)

    @property
    def voxel_size(self) -> tuple[float, ...] | None:
        """Size of a pixel along each of Z, Y and X that is there; None when not known."""
        return self.axes.voxel_size

    def __repr__(self) -> str:
        return f"Hierarchy({self.n_patches} patches of {self.axes})"

    @property
    def is_lazy(self) -> bool:
        """Whether patch ids stay on disk, so that labels are dask arrays."""
        return is_lazy(self.patches)

    @property
    def n_patches(self) -> int:
        """Number of patches: the largest possible number of regions."""
        return self.graph.number

    @property
    def max_classes(self) -> int:
        """Largest possible number of classes."""
        return min(BASE_REGIONS, self.n_patches)

    @cached_property
    def descriptor(self) -> Descriptor:
        """What patches are compared by, for the current balance and scale."""
        return self._described()

    @cached_property
    def tree(self) -> MergeTree:
        """The merge tree for the current balance and scale."""
        return self._merged()

    def _described(self, stop: StopFlag | None = None) -> Descriptor:
        balance, scale = self.comparison.balance, self.comparison.scale
        with one_blas_thread():
            return describe(self.statistics, self.graph, balance, scale, stop, self._scales)

    def _merged(self, stop: StopFlag | None = None) -> MergeTree:
        known = self.descriptor
        return ward_tree(self.graph.edges, known.values, self._weight, stop, known.shared_merges)

    @property
    def _weight(self) -> np.ndarray:
        """Size of each patch in units of the average patch that was asked for."""
        return self.statistics.count / prod(patch_shape(self.axes, self.params.patch_size))

    @cached_property
    def _class_tree(self) -> tuple[np.ndarray, MergeTree]:
        return class_tree(self.tree, self.descriptor.appearance, self._weight)

    @cached_property
    def merge_thresholds(self) -> np.ndarray:
        """The largest threshold at which each merge is not done yet, shape (P - 1,)."""
        return threshold_of(self.tree.cost, self.descriptor.unit)

    @cached_property
    def edge_strength(self) -> np.ndarray:
        """The threshold at which both ends of each edge become one region, shape (E,)."""
        return self.merge_thresholds[self.tree.merges_joining(self.graph.edges)]

    def prepare(self, stop: StopFlag | None = None) -> Hierarchy:
        """Build the merge tree now instead of at the first cut; return the hierarchy itself.

        Parameters
        ----------
        stop : StopFlag, optional
            Looked at every few tenths of a second.

        Raises
        ------
        StoppedError
            When asked to stop. What was built so far is kept.
        """
        # A cached property is what the instance's dictionary holds under its name.
        known = vars(self)
        if "descriptor" not in known:
            known["descriptor"] = self._described(stop)
        if "tree" not in known:
            known["tree"] = self._merged(stop)
        return self

    def reweighted(
        self, balance: float | None = None, scale: float | Literal["auto"] | None = None
    ) -> Hierarchy:
        """Return a hierarchy that compares the same patches differently; nothing is encoded again.

        Parameters
        ----------
        balance : float, optional
            0 compares brightness and colour, 1 compares texture.
        scale : float or "auto", optional
            Patches averaged over before they are compared.

        Raises
        ------
        InputError
            If a value is out of range.
        """
        changes = {
            name: value
            for name, value in (("balance", balance), ("scale", scale))
            if value is not None
        }
        return self.compared_by(self.comparison.updated(**changes))

    def compared_by(self, comparison: ComparisonParams) -> Hierarchy:
        """Return a hierarchy whose patches are compared in this way; see `reweighted`."""
        return replace(self, comparison=comparison)

    def map_to_pixels(self, lut: np.ndarray) -> np.ndarray:
        """Return labels from a value per patch: ``lut[patches]``, shape of the space axes."""
        lut = np.asarray(lut)
        if self.is_lazy:
            return map_to_pixels_lazily(self.patches, lut)
        painted = np.empty(self.patches.shape, lut.dtype)
        # In parts: numpy widens indices, and all at once they do not fit the processor's cache.
        step = max(1, _PAINTED_TOGETHER * len(painted) // painted.size)
        for start in range(0, len(painted), step):
            rows = slice(start, start + step)
            np.take(lut, self.patches[rows], mode="clip", out=painted[rows])
        return painted

    def map_to_pyramid(self, lut: np.ndarray) -> list[Any]:
        """Return `map_to_pixels`, then the same at every second, fourth, ... row and column.

        There is more than the first for images worked on in blocks: what a viewer shows from afar.
        """
        return [
            self.map_to_pixels(lut),
            *(map_to_pixels_lazily(ids, np.asarray(lut)) for ids in self.coarse),
        ]

    def region_of_patch(
        self, n_regions: int | None = None, threshold: float | None = None
    ) -> np.ndarray:
        """Return the region of each patch, shape (P,); parameters as of `regions`."""
        if (n_regions is None) == (threshold is None):
            raise InputError("Give either n_regions or threshold.")
        if threshold is not None:
            n_regions = self.n_regions_at(threshold)
        return self.tree.cut(checked_number("n_regions", n_regions, self.n_patches, "patches"))

    def class_of_patch(
        self, n_classes: int = 3, prototypes: Prototypes | None = None
    ) -> np.ndarray:
        """Return the class of each patch, shape (P,); parameters as of `classes`."""
        if prototypes is not None:
            return self._nearest_class(prototypes)
        base, tree = self._class_tree
        n_classes = checked_number("n_classes", n_classes, tree.leaves, "distinct regions")
        labels = tree.cut(n_classes)[base]
        # By brightness, so that class 1 is the darkest whatever the order of merges.
        intensity = self.statistics.intensity.mean(axis=1)
        weight = np.bincount(labels, self.statistics.count)[1:]
        brightness = np.bincount(labels, self.statistics.count * intensity)[1:] / weight
        rank = np.empty(n_classes, np.int32)
        rank[np.argsort(brightness, kind="stable")] = np.arange(1, n_classes + 1)
        return rank[labels - 1]

    def _nearest_class(self, prototypes: Prototypes) -> np.ndarray:
        """Return the class of each patch, compared as where the prototypes were taken."""
        check_prototypes(prototypes, self.descriptor)
        if self.descriptor.scale != prototypes.scale:
            return self.reweighted(scale=prototypes.scale)._nearest_class(prototypes)
        base, _ = self._class_tree
        return nearest_prototype(prototypes, self.descriptor, self.statistics.count, base)

    def marker_of_patch(self, markers: np.ndarray) -> np.ndarray:
        """Return the marker that each patch belongs to, shape (P,); see `from_markers`."""
        if self.is_lazy:
            check_rectangular(markers, "markers")
            given = markers if hasattr(markers, "shape") else np.asarray(markers)
            check_kind(given, self.patches.shape)
            marked, _ = marks_lazily(given, self.patches, self.n_patches)
        else:
            checked = checked_markers(markers, self.patches.shape)
            marked = marked_patches(checked, self.patches, self.n_patches)
        values = self.descriptor.values
        return spread(marked, self.tree, self.graph.edges, values, self._weight)

    def n_regions_at(self, threshold: float) -> int:
        """Return how many regions a threshold leaves; see `regions`."""
        is_number = isinstance(threshold, int | float | np.number) and threshold is not True
        if not is_number or not 0 <= threshold <= 1:
            raise InputError(f"threshold = {threshold!r}: give a number from 0 to 1.")
        return self.tree.count_below(cost_of(threshold, self.descriptor.unit))

    def threshold_at(self, n_regions: int) -> float:
        """Return the smallest threshold that leaves at most `n_regions` regions."""
        n_regions = checked_number("n_regions", n_regions, self.n_patches, "patches")
        if n_regions == self.n_patches:
            return 0.0
        threshold = float(self.merge_thresholds[self.n_patches - 1 - n_regions])
        while self.n_regions_at(threshold) > n_regions:  # rounded down, by a few units at most
            threshold = max(float(np.nextafter(threshold, 1)), SMALLEST_THRESHOLD)
        return threshold

    def regions(self, n_regions: int | None = None, threshold: float | None = None) -> np.ndarray:
        """Cut the merge tree into connected segments.

        Parameters
        ----------
        n_regions : int, optional
            1 to the number of patches.
        threshold : float, optional
            0 leaves every patch on its own, 1 gives one region. Merges are done while
            ``h / (h + 2) < threshold``, where ``h**2`` is Ward's cost of the merge, counted in
            patches and in units of the encoder's features. The same threshold therefore asks for
            the same dissimilarity in every image of one model.

        Returns
        -------
        ndarray of int32, shape of the space axes
            Labels 1 .. n. Cuts are nested; with one region more, only the part that is split off
            gets a new label.

        Raises
        ------
        InputError
            If neither or both are given, or a value is out of range.
        """
        return self.map_to_pixels(self.region_of_patch(n_regions, threshold))

    def classes(self, n_classes: int = 3, prototypes: Prototypes | None = None) -> np.ndarray:
        """Group regions by appearance: the same texture has the same label wherever it is.

        Parameters
        ----------
        n_classes : int
            1 to the number of distinct regions.
        prototypes : Prototypes, optional
            From `prototypes` of another image's hierarchy: class ids and appearance are taken
            from there, and `n_classes` is ignored.

        Returns
        -------
        ndarray of int32, shape of the space axes
            Labels 1 .. n_classes, from dark to bright. Not every class of `prototypes` need occur.

        Raises
        ------
        InputError
            If `n_classes` is out of range.
        """
        return self.map_to_pixels(self.class_of_patch(n_classes, prototypes))

    def objects(
        self,
        class_ids: int | Sequence[int] | None = None,
        n_classes: int = 3,
        prototypes: Prototypes | None = None,
        min_size: int | None = None,
        stop: StopFlag | None = None,
    ) -> np.ndarray:
        """Find separate objects such as nuclei, cells or particles.

        Parameters
        ----------
        class_ids : int or sequence of int, optional
            Which classes the objects are made of, of ``classes(n_classes, prototypes)``. By
            default, whatever stands out from what is around it: bright on dark or dark on bright,
            whichever looks more like objects.
        n_classes : int
        prototypes : Prototypes, optional
        min_size : int, optional
            Pixels of the smallest object, 1 or more. Without it, objects too small and faint
            beside the others, or to be told from noise, are left out.
        stop : StopFlag, optional
            Checked between the steps.

        Returns
        -------
        ndarray of int32, shape of the space axes
            0 for background, 1 .. n for objects, each connected. They follow the pixels, not the
            patches: see `napari_aeseg.regions.cuts.objects.ObjectSearch`. In time, an object has
            the same label in successive frames where it overlaps itself.

        Raises
        ------
        InputError
            If a class or size is out of range.
        StoppedError
            When asked to stop.
        """
        if self.brightness is None:
            raise InputError(OBJECTS_NEED_PIXELS)
        if class_ids is None:
            return self._search.find(None, min_size, stop)
        classes = self.class_of_patch(n_classes, prototypes)
        most = n_classes if prototypes is None else len(prototypes.centres)
        asked = [class_ids] if isinstance(class_ids, int | np.integer) else list(class_ids)
        if not asked:
            raise InputError("class_ids is empty: give at least one class, or None.")
        for k in asked:
            checked_number("class_ids", k, most, "classes")
        foreground = self.map_to_pixels(np.isin(classes, asked))
        return self._search.find(foreground, min_size, stop)

    def from_markers(self, markers: np.ndarray) -> np.ndarray:
        """Divide the image among markers: every marker id becomes one segment.

        Parameters
        ----------
        markers : ndarray of int, shape of the space axes
            0 for unmarked pixels. Several strokes may have the same id. Of an image worked on in
            blocks, they may be a dask array; patches are computed where there are marks.

        Returns
        -------
        ndarray of int32, shape of the space axes
            The ids of the markers, in every pixel; see `napari_aeseg.regions.cuts.markers.spread`.
            Marked pixels keep their id. A patch with several markers goes to the one with most
            pixels in it, so that a marker which is nowhere in the majority keeps its pixels only.

        Raises
        ------
        InputError
            If the shape differs, there is no marker, or ids are negative or not whole numbers.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
        >>> model = aeseg.train(image, params=aeseg.TrainingParams(steps=1, width=2), device="cpu")
        >>> tree = aeseg.build_hierarchy(image, model, device="cpu")
        >>> markers = np.zeros((32, 32), int)
        >>> markers[10, 4], markers[10, 28] = 1, 2
        >>> tree.from_markers(markers)[[2, 30], [2, 30]]
        array([1, 2], dtype=int32)
        """
        lut = self.marker_of_patch(markers)
        return self.with_marks(markers, lut, lut)

    def with_marks(self, markers: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return labels from a value per patch, with marked pixels as they were marked.

        Parameters
        ----------
        markers : ndarray of int, shape of the space axes
        before, after : ndarray of int, shape (P,)
            Of `marker_of_patch`, and after edits; see `cuts.markers.marks_on_top`.
        """
        labels = self.map_to_pixels(after)
        if not self.is_lazy:
            return marks_on_top(labels, np.asarray(markers), self.patches, before, after)
        _, ids = marks_lazily(markers, self.patches, self.n_patches)
        became = labels_of_marks(ids, before, after)
        marked: np.ndarray = marks_on_top_lazily(labels, markers, self.patches, before, ids, became)
        return marked

    def prototypes(self, n_classes: int = 3) -> Prototypes:
        """Return the appearance of each class, to find the same classes in other images."""
        return prototypes_of(self.descriptor, self.class_of_patch(n_classes), self.statistics.count)

    def suggest_n_regions(self) -> int:
        """Return the number of regions where the cost of merging jumps.

        Of all cuts into 2 to 64 regions, the one where undoing one more merge would gain least
        beside what the last one gained: the largest ratio of successive merge costs.
        """
        return self.tree.suggested_number()

    def is_of(self, image: Any) -> bool:
        """Return whether this is the image that the hierarchy was built from.

        Parameters
        ----------
        image : array_like
            With the same axes. Its mean intensities in each patch are compared; of an image that is
            worked on in blocks, those in a few places.
        """
        if tuple(np.shape(image)) != self.axes.shape:
            return False
        known, count = self.statistics.intensity, self.statistics.count
        if self.is_lazy:
            return matches_image(image, self.patches, self.axes, known, count)
        pixels = self.axes.as_given(channels_first(np.asarray(image), self.axes))
        return np.allclose(channel_means(self.patches, pixels, count), known, rtol=1e-9, atol=0)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the hierarchy to a folder, so that tuning goes on without encoding again.

        What `napari_aeseg.load_hierarchy` returns gives the same labels, bit for bit on the same
        machine. The image is not in it, only its brightness, and neither is the model. A merge
        tree that was built for the current balance and scale is kept.

        Parameters
        ----------
        path : path-like
            Conventionally ``*.aeseg.zarr``. A hierarchy that is there is replaced as a whole or
            not at all; nothing else is.

        Raises
        ------
        InputError
            If there is something else at `path`, or values are not finite.
        OSError
            If it cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> import napari_aeseg as aeseg
        >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
        >>> model = aeseg.train(image, params=aeseg.TrainingParams(steps=1, width=2), device="cpu")
        >>> tree = aeseg.build_hierarchy(image, model, device="cpu")
        >>> tree.save(tempfile.mkdtemp() + "/image.aeseg.zarr")
        """
        tree: MergeTree | None = vars(self).get("tree")
        parts = HierarchyParts(
            self.patches,
            self.statistics,
            self.graph,
            self.axes,
            self.params,
            self.comparison,
            self.brightness,
            self.model_fingerprint,
            self.notes,
            self.coarse,
            self.fine,
            None if tree is None else (tree.children, tree.cost),
        )
        write_hierarchy(parts, path)


def load_hierarchy(path: str | PathLike[str]) -> Hierarchy:
    """Load a hierarchy that was saved.

    Parameters
    ----------
    path : path-like
        A folder written by `Hierarchy.save`.

    Returns
    -------
    Hierarchy
        It gives the same labels as the one that was saved. Neither image nor model are needed.
        Patch ids of an image that was worked on in blocks stay on disk and are read as labels are
        looked at: the folder must stay where it is.

    Raises
    ------
    HierarchyFileError
        If the folder is damaged, of a newer format, or no saved hierarchy.
    FileNotFoundError
        If there is nothing of that name.

    Examples
    --------
    >>> import tempfile
    >>> import napari_aeseg as aeseg
    >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
    >>> model = aeseg.train(image, params=aeseg.TrainingParams(steps=1, width=2), device="cpu")
    >>> tree = aeseg.build_hierarchy(image, model, device="cpu")
    >>> path = tempfile.mkdtemp() + "/image.aeseg.zarr"
    >>> tree.save(path)
    >>> np.array_equal(load_hierarchy(path).regions(n_regions=3), tree.regions(n_regions=3))
    True
    """
    parts = read_hierarchy(path)
    hierarchy = Hierarchy(
        parts.patches,
        parts.statistics,
        parts.graph,
        parts.axes,
        parts.params,
        parts.comparison,
        parts.brightness,
        parts.model_fingerprint,
        parts.notes,
        parts.coarse,
        parts.calibration,
    )
    if parts.merges is not None:
        # A cached property is what the instance's dictionary holds under its name.
        vars(hierarchy)["tree"] = MergeTree.of(*parts.merges, hierarchy._weight)
    return hierarchy


def checked_number(name: str, value: object, most: int | None = None, of_what: str = "") -> int:
    """Return a whole number of 1 or more, of at most `most`, else raise InputError.

    Examples
    --------
    >>> checked_number("n_regions", 7, most=5, of_what="patches")
    Traceback (most recent call last):
    ...
    napari_aeseg.errors.InputError: n_regions = 7: give a whole number from 1 to 5 (the number of patches).
    """  # noqa: E501 - as it is said
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 1 <= value <= (value if most is None else most):  # type: ignore[operator]
        upper = "of 1 or more" if most is None else f"from 1 to {most} (the number of {of_what})"
        raise InputError(f"{name} = {value!r}: give a whole number {upper}.")
    return int(value)  # type: ignore[call-overload]
