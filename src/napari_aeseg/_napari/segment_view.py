"""Third section of the dock: segment, and the controls that the preview follows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_aeseg._napari.controls import NumberSlider, heading
from napari_aeseg._napari.forms import ParamsForm
from napari_aeseg._napari.tuning import MODES, Cut, most_patches
from napari_aeseg.params import SegmentationParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg._napari.tuning import Mode
    from napari_aeseg.regions.hierarchy import Hierarchy

_MODE_TIPS = {
    "regions": "Connected segments: every part of the image that hangs together has its own label.",
    "classes": "The same texture has the same label wherever it is in the image.",
    "objects": "Separate things such as nuclei, cells or particles that stand out of what is "
    "around them, each with a label of its own; 0 is background.",
}
_TIPS = {
    "n_regions": "How many regions. The slider is logarithmic, and the suggested number is marked.",
    "threshold": "How different neighbours may be and still merge: 0 leaves every patch on its "
    "own, 1 gives one region. The same threshold asks for the same difference in every image.",
    "n_classes": "How many classes, numbered from dark to bright.",
    "min_size": "Pixels of the smallest object; 'auto' leaves out what is too small and faint "
    "beside the others.",
    "balance": str(SegmentationParams.model_fields["balance"].description),
    "scale": str(SegmentationParams.model_fields["scale"].description),
}
_MOST_CLASSES = 30
_LARGEST_MIN_SIZE = 10_000  # pixels, at the end of the slider
_AUTO_MIN_SIZE = 15  # where that slider stands while "auto" is chosen
_COARSEST = 1000  # patches averaged over, at the end of the slider
_AUTO_START = 16  # where the scale slider stands while "auto" is chosen


class SegmentView(QWidget):
    """Buttons and controls for segmenting and for the cut that is shown.

    The signals tell of changes by the user; showing a value sends none.
    """

    cut_changed = Signal(object)  # Cut
    weights_changed = Signal(float, object)  # balance, scale

    def __init__(self) -> None:
        super().__init__()
        self.form = ParamsForm(SegmentationParams(), exclude=("balance", "scale"))
        self.cut = Cut()
        self._make_buttons()
        self._make_cut_controls()
        self._make_weights()
        self._lay_out()
        self.show_cut(self.cut, [])
        self.show_weights(self.form.value.balance, self.form.value.scale)

    def _make_buttons(self) -> None:
        self.segment_button = QPushButton("Segment")
        self.segment_button.setToolTip(
            "Segment the checked images with the model; without a model, one is trained first."
        )
        self.keep_button = QPushButton("Keep")
        self.keep_button.setToolTip(
            "Copy what the preview shows to a new Labels layer, with measurements of every "
            "segment. It is hidden under the preview, and the preview goes on."
        )
        self.suggest_button = QPushButton("Suggest")
        self.suggest_button.setToolTip(
            "Take the number of regions at which the cost of merging jumps, for each image."
        )
        self.suggest_button.clicked.connect(lambda: self._change(n_regions=None, threshold=None))
        self.modes: dict[Mode, QRadioButton] = {}
        self._mode_group = QButtonGroup(self)
        for mode in MODES:
            button = QRadioButton(mode.capitalize())
            button.setToolTip(_MODE_TIPS[mode])
            button.clicked.connect(lambda _, mode=mode: self._change(mode=mode))
            self._mode_group.addButton(button)
            self.modes[mode] = button

    def _make_cut_controls(self) -> None:
        self.n_regions = NumberSlider(1, 1)
        self.n_regions.changed.connect(lambda n: self._change(n_regions=int(n), threshold=None))
        self.threshold = NumberSlider(0, 1, decimals=3, logarithmic=False)
        self.threshold.changed.connect(lambda t: self._change(n_regions=None, threshold=t))
        self.n_classes = NumberSlider(1, _MOST_CLASSES)
        self.n_classes.changed.connect(lambda n: self._change(n_classes=int(n)))

        self.min_size = NumberSlider(1, _LARGEST_MIN_SIZE)
        self.min_size.changed.connect(lambda n: self._change(min_size=int(n)))
        self.auto_min_size = QCheckBox("auto")
        self.auto_min_size.setToolTip("Learn it from the image.")
        self.auto_min_size.clicked.connect(
            lambda auto: self._change(min_size=None if auto else int(self.min_size.value))
        )

    def _make_weights(self) -> None:
        self.balance = NumberSlider(0, 1, decimals=2, logarithmic=False)
        self.balance.changed.connect(lambda b: self._weigh(b, self._weights[1]))
        self.scale = NumberSlider(1, _COARSEST, decimals=1)
        self.scale.changed.connect(lambda s: self._weigh(self._weights[0], s))
        self.auto_scale = QCheckBox("auto")
        self.auto_scale.setToolTip("Choose the scale from the image.")
        self.auto_scale.clicked.connect(
            lambda auto: self._weigh(self._weights[0], "auto" if auto else self.scale.value)
        )

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("3  Segments"))
        layout.addWidget(_in_a_row(self.segment_button, self.keep_button))
        layout.addWidget(_in_a_row(*self.modes.values()))
        self._rows = QFormLayout()
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout.addLayout(self._rows)
        for name, text in (
            ("n_regions", "Regions"),
            ("threshold", "Threshold"),
            ("n_classes", "Classes"),
        ):
            self._add_row(name, text, getattr(self, name))
        self._rows.insertRow(2, "", self.suggest_button)
        self._min_size_row = _in_a_row(self.auto_min_size, self.min_size)
        self._add_row("min_size", "Min. size", self._min_size_row)
        self.min_size.describe("Min. size", _TIPS["min_size"])
        self._add_row("balance", "Texture", self.balance)
        self._scale_row = _in_a_row(self.auto_scale, self.scale)
        self._add_row("scale", "Scale", self._scale_row)
        self.scale.describe("Scale", _TIPS["scale"])

    def _add_row(self, name: str, text: str, control: QWidget) -> None:
        label = QLabel(text)
        label.setToolTip(_TIPS[name])
        if isinstance(control, NumberSlider):
            control.describe(text, _TIPS[name])
        self._rows.addRow(label, control)

    @property
    def params(self) -> SegmentationParams:
        """All parameters, those with sliders included."""
        balance, scale = self._weights
        return self.form.value.but(balance=balance, scale=scale)

    @params.setter
    def params(self, params: SegmentationParams) -> None:
        self.form.value = params
        self.show_weights(params.balance, params.scale)

    def show_weights(self, balance: float, scale: float | Literal["auto"]) -> None:
        """Show how patches are compared."""
        self._weights = (balance, scale)
        self.balance.value = balance
        self.auto_scale.setChecked(scale == "auto")
        self.scale.setEnabled(scale != "auto")
        self.scale.set_range(1, max(_COARSEST, 0 if scale == "auto" else scale))
        self.scale.value = _AUTO_START if scale == "auto" else scale

    def show_cut(self, cut: Cut, hierarchies: Sequence[Hierarchy]) -> None:
        """Show a cut; what depends on an image is that of the first of `hierarchies`."""
        self.cut = cut
        self.modes[cut.mode].setChecked(True)
        for control, mode in (
            (self.n_regions, "regions"),
            (self.threshold, "regions"),
            (self.n_classes, "classes"),
            (self._min_size_row, "objects"),
        ):
            control.setVisible(cut.mode == mode)
            self._rows.labelForField(control).setVisible(cut.mode == mode)
            control.setEnabled(bool(hierarchies))
        for control in (self.balance, self._scale_row):  # objects do not depend on them
            control.setVisible(cut.mode != "objects")
            self._rows.labelForField(control).setVisible(cut.mode != "objects")
        self.suggest_button.setVisible(cut.mode == "regions")
        self.suggest_button.setEnabled(bool(hierarchies))
        self.auto_min_size.setChecked(cut.min_size is None)
        self.min_size.setEnabled(cut.min_size is not None)
        self.min_size.set_range(1, max(_LARGEST_MIN_SIZE, cut.min_size or 0))
        self.min_size.value = cut.min_size or _AUTO_MIN_SIZE
        self.n_classes.set_range(1, max(_MOST_CLASSES, cut.n_classes))
        self.n_classes.value = cut.n_classes
        self.n_regions.set_range(1, most_patches(hierarchies))
        self._show_suggestion(hierarchies)
        if hierarchies:
            self.n_regions.value = cut.n_regions or cut.regions_in(hierarchies[0])
            self.threshold.value = cut.threshold_in(hierarchies[0])

    def _show_suggestion(self, hierarchies: Sequence[Hierarchy]) -> None:
        suggested = hierarchies[0].suggest_n_regions() if hierarchies else None
        self.n_regions.set_mark(suggested)
        self.suggest_button.setText("Suggest" if suggested is None else f"Suggested: {suggested}")

    def _change(self, **changes: Any) -> None:
        self.cut_changed.emit(replace(self.cut, **changes))

    def _weigh(self, balance: float, scale: float | Literal["auto"]) -> None:
        self.show_weights(balance, scale)
        self.weights_changed.emit(balance, scale)


def _in_a_row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, stretch=0 if isinstance(widget, QCheckBox) else 1)
    return row
