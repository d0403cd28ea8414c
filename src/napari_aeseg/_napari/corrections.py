"""What the user steers by hand: regions merged and split, strokes, names of classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from napari_aeseg._napari.layers.adapter import labels_arguments, unwrapped
from napari_aeseg._napari.layers.clicks import TOOLS, EditTools
from napari_aeseg._napari.layers.colors import check_colors, class_color, label_colors
from napari_aeseg._napari.listening import Listening
from napari_aeseg._napari.state import ClassStyle
from napari_aeseg.errors import InputError
from napari_aeseg.regions.cuts.edits import Merge, Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_aeseg._napari.state import Result, Results
    from napari_aeseg._napari.tuning import Cut, Edit
    from napari_aeseg.autoencoder.model import Model

_BRUSH = 10  # pixels; napari's own is 10 as well, said here because strokes need it


class Steering:
    """Changes what the previews show, one image at a time.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    results : Results

    Attributes
    ----------
    changed : psygnal.Signal()
        The previews are to be shown anew.
    said : psygnal.Signal(str)
        A line for the user.
    """

    changed = Signal()
    said = Signal(str)

    def __init__(self, viewer: Viewer, results: Results) -> None:
        self._viewer = viewer
        self._results = results
        # Strokes when they were drawn anew last.
        self._drawn: WeakKeyDictionary[Labels, np.ndarray] = WeakKeyDictionary()
        self._mode = ""
        self._listening = Listening()
        self.tools = EditTools(viewer)
        results.shown.connect(self.tools.watch)
        results.touched.connect(self.tools.release)
        self.tools.waiting.connect(lambda: self.said.emit("Now click the region to merge it with."))

    def leave(self) -> None:
        """Leave layers to napari, and be silent from now on."""
        self._listening.leave()
        self.tools.leave()

    # Edits

    def take(self, tool: str | None, images: list[Image]) -> None:
        """Take "merge" or "split" in hand, or neither."""
        if tool is not None and tool not in TOOLS:
            raise InputError(f"tool = {tool!r}: choose one of {', '.join(TOOLS)}, or None.")
        self.tools.take(tool, images)
        hints = {
            "merge": "Drag from one region to another, or click both.",
            "split": "Click the region to split.",
        }
        self.said.emit(hints.get(tool or "", ""))

    def merge(self, image: Image, cut: Cut, *places: Sequence[int]) -> None:
        """Merge the regions at some places, in data coordinates of the labels."""
        result = self._result(image, cut)
        patches = tuple(self._patch(result, place) for place in places)
        if len(set(patches)) < 2:
            raise InputError("These places are in one region already: choose another one.")
        self._edit(image, cut, Merge(patches))

    def split(self, image: Image, cut: Cut, place: Sequence[int]) -> None:
        """Split the region at a place along the tree."""
        result = self._result(image, cut)
        self._edit(image, cut, Split(self._patch(result, place)))

    def undo(self, image: Image) -> bool:
        """Take back the last edit; return False when there is none."""
        result = self._results.of.get(image)
        if result is None or not result.edits:
            return False
        *kept, last = result.edits
        result.edits, result.undone = tuple(kept), (*result.undone, last)
        self.changed.emit()
        return True

    def redo(self, image: Image) -> bool:
        """Do the edit again that was taken back last; return False when there is none."""
        result = self._results.of.get(image)
        if result is None or not result.undone:
            return False
        *undone, last = result.undone
        result.edits, result.undone = (*result.edits, last), tuple(undone)
        self.changed.emit()
        return True

    def _edit(self, image: Image, cut: Cut, edit: Edit) -> None:
        result = self._results.of[image]
        before = replace(cut, edits=result.edits).of_patch(result.hierarchy)
        edits = (*result.edits, edit)
        if np.array_equal(before, replace(cut, edits=edits).of_patch(result.hierarchy)):
            raise InputError(
                "These places are in one region already: choose another one."
                if isinstance(edit, Merge)
                else "This region is a single patch, which cannot be split: choose a larger one, "
                "or segment again with smaller patches."
            )
        result.edits, result.undone = edits, ()
        self.said.emit("")
        self.changed.emit()

    def _result(self, image: Image, cut: Cut) -> Result:
        if image not in self._results.of:
            raise InputError(f"{image.name} is not segmented yet: there are no regions to change.")
        if cut.mode != "regions":
            raise InputError("Merging and splitting act on regions: switch to that mode first.")
        return self._results.of[image]

    def _patch(self, result: Result, place: Sequence[int]) -> int:
        patches = result.hierarchy.patches
        place = tuple(place)
        fits = len(place) == patches.ndim
        if not fits or any(not 0 <= i < n for i, n in zip(place, patches.shape, strict=True)):
            raise InputError(f"place = {place}: give a pixel of an image of shape {patches.shape}.")
        return int(patches[place])

    # Strokes

    def markers_of(self, image: Image) -> Labels:
        """Return the strokes layer of a segmented image; it is made when there is none."""
        result = self._results.of.get(image)
        if result is None:
            raise InputError("There is nothing to steer by strokes: segment an image first.")
        if result.markers is None or result.markers not in self._viewer.layers:
            result.markers = self._new_markers(image, result)
        return result.markers

    def show_strokes(self, mode: str) -> None:
        """Show strokes while they steer, and hide them when another mode is chosen."""
        if mode == self._mode:
            return
        self._mode = mode
        for result in self._results.of.values():
            if result.markers is not None:
                result.markers.visible = mode == "markers"

    def begin_painting(self, image: Image) -> Labels:
        """Make the strokes layer the active one, with the brush in hand."""
        layer = self.markers_of(image)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"
        return layer

    def _new_markers(self, image: Image, result: Result) -> Labels:
        layer = unwrapped(
            self._viewer.add_labels(
                np.zeros(result.hierarchy.patches.shape, np.uint8),
                name=f"{image.name} strokes",
                colormap=label_colors(),  # a stroke has the colour of the segment it grows to
                **labels_arguments(image, result.hierarchy.axes),
            )
        )
        layer.brush_size = _BRUSH
        self.follow(layer)
        return layer

    def follow(self, strokes: Labels) -> None:
        """Have the previews shown anew whenever strokes change."""
        events = strokes.events
        # Strokes when they end, an array that is given, strokes while they go on.
        self._listening.to(events.paint, events.data, events.labels_update, then=self._on_painted)
        self._listening.to(events.set_data, then=self._on_drawn)

    def _on_painted(self, event: Any) -> None:
        self.changed.emit()

    def _on_drawn(self, event: Any) -> None:
        layer = event.source
        # All that napari tells of undo and redo, and it tells the same of every other slice.
        if not np.array_equal(layer.data, self._drawn.get(layer)):
            self._drawn[layer] = np.array(layer.data)
            self.changed.emit()

    # Classes

    def style(self, n_classes: int) -> None:
        """Have a name and a colour for every class."""
        classes = self._results.classes
        if classes.prototypes is not None:
            n_classes = len(classes.prototypes.centres)
        numbers = range(len(classes.names) + 1, n_classes + 1)
        classes.names += tuple(f"class {i}" for i in numbers)
        classes.colors += tuple(class_color(i) for i in numbers)

    def rename(self, number: int, name: str) -> None:
        """Name a class; one that is no longer there is left alone."""
        classes = self._results.classes
        if number > len(classes.names):  # a row that was hidden while it was typed into
            return
        names = list(classes.names)
        names[number - 1] = name.strip() or f"class {number}"
        classes.names = tuple(names)
        self._store()

    def recolor(self, number: int, color: str) -> None:
        """Give a class a colour, such as "#ff8800"."""
        check_colors([color])
        classes = self._results.classes
        colors = list(classes.colors)
        colors[number - 1] = color
        classes.colors = tuple(colors)
        self._store()
        self.changed.emit()

    def fix(self, model: Model, image: Image, n_classes: int) -> None:
        """Keep the classes of an image with its model."""
        result, classes = self._results.of[image], self._results.classes
        if result.model is not model:
            raise InputError(
                f"{image.name} was segmented with another model than the one in use: segment it "
                "again, or load that model first."
            )
        n_classes = min(n_classes, result.hierarchy.max_classes)
        classes.prototypes, classes.model = result.hierarchy.prototypes(n_classes), model
        self._store()
        self.changed.emit()

    def release(self, model: Model | None) -> None:
        """Let classes follow each image again."""
        self._results.classes.prototypes = None
        if model is not None:
            model.prototypes = None
        self.changed.emit()

    def take_over(self, model: Model | None) -> None:
        """Use the classes that a model brings along, if any."""
        prototypes = None if model is None else model.prototypes
        if prototypes is None:
            self._results.classes.prototypes = None
            return
        number = len(prototypes.centres)
        names = prototypes.names or tuple(f"class {i + 1}" for i in range(number))
        colors = prototypes.colors or tuple(class_color(i + 1) for i in range(number))
        self._results.classes = ClassStyle(colors, names, prototypes, model)

    def _store(self) -> None:
        """Write names and colours into the prototypes, and these into the model."""
        classes = self._results.classes
        if classes.prototypes is None:
            return
        number = len(classes.prototypes.centres)
        classes.prototypes = replace(
            classes.prototypes, names=classes.names[:number], colors=classes.colors[:number]
        )
        if classes.model is not None:
            classes.model.prototypes = classes.prototypes
