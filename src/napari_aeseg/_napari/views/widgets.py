"""Small Qt controls, and the form that lays them out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent, QPainter, QPalette, QPen
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QStyle,
    QStyleOptionSlider,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

_LEFT, _RIGHT = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
_STEPS = 1000  # positions of a slider
_STEPS_OF_KEYS = {
    Qt.Key.Key_Left: -1,
    Qt.Key.Key_Down: -1,
    Qt.Key.Key_Right: 1,
    Qt.Key.Key_Up: 1,
    Qt.Key.Key_PageDown: -10,
    Qt.Key.Key_PageUp: 10,
}
_FOLD_MARGIN = 16  # pixels beside the title
_LEAST_HEIGHT = 220  # pixels that a dock below leaves to this one
_NUMBER_WIDTH = 96  # pixels: five digits between napari's buttons for less and more


class _WheelFilter(QObject):
    """Passes the mouse wheel on to the scroll area, unless the control was clicked before."""

    def eventFilter(self, control: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and not control.hasFocus():
            event.ignore()
            return True
        return False


def ignore_wheel(control: QWidget) -> None:
    """Keep scrolling the dock from turning values that happen to lie under the pointer."""
    control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    control.installEventFilter(_WheelFilter(control))


def heading(text: str) -> QLabel:
    """Return a line that opens a section."""
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def push_button(text: str, tip: str, name: str = "") -> QPushButton:
    """Return a button; screen readers read `name` where the text says too little."""
    button = QPushButton(text)
    button.setToolTip(tip)
    if name:
        button.setAccessibleName(name)
    return button


def choice_box(texts: Mapping[Any, str]) -> QComboBox:
    """Return a combo box with a text for each value, which is the data of its item."""
    box = QComboBox()
    for value, text in texts.items():
        box.addItem(text, value)
    ignore_wheel(box)
    return box


def fill_column(parent: QWidget, *parts: QWidget | QLayout) -> QVBoxLayout:
    """Lay widgets and layouts out in a widget, one below the other, without a margin."""
    column = QVBoxLayout(parent)
    column.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        if isinstance(part, QWidget):
            column.addWidget(part)
        else:
            column.addLayout(part)
    return column


def in_a_row(*widgets: QWidget, spacing: int | None = None) -> QWidget:
    """Return the widgets side by side; check boxes take no more room than they need."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    if spacing is not None:
        layout.setSpacing(spacing)
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
        """Add a control; `row` is the widget that holds it when it is not alone."""
        label = QLabel(text)
        label.setToolTip(tip)
        text = text.replace("\n", " ")
        if isinstance(control, NumberSlider):
            control.describe(text, tip)
        else:
            control.setToolTip(tip)
            control.setAccessibleName(text)
        self.addRow(label, row or control)


class WrappedLabel(QLabel):
    """A label that breaks its lines instead of widening the dock, and takes the height it needs."""

    def __init__(self, text: str = "", least_lines: int = 0) -> None:
        super().__init__(text)
        self._least_lines = least_lines  # of height, also without a text
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    # A scroll area does not ask for the height at a width: the hint is for the present width.
    def hasHeightForWidth(self) -> bool:
        return False

    def sizeHint(self) -> QSize:
        least = self._least_lines * self.fontMetrics().lineSpacing()
        return QSize(0, max(self.heightForWidth(max(self.width(), 100)), least))

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def resizeEvent(self, event: QEvent) -> None:
        super().resizeEvent(event)
        self.updateGeometry()


class Scroll(QScrollArea):
    """Scrolls its content where there is too little room, and keeps it as wide as without a bar."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        content.installEventFilter(self)

    def sizeHint(self) -> QSize:
        return self.widget().sizeHint()

    def minimumSizeHint(self) -> QSize:
        # Nothing is cut off at the side, with the bar for the height or without.
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().minimumSizeHint().width() + bar, _LEAST_HEIGHT)

    def resizeEvent(self, event: QEvent) -> None:
        bar = self.verticalScrollBar().sizeHint().width()
        self.widget().setMaximumWidth(max(self.width() - bar, 1))
        super().resizeEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


class Fold(QWidget):
    """Content that hides under its title until the title is clicked.

    superqt's QCollapsible leaves controls that it has collapsed in the tab order, and gives its
    content a fixed height, in which texts that grow later are cut off.
    """

    def __init__(
        self, title: str, content: QWidget, tooltip: str = "", is_section: bool = False
    ) -> None:
        super().__init__()
        self.title = title
        self.content = content
        self.button = push_button("", tooltip)
        self.button.setCheckable(True)
        self.button.setFlat(True)
        weight = "bold" if is_section else "normal"
        style = f"text-align: left; border: none; background: transparent; font-weight: {weight};"
        self.button.setStyleSheet(style)
        self._summary = ""
        self.button.toggled.connect(self._unfold)
        self._title_row = in_a_row(self.button)
        fill_column(self, self._title_row, content).setSpacing(4)
        self._unfold(False)

    @property
    def is_unfolded(self) -> bool:
        """Whether the content is shown."""
        return bool(self.button.isChecked())

    def unfold(self, unfolded: bool = True) -> None:
        """Show the content, or hide it."""
        self.button.setChecked(unfolded)

    def add_to_title(self, *buttons: QWidget) -> None:
        """Put small buttons to the right of the title."""
        for button in buttons:
            self._title_row.layout().addWidget(button)

    def set_summary(self, text: str) -> None:
        """Set what the title says of the content while that is hidden."""
        self._summary = text
        self._unfold(self.is_unfolded)

    def _unfold(self, unfolded: bool) -> None:
        more = f": {self._summary}" if self._summary and not unfolded else ""
        width = self.button.width() - _FOLD_MARGIN
        text = f"{'▾' if unfolded else '▸'} {self.title}{more}"
        elide = self.button.fontMetrics().elidedText
        self.button.setText(elide(text, Qt.TextElideMode.ElideRight, width) if more else text)
        self.content.setVisible(unfolded)

    def resizeEvent(self, event: QEvent) -> None:
        super().resizeEvent(event)
        if self._summary:
            self._unfold(self.is_unfolded)


class MarkedSlider(QSlider):
    """A horizontal slider with a mark at one value."""

    stepped = Signal(int)  # by keys: how many steps, negative to the left

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.mark: int | None = None

    def set_mark(self, position: int | None) -> None:
        """Mark a position, or none."""
        self.mark = position
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = _STEPS_OF_KEYS.get(event.key())
        if steps is None:
            super().keyPressEvent(event)
        else:
            self.stepped.emit(steps)

    def paintEvent(self, event: QEvent) -> None:
        super().paintEvent(event)
        if self.mark is None:
            return
        option = QStyleOptionSlider()
        self.initStyleOption(option)
        slider, handle = QStyle.ComplexControl.CC_Slider, QStyle.SubControl.SC_SliderHandle
        handle = self.style().subControlRect(slider, option, handle, self).width()
        x = handle // 2 + QStyle.sliderPositionFromValue(
            self.minimum(), self.maximum(), self.mark, self.width() - handle
        )
        painter = QPainter(self)
        painter.setPen(QPen(self.palette().color(QPalette.ColorRole.Highlight), 2))
        painter.drawLine(x, 0, x, self.height())

    def sizeHint(self) -> QSize:
        return super().sizeHint().expandedTo(QSize(60, 18))


class NumberSlider(QWidget):
    """A slider with the number beside it, to type into.

    superqt's labelled sliders have no logarithmic scale and no mark. `decimals` is 0 for whole
    numbers; `ends` are texts below the two ends.
    """

    changed = Signal(float)  # by the user only

    def __init__(
        self,
        smallest: float,
        largest: float,
        decimals: int = 0,
        logarithmic: bool = True,
        ends: tuple[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._logarithmic = logarithmic
        self._kind: type[float] = float if decimals else int
        self.slider = MarkedSlider()
        self.slider.setRange(0, _STEPS)
        self.number = QDoubleSpinBox() if decimals else QSpinBox()
        if decimals:
            self.number.setDecimals(decimals)
            self.number.setSingleStep(10.0**-decimals)
        self.number.setKeyboardTracking(False)  # the user who types 128 does not mean 1 or 12
        self.number.setFixedWidth(_NUMBER_WIDTH)
        for control in (self.slider, self.number):
            ignore_wheel(control)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(0)
        layout.addWidget(self.slider, 0, 0)
        layout.addWidget(self.number, 0, 1)
        layout.setColumnStretch(0, 1)
        if ends is not None:
            for end, side in zip(ends, (_LEFT, _RIGHT), strict=True):
                label = QLabel(end)
                label.setStyleSheet("font-size: 8pt;")
                layout.addWidget(label, 1, 0, side)
        self._mark: float | None = None
        self.set_range(smallest, largest)
        self.slider.valueChanged.connect(self._slid)
        # A position of a logarithmic slider is less than one where numbers are small.
        self.slider.stepped.connect(self.number.stepBy)
        self.number.valueChanged.connect(self._typed)

    def describe(self, name: str, tooltip: str) -> None:
        """Give both parts a tooltip, and a name for screen readers."""
        for control in (self, self.slider, self.number):
            control.setToolTip(tooltip)
            control.setAccessibleName(name)

    def set_range(self, smallest: float, largest: float) -> None:
        """Set the ends; the value moves inside them without a signal."""
        self._ends = float(smallest), float(max(largest, smallest))
        with signals_blocked(self.number):
            self.number.setRange(self._kind(smallest), self._kind(self._ends[1]))
        self.set_mark(self._mark)
        self.value = self.value

    @property
    def value(self) -> float:
        """The number shown; setting it sends no signal."""
        return self.number.value()

    @value.setter
    def value(self, value: float) -> None:
        self.number.setSpecialValueText("")
        self._show(self.number, self._kind(value))
        self._show(self.slider, self._position(value))

    def changeEvent(self, event: QEvent) -> None:
        """Keep the number of a disabled slider legible: napari's grey is too faint to read."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            ink = self.palette().color(QPalette.ColorGroup.Active, QPalette.ColorRole.WindowText)
            self.number.setStyleSheet(f":disabled {{ color: rgba{(*ink.getRgb()[:3], 160)}; }}")

    def show_unknown(self) -> None:
        """Show no number, since it is not known."""
        self.value = self._ends[0]
        self.number.setSpecialValueText("–")

    def set_mark(self, value: float | None) -> None:
        """Mark a value on the slider, or none."""
        self._mark = value
        self.slider.set_mark(None if value is None else self._position(value))

    def _show(self, control: QSlider | QSpinBox | QDoubleSpinBox, value: float) -> None:
        with signals_blocked(control):
            control.setValue(value)

    def _position(self, value: float) -> int:
        low, high = (self._scaled(end) for end in self._ends)
        value = min(max(value, self._ends[0]), self._ends[1])
        return round(_STEPS * (self._scaled(value) - low) / (high - low)) if high > low else 0

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._logarithmic else value

    def _slid(self, position: int) -> None:
        low, high = (self._scaled(end) for end in self._ends)
        value = low + (high - low) * position / _STEPS
        value = math.exp(value) if self._logarithmic else value
        before = self.value
        self._show(self.number, value if self._kind is float else round(value))
        if self.value != before:
            self.changed.emit(self.value)

    def _typed(self, value: float) -> None:
        self._show(self.slider, self._position(value))
        self.changed.emit(value)
