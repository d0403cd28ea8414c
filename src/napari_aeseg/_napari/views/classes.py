"""The list of classes: names, colours, and which of them objects are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_aeseg._napari.views.panels import Form
from napari_aeseg._napari.views.widgets import NumberSlider

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg.regions.hierarchy import Hierarchy

_MOST_CLASSES = 30
_SWATCH = 18  # pixels
_N_TIP = "How many classes, numbered from dark to bright."
_FIXED_TIP = (
    "Keep these classes with the model: class 3 is then the same in every image, slice, time point "
    "and file, also after the model is saved and loaded. Untick it to change their number."
)


class ClassRow(QWidget):
    """One class: whether it is foreground, its colour, its name."""

    def __init__(self, number: int, owner: ClassList) -> None:
        super().__init__()
        self.box = QCheckBox()
        self.box.setToolTip("Objects are made of the classes that are checked.")
        self.box.setAccessibleName(f"Class {number} is foreground")
        self.box.clicked.connect(lambda *_: owner.checked.emit(owner.foreground))
        self.swatch = QPushButton()
        self.swatch.setFixedSize(_SWATCH, _SWATCH)
        self.swatch.setToolTip("Choose another colour.")
        self.swatch.setAccessibleName(f"Colour of class {number}")
        self.swatch.clicked.connect(lambda *_: self._ask_color(owner, number))
        self.name = QLineEdit()
        self.name.setToolTip("What this class is, for the table and for layers that are kept.")
        self.name.setAccessibleName(f"Name of class {number}")
        self.name.editingFinished.connect(lambda: owner.renamed.emit(number, self.name.text()))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.box, self.swatch, self.name):
            layout.addWidget(widget)

    def show_class(self, name: str, color: str, checked: bool | None) -> None:
        """Show it; `checked` is None where there is nothing to check."""
        self.color = color
        self.swatch.setStyleSheet(f"background: {color}; border: none; border-radius: 2px;")
        if not self.name.hasFocus():
            self.name.setText(name)
        self.box.setVisible(checked is not None)
        self.box.setChecked(bool(checked))

    def _ask_color(self, owner: ClassList, number: int) -> None:
        title = f"Colour of {self.name.text()}"
        color = QColorDialog.getColor(QColor(self.color), self, title)
        if color.isValid():
            owner.recolored.emit(number, color.name())


class ClassList(QWidget):
    """A row for each class, 1 on top."""

    renamed = Signal(int, str)  # class, name
    recolored = Signal(int, str)  # class, "#rrggbb"
    checked = Signal(tuple)  # classes

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[ClassRow] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)

    @property
    def foreground(self) -> tuple[int, ...]:
        """The classes that are checked."""
        return tuple(i for i, row in enumerate(self.rows, 1) if row.box.isChecked())

    def show_classes(
        self, names: Sequence[str], colors: Sequence[str], checked: Sequence[int] | None
    ) -> None:
        """Show classes 1, 2, ...; `checked` is None where there is nothing to check."""
        while len(self.rows) < len(names):  # rows are kept: a name may just be typed into one
            self.rows.append(ClassRow(len(self.rows) + 1, self))
            self.layout().addWidget(self.rows[-1])
        for number, row in enumerate(self.rows, 1):
            row.setVisible(number <= len(names))
            if number > len(names):
                row.box.setChecked(False)
                continue
            is_checked = None if checked is None else number in checked
            row.show_class(names[number - 1], colors[number - 1], is_checked)


class ClassesPanel(QWidget):
    """How many classes, and whether they are fixed; the list is shown under objects as well."""

    changed = Signal(dict)
    fixed = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.n_classes = NumberSlider(1, _MOST_CLASSES)
        self.n_classes.changed.connect(lambda n: self.changed.emit({"n_classes": int(n)}))
        self.list = ClassList()
        self.list.checked.connect(lambda ids: self.changed.emit({"class_ids": ids or None}))
        self.fix_box = QCheckBox("Same classes in every image")
        self.fix_box.setToolTip(_FIXED_TIP)
        self.fix_box.clicked.connect(self.fixed.emit)
        form = Form()
        form.add("Classes", self.n_classes, _N_TIP)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.list)
        layout.addWidget(self.fix_box)

    def show_cut(self, cut: Cut, hierarchies: Sequence[Hierarchy]) -> None:
        """Show a cut."""
        self.n_classes.set_range(1, max(_MOST_CLASSES, cut.n_classes))
        if not self.fix_box.isChecked():
            self.n_classes.value = cut.n_classes
        self.n_classes.setEnabled(bool(hierarchies) and not self.fix_box.isChecked())
        self.list.setEnabled(bool(hierarchies))
        self.fix_box.setEnabled(bool(hierarchies) or self.fix_box.isChecked())

    def show_classes(
        self,
        names: Sequence[str],
        colors: Sequence[str],
        fixed: bool,
        checked: Sequence[int] | None,
    ) -> None:
        """Show the classes; `fixed` when they are kept with the model."""
        self.fix_box.setChecked(fixed)
        if fixed:
            self.n_classes.value = len(names)
        self.list.show_classes(names, colors, checked)
