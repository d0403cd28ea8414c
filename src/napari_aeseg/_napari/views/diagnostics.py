"""A fold of the dock: buttons for layers that explain a segmentation."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_aeseg._napari.layers.diagnostics import DIAGNOSTICS
from napari_aeseg._napari.views.widgets import fill_column, push_button


class DiagnosticsView(QWidget):
    """A button for each diagnostic layer."""

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.buttons = {
            name: push_button(name.capitalize(), f"Add a layer. {tip}")
            for name, tip in DIAGNOSTICS.items()
        }
        for name, button in self.buttons.items():
            button.clicked.connect(lambda *_, name=name: self.chosen.emit(name))
        fill_column(self, *self.buttons.values()).setSpacing(3)
