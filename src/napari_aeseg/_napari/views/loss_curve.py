"""The training loss as a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QWidget

from napari_aeseg._napari.views.widgets import fill_column

_HEIGHT = 110  # pixels
_MOST_POINTS = 400  # more than a dock has columns


class LossCurve(QWidget):
    """Draws losses on a logarithmic axis over the steps of the whole training."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.total = 0
        self._plot: Any = None
        self.setFixedHeight(_HEIGHT)
        self.setToolTip(
            "Reconstruction error of each training step, on a logarithmic scale. It should fall "
            "and then flatten; if it still falls at the end, more steps will help."
        )
        self.setAccessibleName("Loss curve")
        fill_column(self)
        self.setVisible(False)

    def show_losses(self, losses: Sequence[float], total: int) -> None:
        """Show the losses of a whole training."""
        self.losses, self.total = list(losses), total
        is_seen = self.isVisible()
        self.setVisible(bool(self.losses))
        if is_seen and self.losses:
            self._draw()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._colour()

    def showEvent(self, event: QEvent) -> None:
        super().showEvent(event)
        self._draw()
        self._colour()

    def _draw(self) -> None:
        if self._plot is None:
            self._make_plot()
        steps, means = curve_points(self.losses)
        self._curve.setData(steps, means)
        self._plot.setXRange(0, max(self.total, len(self.losses)), padding=0.02)
        if means:
            ticks = [(math.log10(v), f"{v:g}") for v in round_values(min(means), max(means))]
            self._plot.getAxis("left").setTicks([ticks])

    def _make_plot(self) -> None:
        import pyqtgraph  # a quarter of a second, if it was not imported in a thread before

        self._plot = pyqtgraph.PlotWidget()
        self._plot.setLogMode(y=True)
        self._plot.setMouseEnabled(x=False, y=False)
        self._plot.setMenuEnabled(False)
        self._plot.hideButtons()
        # There is little room in a dock: the tooltip explains the axes.
        self._plot.getAxis("left").enableAutoSIPrefix(False)
        self._plot.getAxis("left").setWidth(38)
        self._curve = self._plot.plot(antialias=True)
        self.layout().addWidget(self._plot)
        self._colour()

    def _colour(self) -> None:
        """Take over the colours of napari's theme."""
        if self._plot is None:
            return
        import pyqtgraph

        palette = self.palette()
        ink = palette.color(QPalette.ColorRole.WindowText)
        self._plot.setBackground(palette.color(QPalette.ColorRole.Window))
        for side in ("bottom", "left"):
            axis = self._plot.getAxis(side)
            axis.setPen(ink)
            axis.setTextPen(ink)
        self._curve.setPen(pyqtgraph.mkPen(ink, width=1.5))


def round_values(low: float, high: float) -> list[float]:
    """Return two to four round numbers spread evenly over a logarithmic range.

    Examples
    --------
    >>> round_values(0.011, 0.3)
    [0.02, 0.05, 0.1, 0.2]
    >>> round_values(0.03, 0.031)
    [0.03, 0.031]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [m * 10.0**e for e in decades for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    if len(values) < 2:
        return [float(f"{low:.2g}"), float(f"{high:.2g}")]
    step = math.ceil(len(values) / 4)
    return [float(f"{v:.1g}") for v in values[::step]]


def curve_points(losses: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return steps and losses to draw, neighbours averaged where there are very many.

    What is not finite or not above 0 is left out.

    Examples
    --------
    >>> curve_points([1.0, float("nan"), 0.5])
    ([1.0, 3.0], [1.0, 0.5])
    """
    together = max(1, math.ceil(len(losses) / _MOST_POINTS))
    steps, means = [], []
    for start in range(0, len(losses), together):
        finite = [v for v in losses[start : start + together] if math.isfinite(v) and v > 0]
        if finite:
            steps.append(start + (1 + together) / 2)
            means.append(sum(finite) / len(finite))
    return steps, means
