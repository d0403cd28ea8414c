"""A fold of the dock: segment all images of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QToolButton, QWidget

from napari_aeseg._napari.views.widgets import (
    Form,
    WrappedLabel,
    choice_box,
    fill_column,
    push_button,
)

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState

_FOLDER_TIP = "Segment every image file in this folder with the model and the current controls."
_OUTPUT_TIP = (
    "The folder for labels (TIFF), overlays (PNG) and tables (CSV). Empty: a folder 'segments' "
    "inside the folder of images."
)
_EXISTING_TIP = "What to do with images that have results already."
_EXISTING = {"skip": "skip these images", "refuse": "do not begin", "replace": "replace them"}


class FolderField(QWidget):
    """A line for a folder, with a button to choose one."""

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
        text = self.line.text().strip()
        return Path(text) if text else None


class FolderView(QWidget):
    """Which folder to segment, and the report on the last one."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.folder = FolderField("Choose the folder with images")
        self.output = FolderField("Choose the folder for results")
        self.output.line.setPlaceholderText("segments, inside the folder")
        self.existing = choice_box(_EXISTING)
        self.button = push_button("Segment folder", _FOLDER_TIP)
        self.report = WrappedLabel()
        form = Form()
        form.add("Images", self.folder.line, _FOLDER_TIP, self.folder)
        form.add("Results", self.output.line, _OUTPUT_TIP, self.output)
        form.add("Existing results", self.existing, _EXISTING_TIP)
        fill_column(self, form, self.button, self.report)
        state.on("report", draw=lambda: self.report.setText(state.report))
