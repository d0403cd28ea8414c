"""Looking inside a hierarchy: strong borders, features as colours, measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.regions.colors import feature_colors
from napari_aeseg.regions.lazy_labels import (
    contour_lazily,
    is_lazy,
    known_by_patch,
    painted_lazily,
)
from napari_aeseg.regions.measure import checked_labels, labels_of_patches, region_table
from napari_aeseg.regions.tree.thresholds import threshold_of_merges
from napari_aeseg.regions.tree.ultrametric import contour_map, leaving_merges

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from napari_aeseg.images.axes import Axes
    from napari_aeseg.regions.patches.graph import RegionGraph
    from napari_aeseg.regions.patches.statistics import PatchStatistics
    from napari_aeseg.regions.tree.merge_tree import MergeTree


class Inspected(Protocol):
    """What is needed to look inside."""

    @property
    def patches(self) -> np.ndarray:
        """Patch ids, shape space."""

    def paint(self, lut: np.ndarray) -> np.ndarray:
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
        first = leaving_merges(self.tree, row, len(index))
        height = np.where(index > 0, threshold_of_merges(self.merge_thresholds, first), 0)
        return self.paint(height.astype(np.float32)[row])

    def feature_colors(self: Inspected) -> np.ndarray:
        """Return what the network sees as colours: principal components of the mean features.

        Returns
        -------
        ndarray of uint8, shape (*space, 3)
            Red, green and blue; see `napari_aeseg.regions.colors.feature_colors`. Colours mean
            nothing by themselves and differ from image to image: alike is what is alike.
        """
        colors = feature_colors(self.statistics)
        if is_lazy(self.patches):
            lazy: np.ndarray = painted_lazily(self.patches, colors)
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
              border to everything else, NaN without such a border;
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
