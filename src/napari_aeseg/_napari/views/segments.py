"""Third section of the dock: segment, and the controls that the preview follows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_aeseg._napari.tuning import MODES, Cut
from napari_aeseg._napari.views.classes import ClassesPanel
from napari_aeseg._napari.views.panels import (
    Form,
    MarkersPanel,
    ObjectsPanel,
    RegionsPanel,
    in_a_row,
)
from napari_aeseg._napari.views.params_form import ParamsForm
from napari_aeseg._napari.views.widgets import NumberSlider, heading
from napari_aeseg.params import ComparisonParams, SegmentationParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg._napari.tuning import Mode
    from napari_aeseg.regions.hierarchy import Hierarchy

_MODE_TIPS = {
    "regions": "Connected segments: every part of the image that hangs together has its own label.",
    "classes": "The same texture has the same label wherever it is in the image.",
    "objects": "Separate things such as nuclei, cells or particles that stand out of what is "
    "around them, each with a label of its own; 0 is background.",
    "markers": "Paint a few strokes; every colour grows into one segment.",
}
_COARSEST = 1000  # patches averaged over, at the end of the slider
_AUTO_START = 16  # where the scale slider stands while nobody knows what "auto" chooses


class SegmentView(QWidget):
    """Buttons and controls for segmenting and for the cut that is shown.

    The signals tell of changes by the user; showing a value sends none.
    """

    cut_changed = Signal(object)  # Cut
    comparison_changed = Signal(object)  # ComparisonParams

    def __init__(self) -> None:
        super().__init__()
        self.form = ParamsForm(SegmentationParams())
        self.cut = Cut()
        self.regions, self.classes = RegionsPanel(), ClassesPanel()
        self.objects, self.markers = ObjectsPanel(), MarkersPanel()
        for panel in (self.regions, self.classes, self.objects):
            panel.changed.connect(lambda fields: self._change(**fields))
        self._make_buttons()
        self._make_comparison()
        self._lay_out()
        self.show_cut(self.cut, [])
        self.show_comparison(ComparisonParams())

    def _make_buttons(self) -> None:
        self.segment_button = QPushButton("Segment")
        self.segment_button.setToolTip(
            "Segment the checked images with the model; without one of your own, with the base "
            "model that comes with the plugin."
        )
        self.keep_button = QPushButton("Keep")
        self.keep_button.setToolTip(
            "Copy what the preview shows to a new Labels layer, with measurements of every "
            "segment. It is hidden under the preview, and the preview goes on."
        )
        self.open_button = QPushButton("Open…")
        self.open_button.setAccessibleName("Open a segmentation")
        self.open_button.setToolTip(
            "Open a segmentation that was saved (a folder *.aeseg.zarr), and go on tuning it. It "
            "is shown on its image if that is open."
        )
        self.save_button = QPushButton("Save…")
        self.save_button.setAccessibleName("Save the segmentation")
        self.save_button.setToolTip(
            "Write all possible segmentations of the image to a folder (*.aeseg.zarr), to go on "
            "tuning another day without segmenting again. Keep is for what is shown now."
        )
        self.apply_button = QPushButton("Apply to all open images")
        self.apply_button.setToolTip(
            "Segment every open image like this one: same model, same cut, same classes."
        )
        self.modes: dict[Mode, QRadioButton] = {}
        self._mode_group = QButtonGroup(self)
        for mode in MODES:
            button = QRadioButton(mode.capitalize())
            button.setToolTip(_MODE_TIPS[mode])
            button.clicked.connect(lambda _, mode=mode: self._change(mode=mode))
            self._mode_group.addButton(button)
            self.modes[mode] = button

    def _make_comparison(self) -> None:
        self.balance = NumberSlider(0, 1, decimals=2, logarithmic=False)
        self.balance.changed.connect(lambda balance: self._compare(balance=balance))
        self.scale = NumberSlider(1, _COARSEST, decimals=1)
        self.scale.changed.connect(lambda scale: self._compare(scale=scale))
        self.auto_scale = QCheckBox("auto")
        self.auto_scale.setToolTip("Choose the scale from the image.")
        self.auto_scale.setAccessibleName("Automatic scale")
        self.auto_scale.clicked.connect(
            lambda auto: self._compare(scale="auto" if auto else self.scale.value)
        )
        fields = ComparisonParams.model_fields
        form = Form()
        form.add("Balance", self.balance, str(fields["balance"].description))
        row = in_a_row(self.auto_scale, self.scale)
        form.add("Smoothing scale", self.scale, str(fields["scale"].description), row)
        self._comparison_part = QWidget()
        self._comparison_part.setLayout(form)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("3  Segments"))
        layout.addWidget(in_a_row(self.segment_button, self.keep_button))
        layout.addWidget(in_a_row(self.open_button, self.save_button))
        first, second = MODES[:2], MODES[2:]
        layout.addWidget(in_a_row(*(self.modes[mode] for mode in first)))
        layout.addWidget(in_a_row(*(self.modes[mode] for mode in second)))
        for part in (
            self.regions,
            self.objects,
            self.classes,
            self.markers,
            self._comparison_part,
            self.apply_button,
        ):
            layout.addWidget(part)

    @property
    def params(self) -> SegmentationParams:
        """How images are cut into patches and encoded."""
        return self.form.value

    @params.setter
    def params(self, params: SegmentationParams) -> None:
        self.form.value = params

    def show_comparison(self, comparison: ComparisonParams, chosen: float | None = None) -> None:
        """Show how patches are compared; `chosen` is the scale that "auto" took."""
        self.comparison, scale = comparison, comparison.scale
        self.balance.value = comparison.balance
        self.auto_scale.setChecked(scale == "auto")
        self.scale.setEnabled(scale != "auto")
        shown = (chosen or _AUTO_START) if scale == "auto" else scale
        self.scale.set_range(1, max(_COARSEST, shown))
        self.scale.value = shown

    def show_cut(self, cut: Cut, hierarchies: Sequence[Hierarchy]) -> None:
        """Show a cut; what depends on an image is that of the first of `hierarchies`."""
        self.cut = cut
        self.modes[cut.mode].setChecked(True)
        made_of_classes = cut.mode == "objects" and cut.class_ids is not None
        self.regions.setVisible(cut.mode == "regions")
        self.classes.setVisible(cut.mode == "classes" or made_of_classes)
        self.objects.setVisible(cut.mode == "objects")
        self.markers.setVisible(cut.mode == "markers")
        # Objects that stand out do not depend on how patches are compared.
        self._comparison_part.setVisible(cut.mode != "objects" or made_of_classes)
        for panel in (self.regions, self.classes, self.objects, self.markers):
            panel.show_cut(cut, hierarchies)
        if hierarchies:
            self.show_comparison(self.comparison, hierarchies[0].descriptor.scale)

    def _change(self, **changes: Any) -> None:
        self.cut_changed.emit(replace(self.cut, **changes))

    def _compare(self, **changes: object) -> None:
        self.show_comparison(self.comparison.updated(**changes))
        self.comparison_changed.emit(self.comparison)
