"""Second section of the dock: train, load or save a model, and see how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QWidget
from superqt.utils import signals_blocked

from napari_aeseg._napari.views.loss_curve import LossCurve
from napari_aeseg._napari.views.params_form import ParamsForm
from napari_aeseg._napari.views.widgets import (
    Form,
    WrappedLabel,
    choice_box,
    fill_column,
    ignore_wheel,
    in_a_row,
    push_button,
)
from napari_aeseg.params import BASE_MODEL as BASE
from napari_aeseg.params import MODEL_SUFFIX, PRESETS
from napari_aeseg.progress import TrainingProgress

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState, Start
    from napari_aeseg.autoencoder.model import Model

_DEVICE_TIP = (
    "Where the network works. 'auto' takes a CUDA graphics card, else Apple's (MPS), else the "
    "processor (CPU). Open the list to see the devices of this computer."
)
_PRESET_TIP = "How thoroughly to train. " + " ".join(
    f"{p.title}: {p.description}" for p in PRESETS.values()
)
_MODEL_TIP = (
    "The model that segments: the base model that comes with the plugin, those of this session, "
    "and those that were saved by themselves during training. Load others from a file."
)
_START_TIP = (
    "Which weights training starts from: new random ones, those of the base model that comes with "
    "the plugin, or those of the current model. The last two keep that model's network."
)
_WATCH_TIP = (
    "Add a layer that shows the reconstruction of the middle of the first image while training "
    "goes on."
)
STARTS: dict[Start, str] = {
    "new": "new weights",
    "base": "the base model",
    "current": "the current model",
}
_CUSTOM = "Custom"
NO_MODEL = (
    "No trained model; Segment uses the built-in base model. Training on your images takes a "
    "minute or more; it fits some images better and others worse."
)
BASE_MODEL = (
    "Base model (built in). Training on your images takes a minute or more; it fits some images "
    "better and others worse."
)


class PopupBox(QComboBox):
    """A combo box that emits a signal when its list is opened."""

    opened = Signal()

    def showPopup(self) -> None:
        self.opened.emit()
        super().showPopup()


class ModelView(QWidget):
    """Buttons for the model, its description, its loss, and the parameters of training."""

    model_chosen = Signal(object)  # Model, path or "base"

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self._is_new_curve = False
        self._make_buttons()
        self.description = WrappedLabel(NO_MODEL)
        self.curve = LossCurve()
        self.form = ParamsForm(state.training)
        self._make_choices()
        self.more = self._lay_out_more()
        self._lay_out()
        self._connect_controls()
        state.on("training", draw=self._draw_training)
        state.on("device", "devices", draw=self._draw_device)
        state.on("start_from", "watch", draw=self._draw_choices)
        state.on("progress", draw=self._draw_progress)
        state.on("model", "models", "busy", draw=self._draw_model)
        state.on("model", "models", "autosaved", draw=self._draw_models)

    def _make_buttons(self) -> None:
        self.train_button = push_button(
            "Train", "Train an autoencoder on the checked images. No labels are needed."
        )
        self.resume_button = push_button("Resume", "Resume the interrupted training.")
        self.load_button = push_button("Load model…", "Load a saved model (*.aeseg.safetensors).")
        self.save_button = push_button(
            "Save model…", "Save the model to a file, to use it on other images."
        )

    def _make_choices(self) -> None:
        self.model_box = PopupBox()
        ignore_wheel(self.model_box)
        self.device_box = PopupBox()
        ignore_wheel(self.device_box)
        self.start_box = choice_box(STARTS)
        self.preset_box = choice_box({name: preset.title for name, preset in PRESETS.items()})
        self.watch_box = QCheckBox("Show the reconstruction while training")
        self.watch_box.setToolTip(_WATCH_TIP)

    def _lay_out(self) -> None:
        form = Form()
        form.add("Model", self.model_box, _MODEL_TIP)
        form.add("Training", self.preset_box, _PRESET_TIP)
        fill_column(
            self,
            form,
            in_a_row(self.train_button, self.resume_button),
            in_a_row(self.load_button, self.save_button),
            self.description,
            self.curve,
        )

    def _lay_out_more(self) -> QWidget:
        more = QWidget()
        form = Form()
        form.add("Device", self.device_box, _DEVICE_TIP)
        form.add("Start from", self.start_box, _START_TIP)
        fill_column(more, form, self.watch_box, self.form)
        return more

    def _connect_controls(self) -> None:
        state = self._state
        self.form.changed.connect(lambda params: setattr(state, "training", params))
        self.preset_box.activated.connect(self._choose_preset)
        self.device_box.currentTextChanged.connect(lambda text: setattr(state, "device", text))
        self.model_box.activated.connect(
            lambda index: self.model_chosen.emit(self.model_box.itemData(index))
        )
        self.start_box.currentIndexChanged.connect(
            lambda _: setattr(state, "start_from", self.start_box.currentData())
        )
        self.watch_box.toggled.connect(lambda on: setattr(state, "watch", on))

    def _choose_preset(self, index: int) -> None:
        if name := self.preset_box.itemData(index):
            self._state.preset = name

    def _draw_training(self) -> None:
        if self.form.value is not self._state.training:
            self.form.value = self._state.training
        preset, custom = self._state.preset, self.preset_box.findText(_CUSTOM)
        if preset is None and custom < 0:
            self.preset_box.addItem(_CUSTOM)
        elif preset is not None and custom >= 0:
            self.preset_box.removeItem(custom)
        self.preset_box.setCurrentText(PRESETS[preset].title if preset else _CUSTOM)

    def _draw_device(self) -> None:
        with signals_blocked(self.device_box):
            for device in (*self._state.devices, self._state.device):
                if self.device_box.findText(device) < 0:
                    self.device_box.addItem(device)
            self.device_box.setCurrentText(self._state.device)

    def _draw_models(self) -> None:
        """List the base model, those of this session, and files that were saved by themselves."""
        state, box = self._state, self.model_box
        files = {origin.path for origin in state.models.values()}
        with signals_blocked(box):
            box.clear()
            box.addItem("Base model (built in)", BASE)
            for model, origin in state.models.items():
                if not model.any_channels:
                    box.addItem(f"{origin.text}, {model.record.steps} steps", model)
            for path in state.autosaved:
                if path not in files:
                    box.addItem(f"Autosaved {path.name.removesuffix(MODEL_SUFFIX)}", path)
            is_base = state.model is None or state.model.any_channels
            box.setCurrentIndex(0 if is_base else box.findData(state.model))

    def _draw_choices(self) -> None:
        self.start_box.setCurrentIndex(self.start_box.findData(self._state.start_from))
        self.watch_box.setChecked(self._state.watch)

    def _draw_progress(self) -> None:
        event = self._state.progress
        if event is None:  # a job begins
            self._is_new_curve = True
        if not isinstance(event, TrainingProgress):
            return
        losses: Sequence[float] = event.losses
        if self._is_new_curve:
            self.description.setText("Training. Stop keeps the model so far.")
        # A training that is resumed goes on with the curve.
        if not self._is_new_curve or event.done > len(event.losses):
            losses = (*self.curve.losses, *event.losses)
        self.curve.show_losses(losses, event.total)
        self._is_new_curve = False

    def _draw_model(self) -> None:
        state, model = self._state, self._state.model
        self.resume_button.setVisible(model is not None and model.unfinished)
        if state.busy and isinstance(state.progress, TrainingProgress):
            return
        if model is None:
            self.description.setText(NO_MODEL)
            self.curve.show_losses((), 0)
        elif model.any_channels:
            self.description.setText(BASE_MODEL)
            self.curve.show_losses((), 0)  # of images that are not the user's
        else:
            self.description.setText(model_text(model, state.origin.text))
            total = int(model.record.params.get("steps", len(model.losses)))
            self.curve.show_losses(model.losses, total)


def model_text(model: Model, source: str) -> str:
    """Return one line on a model for the dock."""
    channels = model.architecture.channels
    parts = [f"{channels} channel{'s' if channels > 1 else ''}"]
    total = model.record.params.get("steps", model.record.steps)
    done = f"{model.record.steps} of {total}" if model.unfinished else f"{model.record.steps}"
    parts.append(f"{done} steps")
    if model.losses:
        recent = model.losses[-20:]
        parts.append(f"loss {sum(recent) / len(recent):.4f} (mean of the last {len(recent)})")
    if model.record.device:
        parts.append(f"trained on {model.record.device}")
    return f"{source}: {', '.join(parts)}."
