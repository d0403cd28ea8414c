"""Forms made from the parameter models: one control for each field."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QFormLayout, QLabel, QSizePolicy, QWidget

from napari_aeseg._napari.views.widgets import ignore_wheel
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from magicgui.widgets.bases import ValueWidget
    from pydantic.fields import FieldInfo

    from napari_aeseg.params import SegmentationParams, TrainingParams

_NARROWEST = 90  # pixels for a control, so that a dock of 300 cuts nothing off


class ParamsForm(QWidget):
    """A form for one stage's parameters.

    A control changes its own field only: what no control can show, such as a sixth decimal, is not
    lost.
    """

    changed = Signal(object)  # the new value, when the user has changed it

    def __init__(self, value: TrainingParams | SegmentationParams) -> None:
        super().__init__()
        self._value = value
        self.controls: dict[str, ValueWidget] = {}
        self.errors: dict[str, str] = {}
        self._defaults = type(value)().model_dump()  # which are shown in grey
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, info in type(value).model_fields.items():
            self._add(name, info, layout)
        self._show()

    @property
    def value(self) -> TrainingParams | SegmentationParams:
        """The parameters as they stand; setting them shows them."""
        return self._value

    @value.setter
    def value(self, value: TrainingParams | SegmentationParams) -> None:
        self._value = value
        self._show()

    def check(self) -> None:
        """Raise InputError if a control shows an invalid value, which is not in `value`."""
        for name, error in self.errors.items():
            control = self.controls[name]
            raise InputError(f"{control.label}: {control.value!r} does not fit. {error}")

    def _add(self, name: str, info: FieldInfo, layout: QFormLayout) -> None:
        control = make_control(name, info)
        control.changed.connect(lambda entry: self._change(name, entry))
        self.controls[name] = control
        control.native.setAccessibleName(control.label)
        control.native.setMinimumWidth(_NARROWEST)
        control.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        label = QLabel(control.label)
        label.setToolTip(control.tooltip)
        layout.addRow(label, control.native)

    def _show(self) -> None:
        for name, control in self.controls.items():
            with control.changed.blocked():
                control.value = as_shown(getattr(self._value, name))
            self._mark(name, "")

    def _change(self, name: str, entry: Any) -> None:
        """Put one control's entry into the parameters; mark the control if it is invalid."""
        info = type(self._value).model_fields[name]
        try:
            value = self._value.updated(**{name: as_value(info, entry)})
        except InputError as error:
            self._mark(name, str(error))
            return
        if not isinstance(entry, str) and getattr(value, name) != entry:  # rounded
            with self.controls[name].changed.blocked():
                self.controls[name].value = getattr(value, name)
        is_new, self._value = value != self._value, value
        self._mark(name, "")
        if is_new:
            self.changed.emit(value)

    def _mark(self, name: str, error: str) -> None:
        self.errors.pop(name, None)
        if error:
            self.errors[name] = error
        control = self.controls[name]
        description = type(self._value).model_fields[name].description
        control.native.setToolTip(error or description)
        is_default = getattr(self._value, name) == self._defaults[name]
        style = "color: gray;" if is_default else ""
        style = "border: 1px solid #d32f2f;" if error else style
        if control.native.styleSheet() != style:  # Qt takes its time, also for the same one
            control.native.setStyleSheet(style)


def make_control(name: str, info: FieldInfo) -> ValueWidget:
    """Return the magicgui widget for one field of a parameter model.

    Literals become a combo box, bool a check box, numbers a spin box with the field's limits and
    step, and whatever else (numbers or a word, lists) a line of text.
    """
    texts = {"name": name, "label": info.title or name, "tooltip": info.description}
    kind = info.annotation
    if get_origin(kind) is Literal:
        return ComboBox(choices=get_args(kind), **texts)
    if kind is bool:
        box = CheckBox(**texts)
        box.text = " "  # the label stands beside it
        return box
    if kind not in (int, float):
        return LineEdit(**texts)
    # A spin box without a step has two decimals, and shows 0.001 as 0.00.
    extra = info.json_schema_extra
    step = extra.get("step", 1) if isinstance(extra, dict) else 1
    step = _limit(info, "multiple_of") or step
    spin_box = SpinBox if kind is int else FloatSpinBox
    control = spin_box(min=_limit(info, "ge"), max=_limit(info, "le"), step=step, **texts)
    if isinstance(control.native, QAbstractSpinBox):
        control.native.setKeyboardTracking(False)  # the user who types 128 does not mean 1 or 12
    ignore_wheel(control.native)
    return control


def _limit(info: FieldInfo, name: str) -> Any:
    return next((getattr(m, name) for m in info.metadata if hasattr(m, name)), None)


def as_shown(value: Any) -> Any:
    """Return what a control shows for a value: text for what only a line of text can hold.

    Examples
    --------
    >>> as_shown((0, 2)), as_shown(None), as_shown(True)
    ('0, 2', 'all', True)
    """
    if value is None:
        return "all"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def as_value(info: FieldInfo, entry: Any) -> Any:
    """Return the value of an entry in a control, for the parameter model to check.

    A whole number that has to be a multiple is rounded to the nearest. Of text, the word for
    "none given" and lists of numbers are understood; anything else goes to the model as it is.
    """
    if multiple := _limit(info, "multiple_of"):
        return round(entry / multiple) * multiple
    kinds = get_args(info.annotation)
    if not isinstance(entry, str) or get_origin(info.annotation) is Literal:
        return entry
    text = entry.strip()
    if NoneType in kinds:
        if text.lower() in ("", "all", "none"):
            return None
        parts = [part.strip() for part in text.strip("()[]").split(",")]
        return tuple(int(part) if part.isdigit() else part for part in parts if part)
    try:
        return float(text)
    except ValueError:
        return text.lower()
