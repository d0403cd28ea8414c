"""What a script can do with results: a part of the widget's public face."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from napari.layers import Image, Labels

    from napari_aeseg._napari.actions import Actions
    from napari_aeseg._napari.controller import Controller
    from napari_aeseg.batch import Existing


class ResultMethods:
    """Methods of `AESegWidget` that keep, show, measure and repeat a segmentation."""

    _controller: Controller
    _actions: Actions

    def keep(self) -> list[Labels]:
        """Copy what the previews show to new layers, hidden for now, and return these.

        Their `features` hold measurements of every label; the column "reconstruction_error" comes
        from a thread a moment later.

        Raises
        ------
        InputError
            If nothing is segmented yet, or no pixel has a label.
        """
        return self._controller.keep()

    def save_hierarchy(self, path: str | PathLike[str], image: Image | None = None) -> None:
        """Write the hierarchy of an image to a folder; the window stays alive meanwhile.

        Parameters
        ----------
        path : path-like
            Conventionally named ``*.aeseg.zarr``.
        image : napari.layers.Image, optional
            By default that of the active preview, else the first chosen one that is segmented.

        Raises
        ------
        InputError
            If nothing is segmented, something else is running, or there is something at `path` that
            is no hierarchy.
        OSError
            If it cannot be written.
        """
        controller = self._controller
        controller.do_now(controller.trees.save, path, controller.image_in_hand(image))

    def open_hierarchy(self, path: str | PathLike[str]) -> None:
        """Open a saved hierarchy and choose its image; the window stays alive meanwhile.

        When its image is not open, its brightness is shown instead. `segmented` is emitted.

        Raises
        ------
        HierarchyFileError
            If the folder is damaged, foreign, or of a newer format.
        FileNotFoundError
            If there is no such folder.
        InputError
            If something else is running.
        """
        self._controller.do_now(self._controller.trees.open, path)

    def look(self, what: str) -> None:
        """Begin to compute a layer that shows what lies behind the segmentation; `looked` follows.

        Parameters
        ----------
        what : str
            "features", "reconstruction", "reconstruction error", "border strength" or
            "merge height".
        """
        with self._controller.reporter.reported():
            self._actions.look(what)

    def apply_to_all(self) -> None:
        """Choose all open images and begin to segment them like the one in hand.

        With classes, or objects in classes, these are kept with the model first, so that a class
        means the same everywhere.
        """
        with self._controller.reporter.reported():
            self._actions.apply_to_all()

    def segment_folder(
        self,
        folder: str | PathLike[str],
        output: str | PathLike[str] | None = None,
        existing: Existing = "skip",
    ) -> None:
        """Begin to segment all image files of a folder like the preview; `batch_done` follows.

        Parameters
        ----------
        folder : path-like
        output : path-like, optional
            Where results go; by default the folder "segments" inside.
        existing : {"skip", "refuse", "replace"}
            What to do with images whose results are there.
        """
        with self._controller.reporter.reported():
            self._actions.segment_folder(folder, output, existing)

    def color_by(self, column: str, layer: Labels | None = None) -> None:
        """Colour a Labels layer by a column of its features; "label" gives each its own.

        Parameters
        ----------
        column : str
        layer : napari.layers.Labels, optional
            By default the active layer if it has measurements, else the newest that has.

        Raises
        ------
        InputError
            If there is no such layer or column.
        """
        self._actions.color_by(column, layer)

    def export_table(self, path: str | PathLike[str], layer: Labels | None = None) -> None:
        """Write the features of a Labels layer, chosen as for `color_by`, as CSV."""
        self._actions.export_table(path, layer)

    @property
    def script(self) -> str:
        """Python code that makes the current result again, without a window.

        Raises
        ------
        InputError
            If nothing is segmented, or an image can neither be read again nor be saved.
        """
        return self._actions.script
