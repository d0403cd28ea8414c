"""The dock widget, and what a script can do with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from magicgui.widgets import Container
from qtpy.QtWidgets import QSizePolicy

from napari_aeseg._napari.controller import Controller
from napari_aeseg._napari.layers.colors import check_colors
from napari_aeseg._napari.layers.image_input import unwrapped
from napari_aeseg._napari.state import DISPLAYS, TOOLS, Display, Origin, Start, Tool
from napari_aeseg._napari.views.model import STARTS
from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_share
from napari_aeseg.io.file_array import check_number
from napari_aeseg.params import (
    ComparisonParams,
    SegmentationParams,
    TrainingParams,
    checked_params,
)

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer
    from psygnal import SignalInstance

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.batch import Existing
    from napari_aeseg.regions.cuts.cut import Cut, MarkersAre, Mode
    from napari_aeseg.regions.hierarchy import Hierarchy
    from napari_aeseg.regions.objects.settings import Polarity


def _of_cut(name: str, doc: str) -> Any:
    """Return a property for a field of the cut; setting it shows the new cut at once."""

    def change(widget: AESegWidget, value: object) -> None:
        widget._controller.set_cut(**{name: value})

    return property(lambda widget: getattr(widget.cut, name), change, doc=doc)


def _of_state(name: str, doc: str, choices: Iterable[str | None] | None = None) -> Any:
    """Return a property for a field of the dock's state, one of some choices if there are any."""

    def change(widget: AESegWidget, value: Any) -> None:
        if choices is not None and value not in choices:
            listing = ", ".join(map(str, choices))
            raise InputError(f"{name} = {value!r}: choose one of {listing}.")
        setattr(widget._state, name, value)

    return property(lambda widget: getattr(widget._state, name), change, doc=doc)


class AESegWidget(Container):
    """Learn an autoencoder from the open images, segment them, tune the result.

    Every button is a method, every control a property. `train`, `resume`, `segment`,
    `apply_to_all`, `segment_folder` and `look` return at once and report by signals, errors
    included; the other methods are done when they return, and raise. All of them belong on the GUI
    thread.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer

    Examples
    --------
    In a script that opens a viewer; `wait` lets the window work meanwhile::

        dock, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
        widget.images = [viewer.layers["tissue"]]
        widget.preset = "fast"
        widget.train()
        widget.wait()
        widget.segment()
        widget.wait()
        widget.n_regions = 12
        widget.keep()
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(labels=False)
        self._controller = controller = Controller(napari_viewer)
        self._state, self._dock = controller.state, controller.dock
        self._run = controller.reporter.run_showing_errors
        self.native.layout().addWidget(self._dock)
        self.margins = (0, 0, 0, 0)
        # Else napari adds a stretch below, which takes half of the height.
        self.native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.native_parent_changed.connect(self._on_parent)
        self.native.destroyed.connect(controller.close)

    def _on_parent(self, parent: Any) -> None:
        if parent is None:  # the dock was closed for good
            self._controller.close()

    def reset_choices(self, *_: Any) -> None:
        """Follow the viewer's layers; napari calls it when one comes, goes, moves or is renamed."""
        self._controller.follow_layers()

    # Signals, emitted on the GUI thread

    @property
    def trained(self) -> SignalInstance:
        """Emits the `Model` when a training has ended, or was stopped and left a model."""
        return self._controller.trained

    @property
    def segmented(self) -> SignalInstance:
        """Emits the `Hierarchy` when an image is segmented and shown; once for each image."""
        return self._controller.segmented

    @property
    def stopped(self) -> SignalInstance:
        """Emits a text when the user has stopped what was running: it says what is kept."""
        return self._controller.queue.stopped

    @property
    def failed(self) -> SignalInstance:
        """Emits an error, whose text says what to do. napari has shown it by then."""
        return self._controller.reporter.failed

    @property
    def progressed(self) -> SignalInstance:
        """Emits `Progress`, at most ten times a second."""
        return self._controller.queue.progressed

    @property
    def looked(self) -> SignalInstance:
        """Emits the list of layers that `look` has made or updated."""
        return self._controller.diagnostic_shown

    @property
    def batch_done(self) -> SignalInstance:
        """Emits the `BatchReport` when `segment_folder` has ended, or was stopped."""
        return self._controller.batch_done

    # Images and model

    @property
    def images(self) -> list[Image]:
        """Image layers to learn from and to segment; the controls act on all of them."""
        return list(self._state.images)

    @images.setter
    def images(self, images: Sequence[Image]) -> None:
        chosen = [unwrapped(image) for image in images]
        for image in chosen:
            if image not in self._state.open_images:
                raise InputError(f"{image!r} is not an Image layer of this viewer.")
        self._state.images = tuple(i for i in self._state.open_images if i in chosen)

    def show_only(self, image: Image) -> None:
        """Show an image with its preview, and hide the other images with theirs.

        The controls show its numbers. Where a single image is chosen, this one is.
        """
        self._controller.visibility.show_only(image)

    def show_next(self, step: int = 1) -> None:
        """Show the next image as `show_only` does; with -1 the previous one."""
        self._controller.visibility.show_next(step)

    @property
    def axes(self) -> str | None:
        """Axes of the images as typed, such as "CYX"; None has them read from each image."""
        return self._state.axes

    @axes.setter
    def axes(self, axes: str | None) -> None:
        self._state.axes = axes or None

    @property
    def resolution(self) -> int:
        """Level of multiscale images that is worked on; 0 is the finest."""
        return self._state.resolution

    @resolution.setter
    def resolution(self, resolution: int) -> None:
        number = max(self._dock.images.resolution_box.count(), 1)
        check_number("resolution", resolution, number, "what is chosen")
        self._state.resolution = resolution

    @property
    def axes_text(self) -> str:
        """How the axes of the chosen images are read, in words, or why they cannot be."""
        return str(self._dock.images.reading.text())

    device: str = _of_state("device", 'Where torch works: "auto", "cpu", "cuda:0", "mps".')

    @property
    def model(self) -> Model | None:
        """The current model; may be set to one that a script has."""
        return self._state.model

    @model.setter
    def model(self, model: Model | None) -> None:
        self._state.assign_model(model, Origin("Model of a script"))

    @property
    def training_params(self) -> TrainingParams:
        """How the next model is trained."""
        return self._state.training

    @training_params.setter
    def training_params(self, params: TrainingParams) -> None:
        self._state.training = checked_params(TrainingParams, params)

    preset: str | None = _of_state(
        "preset",
        'Name of the training preset: "fast", "balanced", "thorough"; None for other params.',
    )

    start_from: Start = _of_state(
        "start_from",
        "Weights that training starts from: new ones, the base model's, those of `model`.",
        STARTS,
    )

    watch: bool = _of_state(
        "watch", "Whether a layer shows the reconstruction while training goes on."
    )

    def train(self) -> None:
        """Begin to train on the chosen images; `trained`, `stopped` or `failed` follows.

        The model is saved now and then, and at the end, to the folder in the Preferences.
        """
        self._run(self._controller.train)

    def resume(self) -> None:
        """Resume the interrupted training; then as `train`."""
        self._run(self._controller.train, True)

    def load_model(self, path: str | PathLike[str]) -> None:
        """Load a model file, or "base"; the window stays alive meanwhile.

        Classes that are stored in the model are used from then on.

        Raises
        ------
        ModelFileError
            If the file is damaged, foreign, or of a newer format.
        FileNotFoundError
            If there is no such file.
        InputError
            If something else is running.
        """
        self._controller.do_now(self._controller.load, path)

    def save_model(self, path: str | PathLike[str]) -> None:
        """Write the model to a file, conventionally named ``*.aeseg.safetensors``.

        Raises
        ------
        InputError
            If there is no model.
        OSError
            If the file cannot be written.
        """
        self._controller.save(path)

    # Segment

    @property
    def segmentation_params(self) -> SegmentationParams:
        """How images are cut into patches and encoded, next time."""
        return self._state.segmentation

    @segmentation_params.setter
    def segmentation_params(self, params: SegmentationParams) -> None:
        self._state.segmentation = checked_params(SegmentationParams, params)

    @property
    def starting_segments(self) -> Labels | None:
        """Labels layer whose segments the next trees start from; None starts from patches."""
        return self._state.starting_segments

    @starting_segments.setter
    def starting_segments(self, layer: Labels | None) -> None:
        layer = unwrapped(layer)
        if layer is not None and layer not in self._state.segment_layers:
            raise InputError(f"{layer!r} is no Labels layer of this viewer, or a preview.")
        self._state.starting_segments = layer

    def segment(self, choose_mode: bool = False) -> None:
        """Begin to segment the chosen images; without a model, with the base model.

        `segmented` follows for each image, or `stopped`, or `failed`. With `choose_mode`, as by
        the button, the mode becomes "objects" a moment after the first segmentation, if many
        objects stand out and no control was changed.
        """
        self._run(self._controller.segment, choose_mode)

    def apply_to_all(self) -> None:
        """Choose all open images and begin to segment them like the current one.

        The others have the classes of the current image.
        """
        self._run(self._controller.apply_to_all)

    def segment_folder(
        self,
        folder: str | PathLike[str],
        output: str | PathLike[str] | None = None,
        existing: Existing = "skip",
    ) -> None:
        """Begin to segment all image files of a folder like the preview; `batch_done` follows.

        Parameters
        ----------
        folder : path_like
        output : path_like, optional
            The folder for results; by default the folder "segments" inside.
        existing : {"skip", "refuse", "replace"}
            What to do with images that have results already.
        """
        self._run(self._controller.segment_folder, folder, output, existing)

    @property
    def drafts(self) -> dict[Image, Path]:
        """Files with earlier work on the open images, saved by itself; `bring_back` opens them."""
        return dict(self._state.drafts)

    def bring_back(self) -> None:
        """Begin to segment the images of earlier work as they were, and bring that work back.

        Strokes, merges, splits, locked regions, examples and all controls are as they were;
        `segmented` follows for each image, or `stopped`, or `failed`.
        """
        self._run(self._controller.bring_back)

    def stop(self) -> None:
        """Stop what is running; a training that is stopped keeps the model so far."""
        self._controller.stop()

    @property
    def busy(self) -> bool:
        """Whether training, segmenting, loading or the like is going on."""
        return bool(self._state.busy)

    def wait(self, timeout: float | None = None) -> None:
        """Let the window work until nothing runs any more and the previews are up to date.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Raises
        ------
        TimeoutError
            If it takes longer; the work goes on.
        Exception
            The last error that `failed` reported since the last action.
        """
        self._controller.wait(timeout)

    @property
    def hierarchies(self) -> dict[Image, Hierarchy]:
        """The hierarchy of each chosen image that is segmented."""
        return self._state.hierarchies

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The hierarchy of the first chosen image that is segmented."""
        return self._state.hierarchy

    @property
    def previews(self) -> dict[Image, Labels]:
        """The Labels layer of each chosen image that follows the controls."""
        layers = {image: self._controller.previews.layer_of(image) for image in self.images}
        return {image: layer for image, layer in layers.items() if layer is not None}

    @property
    def preview(self) -> Labels | None:
        """The preview of the first chosen image that has one."""
        return next(iter(self.previews.values()), None)

    def save_hierarchy(self, path: str | PathLike[str], image: Image | None = None) -> None:
        """Write the hierarchy of an image to a folder; the window stays alive meanwhile.

        Parameters
        ----------
        path : path_like
            Conventionally named ``*.aeseg.zarr``.
        image : napari.layers.Image, optional
            By default the segmented one in sight, else the first chosen one that is segmented.

        Raises
        ------
        InputError
            If nothing is segmented, something else is running, or `path` exists and is no
            hierarchy.
        OSError
            If it cannot be written.
        """
        self._controller.do_now(self._controller.save_hierarchy, path, image)

    def open_hierarchy(self, path: str | PathLike[str]) -> None:
        """Open a saved hierarchy and choose its image; the window stays alive meanwhile.

        When its image is not open, its brightness is shown instead. `segmented` is emitted.

        Raises
        ------
        HierarchyFileError
            If the folder is damaged, foreign, or of a newer format.
        FileNotFoundError
            If there is no such folder.
        InputError
            If something else is running.
        """
        self._controller.do_now(self._controller.open_hierarchy, path)

    # Tune: the previews follow

    @property
    def cut(self) -> Cut:
        """What the previews show, without edits by hand, as one value."""
        return self._state.cut

    @property
    def mode(self) -> Mode:
        """One of four ways to segment.

        "regions" are connected; with "classes" the same texture has the same label everywhere;
        "objects" differ from their surroundings, and are detected in a thread; "markers" grow from
        strokes, see `paint`.
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
        largest = self._state.max_regions
        if self.hierarchies and n_regions is not None and n_regions > largest:
            raise InputError(
                f"n_regions = {n_regions}: give 1 to {largest}, the patches there are."
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

    refine: bool = _of_cut(
        "refine",
        "Whether borders of regions, classes and markers follow the pixels, not the patches.",
    )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.cut.n_classes

    @n_classes.setter
    def n_classes(self, n_classes: int) -> None:
        largest = max((h.max_classes for h in self.hierarchies.values()), default=n_classes)
        if n_classes > largest:
            raise InputError(f"n_classes = {n_classes}: give 1 to {largest}.")
        self._controller.set_cut(n_classes=n_classes)

    min_size: int | None = _of_cut(
        "min_size", "Pixels of the smallest object; None chooses it from the image."
    )

    max_size: int | None = _of_cut(
        "max_size", "Pixels of the largest object; None chooses it from the image."
    )

    diameter: float | None = _of_cut(
        "diameter", "Diameter of a typical object in pixels; None chooses it from the image."
    )

    polarity: Polarity = _of_cut(
        "polarity",
        'Whether objects are "bright", "dark" or "both"; "auto" chooses it from the image.',
    )

    sensitivity: float = _of_cut(
        "sensitivity", "0 finds clear objects only, 1 all that may be objects."
    )

    exclude_borders: bool = _of_cut(
        "exclude_borders", "Whether objects that touch the edge of the image are left out."
    )

    channel: int | None = _of_cut(
        "channel",
        "Channel in which objects are looked for, 1 for the first; None takes all together.",
    )

    @property
    def class_ids(self) -> tuple[int, ...] | None:
        """Classes in which objects are detected; None detects them by brightness."""
        return self.cut.class_ids

    @class_ids.setter
    def class_ids(self, class_ids: Sequence[int] | None) -> None:
        self._controller.set_cut(class_ids=None if class_ids is None else tuple(class_ids))

    @property
    def comparison(self) -> ComparisonParams:
        """How patches are compared; the preview follows in a moment."""
        return self._state.comparison

    @comparison.setter
    def comparison(self, comparison: ComparisonParams) -> None:
        self._state.comparison = checked_params(ComparisonParams, comparison)

    @property
    def balance(self) -> float:
        """0 compares brightness and colour, 1 texture; the preview follows in a moment."""
        return self.comparison.balance

    @balance.setter
    def balance(self, balance: float) -> None:
        self._state.change_comparison(balance=balance)

    @property
    def scale(self) -> float | Literal["auto"]:
        """Smoothing scale: patches averaged over before they are compared."""
        return self.comparison.scale

    @scale.setter
    def scale(self, scale: float | Literal["auto"]) -> None:
        self._state.change_comparison(scale=scale)

    @property
    def whitening(self) -> Literal["neighbours", "regions"]:
        """What counts as noise in classes: differences of neighbours, or variation in regions."""
        return self.comparison.whitening

    @whitening.setter
    def whitening(self, whitening: Literal["neighbours", "regions"]) -> None:
        self._state.change_comparison(whitening=whitening)

    # Classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, for tables; set one for each class."""
        return self._state.classes.names_of(self._state.n_classes)

    @class_names.setter
    def class_names(self, names: Sequence[str]) -> None:
        self._check_number("class_names", names)
        for number, name in enumerate(names, 1):
            self._controller.corrections.rename(number, name)

    @property
    def class_colors(self) -> tuple[str, ...]:
        """Colours of the classes, as "#rrggbb"."""
        return self._state.classes.colors_of(self._state.n_classes)

    @class_colors.setter
    def class_colors(self, colors: Sequence[str]) -> None:
        self._check_number("class_colors", colors)
        check_colors(colors)
        for number, color in enumerate(colors, 1):
            self._controller.corrections.recolor(number, color)
        self._controller.previews.update_if_due()

    def _check_number(self, name: str, values: Sequence[str]) -> None:
        number = self._state.n_classes
        if len(values) != number or not all(isinstance(v, str) for v in values):
            raise InputError(f"{name} = {list(values)!r}: give {number} texts, one per class.")

    @property
    def classes_fixed(self) -> bool:
        """Whether classes are stored in the model, and are therefore the same in every image.

        Set it to True to store those of the current image; `save_model` then writes them too.
        """
        return self._state.classes.prototypes is not None

    @classes_fixed.setter
    def classes_fixed(self, fixed: bool) -> None:
        if fixed != self.classes_fixed:
            self._controller.fix_classes(fixed)
        self._controller.previews.update_if_due()

    # Correct by hand: places are pixels of the labels, such as (row, column)

    def merge(self, *places: tuple[int, ...], image: Image | None = None) -> None:
        """Merge the regions or objects at two places or more; one step of undo.

        Parameters
        ----------
        *places : tuple of int
            Pixels of the labels, such as (row, column).
        image : napari.layers.Image, optional
            By default the segmented one in sight, else the first chosen one that is segmented.

        Raises
        ------
        InputError
            If the mode is not "regions", or a place is outside or in the same region.
        """
        self._controller.correct(self._controller.corrections.merge, image, *places)

    def split(self, *places: tuple[int, ...], image: Image | None = None) -> None:
        """Split the region at a place where its halves were merged last; one step of undo.

        An object is split at its deepest neck; if more places in it are given, between them.

        Raises
        ------
        InputError
            As `merge`, and if the region is a single patch.
        """
        self._controller.correct(self._controller.corrections.split, image, *places)

    def add(self, place: tuple[int, ...], image: Image | None = None) -> None:
        """Add the most likely object at a place without one; one step of undo.

        Raises
        ------
        InputError
            If the mode is not "objects", or nothing stands out there.
        """
        self._controller.correct(self._controller.corrections.objects.add, image, place)

    def delete(self, place: tuple[int, ...], image: Image | None = None) -> None:
        """Delete the object at a place; one step of undo.

        Raises
        ------
        InputError
            If the mode is not "objects", or there is no object.
        """
        self._controller.correct(self._controller.corrections.objects.delete, image, place)

    def larger(self, place: tuple[int, ...], image: Image | None = None) -> None:
        """Take the next larger candidate instead of the object at a place, such as the cell.

        Raises
        ------
        InputError
            As `delete`, and if there is nothing larger.
        """
        self._controller.correct(self._controller.corrections.objects.larger, image, place)

    def smaller(self, place: tuple[int, ...], image: Image | None = None) -> None:
        """Take the next smaller candidate instead of the object at a place, such as the nucleus.

        Raises
        ------
        InputError
            As `delete`, and if there is nothing smaller.
        """
        self._controller.correct(self._controller.corrections.objects.smaller, image, place)

    def undo(self, image: Image | None = None) -> bool:
        """Undo the last correction of this mode; return False when there is none."""
        return bool(self._controller.correct(self._controller.corrections.undo, image))

    def redo(self, image: Image | None = None) -> bool:
        """Redo the edit that was undone last; return False when there is none."""
        return bool(self._controller.correct(self._controller.corrections.redo, image))

    def lock(self, place: tuple[int, ...], image: Image | None = None) -> None:
        """Lock the region at a place, or unlock it.

        A locked region keeps its pixels while controls change and others are merged or split.

        Raises
        ------
        InputError
            As `merge`, and if the image is processed in blocks.
        """
        self._controller.correct(self._controller.corrections.lock, image, place)

    def find_similar(self, place: tuple[int, ...], image: Image | None = None) -> None:
        """Show only what looks like the region or object at a place, as a click does.

        A place that is shown already is not wanted, and a second call takes either back.

        Raises
        ------
        InputError
            If the mode is not "regions" or "objects", nothing has a label there, or the image is
            processed in blocks.
        """
        self._controller.correct(self._controller.corrections.find_similar, image, place)

    def forget_examples(self) -> None:
        """Show all segments again, not only those that look like examples."""
        self._controller.corrections.forget_examples()
        self._controller.previews.update_if_due()

    @property
    def similarity(self) -> float:
        """How much a segment has to look like an example: 0 (all segments) to 1 (examples)."""
        return self._state.similarity

    @similarity.setter
    def similarity(self, similarity: float) -> None:
        check_share("similarity", similarity)
        self._state.similarity = similarity
        self._controller.previews.update_if_due()

    display: Display = _of_state(
        "display",
        'How previews are drawn: "fill", "outlines" or "off"; the key O goes on to the next.',
        DISPLAYS,
    )

    tool: Tool | None = _of_state(
        "tool",
        "What clicks on a preview do, one of `TOOLS`; None leaves them to napari.",
        (*TOOLS, None),
    )

    markers_are: MarkersAre = _of_cut(
        "markers_are", 'What strokes are in the mode "markers": "classes", or "segments" that grow.'
    )

    def store_learned_classes(self) -> None:
        """Store the classes of the strokes in the model, and show them in the mode "classes".

        Raises
        ------
        InputError
            If none are learned yet, or the image was segmented with another model.
        """
        self._controller.corrections.store_learned()

    def show_uncertain_place(self, image: Image | None = None) -> tuple[int, ...]:
        """Show the pixel where another stroke helps most, with the brush selected; return it.

        Raises
        ------
        InputError
            If no class is learned from strokes yet.
        """
        return self._controller.show_uncertain_place(image)

    def paint(self, image: Image | None = None) -> Labels:
        """Return the strokes layer of an image, active and with the brush; make it if needed.

        In the mode "markers", its labels are classes, or each grows into one segment; see
        `markers_are`.
        """
        return self._controller.paint(image)

    # Keep, look, export

    def keep(self) -> list[Labels]:
        """Copy the previews to new layers, which are hidden at first, and return these.

        Their `features` hold measurements of every label, which a thread makes while the window
        works; the column "reconstruction_error" comes a moment later.

        Raises
        ------
        InputError
            If nothing is segmented yet, or no pixel has a label.
        """
        layers = self._controller.keep()
        self._controller.kept.wait()
        return layers

    def press_keep(self) -> None:
        """Keep as the button does: errors are shown, and `failed` is emitted."""
        self._run(self._controller.keep)

    def look(self, what: str) -> None:
        """Begin to compute a layer that explains the segmentation; `looked` follows.

        Parameters
        ----------
        what : str
            "features", "reconstruction", "reconstruction error", "border strength",
            "class uncertainty" or "merge height".
        """
        self._run(self._controller.show_diagnostic, what)

    def color_by(self, column: str, layer: Labels | None = None) -> None:
        """Colour a Labels layer by a column of its features; "label" gives each its own.

        Parameters
        ----------
        column : str
        layer : napari.layers.Labels, optional
            By default the active layer if it has measurements, else the newest that has.

        Raises
        ------
        InputError
            If there is no such layer or column.
        """
        self._controller.color_by(column, layer)

    def export_table(
        self, path: str | PathLike[str], layer: Labels | None = None, pieces: bool = False
    ) -> None:
        """Write the features of a Labels layer, chosen as for `color_by`, as CSV.

        With `pieces`, a layer that was kept has a row for each connected piece of a label.
        """
        self._controller.export_table(path, layer, pieces)

    @property
    def script(self) -> str:
        """Python code that repeats the current result, without a window.

        Raises
        ------
        InputError
            If nothing is segmented, or an image can neither be read again nor be saved.
        """
        return self._controller.script
