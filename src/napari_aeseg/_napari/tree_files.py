"""Saved hierarchies in the dock: tuning goes on tomorrow without segmenting again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg._napari.layers.adapter import image_data, snapshot, unwrapped
from napari_aeseg._napari.state import model_of
from napari_aeseg._napari.work.jobs import opening_hierarchy, saving_hierarchy
from napari_aeseg.errors import InputError
from napari_aeseg.params import HIERARCHY_SUFFIX

if TYPE_CHECKING:
    from os import PathLike

    from napari.layers import Image

    from napari_aeseg._napari.controller import Controller
    from napari_aeseg.regions.hierarchy import Hierarchy


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A hierarchy that was read, and the place of its image among those it was compared with."""

    hierarchy: Hierarchy
    place: int | None


class TreeFiles:
    """Saves and opens hierarchies for the controller's session.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._session, self._results = controller.session, controller.results
        report = controller.reporter.reporting
        view = controller.dock.segments
        view.open_button.clicked.connect(report(self._ask_and_open))
        view.save_button.clicked.connect(report(self._ask_and_save))

    def save(self, path: str | PathLike[str], image: Image) -> None:
        """Begin to write the hierarchy of an image to a folder."""
        result = self._results.of.get(image)
        if result is None:
            raise InputError(f"{image.name} is not segmented yet: there is no hierarchy to save.")
        name = Path(path).name
        self._controller.reporter.clear()
        work = saving_hierarchy(result.hierarchy, path)
        self._session.run(name, f"Saving {name}", work, lambda *_: f"Saved as {name}.")

    def open(self, path: str | PathLike[str]) -> None:
        """Begin to read a hierarchy, and show it on its image if that is open."""
        path = Path(path).absolute()
        there = [(image, image.data) for image in self._controller.dock.images.all]
        work = opening_hierarchy(path, [image_data(image) for image, _ in there])
        self._controller.reporter.clear()
        self._session.run(
            path.name,
            f"Opening {path.name}",
            work,
            lambda opened, _: self._show(path, opened, there),
        )

    def _show(self, path: Path, opened: Opened, there: list[tuple[Image, Any]]) -> str:
        """Take over what was read; return a line for the user."""
        hierarchy = opened.hierarchy
        image, data = (None, None) if opened.place is None else there[opened.place]
        found = image is not None and image in self._controller.viewer.layers
        found = found and image.data is data  # and not given others since
        # The last axis of an RGB layer is its colour, whatever it was read as before.
        found = found and (not image.rgb or hierarchy.axes.letters[-1] == "C")
        if not found:
            image = self._show_brightness(path, hierarchy)
        assert image is not None  # noqa: S101 - one or the other
        shot = snapshot(image, hierarchy.axes.letters if found else hierarchy.axes.space)
        model = model_of(hierarchy, self._session.model)
        said = list(hierarchy.notes)
        if not self._results.add(image, hierarchy, model, shot, path, has_image=found):
            said.append("What was merged and split by hand is gone: the patches are others now.")
        if not found:
            said.append("Its image is not open: shown is how bright it is.")
        segments = self._controller.dock.segments
        segments.params = hierarchy.params
        segments.show_comparison(hierarchy.comparison)
        self._controller.dock.images.images = [image]
        self._session.segmented.emit(image, hierarchy)
        return "\n".join([*said, f"Opened {path.name}."])

    def _show_brightness(self, path: Path, hierarchy: Hierarchy) -> Image:
        """Show what the hierarchy knows of its image, for the labels to lie on."""
        values = hierarchy.brightness.astype(np.float32)
        name = f"{path.name.removesuffix(HIERARCHY_SUFFIX)} brightness"
        for layer in map(unwrapped, self._controller.viewer.layers):
            result: Any = self._results.of.get(layer)
            if result is not None and result.path == path and layer.data.shape == values.shape:
                layer.data = values  # opened again
                return layer
        return unwrapped(self._controller.viewer.add_image(values, name=name))

    def _ask_and_open(self) -> None:
        if path := self._controller.dock.ask_hierarchy_to_open():
            self.open(path)

    def _ask_and_save(self) -> None:
        image = self._controller.image_in_hand()
        if path := self._controller.dock.ask_where_to_save_hierarchy(image.name):
            self.save(path, image)
