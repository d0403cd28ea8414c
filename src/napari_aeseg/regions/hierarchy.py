"""The hierarchy of one image: its patches, and all segmentations that their merge tree holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from math import prod
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, channels_first
from napari_aeseg.images.checks import check_share
from napari_aeseg.images.napari_layers import labels_of_layer
from napari_aeseg.progress import Progress, StopFlag, drain
from napari_aeseg.regions.alternatives import (
    ALTERNATIVE_MODES,
    Alternative,
    AlternativeMode,
    alternatives_steps,
)
from napari_aeseg.regions.compare.moments import FeatureCalibration, MomentsCache
from napari_aeseg.regions.compared_patches import ComparedPatches
from napari_aeseg.regions.cuts.classes import (
    BASE_REGIONS,
    check_prototypes,
    nearest_prototype,
    nested_classes,
    prototypes_of,
)
from napari_aeseg.regions.cuts.markers import (
    array_of_markers,
    marked_patches,
    marks_on_top,
    spread,
)
from napari_aeseg.regions.cuts.minimum_size import (
    checked_min_size,
    without_small_pieces,
    without_small_pieces_of_pixels,
)
from napari_aeseg.regions.cuts.pixel_classifier import BrightnessFeatures, scores_of_pixels
from napari_aeseg.regions.cuts.similarity import patches_of_labels, similarity
from napari_aeseg.regions.cuts.strokes import (
    learned_prototypes,
    log_probabilities,
    minor_classes,
    no_pixels,
    pixel_examples,
    uncertainty_of,
)
from napari_aeseg.regions.hierarchy_file import read_hierarchy, write_hierarchy
from napari_aeseg.regions.lazy_labels import (
    contour_lazily,
    is_lazy,
    map_to_pixels_lazily,
    marks_on_top_lazily,
    matches_image,
    values_by_patch,
)
from napari_aeseg.regions.measure import (
    checked_labels,
    feature_colors,
    majority_of_patch,
    merge_heights,
    region_table,
)
from napari_aeseg.regions.objects.detection import object_search
from napari_aeseg.regions.objects.settings import ObjectSettings, Polarity
from napari_aeseg.regions.patches.graph import RegionGraph, averaging_matrix, contour_map
from napari_aeseg.regions.patches.statistics import PatchStatistics, channel_means
from napari_aeseg.regions.patches.superpixels import patch_shape
from napari_aeseg.regions.refine import (
    MOST_LABELS,
    Gaussians,
    PatchEvidence,
    band_of,
    refined,
)
from napari_aeseg.regions.refined_chunks import refined_lazily
from napari_aeseg.regions.tree.merge_tree import MergeTree

if TYPE_CHECKING:
    import pandas as pd

    from napari_aeseg.params import ComparisonParams, SegmentationParams
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.compare.descriptor import Descriptor
    from napari_aeseg.regions.objects.edits import ObjectEdit

_OBJECTS_NEED_PIXELS = (
    "This hierarchy has no pixels to find objects in. Build it from the image again."
)
# More classes than these are seldom meant.
_MOST_CLASSES_SUGGESTED = 8
# Pixels that are looked up together.
_PIXELS_TOGETHER = 500_000


@dataclass(frozen=True)
class Hierarchy:
    """All segmentations of one image, coarse to fine.

    Made by `napari_aeseg.build_hierarchy`. Every method that returns labels is a look-up over the
    patches and answers at once. Labels are dask arrays where patch ids are one.

    Examples
    --------
    >>> import napari_aeseg as aeseg
    >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
    >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
    >>> np.unique(tree.regions(n_regions=2)).tolist()
    [1, 2]
    """

    patches: Any  # ids 0 .. P-1, int32; -1 in parts of a dask array that could not be read
    statistics: PatchStatistics
    graph: RegionGraph
    axes: Axes  # letter and length of each dimension, and the voxel size where known
    params: SegmentationParams  # how the image was cut into patches and encoded
    comparison: ComparisonParams  # how patches are compared
    brightness: np.ndarray | None  # float16: objects are found in it; None of images in blocks
    # int8, shape (*cells, D): what borders of labels follow, see `refined`. A dask array in blocks.
    evidence: Any = None
    model_fingerprint: str = ""  # hash of the model that encoded the image
    notes: tuple[str, ...] = ()  # differences from what was asked for, such as the CPU used
    coarse: tuple[Any, ...] = ()  # of images in blocks: ids at every 2nd, 4th ... row and column
    calibration: FeatureCalibration | None = None  # of patches in blocks, before they were joined
    evidence_of_patches: PatchEvidence | None = None  # of images in blocks
    stain: np.ndarray | None = None  # float16: of RGB, the other map that objects are found in
    channels: np.ndarray | None = None  # float16, (C, *space): objects can be found in one of them
    # Children and cost of the merge tree for `comparison`, where it was built before.
    merges: InitVar[tuple[np.ndarray, np.ndarray] | None] = None
    # These two are shared with the hierarchies that `reweighted` returns.
    _moments: MomentsCache | None = field(default=None, repr=False, compare=False)
    # An `ObjectSearch`, or one in time or in blocks.
    _search: Any = field(default=None, repr=False, compare=False)
    _compared: ComparedPatches = field(init=False, repr=False, compare=False)
    _foregrounds: dict[bytes, np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self, merges: tuple[np.ndarray, np.ndarray] | None) -> None:
        time = self.axes.space.index("T") if "T" in self.axes.space else None
        moments, search = self._moments, self._search
        if moments is None:
            moments = MomentsCache(self.statistics, self.graph, time, self.calibration)
        if search is None and self.brightness is not None:
            maps = [self.brightness, *([] if self.stain is None else [self.stain])]
            channels = () if self.channels is None else tuple(self.channels)
            search = object_search(maps, channels, self.axes)
        size = self.statistics.count / prod(patch_shape(self.axes, self.params.patch_size))
        tree = None if merges is None else MergeTree.of(*merges, size)
        compared = ComparedPatches(
            self.statistics, self.graph, size, self.comparison, moments, tree
        )
        for name, value in (("_moments", moments), ("_search", search), ("_compared", compared)):
            object.__setattr__(self, name, value)  # the class is frozen

    def __repr__(self) -> str:
        return f"Hierarchy({self.n_patches} patches of {self.axes})"

    @property
    def voxel_size(self) -> tuple[float, ...] | None:
        """Size of a pixel along those of Z, Y and X that the image has; None when not known."""
        return self.axes.voxel_size

    @property
    def is_lazy(self) -> bool:
        """Whether patch ids stay on disk, so that labels are dask arrays."""
        return is_lazy(self.patches)

    @property
    def n_patches(self) -> int:
        """Number of patches: the largest possible number of regions."""
        return self.graph.number

    @property
    def patch_sides(self) -> tuple[int, ...]:
        """Pixels along each axis of the labels of an average patch."""
        letters = [a for a in "TZYX" if a in self.axes.space]
        sides = dict(zip(letters, patch_shape(self.axes, self.params.patch_size), strict=True))
        return tuple(sides[a] for a in self.axes.space)

    @property
    def border_band(self) -> tuple[int, ...]:
        """Pixels along each axis from a border within which `refined` may change labels."""
        sides = zip(self.axes.space, self.patch_sides, strict=True)
        return band_of([0 if a == "T" else side for a, side in sides])

    @property
    def max_classes(self) -> int:
        """Largest possible number of classes."""
        return min(BASE_REGIONS, self.n_patches)

    @property
    def descriptor(self) -> Descriptor:
        """Positions by which patches are compared, for the current balance and scale."""
        return self._compared.described()

    @property
    def tree(self) -> MergeTree:
        """The merge tree that regions are cut from, for the current balance and scale."""
        return self._compared.merged()

    @property
    def merge_thresholds(self) -> np.ndarray:
        """The largest threshold at which each merge is not done yet, shape (P - 1,)."""
        return self._compared.merge_thresholds

    @property
    def edge_strength(self) -> np.ndarray:
        """The threshold at which both ends of each edge become one region, shape (E,)."""
        return self._compared.edge_strength

    def prepare(self, stop: StopFlag | None = None) -> Hierarchy:
        """Build the merge tree now instead of at the first cut; return the hierarchy itself.

        A descriptor that is complete is kept when `stop` raises StoppedError.
        """
        self._compared.merged(stop)
        return self

    def reweighted(
        self,
        balance: float | None = None,
        scale: float | Literal["auto"] | None = None,
        whitening: Literal["neighbours", "regions"] | None = None,
    ) -> Hierarchy:
        """Return a hierarchy that compares the same patches differently; nothing is encoded again.

        Parameters
        ----------
        balance : float, optional
            0 compares brightness and colour, 1 compares texture.
        scale : float or "auto", optional
            Patches averaged over before they are compared.
        whitening : {"neighbours", "regions"}, optional
            What counts as noise where classes are compared: differences between neighbouring
            patches, or all variation within regions.

        Raises
        ------
        InputError
            If a value is out of range.
        """
        changes = {"balance": balance, "scale": scale, "whitening": whitening}
        changes = {name: value for name, value in changes.items() if value is not None}
        return self.compared_by(self.comparison.updated(**changes))

    def compared_by(self, comparison: ComparisonParams) -> Hierarchy:
        """Return a hierarchy whose patches are compared in this way; see `reweighted`."""
        other = replace(self, comparison=comparison)
        if comparison == self.comparison.updated(whitening=comparison.whitening):
            compared = self._compared.whitened_otherwise(comparison)
            object.__setattr__(other, "_compared", compared)  # the class is frozen
        return other

    def map_to_pixels(self, lut: np.ndarray) -> np.ndarray:
        """Return labels from a value per patch: ``lut[patches]``, shape of the space axes."""
        lut = np.asarray(lut)
        if self.is_lazy:
            return map_to_pixels_lazily(self.patches, lut)
        values = np.empty((*self.patches.shape, *lut.shape[1:]), lut.dtype)
        # numpy widens indices: in strips, these stay in the processor's cache.
        step = max(1, _PIXELS_TOGETHER * len(values) // values.size)
        for start in range(0, len(values), step):
            rows = slice(start, start + step)
            np.take(lut, self.patches[rows], axis=0, mode="clip", out=values[rows])
        return values

    def pixels_of(
        self, label_of_patch: np.ndarray, refine: bool, min_size: int | None = None
    ) -> np.ndarray:
        """Return `map_to_pixels` of labels of patches, with `refined` borders if asked for."""
        labels = self.map_to_pixels(label_of_patch)
        return self.refined(labels, min_size) if refine else labels

    def map_to_pyramid(self, lut: np.ndarray) -> list[Any]:
        """Return `map_to_pixels`, then the same at every second, fourth, ... row and column.

        Images processed in blocks have more than the first: a viewer shows them from afar.
        """
        lut = np.asarray(lut)
        coarse = [map_to_pixels_lazily(ids, lut) for ids in self.coarse]
        return [self.map_to_pixels(lut), *coarse]

    def refined(self, labels: np.ndarray, min_size: int | None = None) -> np.ndarray:
        """Return labels whose borders follow the pixels; see `napari_aeseg.regions.refine`.

        Pixels within four sides of a patch of a border may change to the label beside them: where
        their features and brightness are alike, or where the border becomes smoother. Borders on
        clear steps of brightness stay. No label
        vanishes, connected labels stay connected, and pixels of 0 stay.

        Parameters
        ----------
        labels : ndarray of int, shape of the space axes
            Such as those that `map_to_pixels` makes of labels of patches. They are returned as
            they are if there are more than 2,000 of them, or `evidence` is None: of segments that
            were given, and of hierarchies saved by version 0.1.0 and before. Of an image in blocks,
            labels that this hierarchy returned; they are refined where they are looked at, each
            chunk with what is around it, so that there are no seams.
        min_size : int, optional
            Connected pieces of at least so many pixels keep as many.
        """
        least, channels = checked_min_size(min_size), self.statistics.intensity.shape[1]
        if self.evidence is None:
            return labels
        if self.is_lazy:
            of_patch = values_by_patch(labels, self.patches)
            if of_patch is None or len(np.unique(of_patch)) > MOST_LABELS:
                return labels
            assert self.evidence_of_patches is not None  # noqa: S101 - lazy evidence has it
            count = self.statistics.count
            gaussians = Gaussians.of_patches(of_patch, count, self.evidence_of_patches)
            return refined_lazily(
                labels, self.evidence, gaussians, self.border_band, least, channels
            )
        # Ties are decided in raster order: the same whatever the order of the image's axes.
        order = [self.axes.space.index(a) for a in "TZYX" if a in self.axes.space]
        evidence = self.evidence.transpose(*order, len(order))
        band = tuple(self.border_band[i] for i in order)
        new = refined(labels.transpose(order), evidence, band, min_size=least, channels=channels)
        return np.ascontiguousarray(self.axes.to_image_order(new))

    def regions(
        self,
        n_regions: int | None = None,
        threshold: float | None = None,
        *,
        min_size: int | None = None,
        refine: bool = True,
    ) -> np.ndarray:
        """Cut the merge tree into connected segments.

        Parameters
        ----------
        n_regions : int, optional
            1 to the number of patches.
        threshold : float, optional
            0 leaves every patch on its own, 1 gives one region. Merges are done while
            ``h / (h + 8) < threshold``, where ``h**2`` is area times contrast of the two parts,
            counted in patches and in units of the encoder's features. The same threshold therefore
            asks for the same dissimilarity in every image of one model.
        min_size : int, optional
            Pixels of the smallest region, of all frames or slices together. Smaller parts stay with
            what they merge with, and the number counts regions of this size only: there are
            `n_regions` of them, or as many as the image has if these are fewer.
        refine : bool
            Whether borders follow the pixels (see `refined`), not the patches.

        Returns
        -------
        ndarray of int32, shape of the space axes
            Labels 1 .. n. Cuts are nested; with one region more, only the part that is split off
            gets a new label (and a few pixels at borders change).

        Raises
        ------
        InputError
            If neither or both are given, or a value is out of range.
        """
        of_patch = self.region_of_patch(n_regions, threshold, min_size)
        return self.pixels_of(of_patch, refine, min_size)

    def region_of_patch(
        self,
        n_regions: int | None = None,
        threshold: float | None = None,
        min_size: int | None = None,
    ) -> np.ndarray:
        """Return the region of each patch, shape (P,); parameters as of `regions`."""
        if (n_regions is None) == (threshold is None):
            raise InputError("Give either n_regions or threshold.")
        if threshold is not None:
            n_regions = self.n_regions_at(threshold, min_size)
        n_regions = checked_number("n_regions", n_regions, self.n_patches, "patches")
        leaf, tree = self._compared.merged_above(checked_min_size(min_size))
        return tree.cut(min(n_regions, tree.leaves))[leaf]

    def suggest_n_regions(self) -> int:
        """Return the number of regions where the cost of merging jumps.

        Of all cuts into 2 to 64 regions, the one where undoing one more merge would gain least
        beside what the last one gained: the largest ratio of successive merge costs.
        """
        return self.tree.suggested_number()

    def suggest_n_classes(self) -> int:
        """Return the number of classes, 8 at most, where the cost of joining classes jumps."""
        return self._compared.base_classes[1].suggested_number(_MOST_CLASSES_SUGGESTED)

    def n_regions_at(self, threshold: float, min_size: int | None = None) -> int:
        """Return how many regions a threshold leaves; see `regions`."""
        check_share("threshold", threshold)
        return self._compared.n_regions_at(float(threshold), checked_min_size(min_size))

    def max_regions(self, min_size: int | None = None) -> int:
        """Return the largest possible number of regions of at least `min_size` pixels."""
        return self._compared.merged_above(checked_min_size(min_size))[1].leaves

    def threshold_at(self, n_regions: int, min_size: int | None = None) -> float:
        """Return the smallest threshold that leaves at most `n_regions` regions."""
        n_regions = checked_number("n_regions", n_regions, self.n_patches, "patches")
        return self._compared.threshold_at(n_regions, checked_min_size(min_size))

    def classes(
        self,
        n_classes: int = 3,
        prototypes: Prototypes | None = None,
        *,
        min_size: int | None = None,
        refine: bool = True,
    ) -> np.ndarray:
        """Group regions by appearance: the same texture has the same label wherever it is.

        Parameters
        ----------
        n_classes : int
            1 to the number of distinct regions.
        prototypes : Prototypes, optional
            From `prototypes` of another image's hierarchy: class ids and appearance are taken
            from there, and `n_classes` is ignored.
        min_size : int, optional
            Pixels of the smallest connected piece of a class, of all frames or slices together.
            Smaller pieces take the class with which they share the longest border, the smallest
            first; a class that has no larger piece does not occur.
        refine : bool
            Whether borders follow the pixels (see `refined`), not the patches.

        Returns
        -------
        ndarray of int32, shape of the space axes
            Labels 1 .. n_classes. Class 1 is darker than class 2; each further class is the smaller
            part of one before, which keeps its number. Not every class of `prototypes` need occur.

        Raises
        ------
        InputError
            If `n_classes` is out of range.
        """
        if self.is_lazy or prototypes is None or prototypes.examples is None:
            of_patch = self.class_of_patch(n_classes, prototypes, min_size)
            return self.pixels_of(of_patch, refine, min_size)
        least, classes = checked_min_size(min_size), prototypes.examples.classes
        labels = self._from_scores(prototypes, lambda scores: classes[scores.argmax(axis=-1)])
        return without_small_pieces_of_pixels(labels, least)

    def classes_from(self, strokes: np.ndarray, prototypes: Prototypes | None = None) -> np.ndarray:
        """Learn classes from a few strokes: what looks like a stroke gets its class, anywhere.

        Parameters
        ----------
        strokes : ndarray of int, shape of the space axes
            The class, 1 to 255, of some pixels; 0 elsewhere. One stroke for each class is enough,
            two or three in places that differ are better.
        prototypes : Prototypes, optional
            From `prototypes_from`, if strokes of other images count too.

        Returns
        -------
        ndarray of int32, shape of the space axes
            The classes of the strokes, in every pixel. Pixels are told apart by their patch and by
            the brightness around them; of an image processed in blocks, by patch alone. Marked
            pixels keep their class.

        Raises
        ------
        InputError
            If the shape differs, there is no stroke, or classes are no whole numbers up to 255.

        See Also
        --------
        prototypes_from : the same classes in other images; `class_uncertainty`; `from_markers`.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> image = np.kron([[0, 1, 0, 1]], np.ones((32, 16))) + np.eye(32, 64) / 10
        >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
        >>> strokes = np.zeros((32, 64), int)
        >>> strokes[10, 4:10], strokes[10, 20:26] = 1, 2
        >>> tree.classes_from(strokes)[20, [8, 24, 40, 56]]
        array([1, 2, 1, 2], dtype=int32)
        """
        labels = self.classes(prototypes=prototypes or self.prototypes_from(strokes))
        if self.is_lazy:
            return labels
        strokes = np.asarray(labels_of_layer(strokes, self.axes))
        labels[strokes > 0] = strokes[strokes > 0]
        return labels

    def prototypes_from(
        self,
        strokes: np.ndarray,
        names: Sequence[str] = (),
        colors: Sequence[str] = (),
        others: Prototypes | None = None,
    ) -> Prototypes:
        """Return classes learned from strokes, to find the same classes in other images.

        Give them to `classes` of the other image's hierarchy, to `napari_aeseg.segment_files`, or
        keep them with the model as ``model.prototypes``.

        Parameters
        ----------
        strokes : ndarray of int, shape of the space axes
            As of `classes_from`.
        names, colors : sequence of str, optional
            One for each class from 1 to the largest; see `Prototypes`.
        others : Prototypes, optional
            Learned from strokes of other images, which count too.

        Raises
        ------
        InputError
            As of `classes_from`, or if names or colours do not fit.
        """
        if others is not None:
            check_prototypes(others, self.descriptor)
            alike = self._at_scale(others.scale)
            return others.with_strokes_of(alike.prototypes_from(strokes, names, colors))
        (marked, _), features = self._marked(strokes), self._brightness_features
        minor, pixels, edges = {}, no_pixels(), self.graph.edges
        if features is not None:
            by_pixel = np.asarray(strokes)
            minor = minor_classes(by_pixel, self.patches, marked)
            pixels = pixel_examples(by_pixel, features)
        style = tuple(names), tuple(colors)
        return learned_prototypes(self.descriptor, edges, marked, minor, pixels, *style)

    def class_uncertainty(self, prototypes: Prototypes) -> np.ndarray:
        """Return how uncertain the class of each pixel is: where another stroke helps most.

        Parameters
        ----------
        prototypes : Prototypes
            From `prototypes_from`, of this or another image.

        Returns
        -------
        ndarray of float32, shape of the space axes
            0 where one class is certain, 1 where two are equally likely.

        Raises
        ------
        InputError
            If the prototypes were not learned from strokes, or are of another model.
        """
        return self._from_scores(prototypes, uncertainty_of)

    def most_uncertain_place(self, prototypes: Prototypes) -> tuple[int, ...]:
        """Return a pixel of the patch whose class is most uncertain, to paint a stroke there.

        Uncertainty is averaged over the neighbours of a patch: a stroke tells of more than one.
        Parameters and errors are those of `class_uncertainty`.
        """
        count = self.statistics.count
        if self.is_lazy:
            uncertainty = uncertainty_of(self._scores_of_patches(prototypes))
        else:
            by_pixel = self.class_uncertainty(prototypes)
            uncertainty = channel_means(self.patches, by_pixel[np.newaxis], count)[:, 0]
        averages = averaging_matrix(self.graph, count, np.float32) @ uncertainty
        centre = self.statistics.centroid[int(np.argmax(averages))]
        return tuple(int(i) for i in np.round(centre))

    @cached_property
    def _brightness_features(self) -> BrightnessFeatures | None:
        """Features of pixels, computed when strokes need them; None of images in blocks."""
        if self.brightness is None or self.is_lazy:
            return None
        smoothed = tuple(i for i, axis in enumerate(self.axes.space) if axis != "T")
        return BrightnessFeatures(self.brightness, smoothed)

    def _from_scores(
        self, prototypes: Prototypes, reduce: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Scores (..., K) of the classes that have strokes, reduced to a number for each pixel."""
        scores = self._scores_of_patches(prototypes)
        examples, features = prototypes.examples, self._brightness_features
        if features is None or examples is None or not examples.have_pixels:
            return self.map_to_pixels(reduce(scores))
        side = self.patch_sides
        return scores_of_pixels(features, examples, self.patches, scores, side, reduce)

    def _scores_of_patches(self, prototypes: Prototypes) -> np.ndarray:
        """Scores of the classes that have strokes, shape (P, K)."""
        check_prototypes(prototypes, self.descriptor)
        if prototypes.examples is None:
            raise InputError("The prototypes were not learned from strokes: use prototypes_from.")
        descriptor = self._at_scale(prototypes.scale).descriptor  # its tree is not built
        return log_probabilities(prototypes, descriptor, self.graph)

    def _at_scale(self, scale: float) -> Hierarchy:
        """The hierarchy that compares patches at a scale, usually this one."""
        return self if self.descriptor.scale == scale else self.reweighted(scale=scale)

    def class_of_patch(
        self,
        n_classes: int = 3,
        prototypes: Prototypes | None = None,
        min_size: int | None = None,
    ) -> np.ndarray:
        """Return the class of each patch, shape (P,); parameters as of `classes`."""
        least, count = checked_min_size(min_size), self.statistics.count
        labels = self._classes_of_any_size(n_classes, prototypes)
        return without_small_pieces(labels, self.graph, count, least)

    def _classes_of_any_size(self, n_classes: int, prototypes: Prototypes | None) -> np.ndarray:
        """Class of each patch, with pieces of any size."""
        if prototypes is not None:
            return self._nearest_class(prototypes)
        base, tree = self._compared.base_classes
        n_classes = checked_number("n_classes", n_classes, tree.leaves, "distinct regions")
        weight = np.bincount(base, self.statistics.count)
        intensity = self.statistics.count * self.statistics.intensity.mean(axis=1)
        return nested_classes(tree, n_classes, weight, np.bincount(base, intensity) / weight)[base]

    def _nearest_class(self, prototypes: Prototypes) -> np.ndarray:
        """Class of each patch, compared at the scale of the prototypes."""
        check_prototypes(prototypes, self.descriptor)
        if prototypes.examples is not None:
            scores = self._scores_of_patches(prototypes)
            return prototypes.examples.classes[scores.argmax(axis=1)]
        if self.descriptor.scale != prototypes.scale:
            return self._at_scale(prototypes.scale)._nearest_class(prototypes)
        base, _ = self._compared.base_classes
        return nearest_prototype(prototypes, self.descriptor, self.statistics.count, base)

    def prototypes(self, n_classes: int = 3) -> Prototypes:
        """Return the appearance of each class, to find the same classes in other images."""
        labels, within = self.class_of_patch(n_classes), self._compared.whitening_of_classes
        return prototypes_of(self.descriptor, labels, self.statistics.count, within)

    def alternatives(
        self,
        n: int = 6,
        mode: AlternativeMode = "classes",
        n_classes: int | None = None,
        n_regions: int | None = None,
        progress: Callable[[Progress], object] | None = None,
        stop: StopFlag | None = None,
    ) -> tuple[Alternative, ...]:
        """Return a few segmentations that differ, to choose from by eye.

        They differ in balance, scale and, for classes, whitening; the number of classes or regions
        is the same in all.

        Parameters
        ----------
        n : int
            1 or more: at most so many. Candidates that hardly differ from one that is returned are
            left out, so that there may be fewer.
        mode : {"classes", "regions"}
        n_classes : int, optional
            In the mode "classes", 1 to the number of distinct regions; 3 by default.
        n_regions : int, optional
            In the mode "regions", 1 to the number of patches; by default `suggest_n_regions`.
        progress : callable, optional
            Called with every `Progress` event.
        stop : StopFlag, optional
            Checked several times a second.

        Returns
        -------
        tuple of Alternative
            The first is this hierarchy as it is compared now. Each has `labels`, as `classes` or
            `regions` returns them, and `settings`: `comparison`, `mode`, `n_classes`, `n_regions`.

        Raises
        ------
        InputError
            If a number is out of range, or not of this mode.
        StoppedError
            When asked to stop.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
        >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
        >>> alternatives = tree.alternatives(n=3, n_classes=2)
        >>> np.array_equal(alternatives[0].labels, tree.classes(n_classes=2))
        True
        """
        n = checked_number("n", n)
        if mode not in ALTERNATIVE_MODES:
            raise InputError(f"mode = {mode!r}: choose one of {', '.join(ALTERNATIVE_MODES)}.")
        number, unused = (n_classes, n_regions) if mode == "classes" else (n_regions, n_classes)
        if unused is not None:
            name = "n_regions" if mode == "classes" else "n_classes"
            raise InputError(f"{name} = {unused!r} is not of mode = {mode!r}: leave it out.")
        if mode == "classes":
            most, of_what = self.max_classes, "distinct regions"
        else:
            most, of_what = self.n_patches, "patches"
        if number is None:
            number = 3 if mode == "classes" else self.suggest_n_regions()
        number = checked_number(f"n_{mode}", number, most, of_what)
        return drain(alternatives_steps(self, n, mode, number, stop), progress)

    def objects(
        self,
        class_ids: int | Sequence[int] | None = None,
        n_classes: int = 3,
        prototypes: Prototypes | None = None,
        min_size: int | None = None,
        stop: StopFlag | None = None,
        *,
        diameter: float | None = None,
        max_size: int | None = None,
        polarity: Polarity = "auto",
        sensitivity: float = 0.5,
        exclude_borders: bool = False,
        channel: int | None = None,
        edits: Sequence[ObjectEdit] = (),
    ) -> np.ndarray:
        """Find separate objects such as nuclei, cells or particles.

        Parameters
        ----------
        class_ids : int or sequence of int, optional
            Objects are the connected parts of these classes of ``classes(n_classes, prototypes)``,
            split at clear necks; with a diameter, those seen inside the classes. By default,
            objects are detected by brightness, and in RGB by stain.
        n_classes : int
        prototypes : Prototypes, optional
        min_size, max_size : int, optional
            Pixels of the smallest and the largest object, 1 or more.
        stop : StopFlag, optional
            Checked between the steps.
        diameter : float, optional
            Of a typical object, in pixels. Without it, the image decides.
        polarity : {"auto", "bright", "dark", "both"}
            Objects brighter or darker than their surroundings; "auto" takes those that look more
            like objects.
        sensitivity : float
            0 finds clear objects only, 1 all that may be objects.
        exclude_borders : bool
            Whether objects at the image's edge are left out.
        channel : int, optional
            1, 2, ...: the channel in which objects are looked for, by default all together.
        edits : sequence of DeleteObject, TakeObject, MergeObjects and SplitObject, optional
            Corrections by hand, in order; see `napari_aeseg.regions.objects.edits`.

        Returns
        -------
        ndarray of int32, shape of the space axes
            0 for background, 1 .. n for objects, each connected. They follow the pixels, not the
            patches: see `napari_aeseg.regions.objects.detection`. In time, an object has the same
            label in successive frames where it overlaps itself. After edits, there can be gaps
            between the labels.

        Raises
        ------
        InputError
            If a value is out of range.
        StoppedError
            When asked to stop.
        """
        settings = ObjectSettings(
            diameter, min_size, max_size, polarity, sensitivity, exclude_borders, channel
        )
        foreground = self._foreground(class_ids, n_classes, prototypes)
        return self._object_search.find(settings, foreground, stop, edits=tuple(edits))

    def object_sizes_at(
        self,
        place: tuple[int, ...],
        class_ids: int | Sequence[int] | None = None,
        n_classes: int = 3,
        prototypes: Prototypes | None = None,
        **settings: Any,
    ) -> list[int]:
        """Return the sizes of the objects that a pixel may belong to, such as nucleus and cell.

        Parameters
        ----------
        place : tuple of int
            A pixel, such as (row, column).
        class_ids, n_classes, prototypes, **settings
            As of `objects`; settings are `diameter` and those after it.

        Returns
        -------
        list of int
            Pixels, ascending. `TakeObject(place, size)` makes one of them an object.

        Raises
        ------
        InputError
            If the place is outside the image.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> y, x = np.indices((96, 96))
        >>> distance = np.hypot(y - 48, x - 48)
        >>> image = 1 / (1 + np.exp(distance - 20)) + 1 / (1 + np.exp(distance - 8))
        >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
        >>> sizes = tree.object_sizes_at((48, 48))
        >>> [round((size / np.pi) ** 0.5) for size in sizes]
        [8, 20]
        """
        foreground = self._foreground(class_ids, n_classes, prototypes)
        return self._object_search.sizes_at(place, ObjectSettings(**settings), foreground)

    @property
    def _object_search(self) -> Any:
        if self._search is None:
            raise InputError(_OBJECTS_NEED_PIXELS)
        return self._search

    def _foreground(
        self,
        class_ids: int | Sequence[int] | None,
        n_classes: int,
        prototypes: Prototypes | None,
    ) -> np.ndarray | None:
        """Where the classes are that objects are made of; None where classes do not matter."""
        if class_ids is None:
            return None
        classes = self.class_of_patch(n_classes, prototypes)
        most = n_classes if prototypes is None else len(prototypes.centres)
        ids = [class_ids] if isinstance(class_ids, int | np.integer) else list(class_ids)
        if not ids:
            raise InputError("class_ids is empty: give at least one class, or None.")
        for k in ids:
            checked_number("class_ids", k, most, "classes")
        chosen = np.isin(classes, ids)
        key = chosen.tobytes()
        if key not in self._foregrounds:  # only the newest is kept
            self._foregrounds.clear()
            self._foregrounds[key] = self.pixels_of(chosen + 1, refine=True) == 2
        return self._foregrounds[key]

    def from_markers(self, markers: np.ndarray, *, refine: bool = True) -> np.ndarray:
        """Divide the image among markers: every marker id becomes one segment.

        Parameters
        ----------
        markers : ndarray of int, shape of the space axes, or napari layer
            0 for unmarked pixels; of a Points layer, each point is a marker. Several strokes may
            have the same id. Of an image processed in blocks, they may be a dask array; patches
            are computed where there are marks.
        refine : bool
            Whether borders follow the pixels (see `refined`), not the patches.

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
        >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
        >>> markers = np.zeros((32, 32), int)
        >>> markers[10, 4], markers[10, 28] = 1, 2
        >>> tree.from_markers(markers)[[2, 30], [2, 30]]
        array([1, 2], dtype=int32)
        """
        lut = self.marker_of_patch(markers)
        return self.with_marks(markers, lut, lut, refine=refine)

    def similarity_to(
        self, labels: np.ndarray, example_ids: Sequence[int], other_ids: Sequence[int] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how much each label looks like examples among them.

        Parameters
        ----------
        labels : ndarray of int, shape of the space axes
            Regions, objects or any other segments; 0 is left out.
        example_ids : sequence of int
            Labels that are what is looked for, at least one.
        other_ids : sequence of int
            Labels that are something else.

        Returns
        -------
        ids : ndarray of int, shape (n,)
            The labels, ascending.
        similarity : ndarray of float, shape (n,)
            1 for an example, 0.25 for two patches drawn from the image at random; 0 for what looks
            more like one of the others.

        Raises
        ------
        InputError
            If the shape differs, there is no example, or an id is not among the labels.
        """
        labels, of_patch = checked_labels(labels, self.patches, self.n_patches, self.axes.space)
        count = self.statistics.count
        ids, overlap = patches_of_labels(labels, of_patch, self.patches, count)
        if not len(example_ids):
            raise InputError("example_ids is empty: give the label of at least one example.")
        if missing := sorted({*example_ids, *other_ids} - set(ids.tolist())):
            raise InputError(f"There is no label {missing[0]}: give ids of these labels.")
        examples, others = np.searchsorted(ids, example_ids), np.searchsorted(ids, other_ids)
        return ids, similarity(self.descriptor, overlap, examples, others)

    def similar_to(
        self,
        labels: np.ndarray,
        example_ids: Sequence[int],
        similarity: float = 0.7,
        other_ids: Sequence[int] = (),
    ) -> np.ndarray:
        """Return the labels that look like examples; 0 where other labels were.

        Parameters
        ----------
        labels, example_ids, other_ids : ndarray and sequences of int
            As of `similarity_to`.
        similarity : float
            Least similarity, from 0 (all labels) to 1 (the examples alone).

        Raises
        ------
        InputError
            As of `similarity_to`, or if `similarity` is out of range.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> noise = np.random.default_rng(0).normal(0, 0.1, (32, 64))
        >>> image = np.kron([[0, 1, 0, 1]], np.ones((32, 16))) + noise
        >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
        >>> regions = tree.regions(4)
        >>> similar = tree.similar_to(regions, [regions[10, 8]])
        >>> (similar[20, [8, 24, 40, 56]] > 0).tolist()
        [True, False, True, False]
        """
        check_share("similarity", similarity)
        ids, alike = self.similarity_to(labels, example_ids, other_ids)
        similar = ids[(alike >= similarity) & (alike > 0)]  # 0: nearer to one of the others
        _, of_patch = checked_labels(labels, self.patches, self.n_patches, self.axes.space)
        if of_patch is not None:
            return self.map_to_pixels(np.where(np.isin(of_patch, similar), of_patch, 0))
        return np.where(np.isin(labels, similar), labels, 0)

    def marker_of_patch(self, markers: np.ndarray) -> np.ndarray:
        """Return the marker that each patch belongs to, shape (P,); see `from_markers`."""
        marked, values = self._marked(markers)[0], self.descriptor.values
        return spread(marked, self.tree, self.graph.edges, values, self._compared.size)

    def _marked(self, markers: Any) -> tuple[np.ndarray, np.ndarray]:
        """The marker with most pixels in each patch, (P,), 0 where there is none; all markers."""
        array = array_of_markers(labels_of_layer(markers, self.axes), self.patches.shape)
        return marked_patches(array, self.patches, self.n_patches)

    def with_marks(
        self, markers: np.ndarray, before: np.ndarray, after: np.ndarray, *, refine: bool
    ) -> np.ndarray:
        """Return labels from a value per patch, with marked pixels as they were marked.

        `before` and `after`, shape (P,), are of `marker_of_patch`, without and with edits.
        """
        labels, markers = self.pixels_of(after, refine), labels_of_layer(markers, self.axes)
        ids = self._marked(markers)[1]
        if self.is_lazy:
            return marks_on_top_lazily(
                labels, markers, self.patches, before=before, after=after, ids=ids
            )
        return marks_on_top(labels, np.asarray(markers), self.patches, before, after, ids)

    def table(
        self,
        labels: np.ndarray,
        classes: np.ndarray | None = None,
        spacing: Sequence[float] | None = None,
        unit: str = "pixel",
        image: Any = None,
        pieces: bool = False,
        **maps: Any,
    ) -> pd.DataFrame:
        """Measure labelled segments.

        Parameters
        ----------
        labels : ndarray of int, shape of the space axes
            0 is left out. Usually from `regions` or `classes`, but any labels of this shape do. Of
            an image processed in blocks: only labels that this hierarchy returned, unchanged, or
            one label for each patch; no pixel is computed.
        classes : ndarray of int or str, shape of the space axes or (P,), optional
            Class ids or names, by pixel or by patch.
        spacing : sequence of float, optional
            Size of a pixel along each axis of the labels. By default that of the hierarchy's
            `voxel_size`, and 1 from frame to frame; without one, pixels are counted.
        unit : str
            Of `spacing`; kept in ``attrs["unit"]`` of the table.
        image : array_like, optional
            The image, as it was given to `napari_aeseg.build_hierarchy`: to measure its pixels.
        pieces : bool
            Have a row for each connected piece of a label, joined by faces, instead of one per
            label; not of an image processed in blocks.
        **maps : ndarray of float, shape of the space axes
            Images to average over each label, such as ``reconstruction_error=error``.

        Returns
        -------
        pandas.DataFrame
            One row per label (or piece):

            - "index": the label; of pieces a number, and their label in "label";
            - "area": pixels, or with a spacing their area (in a volume their volume: the name stays
              the one that napari and scikit-image use) and the pixels in "area_pixels";
            - "area_share": the part of the image that it covers, from 0 to 1;
            - "centroid_y", "centroid_x" (and "centroid_z"): pixels, or with a spacing in `unit`;
            - of pieces, and of labels on a background, such as objects, in images and volumes: what
              `napari_aeseg.regions.shapes.shape_columns` returns;
            - "mean_1" ...: mean of each channel in the units of the image; exact for unions of
              patches, else from the patches that the label overlaps. With `image` it is exact, and
              there are "min_1" and "max_1" ...;
            - "border_strength": mean of `border_strength` along the border to everything else, NaN
              without such a border;
            - "merge_height": threshold at which a part of the label merges with something outside
              it (see `merge_height`). These two are of the patches that have most of their pixels
              in the label, NaN without such;
            - "class", with `classes`: that of most pixels, of equals the first in order;
            - the mean of each of `maps`, under its name.

        Raises
        ------
        InputError
            If a shape differs, the labels are not whole numbers of 0 or more, `spacing` is no
            number above 0 for each axis, or a map is named like another column; of an image
            processed in blocks, for other labels and for maps.

        Examples
        --------
        >>> import napari_aeseg as aeseg
        >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
        >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
        >>> table = tree.table(tree.regions(1), spacing=(0.5, 0.5), unit="micrometre")
        >>> table.loc[0, ["area", "area_pixels", "centroid_x"]].tolist(), table.attrs["unit"]
        ([256.0, 1024.0, 7.75], 'micrometre')
        """
        if spacing is None:
            spacing, unit = self.axes.spacing, self.axes.unit
        pixels = None
        if image is not None:
            if tuple(np.shape(image)) != self.axes.shape or self.is_lazy:
                raise InputError(
                    f"image has shape {np.shape(image)}: give that of this hierarchy, "
                    f"{self.axes.shape}, in memory."
                )
            pixels = self.axes.to_image_order(channels_first(np.asarray(image), self.axes))
        return region_table(
            self.patches,
            self.axes,
            self._compared,
            labels,
            classes,
            spacing,
            unit,
            maps,
            pixels,
            pieces,
        )

    def border_strength(self) -> np.ndarray:
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
        >>> strength = aeseg.build_hierarchy(image, "base", device="cpu").border_strength()
        >>> bool(strength[:, 14:18].max() == strength.max())
        True
        """
        contours = contour_lazily if self.is_lazy else contour_map
        return contours(self.patches, self.graph, self.edge_strength)

    def merge_height(self, labels: np.ndarray | None = None) -> np.ndarray:
        """Return the threshold at which each region first merges.

        Parameters
        ----------
        labels : ndarray of int, shape of the space axes, optional
            Such as `regions` and `classes` give; 0 is left out. A label stands for the patches
            that have most of their pixels in it. By default, each patch by itself.

        Returns
        -------
        ndarray of float32, shape of the space axes
            From 0 to 1, the threshold at which a part of the region merges with something outside
            it; 1 for a label that covers the image, 0 where there is no label or none of patches.

        Raises
        ------
        InputError
            If the shape differs; of an image in blocks, for other labels than this hierarchy's.
        """
        members = np.arange(1, self.n_patches + 1)
        if labels is not None:
            labels = labels_of_layer(labels, self.axes)
            by_pixel, by_patch = checked_labels(
                labels, self.patches, self.n_patches, self.axes.space
            )
            members = by_pixel if by_patch is None else by_patch
        index, group = np.unique(members, return_inverse=True)
        follows_patches = members.shape == (self.n_patches,)
        of_patch = group
        if not follows_patches:
            of_patch = majority_of_patch(group, self.patches, self.n_patches)
        height = np.nan_to_num(merge_heights(self._compared, of_patch, len(index)))
        values = np.where(index > 0, height, 0).astype(np.float32)[group]
        return self.map_to_pixels(values) if follows_patches else values.reshape(members.shape)

    def feature_colors(self) -> np.ndarray:
        """Return the mean features of patches as colours: their first three principal components.

        Red, green and blue, uint8, shape (*space, 3). Patches of similar colour have similar
        features; colours of two images cannot be compared.
        """
        return self.map_to_pixels(feature_colors(self.statistics))

    def matches_image(self, image: Any) -> bool:
        """Return whether the hierarchy was built from this image, given with the same axes.

        The mean intensities of all patches are compared; of an image processed in blocks, those in
        a few places.
        """
        if tuple(np.shape(image)) != self.axes.shape:
            return False
        expected, count = self.statistics.intensity, self.statistics.count
        if self.is_lazy:
            return matches_image(image, self.patches, self.axes, expected, count)
        pixels = self.axes.to_image_order(channels_first(np.asarray(image), self.axes))
        return np.allclose(channel_means(self.patches, pixels, count), expected, rtol=1e-9, atol=0)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the hierarchy to a folder, so that tuning goes on without encoding again.

        What `napari_aeseg.load_hierarchy` returns gives the same labels, bit for bit on the same
        machine. The image is not in it, only its brightness, and neither is the model. A merge
        tree that was built for the current balance and scale is kept.

        Parameters
        ----------
        path : path_like
            Conventionally ``*.aeseg.zarr``. A hierarchy of that name is replaced as a whole or
            not at all; nothing else is replaced.

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
        >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
        >>> tree.save(tempfile.mkdtemp() + "/image.aeseg.zarr")
        """
        write_hierarchy(self, self._compared.merges, path)


def load_hierarchy(path: str | PathLike[str]) -> Hierarchy:
    """Load a hierarchy that was saved.

    Parameters
    ----------
    path : path_like
        A folder written by `Hierarchy.save`.

    Returns
    -------
    Hierarchy
        It gives the same labels as the one that was saved. Neither image nor model are needed.
        Patch ids of an image that was processed in blocks stay on disk and are read as labels are
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
    >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
    >>> tree.save(path := tempfile.mkdtemp() + "/image.aeseg.zarr")
    >>> np.array_equal(load_hierarchy(path).regions(n_regions=3), tree.regions(n_regions=3))
    True
    """
    return Hierarchy(**read_hierarchy(path))


def checked_number(name: str, value: object, most: int | None = None, of_what: str = "") -> int:
    """Return a whole number of 1 or more, of at most `most`, else raise InputError."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 1 <= value <= (value if most is None else most):  # type: ignore[operator]
        upper = "of 1 or more" if most is None else f"from 1 to {most} (the number of {of_what})"
        raise InputError(f"{name} = {value!r}: give a whole number {upper}.")
    return int(value)  # type: ignore[call-overload]
