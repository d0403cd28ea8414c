"""Second section of the dock: train, load or save a model, and see how it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QPushButton, QVBoxLayout, QWidget

from napari_aeseg._napari.views.loss_curve import LossCurve
from napari_aeseg._napari.views.panels import Form, in_a_row
from napari_aeseg._napari.views.params_form import ParamsForm
from napari_aeseg._napari.views.widgets import WrappedLabel, heading, ignore_wheel
from napari_aeseg.params import PRESETS, TrainingParams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.progress import TrainingProgress

_DEVICE_TIP = (
    "Where the network works. 'auto' takes a CUDA graphics card, else Apple's (MPS), else the "
    "processor. What this computer has is looked up when the list is opened."
)
_PRESET_TIP = "How thoroughly to train. " + " ".join(
    f"{p.title}: {p.description}" for p in PRESETS.values()
)
_START_TIP = (
    "Which weights training starts from: new random ones, those of the base model that comes with "
    "the plugin, or those of the model in use. The last two keep that model's network."
)
_WATCH_TIP = (
    "Add a layer that shows, while training goes on, what the network makes of the middle of the "
    "first image."
)
STARTS = ("new", "base", "current")
_START_TEXTS = ("new weights", "the base model", "the model in use")
_CUSTOM = "Custom"
NO_MODEL = (
    "None of your own yet. Segment uses the base model that comes with the plugin; training on "
    "your images takes a minute or more and may fit them better."
)
BASE_MODEL = (
    "Base model, which comes with the plugin. Training on your images takes a minute or more and "
    "may fit them better."
)


class DeviceBox(QComboBox):
    """A combo box that says when its list is opened."""

    opened = Signal()

    def showPopup(self) -> None:
        self.opened.emit()
        super().showPopup()


class ModelView(QWidget):
    """Buttons for the model, its state, its loss, and the parameters of training."""

    def __init__(self) -> None:
        super().__init__()
        self._make_buttons()
        self.state = WrappedLabel(NO_MODEL)
        self.curve = LossCurve()
        self.device_box = DeviceBox()
        self.device_box.addItems(["auto", "cpu"])
        self.start_box = QComboBox()
        self.start_box.addItems(_START_TEXTS)
        self.watch_box = QCheckBox("Show the reconstruction while training")
        self.watch_box.setToolTip(_WATCH_TIP)
        self.form = ParamsForm(TrainingParams())
        self.form.changed.connect(lambda _: self._show_preset())
        self._make_preset_box()
        for box in (self.device_box, self.start_box, self.preset_box):
            ignore_wheel(box)
        self.more = self._lay_out_more()
        self._lay_out()

    def _make_buttons(self) -> None:
        self.train_button = QPushButton("Train")
        self.train_button.setToolTip(
            "Learn an autoencoder from the checked images alone. No labels are needed."
        )
        self.resume_button = QPushButton("Resume")
        self.resume_button.setToolTip(
            "Go on with the training that was stopped, as if it had not been."
        )
        self.resume_button.hide()
        self.load_button = QPushButton("Load…")
        self.load_button.setToolTip("Use a model that was saved before (*.aeseg.safetensors).")
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip("Write the model to a file, to use it on other images.")

    def _make_preset_box(self) -> None:
        self.preset_box = QComboBox()
        for name, preset in PRESETS.items():
            self.preset_box.addItem(preset.title, name)
        self.preset_box.activated.connect(self._take_preset)
        self._show_preset()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("2  Model"))
        layout.addWidget(
            in_a_row(self.train_button, self.resume_button, self.load_button, self.save_button)
        )
        form = Form()
        form.add("Training", self.preset_box, _PRESET_TIP)
        layout.addLayout(form)
        layout.addWidget(self.state)
        layout.addWidget(self.curve)

    def _lay_out_more(self) -> QWidget:
        more = QWidget()
        form = Form()
        form.add("Device", self.device_box, _DEVICE_TIP)
        form.add("Start from", self.start_box, _START_TIP)
        layout = QVBoxLayout(more)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.watch_box)
        layout.addWidget(self.form)
        return more

    @property
    def params(self) -> TrainingParams:
        """The parameters of training."""
        return self.form.value

    @params.setter
    def params(self, params: TrainingParams) -> None:
        self.form.value = params
        self._show_preset()

    @property
    def preset(self) -> str | None:
        """Name of the preset that the parameters agree with, but for the seed; else None."""
        for name in PRESETS:
            if TrainingParams.preset(name).updated(seed=self.params.seed) == self.params:
                return name
        return None

    @preset.setter
    def preset(self, name: str) -> None:
        self.params = TrainingParams.preset(name).updated(seed=self.params.seed)

    def _take_preset(self, index: int) -> None:
        if name := self.preset_box.itemData(index):
            self.preset = name

    def _show_preset(self) -> None:
        custom = self.preset_box.findText(_CUSTOM)
        if self.preset is None and custom < 0:
            self.preset_box.addItem(_CUSTOM)
        elif self.preset is not None and custom >= 0:
            self.preset_box.removeItem(custom)
        self.preset_box.setCurrentText(PRESETS[self.preset].title if self.preset else _CUSTOM)

    @property
    def start_from(self) -> str:
        """Either "new", "base" or "current"."""
        return STARTS[self.start_box.currentIndex()]

    @start_from.setter
    def start_from(self, start: str) -> None:
        self.start_box.setCurrentIndex(STARTS.index(start))

    @property
    def device(self) -> str:
        """The device chosen."""
        return self.device_box.currentText()

    @device.setter
    def device(self, device: str) -> None:
        self.add_devices([device])
        self.device_box.setCurrentText(device)

    def add_devices(self, devices: Iterable[str]) -> None:
        """Offer devices, those there are before."""
        for device in devices:
            if self.device_box.findText(device) < 0:
                self.device_box.addItem(device)

    def show_training(self, event: TrainingProgress, start: bool) -> None:
        """Show the loss of a training that goes on; `start` begins a new curve."""
        if start:
            self.state.setText("In training. Stop keeps the model as far as it got.")
            start = event.done <= len(event.losses)  # else it was resumed: the curve goes on
        self.curve.add(event.losses, event.total, start)

    def show_model(self, model: Model | None, source: str) -> None:
        """Say which model is in use, and show its loss."""
        self.resume_button.setVisible(model is not None and model.unfinished)
        if model is None:
            self.state.setText(NO_MODEL)
            self.curve.show_losses((), 0)
            return
        if model.any_channels:
            self.state.setText(BASE_MODEL)
            self.curve.show_losses((), 0)  # of images that are not the user's
            return
        self.state.setText(described(model, source))
        total = int(model.record.params.get("steps", len(model.losses)))
        self.curve.show_losses(model.losses, total)


def described(model: Model, source: str) -> str:
    """Return one line on a model for the dock."""
    channels = model.architecture.channels
    parts = [f"{channels} channel{'s' if channels > 1 else ''}"]
    total = model.record.params.get("steps", model.record.steps)
    done = f"{model.record.steps} of {total}" if model.unfinished else f"{model.record.steps}"
    parts.append(f"{done} steps")
    if model.losses:
        recent = model.losses[-20:]
        parts.append(f"loss {sum(recent) / len(recent):.4f}")
    if model.record.device:
        parts.append(f"trained on {model.record.device}")
    return f"{source}: {', '.join(parts)}."
