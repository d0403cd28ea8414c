"""What the dock offers beyond train, segment and keep: steering, looking inside, batch, script."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_aeseg._napari.export.script import script_of
from napari_aeseg._napari.export.tables import LABEL, color_by, export_table, measured_layer
from napari_aeseg._napari.layers.adapter import unwrapped
from napari_aeseg._napari.layers.diagnostics import Inside
from napari_aeseg._napari.listening import Listening
from napari_aeseg._napari.manifest.settings import read_settings
from napari_aeseg._napari.work.jobs import segmenting_files
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from os import PathLike

    from napari.layers import Image, Labels

    from napari_aeseg._napari.controller import Controller
    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg.batch import BatchReport, Existing


class Actions:
    """Acts on the controller's session; `AESegWidget` is its public face.

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    looked : psygnal.Signal(list of Layer)
        Layers that show what is inside were made or brought up to date.
    batch_done : psygnal.Signal(BatchReport)
    """

    looked = Signal(list)
    batch_done = Signal(object)

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._dock = controller.dock
        self._session = controller.session
        self._results = controller.results
        self._steering = controller.steering
        self._viewer = controller.viewer
        self._in_hand = controller.image_in_hand
        self._inside = Inside(controller.viewer, controller.results)
        self._listen()
        self._listening = Listening()
        self._listening.to(self._viewer.layers.selection.events.active, then=self._on_active)
        controller.closed.connect(self._listening.leave)

    def _listen(self) -> None:
        dock, report = self._dock, self._controller.reporter.reporting
        regions, classes = dock.segments.regions, dock.segments.classes
        regions.tool_chosen.connect(self.take)
        regions.undo_button.clicked.connect(report(self.undo))
        regions.redo_button.clicked.connect(report(self.redo))
        classes.list.renamed.connect(self.rename)
        classes.list.recolored.connect(self.recolor)
        classes.fixed.connect(lambda on: self._reported(self.fix if on else self.release))
        dock.segments.objects.made_of_classes.connect(
            lambda on: self._reported(self.make_of_classes, on)
        )
        dock.segments.markers.asked.connect(report(self.paint))
        dock.segments.apply_button.clicked.connect(report(self.apply_to_all))
        dock.looks.asked.connect(lambda what: self._reported(self.look, what))
        dock.batch.asked.connect(lambda *asked: self._reported(self._segment_folder, *asked))
        dock.color_box.activated.connect(
            lambda _: self._reported(self.color_by, dock.color_box.currentText())
        )
        dock.table_button.clicked.connect(report(self.show_table))
        dock.export_button.clicked.connect(report(self._ask_and_export))
        dock.script_button.clicked.connect(report(self.copy_script))
        tools = self._steering.tools
        tools.merged.connect(lambda *asked: self._reported(self.merge, *asked))
        tools.split.connect(lambda *asked: self._reported(self.split, *asked))
        tools.undo.connect(self.undo)
        tools.redo.connect(self.redo)

    def _reported(self, action: Any, *arguments: Any) -> None:
        with self._controller.reporter.reported():
            action(*arguments)

    # Steering

    def take(self, tool: str | None) -> None:
        """Take "merge" or "split" in hand, or neither."""
        self._steering.take(tool, list(self._controller.hierarchies))
        self._dock.segments.regions.show_tool(tool)

    def merge(self, image: Image | None, *places: tuple[int, ...]) -> None:
        """Merge the regions at some places."""
        self._steering.merge(self._in_hand(image), self._dock.segments.cut, *places)

    def split(self, image: Image | None, place: tuple[int, ...]) -> None:
        """Split the region at a place."""
        self._steering.split(self._in_hand(image), self._dock.segments.cut, place)

    def undo(self, image: Image | None = None) -> bool:
        """Take back the last merge or split."""
        return self._steering.undo(self._in_hand(image))

    def redo(self, image: Image | None = None) -> bool:
        """Do again what was taken back."""
        return self._steering.redo(self._in_hand(image))

    def paint(self, image: Image | None = None) -> Labels:
        """Make the strokes layer the active one, with the brush in hand."""
        return self._steering.begin_painting(self._in_hand(image))

    def rename(self, number: int, name: str) -> None:
        """Name a class."""
        self._steering.rename(number, name)

    def recolor(self, number: int, color: str) -> None:
        """Give a class a colour."""
        self._steering.recolor(number, color)

    def fix(self) -> None:
        """Keep the classes of the image in hand with the model."""
        cut = self._dock.segments.cut
        model = self._session.model
        if model is None:
            raise InputError("There is no model to keep classes with: segment an image first.")
        self._steering.fix(model, self._in_hand(), cut.n_classes)

    def release(self) -> None:
        """Let classes follow each image again."""
        self._steering.release(self._session.model)

    def make_of_classes(self, on: bool) -> None:
        """Look for objects in classes, at first in that of which the largest part stands out."""
        cut, controller = self._dock.segments.cut, self._controller
        image = next(iter(controller.hierarchies), None)
        chosen = self._results.foreground_class(image, cut) if on and image is not None else None
        controller.want_cut(replace(cut, class_ids=(chosen or 1,) if on else None))

    # Looking inside

    def look(self, what: str) -> None:
        """Begin to compute a layer of "features", "border strength" and so on."""
        controller = self._controller
        images, cut = list(controller.hierarchies), self._dock.segments.cut
        work = self._inside.work(images, what, cut, self._dock.model.device)

        def show(found: Any, stopped: bool) -> str:
            self.looked.emit(self._inside.show(what, found))
            return ""

        controller.reporter.clear()
        self._session.run(what, f"Computing the {what}", work, show)

    # More images

    def apply_to_all(self) -> None:
        """Segment every open image like the one in hand."""
        self._session.check_free()
        self._fix_if_wanted()
        chosen = self._dock.images.images
        self._dock.images.images = [*chosen, *self._dock.images.others]
        self._controller.segment()

    def _fix_if_wanted(self) -> Cut:
        """Keep the classes where they are shown or chosen from, and return the cut."""
        cut = self._dock.segments.cut
        numbered = cut.mode == "classes" or (cut.mode == "objects" and cut.class_ids is not None)
        if numbered and self._results.classes.prototypes is None:
            self.fix()
        return cut

    def segment_folder(
        self, folder: str | PathLike[str], output: str | PathLike[str] | None, existing: Existing
    ) -> None:
        """Begin to segment all images of a folder."""
        from napari_aeseg.batch import image_files

        self._session.check_free()
        self._dock.segments.form.check()
        files = image_files(folder)
        cut = self._fix_if_wanted()
        work = segmenting_files(
            files,
            Path(folder) / "segments" if output is None else Path(output),
            self._session.model or "base",
            cut,
            self._dock.segments.params,
            self._dock.segments.comparison,
            self._dock.images.axes,
            self._dock.model.device,
            existing,
        )
        self._controller.reporter.clear()
        self._session.run(f"{len(files)} files", f"Segmenting {len(files)} files", work, self._tell)

    def _segment_folder(self, folder: Path | None, output: Path | None, existing: Existing) -> None:
        if folder is None:
            raise InputError("No folder is chosen: type one, or press the button beside the line.")
        self.segment_folder(folder, output, existing)

    def _tell(self, report: BatchReport, stopped: bool) -> str:
        self._dock.batch.report.setText(str(report))
        self.batch_done.emit(report)
        return report.summary

    # Kept layers

    def _on_active(self, *_: object) -> None:
        if self._steering.tools.tool is not None:
            QTimer.singleShot(0, self._put_down_tool)  # a new preview is active before it is known
        self._controller.refresh()

    def _put_down_tool(self) -> None:
        """Let go of the tool when another layer is active: clicks go there, it would do nothing."""
        active = unwrapped(self._viewer.layers.selection.active)
        previews = [self._results.preview_of(image) for image in self._results.of]
        if isalive(self._dock) and self._steering.tools.tool is not None and active not in previews:
            self.take(None)
            self._dock.status.say("Another layer is selected: clicks go to that one.")

    def _labels(self, layer: Labels | None) -> Labels:
        """The layer that is meant: the given one, else the active one, else the newest kept."""
        if layer is None:
            layer = self._newest()
        self._controller.keeper.remeasure(unwrapped(layer))
        return unwrapped(layer)

    def _newest(self) -> Labels:
        found = measured_layer(self._viewer)
        if found is None:
            raise InputError("There is no Labels layer with measurements: press Keep to make one.")
        return found

    def color_by(self, column: str, layer: Labels | None = None) -> None:
        """Colour a Labels layer by a column of its features."""
        layer = self._labels(layer)
        color_by(layer, column or LABEL)
        layer.visible = True
        for image in self._results.of:  # two layers of colours would mix
            preview = self._results.preview_of(image)
            if preview is not None and preview is not layer:
                preview.visible = False
        self._dock.color_box.setCurrentText(column or LABEL)

    def export_table(self, path: str | PathLike[str], layer: Labels | None = None) -> None:
        """Write the features of a Labels layer as CSV."""
        export_table(self._labels(layer), path)

    def show_table(self) -> None:
        """Open napari's own features table on a kept layer."""
        self._viewer.layers.selection.active = self._labels(None)
        self._viewer.window.add_plugin_dock_widget("napari", "Features table widget")

    def _ask_and_export(self) -> None:
        layer = self._labels(None)
        if path := self._dock.ask_where_to_export(layer.name):
            self.export_table(path, layer)
            self._dock.status.say(f"Wrote {Path(path).name}.")

    @property
    def script(self) -> str:
        """Python code that makes the current result again."""
        controller = self._controller
        images = list(controller.hierarchies)
        if not images:
            raise InputError("There is no result to make again: segment an image first.")
        return script_of(
            self._session,
            images,
            self._dock.segments.cut,
            self._dock.model.device,
            read_settings().folder,
        )

    def copy_script(self) -> str:
        """Put the script on the clipboard."""
        script = self.script
        QApplication.clipboard().setText(script)
        self._dock.status.say("The script is on the clipboard.")
        return script
