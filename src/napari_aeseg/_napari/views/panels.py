"""What the dock shows for each mode: the controls of regions, objects and markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_aeseg._napari.tuning import most_patches
from napari_aeseg._napari.views.widgets import NumberSlider, WrappedLabel, ignore_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg.regions.hierarchy import Hierarchy

_TIPS = {
    "n_regions": "How many regions. The slider is logarithmic, and the suggested number is marked.",
    "threshold": "How different neighbours may be and still merge: 0 leaves every patch on its "
    "own, 1 gives one region. The same threshold asks for the same difference in every image.",
    "min_size": "Area of the smallest object in pixels; 'auto' leaves out what is too small and "
    "faint beside the others.",
    "foreground": "What objects are made of: whatever stands out from what is around it, or the "
    "classes that are checked in the list of classes.",
    "merge": "Drag from one region of the preview to another, or click the one and then the "
    "other: they become one. It stays so while the sliders move.",
    "split": "Click a region of the preview: it comes apart where its two halves were merged last.",
}
_LARGEST_MIN_SIZE = 10_000  # pixels, at the end of the slider
_AUTO_MIN_SIZE = 15  # where that slider stands while "auto" is chosen


def in_a_row(*widgets: QWidget) -> QWidget:
    """Return the widgets side by side; check boxes take no more room than they need."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, stretch=0 if isinstance(widget, QCheckBox) else 1)
    return row


class Form(QFormLayout):
    """Rows of a label and a control, both with the same tooltip."""

    def __init__(self) -> None:
        super().__init__()
        self.setContentsMargins(0, 0, 0, 0)
        self.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)

    def add(self, text: str, control: QWidget, tip: str, row: QWidget | None = None) -> None:
        """Add a control; `row` is what it stands in when it is not alone."""
        label = QLabel(text)
        label.setToolTip(tip)
        if isinstance(control, NumberSlider):
            control.describe(text, tip)
        else:
            control.setToolTip(tip)
            control.setAccessibleName(text)
        self.addRow(label, row or control)


class RegionsPanel(QWidget):
    """How many regions, and the tools to correct them."""

    changed = Signal(dict)  # fields of the cut
    tool_chosen = Signal(object)  # "merge", "split" or None

    def __init__(self) -> None:
        super().__init__()
        self.n_regions = NumberSlider(1, 1)
        self.n_regions.changed.connect(lambda n: self._change(int(n), None))
        self.threshold = NumberSlider(0, 1, decimals=3, logarithmic=False)
        self.threshold.changed.connect(lambda t: self._change(None, t))
        self.suggest_button = QPushButton("Suggest")
        self.suggest_button.setToolTip(
            "Take the number of regions at which the cost of merging jumps, for each image."
        )
        self.suggest_button.clicked.connect(lambda: self._change(None, None))
        self.tools = {name: QPushButton(name.capitalize()) for name in ("merge", "split")}
        for name, button in self.tools.items():
            button.setCheckable(True)
            button.setToolTip(_TIPS[name])
            button.clicked.connect(
                lambda on, name=name: self.tool_chosen.emit(name if on else None)
            )
        self.undo_button = QPushButton("Undo")
        self.undo_button.setToolTip("Take back the last merge or split (Ctrl+Z on the preview).")
        self.redo_button = QPushButton("Redo")
        self.redo_button.setToolTip("Do it again (Ctrl+Shift+Z on the preview).")
        form = Form()
        form.add("Regions", self.n_regions, _TIPS["n_regions"])
        form.add("Threshold", self.threshold, _TIPS["threshold"])
        form.addRow("", self.suggest_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(in_a_row(*self.tools.values(), self.undo_button, self.redo_button))

    def show_cut(self, cut: Cut, hierarchies: Sequence[Hierarchy]) -> None:
        """Show a cut; what depends on an image is that of the first of `hierarchies`."""
        for control in (self.n_regions, self.threshold, self.suggest_button, *self.tools.values()):
            control.setEnabled(bool(hierarchies))
        self.n_regions.set_range(1, most_patches(hierarchies))
        suggested = hierarchies[0].suggest_n_regions() if hierarchies else None
        self.n_regions.set_mark(suggested)
        self.suggest_button.setText("Suggest" if suggested is None else f"Suggested: {suggested}")
        if hierarchies:
            self.n_regions.value = cut.n_regions or cut.regions_in(hierarchies[0])
            self.threshold.value = cut.threshold_in(hierarchies[0])

    def show_tool(self, tool: str | None) -> None:
        """Show which tool is in hand."""
        for name, button in self.tools.items():
            button.setChecked(name == tool)

    def show_edits(self, done: int, undone: int) -> None:
        """Show how many edits can be taken back and done again."""
        self.undo_button.setEnabled(done > 0)
        self.undo_button.setText(f"Undo ({done})" if done else "Undo")
        self.redo_button.setEnabled(undone > 0)

    def _change(self, n_regions: int | None, threshold: float | None) -> None:
        self.changed.emit({"n_regions": n_regions, "threshold": threshold})


class ObjectsPanel(QWidget):
    """The smallest object, what objects are made of, and how many there are."""

    changed = Signal(dict)
    made_of_classes = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.min_size = NumberSlider(1, _LARGEST_MIN_SIZE)
        self.min_size.changed.connect(lambda n: self.changed.emit({"min_size": int(n)}))
        self.auto_min_size = QCheckBox("auto")
        self.auto_min_size.setToolTip("Learn it from the image.")
        self.auto_min_size.setAccessibleName("Automatic minimum size")
        self.auto_min_size.clicked.connect(
            lambda auto: self.changed.emit({"min_size": None if auto else int(self.min_size.value)})
        )
        self.foreground = QComboBox()
        self.foreground.addItems(["whatever stands out", "classes that are checked"])
        self.foreground.activated.connect(lambda index: self.made_of_classes.emit(bool(index)))
        ignore_wheel(self.foreground)
        self.number = WrappedLabel()
        form = Form()
        row = in_a_row(self.auto_min_size, self.min_size)
        form.add("Min. size", self.min_size, _TIPS["min_size"], row)
        form.add("Made of", self.foreground, _TIPS["foreground"])
        form.addRow(self.number)
        self.setLayout(form)

    def show_cut(self, cut: Cut, hierarchies: Sequence[Hierarchy]) -> None:
        """Show a cut."""
        self.setEnabled(bool(hierarchies))
        self.auto_min_size.setChecked(cut.min_size is None)
        self.min_size.setEnabled(cut.min_size is not None)
        self.min_size.set_range(1, max(_LARGEST_MIN_SIZE, cut.min_size or 0))
        self.min_size.value = cut.min_size or _AUTO_MIN_SIZE
        self.foreground.setCurrentIndex(0 if cut.class_ids is None else 1)

    def show_number(self, number: int | None) -> None:
        """Say how many objects are shown; None while they are looked for."""
        texts = {None: "", 0: "No object is found. Try a smaller size.", 1: "1 object"}
        self.number.setText(texts.get(number, f"{number} objects"))


class MarkersPanel(QWidget):
    """Says how to steer by strokes."""

    asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.button = QPushButton("Paint strokes")
        self.button.setToolTip(
            "Take the strokes layer of the image in hand, or make one: a Labels layer of its own."
        )
        self.button.clicked.connect(lambda *_: self.asked.emit())
        self.hint = WrappedLabel(
            "Each colour becomes one segment: a few strokes in every part are enough. "
            "M takes a new colour, 1 erases, 2 paints."
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.hint)

    def show_cut(self, cut: Any, hierarchies: Sequence[Hierarchy]) -> None:
        """Show whether there is anything to paint on."""
        self.setEnabled(bool(hierarchies))
