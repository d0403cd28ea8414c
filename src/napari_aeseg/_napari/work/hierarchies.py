"""Saved hierarchies: tuning goes on another day without segmenting again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg._napari.drafts import Draft, draft_of, restore_settings
from napari_aeseg._napari.layers.image_input import image_input, unwrapped
from napari_aeseg._napari.state import EDITS_DISCARDED, DockState, Result, model_of
from napari_aeseg._napari.work import jobs
from napari_aeseg._napari.work.job_queue import Task
from napari_aeseg.errors import InputError
from napari_aeseg.images.napari_layers import layer_levels
from napari_aeseg.params import HIERARCHY_SUFFIX

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg.regions.hierarchy import Hierarchy


class HierarchyIO:
    """Makes the tasks that save and open hierarchies."""

    def __init__(
        self, viewer: Viewer, state: DockState, restore: Callable[[Image, Draft], None]
    ) -> None:
        self._viewer = viewer
        self._state = state
        self._restore = restore

    def saving(self, path: str | PathLike[str], image: Image) -> Task:
        """Return the task that writes the hierarchy of an image to a folder."""
        result, name = self._state.results.get(image), Path(path).name
        if result is None:
            raise InputError(f"{image.name} is not segmented yet: there is nothing to save.")
        work = jobs.saving_hierarchy(result.hierarchy, path, draft_of(self._state, image))
        return Task(name, f"Saving {name}", work, lambda *_: [f"Saved as {name}."])

    def opening(self, path: str | PathLike[str]) -> Task:
        """Return the task that reads a hierarchy, and chooses its image if that is open."""
        path = Path(path).absolute()
        images = [
            (image, image.data, resolution, level)
            for image in self._state.open_images
            for resolution, level in enumerate(layer_levels(image))
        ]
        work = jobs.opening_hierarchy(path, [level for *_, level in images])
        finish = partial(self._take, path, images)
        return Task(path.name, f"Opening {path.name}", work, finish)

    def _take(
        self,
        path: Path,
        images: list[tuple[Image, Any, int, Any]],
        loaded: tuple[Hierarchy, int | None, Draft | None],
        stopped: bool,
    ) -> list[str]:
        state, (hierarchy, index, draft) = self._state, loaded
        image, data, resolution = (None, None, 0) if index is None else images[index][:3]
        if (
            image is None
            or image not in self._viewer.layers
            or image.data is not data  # it was given other data meanwhile
            # The last axis of an RGB layer is its colour, whatever it was read as before.
            or (image.rgb and hierarchy.axes.letters[-1] != "C")
        ):
            image, has_image = self._brightness_layer(path, hierarchy), False
            read = image_input(image, hierarchy.axes.space)
        else:
            read, has_image = image_input(image, hierarchy.axes.letters, resolution), True
            state.resolution = resolution
        model, lines = model_of(hierarchy, state.model), list(hierarchy.notes)
        result = Result(hierarchy, model, read, path=path, has_image=has_image)
        state.segmentation, state.comparison = hierarchy.params, hierarchy.comparison
        # A session that was saved before anything was done by hand leaves what was done since.
        has_work = draft is not None and (draft.is_by_hand or image not in state.results)
        if not state.add_result(image, result):
            lines.append(EDITS_DISCARDED)
        if not has_image:
            lines.append("Its image is not open: its brightness is shown instead.")
        state.images = (image,)
        if draft is not None and has_work:
            restore_settings(state, draft)
            self._restore(image, draft)
        return [*lines, f"Opened {path.name}."]

    def _brightness_layer(self, path: Path, hierarchy: Hierarchy) -> Image:
        """Show the brightness that the hierarchy stores, for the labels to lie on."""
        values: Any = np.asarray(hierarchy.brightness, np.float32)
        if hierarchy.brightness is None:  # of an image in blocks: there is that of each patch
            levels = hierarchy.map_to_pyramid(hierarchy.statistics.intensity.mean(axis=1))
            values = levels if len(levels) > 1 else levels[0]
        name = f"{path.name.removesuffix(HIERARCHY_SUFFIX)} brightness"
        for image, result in self._state.results.items():
            is_same = image.data.shape == hierarchy.axes.space_shape
            if result.path == path and not result.has_image and is_same:
                image.data = values  # opened again
                return image
        return unwrapped(self._viewer.add_image(values, name=name))
