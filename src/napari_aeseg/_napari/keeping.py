"""Layers that are kept: copies of what previews show, with measurements of every segment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from psygnal import Signal

from napari_aeseg._napari.jobs import measuring_error
from napari_aeseg._napari.layers import labels_arguments, measured
from napari_aeseg._napari.palette import class_colormap, label_colors
from napari_aeseg._napari.worker import Done, Failed, Job, JobRunner
from napari_aeseg.errors import InputError
from napari_aeseg.regions.painting import is_lazy
from napari_aeseg.regions.table import region_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg._napari.results import Result, Results
    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg._napari.worker import Stopped
    from napari_aeseg.regions.hierarchy import Hierarchy


@dataclass(frozen=True, eq=False)
class _Unmeasured:
    """A kept layer whose table still lacks the reconstruction error."""

    layer: Labels
    image: Image
    result: Result
    hierarchy: Hierarchy
    classes: np.ndarray | None


class Keeper:
    """Makes layers of cuts.

    The reconstruction error needs the decoder, which takes seconds: that column of the table comes
    a little later, from a thread.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    results : Results

    Attributes
    ----------
    completed : psygnal.Signal(Labels layer)
        The last column has come.
    failed : psygnal.Signal(Exception)
    """

    completed = Signal(object)
    failed = Signal(object)

    def __init__(self, viewer: Viewer, results: Results) -> None:
        self._viewer = viewer
        self._results = results
        self.device = "auto"
        self._waiting: list[_Unmeasured] = []
        self._measured: dict[Labels, _Unmeasured] = {}
        self._changed: set[Labels] = set()
        results.touched.connect(self.adopt)
        self._runner = JobRunner()
        self._runner.ended.connect(self._on_measured)

    @property
    def busy(self) -> bool:
        """Whether a table still waits for a column."""
        return self._runner.busy

    def leave(self) -> None:
        """Leave what is going on, and be silent from now on."""
        self._waiting.clear()
        self._measured, self._changed = {}, set()
        self._runner.leave()

    def keep(self, images: Iterable[Image], cut: Cut) -> list[Labels]:
        """Copy what a cut shows to new layers, which are the user's from then on."""
        images = [image for image in images if image in self._results.of]
        if not images:
            raise InputError("There is nothing to keep: segment an image first.")
        # Copies: the previews may show the same arrays.
        shown = {i: self._results.labels(i, cut, images[0]) for i in images}
        shown = {
            i: labels if is_lazy(labels) else labels.astype(np.int32) for i, labels in shown.items()
        }
        # What is on disk is not read to find out: it has regions or classes everywhere.
        found = {i: labels for i, labels in shown.items() if is_lazy(labels) or labels.any()}
        if not found:
            names = " and ".join(image.name for image in images)
            raise InputError(f"There is nothing to keep of {names}: no pixel has a label.")
        return [self._keep(image, labels, cut, images[0]) for image, labels in found.items()]

    def _keep(self, image: Image, labels: np.ndarray, cut: Cut, example: Image) -> Labels:
        result = self._results.of[image]
        own = self._results.cut_of(image, cut)
        classes = self._classes(image, cut, example)
        lazy = is_lazy(labels)
        layer = Labels(
            self._results.seen(image, cut, example) if lazy else labels,
            name=f"{image.name} {own.title(result.hierarchy)}",
            features=self._table(image, result.hierarchy, labels, classes, result.error),
            metadata={"napari-aeseg": own.record(result.hierarchy, image.name)},
            visible=False,  # it would shine through the preview once that moves on
            **labels_arguments(image, result.hierarchy.axes),
        )
        named = cut.mode == "classes"
        layer.colormap = class_colormap(self._results.classes.colors) if named else label_colors()
        self._put_under_preview(layer, image)
        self._follow(layer, image, result, classes)
        if result.error is None and result.can_encode and not lazy:
            self._waiting.append(self._measured[layer])
            if not self._runner.busy:
                self._measure()
        return layer

    def _classes(self, image: Image, cut: Cut, example: Image) -> np.ndarray | None:
        """The class of each pixel, for the column of the table; None where labels are classes."""
        if cut.mode == "classes":
            return None
        return self._results.labels(image, replace(cut, mode="classes"), example)

    def adopt(self, image: Image, layer: Labels) -> None:
        """Treat a preview that was painted on as if it had been kept: it has a name and a table."""
        if image in self._results.of:
            layer.name = f"{image.name} painted"
            cut = self._results.cut
            self._follow(layer, image, self._results.of[image], self._classes(image, cut, image))
            self._changed.add(layer)

    def remeasure(self, layer: Labels) -> None:
        """Measure a layer again if it was painted on since."""
        if layer in self._changed and layer in self._measured:
            self._changed.discard(layer)
            self._complete(self._measured[layer])

    def _follow(
        self, layer: Labels, image: Image, result: Result, classes: np.ndarray | None
    ) -> None:
        there = self._viewer.layers
        self._measured = {known: m for known, m in self._measured.items() if known in there}
        self._changed = {known for known in self._changed if known in there}
        self._measured[layer] = _Unmeasured(layer, image, result, result.hierarchy, classes)
        for event in (layer.events.paint, layer.events.data):
            event.connect(self._on_painted)  # by name: the layer must not keep all results

    def _on_painted(self, event: Any) -> None:
        self._changed.add(event.source)

    def _table(
        self,
        image: Image,
        hierarchy: Hierarchy,
        labels: np.ndarray,
        classes: np.ndarray | None,
        error: np.ndarray | None,
    ) -> Any:
        axes = measured(hierarchy.axes, image)  # as the layer lies now
        maps = {} if error is None else {"reconstruction_error": error}
        table = region_table(hierarchy, labels, classes, axes.spacing, axes.unit, maps)
        names = dict(enumerate(self._results.classes.names, 1))
        numbers = table["index"] if classes is None else table["class"]
        table["class"] = [names.get(int(number), str(number)) for number in numbers]
        return table

    def _put_under_preview(self, layer: Labels, image: Image) -> None:
        layers = self._viewer.layers
        selected = set(layers.selection)
        preview = self._results.preview_of(image)
        layers.insert(len(layers) if preview is None else layers.index(preview), layer)
        layers.selection = selected  # a hidden layer is not what anybody wants to work on next

    def _measure(self) -> None:
        """Look for the next layer that lacks a column, and have it measured."""
        while self._waiting:
            result = self._waiting[0].result
            if result.error is None:
                work = measuring_error(result.shot, result.model, self.device)
                self._runner.start(Job("measuring", work), in_activity_dock=False)
                return
            self._complete(self._waiting.pop(0))

    def _complete(self, kept: _Unmeasured) -> None:
        if kept.layer not in self._viewer.layers:
            return
        labels = np.asarray(kept.layer.data)  # painted on meanwhile or not: measured as it is
        try:
            kept.layer.features = self._table(
                kept.image, kept.hierarchy, labels, kept.classes, kept.result.error
            )
        except InputError as error:  # of another shape by now
            self.failed.emit(error)
        else:
            self.completed.emit(kept.layer)

    def _on_measured(self, outcome: Done | Stopped | Failed) -> None:
        if not self._waiting:
            return
        if isinstance(outcome, Done):
            self._waiting[0].result.error = outcome.result
        else:
            self._waiting.clear()
        self._measure()
        if isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
