"""A fold of the dock: layers that explain a segmentation, each shown or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_aeseg._napari.layers.diagnostics import DIAGNOSTICS
from napari_aeseg._napari.views.widgets import fill_column, push_button

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState


class DiagnosticsView(QWidget):
    """A button for each diagnostic layer, pressed while there is one."""

    chosen = Signal(str)

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.buttons = {
            name: push_button(name.capitalize(), f"Add a layer, or remove it. {tip}")
            for name, tip in DIAGNOSTICS.items()
        }
        for name, button in self.buttons.items():
            button.setCheckable(True)
            button.clicked.connect(lambda *_, name=name: self.chosen.emit(name))
        fill_column(self, *self.buttons.values()).setSpacing(3)
        state.on("diagnostics", "busy", draw=self._draw)

    def _draw(self) -> None:
        for name, button in self.buttons.items():
            button.setChecked(name in self._state.diagnostics)
