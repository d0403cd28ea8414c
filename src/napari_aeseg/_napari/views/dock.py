"""The dock's content: the sections one below the other, and the status line under them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_aeseg._napari.manifest.settings import SUFFIX
from napari_aeseg._napari.views.diagnostics import BatchView, LooksView
from napari_aeseg._napari.views.images import ImagesView
from napari_aeseg._napari.views.model import ModelView
from napari_aeseg._napari.views.panels import Form
from napari_aeseg._napari.views.segments import SegmentView
from napari_aeseg._napari.views.status import StatusView
from napari_aeseg._napari.views.widgets import Fold, Scroll
from napari_aeseg.params import HIERARCHY_SUFFIX

if TYPE_CHECKING:
    from napari.viewer import Viewer

_FILTER = f"AE Segment models (*{SUFFIX})"
_COLOUR_TIP = (
    "Colour the selected Labels layer by one of the measurements in its features table: kept "
    "layers have them."
)


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
        self.looks = LooksView()
        self.batch = BatchView()
        self.status = StatusView()
        self._make_results()
        content = QWidget()
        column = QVBoxLayout(content)
        column.setSpacing(10)
        for section in (self.images, self.model, self.segments):
            column.addWidget(section)
        self.folds = {
            "training": Fold(
                "More: training", self.model.more, "Everything that training can be told."
            ),
            "patches": Fold(
                "More: patches and features",
                self.segments.form,
                "How images are cut into patches and described, from the next Segment on.",
            ),
            "inside": Fold("Look inside", self.looks, "Layers that show why it came out so."),
            "results": Fold("Tables and script", self.results, "What to do with kept layers."),
            "batch": Fold("Folder", self.batch, "Segment all images of a folder."),
        }
        for fold in self.folds.values():
            column.addWidget(fold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(Scroll(content))
        layout.addWidget(self.status)
        layout.addStretch(1)
        self.status.setContentsMargins(9, 3, 9, 6)  # in line with the column
        column.setContentsMargins(9, 6, 9, 6)

    def _make_results(self) -> None:
        self.color_box = QComboBox()
        self.table_button = QPushButton("Show features table")
        self.table_button.setToolTip("Open napari's own table of the selected layer's features.")
        self.export_button = QPushButton("Export table as CSV…")
        self.export_button.setToolTip("Write the features of the selected Labels layer to a file.")
        self.script_button = QPushButton("Copy as script")
        self.script_button.setToolTip(
            "Copy Python code that makes the current result again, without a window."
        )
        form = Form()
        form.add("Colour by", self.color_box, _COLOUR_TIP)
        self.results = QWidget()
        layout = QVBoxLayout(self.results)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        for button in (self.table_button, self.export_button, self.script_button):
            layout.addWidget(button)

    def refresh(
        self, busy: bool, has_model: bool, has_result: bool, columns: list[str] | None
    ) -> None:
        """Enable what makes sense now; `columns` are those of the selected layer's table."""
        has_image = bool(self.images.images)
        for button, makes_sense in (
            (self.model.train_button, has_image and not busy),
            (self.model.resume_button, has_image and not busy),
            (self.model.load_button, not busy),
            (self.model.save_button, has_model),
            (self.model.device_box, not busy),
            (self.segments.segment_button, has_image and not busy),
            (self.segments.keep_button, has_result),
            (self.segments.open_button, not busy),
            (self.segments.save_button, has_result and not busy),
            (self.segments.apply_button, has_result and not busy and bool(self.images.others)),
            (self.looks, has_result and not busy),
            (self.script_button, has_result),
            (self.batch.button, not busy),
            (self.color_box, columns is not None),
            (self.table_button, columns is not None),
            (self.export_button, columns is not None),
        ):
            button.setEnabled(makes_sense)
        shown = ["label", *(columns or [])]
        if [self.color_box.itemText(i) for i in range(self.color_box.count())] != shown:
            chosen = self.color_box.currentText()
            self.color_box.clear()
            self.color_box.addItems(shown)
            self.color_box.setCurrentText(chosen)  # a column that came later changes nothing

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

    def ask_hierarchy_to_open(self) -> str | None:
        """Ask for the folder of a hierarchy; None when the user thinks better of it."""
        title = f"Open a segmentation (a folder *{HIERARCHY_SUFFIX})"
        return QFileDialog.getExistingDirectory(self, title) or None

    def ask_where_to_save_hierarchy(self, name: str) -> str | None:
        """Ask for a folder that is to be made; None when the user thinks better of it."""
        path, _ = QFileDialog.getSaveFileName(
            self,
            "Save the segmentation",
            f"{Path(name).stem}{HIERARCHY_SUFFIX}",
            f"AE Segment segmentations (*{HIERARCHY_SUFFIX})",
        )
        if not path:
            return None
        ending = HIERARCHY_SUFFIX
        return path if path.endswith(ending) else path.removesuffix(".zarr") + ending

    def ask_where_to_export(self, name: str) -> str | None:
        """Ask for a CSV file; None when the user thinks better of it."""
        path, _ = QFileDialog.getSaveFileName(self, "Export the table", f"{name}.csv", "*.csv")
        if not path:
            return None
        return path if path.lower().endswith(".csv") else f"{path}.csv"
