"""Second section of the dock: train, load or save a model, and see how it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_aeseg._napari.controls import WrappedLabel, heading, ignore_wheel
from napari_aeseg._napari.forms import ParamsForm
from napari_aeseg._napari.loss_curve import LossCurve
from napari_aeseg.params import TrainingParams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import TrainingProgress

_DEVICE_TIP = (
    "Where the network works. 'auto' takes a CUDA graphics card, else Apple's (MPS), else the "
    "processor. What this computer has is looked up when the list is opened."
)
NO_MODEL = "No model yet. Train one, load one, or press Segment: it trains one first."


class DeviceBox(QComboBox):
    """A combo box that says when its list is opened."""

    opened = Signal()

    def showPopup(self) -> None:
        self.opened.emit()
        super().showPopup()


class ModelView(QWidget):
    """Buttons for the model, its state, its loss and the device."""

    def __init__(self) -> None:
        super().__init__()
        self.train_button = QPushButton("Train")
        self.train_button.setToolTip(
            "Learn an autoencoder from the checked images alone. No labels are needed."
        )
        self.load_button = QPushButton("Load…")
        self.load_button.setToolTip("Use a model that was saved before (*.aeseg.safetensors).")
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip("Write the model to a file, to use it on other images.")
        self.state = WrappedLabel(NO_MODEL)
        self.curve = LossCurve()
        self.device_box = DeviceBox()
        self.device_box.addItems(["auto", "cpu"])
        self.device_box.setToolTip(_DEVICE_TIP)
        self.device_box.setAccessibleName("Device")
        ignore_wheel(self.device_box)
        self.form = ParamsForm(TrainingParams())
        self._lay_out()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("2  Model"))
        row = QHBoxLayout()
        for button in (self.train_button, self.load_button, self.save_button):
            row.addWidget(button, stretch=1)
        layout.addLayout(row)
        layout.addWidget(self.state)
        layout.addWidget(self.curve)
        label = QLabel("Device")
        label.setToolTip(_DEVICE_TIP)
        row = QHBoxLayout()
        row.addWidget(label)
        row.addWidget(self.device_box, stretch=1)
        layout.addLayout(row)

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
        self.curve.add(event.losses, event.total, start)

    def show_model(self, model: Model | None, source: str) -> None:
        """Say which model is in use, and show its loss."""
        if model is None:
            self.state.setText(NO_MODEL)
            self.curve.show_losses((), 0)
            return
        self.state.setText(described(model, source))
        total = int(model.record.params.get("steps", len(model.losses)))
        self.curve.show_losses(model.losses, total)


def described(model: Model, source: str) -> str:
    """Return one line on a model for the dock."""
    channels = model.architecture.channels
    fits = f"{channels} channel{'s' if channels > 1 else ''}"
    fits = "any number of channels" if model.any_channels else fits
    parts = [fits, f"{model.record.steps} steps"]
    if model.losses:
        recent = model.losses[-20:]
        parts.append(f"loss {sum(recent) / len(recent):.4f}")
    if model.record.device:
        parts.append(f"trained on {model.record.device}")
    return f"{source}: {', '.join(parts)}."
