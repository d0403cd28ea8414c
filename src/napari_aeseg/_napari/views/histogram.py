"""How many objects there are of each size."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import QWidget

_HEIGHT, _TEXT = 64, 14  # pixels: all, and the line with the ends of the axis
_MOST_BARS = 24
_LEAST = 3  # objects


class SizeHistogram(QWidget):
    """Bars for diameters on a logarithmic axis; hidden where there are few objects."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = np.zeros(0, int)
        self.edges = np.zeros(0)
        self.setFixedHeight(_HEIGHT)
        self.setToolTip("How many objects there are of each diameter, in pixels.")
        self.setAccessibleName("Sizes of objects")
        self.setVisible(False)

    def show_values(self, diameters: np.ndarray) -> None:
        """Show diameters of objects."""
        self.setVisible(len(diameters) >= _LEAST)
        if len(diameters) >= _LEAST:
            low, high = float(diameters.min()), float(diameters.max())
            low, high = min(low, high / 1.1), max(high, low * 1.1)
            bars = int(np.clip(2 * np.sqrt(len(diameters)), 5, _MOST_BARS))
            self.edges = np.geomspace(low, high, bars + 1)
            self.counts, _ = np.histogram(np.clip(diameters, low, high), self.edges)
            self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the bars, and the smallest and the largest diameter below."""
        painter, palette = QPainter(self), self.palette()
        ink = palette.color(QPalette.ColorRole.WindowText)
        room, width = _HEIGHT - _TEXT, self.width() / len(self.counts)
        painter.setPen(ink)
        painter.drawLine(0, room, self.width(), room)
        for k, count in enumerate(self.counts.tolist()):
            height = (room - 2) * count / self.counts.max()
            bar = QRectF(k * width + 0.5, room - height, max(width - 1, 1), height)
            painter.fillRect(bar, palette.color(QPalette.ColorRole.Highlight))
        below = QRectF(0, room, self.width(), _TEXT)
        for value, side in zip(
            (self.edges[0], self.edges[-1]),
            (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight),
            strict=True,
        ):
            painter.drawText(below, int(side | Qt.AlignmentFlag.AlignVCenter), f"{value:.3g}")
