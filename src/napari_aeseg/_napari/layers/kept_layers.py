"""Layers that are kept: copies of what previews show, with measurements of every segment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Labels
from psygnal import Signal

from napari_aeseg._napari.export.tables import by_label
from napari_aeseg._napari.layers.colors import class_colormap, label_colors
from napari_aeseg._napari.layers.connections import Connections
from napari_aeseg._napari.layers.image_input import METADATA_KEY
from napari_aeseg._napari.layers.placement import placed_on
from napari_aeseg._napari.state import DockState, KeptLayer
from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.jobs import measuring, measuring_error
from napari_aeseg._napari.work.worker import Done, Failed, Job, JobRunner, Outcome, wait_until
from napari_aeseg.errors import InputError
from napari_aeseg.images.napari_layers import labels_in, with_voxels_of
from napari_aeseg.regions.lazy_labels import is_lazy
from napari_aeseg.regions.measure import object_table

if TYPE_CHECKING:
    import pandas as pd
    from napari.viewer import Viewer

    from napari_aeseg.regions.cuts.cut import Cut


class KeptLayers(Background):
    """Makes layers of cuts, and measures them in a thread.

    The reconstruction error needs the decoder, which takes seconds: that column of the table comes
    after all others.
    """

    measured = Signal(object)  # Labels layer whose table has come

    def __init__(self, viewer: Viewer, state: DockState) -> None:
        self._viewer = viewer
        super().__init__(state)
        # Layers to measure, and whether with the reconstruction error; the first is at work.
        self._waiting: list[tuple[KeptLayer, bool]] = []
        self._outdated: set[Labels] = set()
        self._connections = Connections()
        for kept in list(state.kept.values()):  # of a dock that was closed
            self._follow(kept)
            if isinstance(kept.layer.data, np.ndarray):  # else it cannot be painted on
                self._outdated.add(kept.layer)

    def wait(self) -> None:
        """Let Qt work until every layer has its table, with or without the last column."""
        wait_until(lambda: all(with_error for _, with_error in self._waiting))

    def close(self) -> None:
        """Stop, and leave all layers to napari."""
        self._waiting.clear()
        super().close()
        self._connections.disconnect_all()

    def keep(self) -> list[Labels]:
        """Copy what the previews show to new layers, which are the user's from then on."""
        state, images = self._state, list(self._state.hierarchies)
        if not images:
            raise InputError("There is nothing to keep: segment an image first.")
        example = state.example_of(images) or images[0]
        labels = {image: state.labels(image, state.cut, example) for image in images}
        # What is on disk is not read to find out: it has regions or classes everywhere.
        labels = {i: array for i, array in labels.items() if is_lazy(array) or array.any()}
        if not labels:
            names = " and ".join(image.name for image in images)
            raise InputError(f"There is nothing to keep of {names}: no pixel has a label.")
        kept = [self._keep(image, array, example) for image, array in labels.items()]
        self._measure_first(*kept)
        return [each.layer for each in kept]

    def _keep(self, image: Image, labels: np.ndarray, example: Image) -> KeptLayer:
        state, cut = self._state, self._state.cut
        result, edited = state.results[image], state.cut_of(image, cut)
        lazy = is_lazy(labels)
        # A copy: the preview may show the same array.
        data = state.layer_labels(image, cut, example)[0] if lazy else labels.astype(np.int32)
        if lazy and cut.refine:
            finest = result.hierarchy.refined(labels, cut.min_size)
            data = [finest, *data[1:]] if isinstance(data, list) else finest
        shown, place = placed_on(image, result.hierarchy.axes, data)
        layer = Labels(
            shown,
            name=f"{image.name} {edited.title(result.hierarchy)}",
            metadata={METADATA_KEY: edited.record(result.hierarchy, image.name)},
            visible=False,  # it would shine through the preview once that moves on
            **place,
        )
        colors = state.class_colors(cut)
        layer.colormap = label_colors() if colors is None else class_colormap(colors)
        on_disk = labels if lazy else None if isinstance(data, np.ndarray) else data
        classes = self._classes(image, cut, example)
        kept = KeptLayer(layer, image, result, classes, on_disk)
        self._put_under_preview(layer, image)
        self._follow(kept)
        return kept

    def _classes(self, image: Image, cut: Cut, example: Image) -> np.ndarray | None:
        """The class of each pixel, for the column of the table; None where labels are classes."""
        if cut.mode == "classes":
            return None
        # That of most pixels: borders need not follow the pixels.
        return self._state.labels(image, replace(cut, mode="classes", refine=False), example)

    def adopt(self, image: Image, layer: Labels) -> None:
        """Treat a preview that was painted on as kept: it gets a name and a table."""
        if image not in self._state.results:
            return
        layer.name = f"{image.name} painted"
        try:
            classes = self._classes(image, self._state.cut, image)
        except InputError as error:  # it is the user's all the same, without a table
            self.failed.emit(error)
            return
        self._follow(KeptLayer(layer, image, self._state.results[image], classes))
        self._outdated.add(layer)

    def remeasure(self, layer: Labels) -> None:
        """Measure a layer again if it was painted on since; raise InputError if it cannot be."""
        if layer in self._outdated and layer in self._state.kept:
            kept = self._state.kept[layer]
            self._table_of(kept)
            self._measure_first(kept)
            self.wait()

    def _follow(self, kept: KeptLayer) -> None:
        layers, events = self._viewer.layers, kept.layer.events
        others = {layer: k for layer, k in self._state.kept.items() if layer in layers}
        self._outdated = {layer for layer in self._outdated if layer in layers}
        self._state.kept = {**others, kept.layer: kept}
        changes = events.paint, events.data, events.scale, events.units
        self._connections.connect(lambda event: self._outdated.add(event.source), *changes)

    def table_of_pieces(self, layer: Labels) -> pd.DataFrame:
        """Return a table with a row for each connected piece, while Qt works; or raise."""
        if layer not in self._state.kept:
            raise InputError(f"{layer.name} was not kept with this window open: press Keep again.")
        outcomes: list[Outcome] = []
        kept, runner = self._state.kept[layer], JobRunner()
        work = measuring(self._table_of(kept, True), self._state.errors.get(kept.result.input))
        runner.ended.connect(outcomes.append)
        runner.start(Job("measuring", work))
        wait_until(lambda: bool(outcomes))
        (outcome,) = outcomes
        if isinstance(outcome, Failed):
            raise outcome.error
        assert isinstance(outcome, Done), "nothing stops it"  # noqa: S101
        table: pd.DataFrame = outcome.result[1]
        return table

    def _table_of(
        self, kept: KeptLayer, pieces: bool = False
    ) -> Callable[[np.ndarray | None], pd.DataFrame]:
        """Return what makes the table of a layer from the error of each pixel, for a thread.

        Lengths are as the layer itself lies now.
        """
        layer, hierarchy, given = kept.layer, kept.result.hierarchy, kept.classes
        labels = kept.on_disk
        if labels is None:
            labels = labels_in(np.asarray(layer.data), hierarchy.axes)
        if labels.shape != hierarchy.axes.space_shape:
            raise InputError(
                f"{layer.name} has another shape now, {labels.shape}: it cannot be measured on an "
                f"image of {hierarchy.axes.space_shape}."
            )
        axes = with_voxels_of(layer, hierarchy.axes)
        spacing = axes.spacing or (1.0,) * labels.ndim
        pixels, classes = kept.result.pixels, self._state.classes

        def table_of(error: np.ndarray | None) -> pd.DataFrame:
            maps = {} if error is None else {"reconstruction_error": error}
            if hierarchy.is_lazy and not is_lazy(labels):
                table = object_table(labels, axes).assign(**{"class": 0})  # not known
            else:
                has_background = not is_lazy(labels) and (labels == 0).any()  # lazy: on disk
                image = pixels if has_background else None
                table = hierarchy.table(labels, given, spacing, axes.unit, image, pieces, **maps)
                if axes.spacing is None:
                    table = table.drop(columns="area_pixels")  # the area is the same number
            of_label = "label" if pieces else "index"
            numbers = [int(n) for n in table[of_label if given is None else "class"]]
            names = classes.names_of(max(numbers, default=0))
            table["class"] = [names[number - 1] if number else "0" for number in numbers]
            table.attrs["unit"] = axes.unit
            return by_label(table)

        return table_of

    def _put_under_preview(self, layer: Labels, image: Image) -> None:
        layers, preview = self._viewer.layers, self._state.previews.get(image)
        selected = set(layers.selection)
        layers.insert(layers.index(preview) if preview in layers else len(layers), layer)
        layers.selection = selected  # a hidden layer is not what anybody wants to work on next

    def _measure_first(self, *kept: KeptLayer) -> None:
        """Measure layers before all that wait; what is at work begins again later."""
        self._waiting = [*((each, False) for each in kept), *self._waiting]
        self._measure_next()

    def _measure_next(self) -> None:
        """Begin to measure the first layer that waits and is there."""
        while self._waiting:
            kept, with_error = self._waiting[0]
            read, model = kept.result.input, kept.result.model
            try:
                if kept.layer in self._viewer.layers:
                    table_of, error = self._table_of(kept), self._state.errors.get(read)
                    first = None
                    if with_error and error is None and model is not None:
                        first = measuring_error(read, model, self._state.device)
                    self._outdated.discard(kept.layer)
                    self._runner.start(Job("measuring", measuring(table_of, error, first)))
                    return
            except InputError as failure:  # of another shape by now
                self.failed.emit(failure)
            del self._waiting[0]

    def _take_table(self, kept: KeptLayer, table: pd.DataFrame) -> None:
        kept.layer.features = table
        # The layer may be moved to other units, and napari keeps no attributes of a table.
        record = {**kept.layer.metadata.get(METADATA_KEY, {}), "unit": table.attrs["unit"]}
        kept.layer.metadata = {**kept.layer.metadata, METADATA_KEY: record}
        has_error = kept.result.input in self._state.errors
        if not has_error and kept.result.can_encode and not kept.result.hierarchy.is_lazy:
            self._waiting.append((kept, True))
        elif kept.layer in self._outdated:  # it was painted on meanwhile
            self._waiting.append((kept, False))
        self.measured.emit(kept.layer)

    def _on_ended(self, outcome: Outcome) -> None:
        kept, with_error = self._waiting.pop(0)
        if isinstance(outcome, Done):
            error, table = outcome.result
            if error is not None:
                self._state.errors[kept.result.input] = error
            if kept.layer in self._viewer.layers:
                self._take_table(kept, table)
        elif with_error:
            read = kept.result.input
            self._waiting = [
                (k, e) for k, e in self._waiting if not e or k.result.input is not read
            ]
        self._measure_next()
        if isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
