"""The dock widget, and what a script can do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from magicgui.widgets import Container
from psygnal import Signal
from qtpy.QtWidgets import QSizePolicy

from napari_aeseg._napari.controller import Controller
from napari_aeseg._napari.tuning import most_patches
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import napari
    from napari.layers import Image, Labels

    from napari_aeseg._napari.tuning import Mode
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.params import SegmentationParams, TrainingParams
    from napari_aeseg.regions.hierarchy import Hierarchy


class AESegWidget(Container):
    """Learn an autoencoder from the open images, segment them, tune the result.

    Whatever a button does is a method, whatever a control holds is a property. `train` and
    `segment` return at once and report by signals, errors included; the other methods are done
    when they return, and raise. All of them belong on the GUI thread.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer

    Attributes
    ----------
    trained : psygnal.Signal(Model)
        Training came to an end, or was stopped and left a model.
    segmented : psygnal.Signal(Hierarchy)
        One image is segmented and its preview shown; once for each image.
    stopped : psygnal.Signal(str)
        What was running was stopped; the text says what is kept.
    failed : psygnal.Signal(Exception)
        The text of the error says what to do. napari has shown it.
    progressed : psygnal.Signal(Progress)
        At most ten times a second.

    Examples
    --------
    In a script that opens a viewer; `wait` lets the window work meanwhile::

        dock, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
        widget.images = [viewer.layers["tissue"]]
        widget.segment()  # trains first
        widget.wait()
        widget.n_regions = 12
        widget.keep()
    """

    trained = Signal(object)
    segmented = Signal(object)
    stopped = Signal(str)
    failed = Signal(object)
    progressed = Signal(object)

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(labels=False)
        self._controller = controller = Controller(napari_viewer)
        self._dock, self._session = controller.dock, controller.session
        self.native.layout().addWidget(self._dock)
        self.margins = (0, 0, 0, 0)
        # Else napari adds a stretch below, which takes half of the height.
        self.native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        # Session before controller: the dock shows the model by the time a script hears of it.
        self._session.trained.connect(self.trained.emit)
        self._session.stopped.connect(self.stopped.emit)
        self._session.progressed.connect(self.progressed.emit)
        controller.segmented.connect(self.segmented.emit)
        controller.failed.connect(self.failed.emit)
        self.native_parent_changed.connect(self._on_parent)
        self.native.destroyed.connect(controller.close)

    def _on_parent(self, parent: Any) -> None:
        if parent is None:  # the dock was closed for good
            self._controller.close()

    def reset_choices(self, *_: Any) -> None:
        """Follow the viewer's layers; napari calls it when one comes, goes, moves or is renamed."""
        self._session.results.forget_removed()
        self._dock.images.reset()

    @property
    def images(self) -> list[Image]:
        """Image layers to learn from and to segment; the controls act on all of them."""
        return self._dock.images.images

    @images.setter
    def images(self, images: Sequence[Image]) -> None:
        self._dock.images.images = images

    @property
    def axes(self) -> str | None:
        """Axes of the images as typed, such as "CYX"; None has them read from each image."""
        return self._dock.images.axes

    @axes.setter
    def axes(self, axes: str | None) -> None:
        self._dock.images.axes = axes

    @property
    def axes_text(self) -> str:
        """How the axes of the chosen images are read, in words, or why they cannot be."""
        return self._dock.images.reading.text()

    @property
    def device(self) -> str:
        """Where torch works: "auto", "cpu", "cuda:0", "mps"."""
        return self._dock.model.device

    @device.setter
    def device(self, device: str) -> None:
        self._dock.model.device = device

    @property
    def model(self) -> Model | None:
        """The model in use; may be set to one that a script has."""
        return self._session.model

    @model.setter
    def model(self, model: Model | None) -> None:
        self._session.take_model(model, "Model of a script")
        self._controller.show_model()

    @property
    def training_params(self) -> TrainingParams:
        """How the next model is trained."""
        return self._dock.model.form.value

    @training_params.setter
    def training_params(self, params: TrainingParams) -> None:
        self._dock.model.form.value = params

    @property
    def segmentation_params(self) -> SegmentationParams:
        """How images are cut into patches, next time; balance and scale act at once."""
        return self._dock.segments.params

    @segmentation_params.setter
    def segmentation_params(self, params: SegmentationParams) -> None:
        self._dock.segments.params = params
        self._session.results.reweight(params.balance, params.scale)

    def train(self) -> None:
        """Begin to train on the chosen images; `trained`, `stopped` or `failed` follows."""
        with self._controller.reported():
            self._controller.train()

    def load_model(self, path: str | PathLike[str]) -> None:
        """Load a model file; the window stays alive meanwhile.

        Raises
        ------
        ModelFileError
            If the file is damaged, foreign, or of a newer format.
        FileNotFoundError
            If there is no such file.
        InputError
            If something else is running.
        """
        self._controller.load_now(path)

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

    def segment(self) -> None:
        """Begin to segment the chosen images, after training on them if there is no model.

        `segmented` follows for each image, or `stopped`, or `failed`.
        """
        with self._controller.reported():
            self._controller.segment()

    def stop(self) -> None:
        """Stop what is running; a training that is stopped leaves the model as far as it got."""
        self._controller.stop()

    @property
    def busy(self) -> bool:
        """Whether training, segmenting or loading is going on."""
        return self._session.busy

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
            What `failed` told of since the last action.
        """
        self._controller.wait(timeout)

    @property
    def hierarchies(self) -> dict[Image, Hierarchy]:
        """The hierarchy of each chosen image that is segmented."""
        return self._controller.hierarchies

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The hierarchy of the first chosen image that is segmented."""
        return next(iter(self.hierarchies.values()), None)

    @property
    def previews(self) -> dict[Image, Labels]:
        """The Labels layer of each chosen image that follows the controls."""
        found = {image: self._session.results.preview_of(image) for image in self.images}
        return {image: layer for image, layer in found.items() if layer is not None}

    @property
    def preview(self) -> Labels | None:
        """The preview of the first chosen image that has one."""
        return next(iter(self.previews.values()), None)

    @property
    def mode(self) -> Mode:
        """Either "regions" (connected), "classes" (the same texture has the same label), "objects".

        Objects are looked for in a thread: the preview follows in a moment.
        """
        return self._dock.segments.cut.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._controller.set_cut(mode=mode)

    @property
    def n_regions(self) -> int | None:
        """Number of regions, of the first image; set it to None for what each image suggests."""
        cut, hierarchy = self._dock.segments.cut, self.hierarchy
        return cut.n_regions if hierarchy is None else cut.regions_in(hierarchy)

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
        cut, hierarchy = self._dock.segments.cut, self.hierarchy
        return cut.threshold if hierarchy is None else cut.threshold_in(hierarchy)

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        self._controller.set_cut(n_regions=None, threshold=threshold)

    @property
    def n_classes(self) -> int:
        """Number of classes, for the mode "classes"."""
        return self._dock.segments.cut.n_classes

    @n_classes.setter
    def n_classes(self, n_classes: int) -> None:
        most = max((h.max_classes for h in self.hierarchies.values()), default=n_classes)
        if n_classes > most:
            raise InputError(f"n_classes = {n_classes}: give 1 to {most}, as there are regions.")
        self._controller.set_cut(n_classes=n_classes)

    @property
    def min_size(self) -> int | None:
        """Pixels of the smallest object, for the mode "objects"; None has it learnt."""
        return self._dock.segments.cut.min_size

    @min_size.setter
    def min_size(self, min_size: int | None) -> None:
        self._controller.set_cut(min_size=min_size)

    @property
    def balance(self) -> float:
        """0 compares brightness and colour, 1 texture; the preview follows in a moment."""
        return self.segmentation_params.balance

    @balance.setter
    def balance(self, balance: float) -> None:
        self.segmentation_params = self.segmentation_params.but(balance=balance)

    @property
    def scale(self) -> float | Literal["auto"]:
        """Patches averaged over before they are compared; the preview follows in a moment."""
        return self.segmentation_params.scale

    @scale.setter
    def scale(self, scale: float | Literal["auto"]) -> None:
        self.segmentation_params = self.segmentation_params.but(scale=scale)

    def keep(self) -> list[Labels]:
        """Copy what the previews show to new layers, hidden for now, and return these.

        Raises
        ------
        InputError
            If nothing is segmented yet.
        """
        return self._controller.keep()
