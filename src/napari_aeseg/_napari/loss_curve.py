"""The loss so far as a small curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QPaintEvent

_MARGIN = 3


class LossCurve(QWidget):
    """Draws losses on a logarithmic axis over the steps of the whole training."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.total = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Reconstruction error of each training step, on a logarithmic scale. It should fall "
            "and then flatten; if it still falls at the end, more steps will help."
        )
        self.setAccessibleName("Loss curve")
        self.setVisible(False)

    def show_losses(self, losses: Sequence[float], total: int) -> None:
        """Show the losses of a whole training."""
        self.losses, self.total = list(losses), total
        self.setVisible(bool(self.losses))
        self.update()

    def add(self, losses: Sequence[float], total: int, start: bool = False) -> None:
        """Add the losses of the newest steps; `start` forgets those of the training before."""
        self.show_losses([*([] if start else self.losses), *losses], total)

    def sizeHint(self) -> QSize:
        return QSize(120, 48)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = self.palette().color(QPalette.ColorRole.WindowText)
        curve = QPen(frame, 1.5)
        frame.setAlpha(70)
        painter.setPen(QPen(frame, 1))
        painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        points = curve_points(self.losses, self.total, self.width(), self.height())
        painter.setPen(curve)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in points]))


def curve_points(
    losses: Sequence[float], total: int, width: int, height: int
) -> list[tuple[float, float]]:
    """Return where the curve runs, one point a pixel column at most.

    Parameters
    ----------
    losses : sequence of float
        Those of the first steps; what is not finite or not above 0 is left out.
    total : int
        Steps of the whole training.
    width, height : int
        Pixels.

    Examples
    --------
    >>> curve_points([1.0, 0.1], 2, 13, 13)
    [(3.0, 3.0), (9.0, 9.0)]
    """
    width, height = width - 2 * _MARGIN, height - 2 * _MARGIN
    known = [(i, math.log(v)) for i, v in enumerate(losses) if math.isfinite(v) and v > 0]
    if len(known) < 2 or width < 2 or height < 2:
        return []
    # Steps that share a column are averaged: the curve is drawn ten times a second.
    columns: dict[int, list[float]] = {}
    steps = max(total, len(losses), 2)
    for i, value in known:
        columns.setdefault(i * (width - 1) // (steps - 1), []).append(value)
    means = {x: sum(values) / len(values) for x, values in columns.items()}
    low, high = min(means.values()), max(means.values())
    span = (high - low) or 1.0
    return [
        (float(_MARGIN + x), _MARGIN + (high - y) / span * (height - 1)) for x, y in means.items()
    ]
