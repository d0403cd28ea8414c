"""The dock's content: the sections one below the other, and the status line under them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_aeseg._napari.controls import Fold, Scroll
from napari_aeseg._napari.images_view import ImagesView
from napari_aeseg._napari.model_view import ModelView
from napari_aeseg._napari.segment_view import SegmentView
from napari_aeseg._napari.status_view import StatusView

if TYPE_CHECKING:
    from napari.viewer import Viewer

SUFFIX = ".aeseg.safetensors"
_FILTER = f"AE Segment models (*{SUFFIX})"


class Dock(QWidget):
    """All controls; it does nothing by itself.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.images = ImagesView(viewer)
        self.model = ModelView()
        self.segments = SegmentView()
        self.status = StatusView()
        content = QWidget()
        column = QVBoxLayout(content)
        column.setSpacing(10)
        for section in (self.images, self.model, self.segments):
            column.addWidget(section)
        column.addWidget(
            Fold("More: training", self.model.form, "Everything that training can be told.")
        )
        column.addWidget(
            Fold(
                "More: patches and features",
                self.segments.form,
                "How images are cut into patches and described, from the next Segment on.",
            )
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(Scroll(content))
        layout.addWidget(self.status)
        layout.addStretch(1)
        self.status.setContentsMargins(9, 3, 9, 6)  # in line with the column
        column.setContentsMargins(9, 6, 9, 6)

    def refresh(self, busy: bool, has_model: bool, has_result: bool) -> None:
        """Enable what makes sense now."""
        has_image = bool(self.images.images)
        self.model.train_button.setEnabled(has_image and not busy)
        self.model.load_button.setEnabled(not busy)
        self.model.save_button.setEnabled(has_model)
        self.model.device_box.setEnabled(not busy)
        self.segments.segment_button.setEnabled(has_image and not busy)
        self.segments.keep_button.setEnabled(has_result)

    def ask_model_to_load(self) -> str | None:
        """Ask for a model file; None when the user thinks better of it."""
        path, _ = QFileDialog.getOpenFileName(self, "Load a model", "", _FILTER)
        return path or None

    def ask_where_to_save(self) -> str | None:
        """Ask for a file name; None when the user thinks better of it."""
        images = self.images.images
        name = Path(images[0].name).stem if images else "model"
        path, _ = QFileDialog.getSaveFileName(self, "Save the model", name + SUFFIX, _FILTER)
        if not path:
            return None
        # The reader knows models by their full ending, which some dialogs leave out.
        return path if path.endswith(SUFFIX) else path.removesuffix(".safetensors") + SUFFIX
