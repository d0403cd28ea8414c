"""What a script can tune of a segmentation: a part of the widget's public face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_aeseg._napari.layers.colors import check_colors
from napari_aeseg._napari.tuning import most_patches
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels

    from napari_aeseg._napari.actions import Actions
    from napari_aeseg._napari.controller import Controller
    from napari_aeseg._napari.tuning import Cut, Mode
    from napari_aeseg._napari.views.dock import Dock
    from napari_aeseg.params import ComparisonParams, SegmentationParams
    from napari_aeseg.regions.hierarchy import Hierarchy


class CutProperties:
    """Properties and methods of `AESegWidget` that change what the previews show."""

    _controller: Controller
    _actions: Actions
    _dock: Dock

    @property
    def cut(self) -> Cut:
        """All of what the previews show but for the edits by hand, as one value."""
        return self._dock.segments.cut

    @property
    def hierarchies(self) -> dict[Image, Hierarchy]:
        """The hierarchy of each chosen image that is segmented."""
        return self._controller.hierarchies

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The hierarchy of the first chosen image that is segmented."""
        return next(iter(self.hierarchies.values()), None)

    @property
    def mode(self) -> Mode:
        """One of four ways to segment.

        "regions" are connected; with "classes" the same texture has the same label everywhere;
        "objects" stand out of what is around them, and are looked for in a thread; "markers" grow
        from strokes, see `paint`.
        """
        return self.cut.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._controller.set_cut(mode=mode)

    @property
    def n_regions(self) -> int | None:
        """Number of regions, of the first image; set it to None for what each image suggests."""
        hierarchy = self.hierarchy
        return self.cut.n_regions if hierarchy is None else self.cut.regions_in(hierarchy)

    @n_regions.setter
    def n_regions(self, n_regions: int | None) -> None:
        most = most_patches(self.hierarchies.values())
        if self.hierarchies and n_regions is not None and n_regions > most:
            raise InputError(
                f"n_regions = {n_regions}: there are {most} patches, give 1 to {most}."
            )
        self._controller.set_cut(n_regions=n_regions, threshold=None)

    @property
    def threshold(self) -> float | None:
        """The cut as a dissimilarity from 0 to 1, the same for every image; see `Hierarchy`."""
        hierarchy = self.hierarchy
        return self.cut.threshold if hierarchy is None else self.cut.threshold_in(hierarchy)

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        if threshold is None:
            raise InputError("threshold = None: give a number from 0 to 1, or set n_regions.")
        self._controller.set_cut(n_regions=None, threshold=threshold)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.cut.n_classes

    @n_classes.setter
    def n_classes(self, n_classes: int) -> None:
        most = max((h.max_classes for h in self.hierarchies.values()), default=n_classes)
        if n_classes > most:
            raise InputError(f"n_classes = {n_classes}: give 1 to {most}, as there are regions.")
        self._controller.set_cut(n_classes=n_classes)

    @property
    def min_size(self) -> int | None:
        """Pixels of the smallest object; None has it learnt."""
        return self.cut.min_size

    @min_size.setter
    def min_size(self, min_size: int | None) -> None:
        self._controller.set_cut(min_size=min_size)

    @property
    def class_ids(self) -> tuple[int, ...] | None:
        """Classes that objects are made of; None takes whatever stands out."""
        return self.cut.class_ids

    @class_ids.setter
    def class_ids(self, class_ids: Sequence[int] | None) -> None:
        self._controller.set_cut(class_ids=None if class_ids is None else tuple(class_ids))

    @property
    def segmentation_params(self) -> SegmentationParams:
        """How images are cut into patches and encoded, next time."""
        return self._dock.segments.params

    @segmentation_params.setter
    def segmentation_params(self, params: SegmentationParams) -> None:
        self._dock.segments.params = params

    @property
    def comparison(self) -> ComparisonParams:
        """How patches are compared; the preview follows in a moment."""
        return self._dock.segments.comparison

    @comparison.setter
    def comparison(self, comparison: ComparisonParams) -> None:
        self._dock.segments.show_comparison(comparison)
        self._controller.results.compare(comparison)

    @property
    def balance(self) -> float:
        """0 compares brightness and colour, 1 texture; the preview follows in a moment."""
        return self.comparison.balance

    @balance.setter
    def balance(self, balance: float) -> None:
        self.comparison = self.comparison.updated(balance=balance)

    @property
    def scale(self) -> float | Literal["auto"]:
        """Patches averaged over before they are compared; the preview follows in a moment."""
        return self.comparison.scale

    @scale.setter
    def scale(self, scale: float | Literal["auto"]) -> None:
        self.comparison = self.comparison.updated(scale=scale)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, for tables; set as many as there are classes."""
        return self._controller.results.classes.names[: self._n_named]

    @class_names.setter
    def class_names(self, names: Sequence[str]) -> None:
        self._check_number("class_names", names)
        for number, name in enumerate(names, 1):
            self._controller.steering.rename(number, name)
        self._controller.show_now()

    @property
    def class_colors(self) -> tuple[str, ...]:
        """Colours of the classes, as "#rrggbb"."""
        return self._controller.results.classes.colors[: self._n_named]

    @class_colors.setter
    def class_colors(self, colors: Sequence[str]) -> None:
        self._check_number("class_colors", colors)
        check_colors(colors)
        for number, color in enumerate(colors, 1):
            self._controller.steering.recolor(number, color)
        self._controller.show_now()

    @property
    def _n_named(self) -> int:
        prototypes = self._controller.results.classes.prototypes
        return self.n_classes if prototypes is None else len(prototypes.centres)

    def _check_number(self, name: str, values: Sequence[str]) -> None:
        if len(values) != self._n_named or not all(isinstance(v, str) for v in values):
            raise InputError(f"{name} = {list(values)!r}: give {self._n_named} texts, one a class.")

    @property
    def classes_fixed(self) -> bool:
        """Whether classes are kept with the model, and are therefore the same in every image.

        Set it to True to keep those of the image in hand; `save_model` then writes them too.
        """
        return self._controller.results.classes.prototypes is not None

    @classes_fixed.setter
    def classes_fixed(self, fixed: bool) -> None:
        if fixed and not self.classes_fixed:
            self._actions.fix()
        elif not fixed and self.classes_fixed:
            self._actions.release()
        self._controller.show_now()

    # By hand; places are pixels of the labels, such as (row, column)

    def merge(self, *places: tuple[int, ...], image: Image | None = None) -> None:
        """Merge the regions at two places or more; one step of undo.

        Parameters
        ----------
        *places : tuple of int
            Pixels of the labels, such as (row, column).
        image : napari.layers.Image, optional
            By default the first chosen image that is segmented.

        Raises
        ------
        InputError
            If the mode is not "regions", or a place is outside or in the same region.
        """
        self._actions.merge(image, *places)
        self._controller.show_now()

    def split(self, place: tuple[int, ...], image: Image | None = None) -> None:
        """Split the region at a place where its halves were merged last; one step of undo.

        Raises
        ------
        InputError
            As `merge`, and if the region is a single patch.
        """
        self._actions.split(image, place)
        self._controller.show_now()

    def undo(self, image: Image | None = None) -> bool:
        """Take back the last merge or split; return False when there is none."""
        done = self._actions.undo(image)
        self._controller.show_now()
        return done

    def redo(self, image: Image | None = None) -> bool:
        """Do the edit again that was taken back last; return False when there is none."""
        done = self._actions.redo(image)
        self._controller.show_now()
        return done

    @property
    def tool(self) -> Literal["merge", "split"] | None:
        """What clicks on the preview do; None leaves them to napari."""
        return self._controller.steering.tools.tool

    @tool.setter
    def tool(self, tool: Literal["merge", "split"] | None) -> None:
        self._actions.take(tool)

    def paint(self, image: Image | None = None) -> Labels:
        """Return the strokes layer of an image, with the brush in hand; made when there is none.

        In the mode "markers", each of its labels grows into one segment.
        """
        return self._actions.paint(image)
