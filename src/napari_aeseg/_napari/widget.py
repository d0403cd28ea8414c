"""The dock widget, and what a script can do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from magicgui.widgets import Container
from psygnal import Signal
from qtpy.QtWidgets import QSizePolicy

from napari_aeseg._napari.actions import Actions
from napari_aeseg._napari.controller import Controller
from napari_aeseg._napari.cut_properties import CutProperties
from napari_aeseg._napari.result_methods import ResultMethods
from napari_aeseg._napari.views.model import STARTS
from napari_aeseg.errors import InputError
from napari_aeseg.params import TrainingParams, checked_params

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import napari
    from napari.layers import Image, Labels

    from napari_aeseg.autoencoder.model import Model


class AESegWidget(CutProperties, ResultMethods, Container):
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
    looked : psygnal.Signal(list of Layer)
        What `look` asked for is shown in these layers.
    batch_done : psygnal.Signal(BatchReport)
        `segment_folder` came to an end, or was stopped.

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

    trained = Signal(object)
    segmented = Signal(object)
    stopped = Signal(str)
    failed = Signal(object)
    progressed = Signal(object)
    looked = Signal(list)
    batch_done = Signal(object)

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(labels=False)
        self._controller = controller = Controller(napari_viewer)
        self._actions = Actions(controller)
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
        self._actions.looked.connect(self.looked.emit)
        self._actions.batch_done.connect(self.batch_done.emit)
        self.native_parent_changed.connect(self._on_parent)
        self.native.destroyed.connect(controller.close)

    def _on_parent(self, parent: Any) -> None:
        if parent is None:  # the dock was closed for good
            self._controller.close()

    def reset_choices(self, *_: Any) -> None:
        """Follow the viewer's layers; napari calls it when one comes, goes, moves or is renamed."""
        if self._controller.is_closed:  # napari does not let go of a dock that was closed
            return
        if self._session.results.forget_removed():
            self._controller.want_previews()
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
        self._controller.take_model(model)

    @property
    def training_params(self) -> TrainingParams:
        """How the next model is trained."""
        return self._dock.model.params

    @training_params.setter
    def training_params(self, params: TrainingParams) -> None:
        self._dock.model.params = checked_params(TrainingParams, params)

    @property
    def preset(self) -> str | None:
        """Name of the training preset: "fast", "balanced", "thorough"; None for other params."""
        return self._dock.model.preset

    @preset.setter
    def preset(self, preset: str) -> None:
        self._dock.model.preset = preset

    @property
    def start_from(self) -> Literal["new", "base", "current"]:
        """Weights that training starts from: new ones, the base model's, those of `model`."""
        return self._dock.model.start_from

    @start_from.setter
    def start_from(self, start: Literal["new", "base", "current"]) -> None:
        if start not in STARTS:
            raise InputError(f"start_from = {start!r}: choose one of {', '.join(STARTS)}.")
        self._dock.model.start_from = start

    @property
    def watch(self) -> bool:
        """Whether a layer shows the reconstruction while training goes on."""
        return self._dock.model.watch_box.isChecked()

    @watch.setter
    def watch(self, watch: bool) -> None:
        self._dock.model.watch_box.setChecked(watch)

    def train(self) -> None:
        """Begin to train on the chosen images; `trained`, `stopped` or `failed` follows.

        The model saves itself now and then, and at the end, to the folder in the Preferences.
        """
        with self._controller.reporter.reported():
            self._controller.train()

    def resume(self) -> None:
        """Go on with a training that was stopped, as if it had not been; then as `train`."""
        with self._controller.reporter.reported():
            self._controller.resume()

    def load_model(self, path: str | PathLike[str]) -> None:
        """Load a model file, or "base"; the window stays alive meanwhile.

        Classes that were kept with the model are used from then on.

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
        """Begin to segment the chosen images; without a model, with the base model.

        `segmented` follows for each image, or `stopped`, or `failed`.
        """
        with self._controller.reporter.reported():
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
    def previews(self) -> dict[Image, Labels]:
        """The Labels layer of each chosen image that follows the controls."""
        found = {image: self._session.results.preview_of(image) for image in self.images}
        return {image: layer for image, layer in found.items() if layer is not None}

    @property
    def preview(self) -> Labels | None:
        """The preview of the first chosen image that has one."""
        return next(iter(self.previews.values()), None)
