"""The legend of a layer that is coloured by a column of its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState

_MOST_WORDS = 12
_HEIGHT = 12  # pixels of a swatch


class LegendView(QWidget):
    """A bar of colours with the two ends of numbers, or a swatch for each word."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(2)
        state.on("legend", draw=self._draw)

    def _draw(self) -> None:
        legend = self._state.legend
        while (item := self._grid.takeAt(0)) is not None:
            item.widget().deleteLater()
        self.setVisible(legend is not None)
        if legend is None:
            return
        if legend.ends is not None:
            stops = ", ".join(
                f"stop:{i / (len(legend.colors) - 1):.2f} {color}"
                for i, color in enumerate(legend.colors)
            )
            low, high = legend.ends
            gradient = f"background: qlineargradient(x1:0, x2:1, {stops});"
            for column, label in enumerate((QLabel(low), _swatch(gradient), QLabel(high))):
                self._grid.addWidget(label, 0, column)
            self._grid.setColumnStretch(1, 1)
            return
        for row, (word, color) in enumerate(zip(legend.words, legend.colors, strict=True)):
            if row == _MOST_WORDS:
                self._grid.addWidget(QLabel(f"and {len(legend.words) - row} more"), row, 1)
                break
            self._grid.addWidget(_swatch(f"background: {color};"), row, 0)
            self._grid.addWidget(QLabel(word), row, 1)


def _swatch(style: str) -> QLabel:
    label = QLabel()
    label.setStyleSheet(style)
    label.setFixedHeight(_HEIGHT)
    label.setMinimumWidth(2 * _HEIGHT)
    return label
