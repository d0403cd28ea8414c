"""A fold of the dock: buttons for layers that explain a segmentation."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_aeseg._napari.layers.diagnostics import DIAGNOSTICS


class DiagnosticsView(QWidget):
    """A button for each diagnostic layer."""

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        self.buttons: dict[str, QPushButton] = {}
        for name, tip in DIAGNOSTICS.items():
            button = QPushButton(name.capitalize())
            button.setToolTip(f"Add a layer. {tip}")
            button.clicked.connect(partial(self._choose, name))
            layout.addWidget(button)
            self.buttons[name] = button

    def _choose(self, name: str, _: bool) -> None:
        self.chosen.emit(name)
