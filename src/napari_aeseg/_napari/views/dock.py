"""The dock's content: the sections one below the other, and the status line under them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QLabel,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_aeseg._napari.views.diagnostics import DiagnosticsView
from napari_aeseg._napari.views.folder import FolderView
from napari_aeseg._napari.views.images import ImagesView
from napari_aeseg._napari.views.legend import LegendView
from napari_aeseg._napari.views.model import ModelView
from napari_aeseg._napari.views.segments import SegmentsView
from napari_aeseg._napari.views.status import StatusView
from napari_aeseg._napari.views.widgets import (
    Fold,
    Form,
    Scroll,
    fill_column,
    ignore_wheel,
    push_button,
)
from napari_aeseg.params import HIERARCHY_SUFFIX, MODEL_SUFFIX

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent

    from napari_aeseg._napari.state import DockState

_MODEL_FILTER = f"AE Segment models (*{MODEL_SUFFIX})"
_OUTDATED_BY = (
    *("images", "model", "results", "segmentation", "axes", "resolution", "starting_segments"),
    "message",
)
_REPOSITORY = "https://github.com/napari-aeseg/napari-aeseg/blob/main"
_GUIDE, _CITATION = f"{_REPOSITORY}/docs/user_guide.md", f"{_REPOSITORY}/CITATION.cff"
_COLOUR_TIP = "Colour the selected Labels layer by a column of its features. Kept layers have them."


def _links() -> QLabel:
    """Return a line with links to the user guide and to how the plugin is cited."""
    # Qt's own colour of links, dark blue, cannot be read on napari's dark theme.
    link = '<a href="{}" style="color: gray">{}</a>'
    texts = link.format(_GUIDE, "Help"), link.format(_CITATION, "How to cite")
    links = QLabel(" &nbsp; ".join(texts))
    links.setOpenExternalLinks(True)
    links.setToolTip("The user guide, and how to cite this plugin, in the browser.")
    return links


def _arrow(text: str, which: str, key: str) -> QPushButton:
    """Return a small button that shows another image."""
    tip = f"Show the {which} image with its preview only ({key})."
    button = push_button(text, tip, f"Show the {which} image")
    button.setFixedSize(26, 22)
    return button


class Dock(QWidget):
    """All controls; what its buttons do is connected by the controller."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.images = ImagesView(state)
        self.model = ModelView(state)
        self.segments = SegmentsView(state)
        self.diagnostics = DiagnosticsView(state)
        self.folder = FolderView(state)
        self.status = StatusView(state)
        self.tables = self._make_tables()
        self.folds = {
            "images": Fold("1  Images", self.images, "Which images.", is_section=True),
            "model": Fold("2  Model", self.model, "Train or choose a model.", is_section=True),
            "training": Fold("More: training", self.model.more, "All training parameters."),
            "patches": Fold(
                "More: patches and features",
                self.segments.more,
                "How images are cut into patches and encoded. Press Segment to apply changes.",
            ),
            "diagnostics": Fold(
                "Diagnostic layers",
                self.diagnostics,
                "Layers that explain a segmentation: features, reconstruction, boundaries.",
            ),
            "tables": Fold("Tables and script", self.tables, "Measurements of kept layers."),
            "folder": Fold("Folder", self.folder, "Segment all images of a folder."),
        }
        self.previous_button = _arrow("◂", "previous", "Alt+Left")
        self.next_button = _arrow("▸", "next", "Alt+Right")
        self.folds["images"].add_to_title(self.previous_button, self.next_button)
        self._was_segmented = True
        self._last_folder = ""  # of a dialog
        self._lay_out()
        fields = ("images", "open_images", "busy", "model", "results", "table_columns")
        state.on(*fields, draw=self._draw_enabled)
        # A message comes when an image was given other pixels.
        state.on(*_OUTDATED_BY, draw=self._draw_outdated)
        state.on("table_columns", draw=self._draw_columns)
        state.on("results", draw=self._fold_sections)
        state.on("images", "shown", "model", "models", draw=self._draw_summaries)

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setSpacing(6)
        images, model, training, *others = self.folds.values()
        self.model.layout().addWidget(training)
        for section in (images, model, self.segments, *others, self.segments.session, _links()):
            column.addWidget(section)
        column.addStretch(1)
        fill_column(self, Scroll(content), self.status)
        self.status.setContentsMargins(9, 3, 9, 6)  # in line with the column
        column.setContentsMargins(9, 6, 9, 6)

    def _make_tables(self) -> QWidget:
        self.color_box = QComboBox()
        ignore_wheel(self.color_box)
        self.table_button = push_button(
            "Show features table", "Open napari's table of the selected layer's features."
        )
        self.export_button = push_button(
            "Export table as CSV…", "Write the features of the selected Labels layer to a file."
        )
        self.pieces_box = QCheckBox("A row for each connected piece")
        self.pieces_box.setToolTip(
            "Export a row for each connected piece of a segment, with its shape, instead of one "
            "per segment."
        )
        self.script_button = push_button(
            "Copy as script", "Copy Python code that repeats the current result, without a window."
        )
        form = Form()
        form.add("Colour by", self.color_box, _COLOUR_TIP)
        tables = QWidget()
        self.legend = LegendView(self._state)
        fill_column(
            tables,
            form,
            self.legend,
            self.table_button,
            self.pieces_box,
            self.export_button,
            self.script_button,
        )
        return tables

    def _fold_sections(self) -> None:
        """Fold images and model when there is a segmentation: its controls need the room."""
        is_segmented = bool(self._state.results)
        if is_segmented and self.underMouse():  # nothing moves under the pointer
            return
        if is_segmented != self._was_segmented:
            for name in ("images", "model"):
                self.folds[name].unfold(not is_segmented)
        self._was_segmented = is_segmented

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._fold_sections()

    def _draw_summaries(self) -> None:
        state = self._state
        shown = [state.shown] if state.shown in state.images else []
        rest = [image for image in state.images if image is not state.shown]
        names = ", ".join(image.name for image in (*shown, *rest))
        base = state.model is None or state.model.any_channels
        self.folds["images"].set_summary(names)
        self.folds["model"].set_summary("base model" if base else state.origin.text)

    def _draw_enabled(self) -> None:
        state = self._state
        is_idle, has_result = not state.busy, bool(state.hierarchies)
        has_table = state.table_columns is not None
        has_others = any(image not in state.images for image in state.open_images)
        for control, is_enabled in (
            (self.model.train_button, bool(state.images) and is_idle),
            (self.model.resume_button, bool(state.images) and is_idle),
            (self.model.load_button, is_idle),
            (self.model.model_box, is_idle),
            (self.model.save_button, state.model is not None),
            (self.model.device_box, is_idle),
            (self.segments.segment_button, bool(state.images) and is_idle),
            (self.segments.keep_button, has_result),
            (self.segments.open_button, is_idle),
            (self.segments.save_button, has_result and is_idle),
            (self.segments.apply_button, bool(state.results) and is_idle and has_others),
            (self.diagnostics, has_result and is_idle),
            (self.script_button, has_result),
            (self.folder.button, is_idle),
            (self.color_box, has_table),
            (self.table_button, has_table),
            (self.export_button, has_table),
            (self.pieces_box, has_table),
        ):
            control.setEnabled(is_enabled)
        self.segments.apply_button.setVisible(has_others)
        for button in (self.previous_button, self.next_button):
            button.setVisible(len(state.open_images) > 1)

    def _draw_outdated(self) -> None:
        state = self._state
        is_outdated = any(state.is_outdated(image) for image in state.hierarchies)
        self.segments.segment_button.setText(f"Segment{' (out of date)' if is_outdated else ''}")

    def _draw_columns(self) -> None:
        columns = ["label", *(self._state.table_columns or ())]
        chosen = self.color_box.currentText()
        with signals_blocked(self.color_box):
            self.color_box.clear()
            self.color_box.addItems(columns)
            self.color_box.setCurrentText(chosen)  # the column stays when others are added

    @property
    def _folder(self) -> str:
        """Where dialogs open: where one was last, else where the image is."""
        paths = [image.source.path for image in self._state.images if image.source.path]
        return self._last_folder or (str(Path(paths[0]).parent) if paths else "")

    def _remembered(self, path: str) -> str | None:
        """Return a path, None when it is empty, and have the next dialog open there."""
        if path:
            self._last_folder = str(Path(path).parent)
        return path or None

    def ask_model_to_load(self) -> str | None:
        """Ask for a model file; None when the user cancels."""
        path, _ = QFileDialog.getOpenFileName(self, "Load a model", self._folder, _MODEL_FILTER)
        return self._remembered(path)

    def ask_where_to_save(self) -> str | None:
        """Ask for a file name; None when the user cancels."""
        images = self._state.images
        name = Path(images[0].name).stem if images else "model"
        return self._ask_where("Save the model", name, MODEL_SUFFIX, _MODEL_FILTER)

    def ask_hierarchy_to_open(self) -> str | None:
        """Ask for the folder of a hierarchy; None when the user cancels."""
        title = f"Open a segmentation (a folder *{HIERARCHY_SUFFIX})"
        return self._remembered(QFileDialog.getExistingDirectory(self, title, self._folder))

    def ask_where_to_save_hierarchy(self, name: str) -> str | None:
        """Ask for a folder that is to be made or replaced; None when the user cancels."""
        file_filter = f"AE Segment segmentations (*{HIERARCHY_SUFFIX})"
        title = "Save the segmentation"
        return self._ask_where(title, Path(name).stem, HIERARCHY_SUFFIX, file_filter)

    def ask_where_to_export(self, name: str) -> str | None:
        """Ask for a CSV file; None when the user cancels."""
        return self._ask_where("Export the table", name, ".csv", "*.csv")

    def _ask_where(self, title: str, name: str, suffix: str, file_filter: str) -> str | None:
        start = str(Path(self._folder) / (name + suffix))
        is_folder = suffix == HIERARCHY_SUFFIX
        ask = FolderDialog.ask if is_folder else QFileDialog.getSaveFileName
        path, _ = ask(self, title, start, file_filter)
        if self._remembered(path) is None:
            return None
        has_asked = not is_folder and path.lower().endswith(suffix)  # whether to replace a file
        if not path.lower().endswith(suffix):
            # Some dialogs leave the ending out, or its first half.
            path = path.removesuffix(Path(suffix).suffix) + suffix
        return path if has_asked or not Path(path).exists() or self._may_replace(path) else None

    def _may_replace(self, path: str) -> bool:
        text = f"{Path(path).name} exists already. Do you want to replace it?"
        return bool(QMessageBox.question(self, "Replace", text) == QMessageBox.StandardButton.Yes)


class FolderDialog(QFileDialog):
    """Asks for a folder to write; other dialogs enter one that is there already."""

    @classmethod
    def ask(cls, parent: QWidget, title: str, start: str, file_filter: str) -> tuple[str, str]:
        """Return the path and the filter, as `QFileDialog.getSaveFileName` does."""
        dialog = cls(parent, title, str(Path(start).parent), file_filter)
        dialog.setOption(cls.Option.DontUseNativeDialog)
        dialog.setAcceptMode(cls.AcceptMode.AcceptSave)
        dialog.selectFile(Path(start).name)
        return (dialog.selectedFiles()[0] if dialog.exec_() else ""), file_filter

    def accept(self) -> None:
        if self.selectedFiles()[0].lower().endswith(HIERARCHY_SUFFIX):
            self.done(int(True))
        else:
            super().accept()
