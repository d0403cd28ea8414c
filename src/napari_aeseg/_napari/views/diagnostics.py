"""The folds of the dock that are not needed for a first result: look inside, batch, script."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_aeseg._napari.layers.diagnostics import LOOKS
from napari_aeseg._napari.views.panels import Form
from napari_aeseg._napari.views.widgets import WrappedLabel, ignore_wheel


class LooksView(QWidget):
    """A button for each thing to look at."""

    asked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        self.buttons: dict[str, QPushButton] = {}
        for what, tip in LOOKS.items():
            button = QPushButton(what.capitalize())
            button.setToolTip(f"Add a layer. {tip}")
            button.clicked.connect(lambda _, what=what: self.asked.emit(what))
            layout.addWidget(button)
            self.buttons[what] = button


class FolderField(QWidget):
    """A line for a folder, with a button to look for one."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self.line = QLineEdit()
        self.button = QToolButton()
        self.button.setText("…")
        self.button.setToolTip(f"{title}.")
        self.button.setAccessibleName(title)
        self.button.clicked.connect(self._browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, stretch=1)
        layout.addWidget(self.button)

    def _browse(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, self._title, self.line.text()):
            self.line.setText(path)

    @property
    def folder(self) -> Path | None:
        """The folder, None when the line is empty."""
        return Path(self.line.text().strip()) if self.line.text().strip() else None


_FOLDER_TIP = "Every image file in this folder is segmented with the model, as the preview is."
_OUTPUT_TIP = (
    "Where labels (TIFF), overlays (PNG) and tables (CSV) go. Empty: a folder 'segments' inside."
)
_EXISTING_TIP = "What to do with images whose results are there already."
_EXISTING = {
    "skip": "leave them out",
    "refuse": "do not begin",
    "replace": "replace them",
}


class BatchView(QWidget):
    """Which folder to segment, and what became of it."""

    asked = Signal(object, object, str)  # folder, output, what to do with existing results

    def __init__(self) -> None:
        super().__init__()
        self.folder = FolderField("Choose the folder with images")
        self.output = FolderField("Choose the folder for results")
        self.existing = QComboBox()
        for name, text in _EXISTING.items():
            self.existing.addItem(text, name)
        ignore_wheel(self.existing)
        self.button = QPushButton("Segment folder")
        self.button.setToolTip(_FOLDER_TIP)
        self.button.clicked.connect(
            lambda *_: self.asked.emit(
                self.folder.folder, self.output.folder, self.existing.currentData()
            )
        )
        self.report = WrappedLabel()
        form = Form()
        form.add("Images", self.folder.line, _FOLDER_TIP, self.folder)
        form.add("Results", self.output.line, _OUTPUT_TIP, self.output)
        form.add("Existing results", self.existing, _EXISTING_TIP)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.report)
