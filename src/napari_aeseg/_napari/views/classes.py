"""The list of classes: their number, names and colours, and which objects are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_aeseg._napari.views.widgets import Form, NumberSlider, fill_column, push_button

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState

_MOST_CLASSES = 30
_SWATCH = 18  # pixels
_N_TIP = (
    "How many classes. With one more, one class is split: the smaller part is the new class, all "
    "others keep number, name and colour."
)
_FIXED_TIP = (
    "Store these classes in the model: class 3 is then the same in every image, slice, time point "
    "and file, also after the model is saved and loaded. Uncheck it to change their number."
)


class ClassRow(QWidget):
    """One class: whether objects are made of it, its colour, its name."""

    renamed = Signal(int, str)  # class, name
    recolored = Signal(int, str)  # class, "#rrggbb"
    checked = Signal()

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self.color = ""
        self.box = QCheckBox()
        self.box.setToolTip("Detect objects in the classes that are checked.")
        self.box.setAccessibleName(f"Detect objects in class {number}")
        self.box.clicked.connect(lambda *_: self.checked.emit())
        self.swatch = push_button("", "Choose another colour.", f"Colour of class {number}")
        self.swatch.setFixedSize(_SWATCH, _SWATCH)
        self.swatch.clicked.connect(self._ask_color)
        self.name = QLineEdit()
        self.name.setToolTip("The name of this class, for tables and kept layers.")
        self.name.setAccessibleName(f"Name of class {number}")
        self.name.setPlaceholderText(f"class {number}")  # what tables have without a name
        self.name.editingFinished.connect(lambda: self.renamed.emit(number, self.name.text()))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.box, self.swatch, self.name):
            layout.addWidget(widget)

    def show_class(self, name: str, color: str, checked: bool | None) -> None:
        """Show a class; `checked` is None where there is nothing to check."""
        if color != self.color:  # a style sheet takes longer than all the rest
            self.color = color
            self.swatch.setStyleSheet(f"background: {color}; border: none; border-radius: 2px;")
        if not self.name.hasFocus():
            self.name.setText("" if name == self.name.placeholderText() else name)
        self.box.setVisible(checked is not None)
        self.box.setChecked(bool(checked))

    def _ask_color(self, *_: Any) -> None:
        title = f"Colour of {self.name.text() or self.name.placeholderText()}"
        color = QColorDialog.getColor(QColor(self.color), self, title)
        if color.isValid():
            self.recolored.emit(self._number, color.name())


class ClassesPanel(QWidget):
    """How many classes, whether they are fixed, and a row for each, class 1 on top.

    It is shown under objects as well, where these are detected in classes.
    """

    renamed = Signal(int, str)
    recolored = Signal(int, str)
    fixed = Signal(bool)

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.rows: list[ClassRow] = []
        self.n_classes = NumberSlider(1, _MOST_CLASSES)
        self.n_classes.changed.connect(lambda n: state.change_cut(n_classes=int(n)))
        self.fix_box = QCheckBox("Same classes in every image")
        self.fix_box.setToolTip(_FIXED_TIP)
        self.fix_box.clicked.connect(self._fix)
        form = Form()
        form.add("Classes", self.n_classes, _N_TIP)
        self._row_layout = QVBoxLayout()
        self._row_layout.setContentsMargins(0, 0, 0, 0)
        self._row_layout.setSpacing(2)
        fill_column(self, form, self._row_layout, self.fix_box)
        state.on("cut", "classes", "images", "shown", "results", draw=self._draw)

    def _draw(self) -> None:
        is_fixed = self._state.classes.prototypes is not None
        has_result = bool(self._state.hierarchies)
        self.n_classes.set_range(1, max(_MOST_CLASSES, self._state.n_classes))
        self.n_classes.value = self._state.n_classes
        self.n_classes.setEnabled(has_result and not is_fixed)
        self.fix_box.setChecked(is_fixed)
        self.fix_box.setEnabled(has_result or is_fixed)
        self._draw_rows()

    def _draw_rows(self) -> None:
        state, number = self._state, self._state.n_classes
        while len(self.rows) < number:  # rows are kept: a name may just be typed into one
            self._add_row()
        names, colors = state.classes.names_of(number), state.classes.colors_of(number)
        checked = (state.cut.class_ids or ()) if state.cut.mode == "objects" else None
        for i, row in enumerate(self.rows):
            row.setVisible(i < number)
            row.setEnabled(bool(state.hierarchies))
            if i < number:
                is_checked = None if checked is None else i + 1 in checked
                row.show_class(names[i], colors[i], is_checked)
            else:
                row.box.setChecked(False)

    def _add_row(self) -> None:
        row = ClassRow(len(self.rows) + 1)
        row.renamed.connect(self.renamed.emit)
        row.recolored.connect(self.recolored.emit)
        row.checked.connect(self._choose_checked)
        self.rows.append(row)
        self._row_layout.addWidget(row)

    def _fix(self, on: bool) -> None:
        self.fixed.emit(on)
        self._draw()  # it may have been refused

    def _choose_checked(self) -> None:
        checked = tuple(i for i, row in enumerate(self.rows, 1) if row.box.isChecked())
        self._state.change_cut(class_ids=checked or None)
