"""Layers that are kept: copies of what previews show, with measurements of every segment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from psygnal import Signal

from napari_aeseg._napari.layers.adapter import OWN, labels_arguments, measured
from napari_aeseg._napari.layers.colors import class_colormap, label_colors
from napari_aeseg._napari.listening import Listening
from napari_aeseg._napari.work.jobs import measuring_error
from napari_aeseg._napari.work.worker import Done, Failed, Job, JobRunner
from napari_aeseg.errors import InputError
from napari_aeseg.regions.lazy_labels import is_lazy
from napari_aeseg.regions.measure import region_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg._napari.state import Result, Results
    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg._napari.work.worker import Stopped
    from napari_aeseg.regions.hierarchy import Hierarchy


@dataclass(frozen=True, eq=False)
class _Unmeasured:
    """A kept layer whose table still lacks the reconstruction error."""

    layer: Labels
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
        self._listening = Listening()
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
        self._listening.leave()

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
            metadata={OWN: own.record(result.hierarchy, image.name)},
            visible=False,  # it would shine through the preview once that moves on
            **labels_arguments(image, result.hierarchy.axes),
        )
        named = cut.mode == "classes"
        layer.colormap = class_colormap(self._results.classes.colors) if named else label_colors()
        kept = _Unmeasured(layer, result, result.hierarchy, classes)
        self._measure(kept, labels)
        self._put_under_preview(layer, image)
        self._follow(kept)
        if result.error is None and result.can_encode and not lazy:
            self._waiting.append(kept)
            if not self._runner.busy:
                self._measure_next()
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
            result, cut = self._results.of[image], self._results.cut
            try:
                classes = self._classes(image, cut, image)
            except InputError as error:  # it is the user's all the same, without a table
                self.failed.emit(error)
                return
            self._follow(_Unmeasured(layer, result, result.hierarchy, classes))
            self._changed.add(layer)

    @property
    def followed(self) -> tuple[_Unmeasured, ...]:
        """Kept layers whose tables are brought up to date."""
        return tuple(self._measured.values())

    def take_up(self, followed: Iterable[_Unmeasured]) -> None:
        """Follow layers that another keeper has made; painted on meanwhile or not."""
        for kept in followed:
            self._follow(kept)
            if isinstance(kept.layer.data, np.ndarray):  # else it cannot be painted on
                self._changed.add(kept.layer)

    def remeasure(self, layer: Labels) -> None:
        """Measure a layer again if it was painted on since; raise InputError if it cannot be."""
        if layer in self._changed and layer in self._measured:
            self._complete(self._measured[layer])
            self._changed.discard(layer)

    def _follow(self, kept: _Unmeasured) -> None:
        there, events = self._viewer.layers, kept.layer.events
        self._measured = {known: m for known, m in self._measured.items() if known in there}
        self._changed = {known for known in self._changed if known in there}
        self._measured[kept.layer] = kept
        self._listening.to(events.paint, events.data, then=self._on_touched)

    def _on_touched(self, event: Any) -> None:
        self._changed.add(event.source)

    def _measure(self, kept: _Unmeasured, labels: np.ndarray) -> None:
        """Put a table into a layer, with lengths as the layer itself lies now."""
        layer, hierarchy, classes = kept.layer, kept.hierarchy, kept.classes
        if labels.shape != hierarchy.axes.space_shape:
            raise InputError(
                f"{layer.name} was given another shape, {labels.shape}: it cannot be measured on "
                f"an image of {hierarchy.axes.space_shape}."
            )
        axes = measured(hierarchy.axes, layer)
        maps = {} if kept.result.error is None else {"reconstruction_error": kept.result.error}
        table = region_table(hierarchy, labels, classes, axes.spacing, axes.unit, maps)
        names = dict(enumerate(self._results.classes.names, 1))
        numbers = table["index"] if classes is None else table["class"]
        table["class"] = [names.get(int(number), str(number)) for number in numbers]
        layer.features = table
        # The layer may be moved to other units, and napari keeps no attributes of a table.
        layer.metadata = {**layer.metadata, OWN: {**layer.metadata.get(OWN, {}), "unit": axes.unit}}

    def _put_under_preview(self, layer: Labels, image: Image) -> None:
        layers = self._viewer.layers
        selected = set(layers.selection)
        preview = self._results.preview_of(image)
        layers.insert(len(layers) if preview is None else layers.index(preview), layer)
        layers.selection = selected  # a hidden layer is not what anybody wants to work on next

    def _measure_next(self) -> None:
        """Look for the next layer that lacks a column, and have it measured."""
        while self._waiting:
            result = self._waiting[0].result
            if result.error is None:
                work = measuring_error(result.shot, result.model, self.device)
                self._runner.start(Job("measuring", work), in_activity_dock=False)
                return
            try:
                self._complete(self._waiting.pop(0))
            except InputError as error:  # of another shape by now
                self.failed.emit(error)

    def _complete(self, kept: _Unmeasured) -> None:
        if kept.layer in self._viewer.layers:
            self._measure(kept, np.asarray(kept.layer.data))  # painted on meanwhile or not
            self.completed.emit(kept.layer)

    def _on_measured(self, outcome: Done | Stopped | Failed) -> None:
        if not self._waiting:
            return
        result = self._waiting[0].result
        if isinstance(outcome, Done):
            result.error = outcome.result
        else:
            self._waiting = [kept for kept in self._waiting if kept.result is not result]
        self._measure_next()
        if isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
