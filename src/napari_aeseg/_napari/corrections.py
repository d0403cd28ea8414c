"""What the user corrects by hand: regions merged and split, strokes, names of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_aeseg._napari.drafts import MOST_STROKES, Draft, by_hand
from napari_aeseg._napari.find_similar import Examples
from napari_aeseg._napari.layers.colors import check_colors, stroke_colors
from napari_aeseg._napari.layers.connections import Connections
from napari_aeseg._napari.layers.image_input import unwrapped
from napari_aeseg._napari.layers.placement import checked_place, placed_on
from napari_aeseg._napari.object_corrections import ObjectCorrections
from napari_aeseg._napari.state import DockState, Result, edits_of
from napari_aeseg.errors import InputError
from napari_aeseg.regions.cuts.edits import Edit, Merge, Split
from napari_aeseg.regions.objects.edits import ObjectEdit

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_aeseg.prototypes import Prototypes

# In pixels, and as part of the image's shorter side: in small images, more covers whole parts.
_BRUSH, _PART_OF_SIDE = 10, 40
_ONE_PATCH = (
    "This region is a single patch, which cannot be split: choose a larger one, or segment again "
    "with smaller patches."
)
_LOCKED = "This region is locked: click it with Lock to unlock it first."
_IN_BLOCKS = "This image is processed in blocks: open a part of it that fits into memory."
_UNSAVED = (
    "Strokes on an image of this size do not save themselves: press Save session now and then."
)
_STORED = "The classes are stored in the model: press Save model to have them another day."
_ONE_REGION = "These places are in the same region: choose places in two regions."


class ManualCorrections:
    """Writes corrections to the state, one image at a time."""

    def __init__(
        self, viewer: Viewer, state: DockState, strokes_changed: Callable[[], object]
    ) -> None:
        self._viewer = viewer
        self._state = state
        self.objects = ObjectCorrections(state)
        self._strokes_changed = strokes_changed
        # Strokes when the previews were updated last.
        self._strokes: WeakKeyDictionary[Labels, np.ndarray] = WeakKeyDictionary()
        self._connections = Connections()
        self._mode = ""
        for result in state.results.values():  # of a dock that was closed
            if result.markers is not None:
                self._follow(result.markers)
        self._class_colors: tuple[str, ...] | None = None
        state.on("cut", draw=self._show_strokes)
        state.on("cut", "classes", "learned", draw=self._color_strokes)

    def close(self) -> None:
        """Leave the strokes to napari."""
        self._connections.disconnect_all()

    # Edits

    def merge(self, image: Image, *places: Sequence[int]) -> None:
        """Merge the regions or objects at some places, in data coordinates of the labels."""
        if self._state.cut.mode == "objects":
            return self.objects.merge(image, *places)
        result = self._editable(image, *places)
        patches = tuple(self._patch(image, result, place) for place in places)
        if len(set(patches)) < 2:
            raise InputError(_ONE_REGION)
        return self._edit(image, Merge(patches))

    def split(self, image: Image, *places: Sequence[int]) -> None:
        """Split the region at a place along the tree, or an object (see `ObjectCorrections`)."""
        if self._state.cut.mode == "objects":
            return self.objects.split(image, *places)
        result = self._editable(image, *places)
        before, edit = self._edited(result), Split(self._patch(image, result, places[0]))
        part = np.flatnonzero(before != self._edited(result, edit))
        if not len(part):
            raise InputError(_ONE_PATCH)
        # Named, they are split off at the same border when patches are compared in another way.
        return self._edit(image, replace(edit, part=tuple(part.tolist())))

    def undo(self, image: Image) -> bool:
        """Undo the last edit of this mode, or go back to edits that fitted; False without any."""
        if self._move_last(image, "edits", "undone"):
            return True
        result = self._state.results.get(image)
        if result is None or result.earlier is None:
            return False
        earlier = replace(result.earlier, markers=result.markers)
        self._state.results = {**self._state.results, image: earlier}
        self._state.message = f"{self._state.summary(image)}, as before."
        return True

    def redo(self, image: Image) -> bool:
        """Redo the edit that was undone last; return False when there is none."""
        return self._move_last(image, "undone", "edits")

    def _move_last(self, image: Image, source: str, target: str) -> bool:
        """Move the last edit of this mode from one field of a result to another one."""
        result = self._state.results.get(image)
        mine = [] if result is None else edits_of(getattr(result, source), self._state.cut.mode)
        if not mine:
            return False
        edits = [edit for edit in getattr(result, source) if edit is not mine[-1]]
        moved = (*getattr(result, target), mine[-1])
        is_found = self._state.objects_of(image, self._state.cut) is not None
        self._state.change_result(image, **{source: tuple(edits), target: moved})
        if self._state.cut.mode == "objects" and is_found:
            self.objects.detect_now(image)
        self._state.message = f"{self._state.summary(image)}."
        return True

    def lock(self, image: Image, place: Sequence[int]) -> None:
        """Lock the region at a place, or unlock it."""
        result = self._editable(image)
        state = self._state
        if result.hierarchy.is_lazy:
            raise InputError(_IN_BLOCKS)
        labels = state.labels(image, state.cut, state.example_of(state.images) or image)
        place = checked_place(result.hierarchy, place)
        locked = np.zeros(labels.shape, np.int32) if result.locked is None else result.locked.copy()
        if locked[place]:
            locked[locked == locked[place]] = 0
        else:
            locked[labels == labels[place]] = labels[place]
        number = len(np.unique(locked[locked > 0]))
        state.change_result(image, locked=locked if number else None)
        state.message = f"{number} locked {'region' if number == 1 else 'regions'}."

    # Similar segments

    def find_similar(self, image: Image, place: Sequence[int]) -> None:
        """Show what looks like the segment at a place; or take it out again, see `Examples`."""
        state = self._state
        mode, example = state.cut.mode, state.example_of(state.images) or image
        if mode not in ("regions", "objects"):
            raise InputError("Similar segments are found among regions or objects: choose these.")
        result = state.results[image]
        if result.hierarchy.is_lazy:
            raise InputError(_IN_BLOCKS)
        place, (shown, _) = (
            checked_place(result.hierarchy, place),
            state.cut_labels(image, state.cut, example),
        )
        labels = state.patch_labels(image, state.cut, example)
        if labels[place] != shown[place]:  # beside a border that follows the pixels
            inside = np.argwhere(labels == shown[place])
            place = tuple(inside[np.abs(inside - place).sum(axis=1).argmin()].tolist())
        before = result.examples or Examples(mode)
        before = before if before.mode == mode else Examples(mode)
        similar = state.similar_ids(image, state.cut, example)
        examples = before.clicked(place, labels, np.zeros(0) if similar is None else similar)
        state.change_result(image, examples=examples if examples.wanted else None)
        similar = state.similar_ids(image, state.cut, example)
        if similar is None:
            state.message = ""
        else:
            noun = mode.removesuffix("s") if len(similar) == 1 else mode
            state.message = f"{len(similar)} similar {noun}."

    def forget_examples(self) -> None:
        """Show all segments of all images again."""
        for image in self._state.results:
            self._state.change_result(image, examples=None)

    def _editable(self, image: Image, *places: Sequence[int]) -> Result:
        if image not in self._state.results:
            raise InputError(f"{image.name} is not segmented yet: there are no regions to change.")
        if self._state.cut.mode != "regions":
            raise InputError(
                "Regions and objects can be corrected: choose the mode Regions or Objects first."
            )
        result = self._state.results[image]
        if result.locked is not None and any(
            result.locked[checked_place(result.hierarchy, p)] for p in places
        ):
            raise InputError(_LOCKED)
        return result

    def _edited(self, result: Result, *more: Edit) -> np.ndarray:
        """The region of each patch, with some edits more."""
        cut = replace(self._state.cut, edits=(*result.edits, *more))
        return cut.of_patch(result.hierarchy)

    def _edit(self, image: Image, edit: Edit) -> None:
        """Add an edit; raise InputError if it would change nothing."""
        result = self._state.results[image]
        if np.array_equal(self._edited(result), self._edited(result, edit)):
            raise InputError(_ONE_REGION)
        undone = tuple(e for e in result.undone if isinstance(e, ObjectEdit))
        self._state.change_result(image, edits=(*result.edits, edit), undone=undone)
        self._state.message = f"{self._state.summary(image)}."

    def _patch(self, image: Image, result: Result, place: Sequence[int]) -> int:
        """Return the patch at a place, or the nearest one of the region that is shown there."""
        patch, place = _patch(result, place), tuple(place)
        preview, hierarchy = self._state.previews.get(image), result.hierarchy
        if preview is None or hierarchy.is_lazy or preview.data.shape != hierarchy.patches.shape:
            return patch
        region = self._edited(result)
        shown, band = preview.data[place], hierarchy.border_band
        window = tuple(slice(max(i - n, 0), i + n + 1) for i, n in zip(place, band, strict=True))
        at = np.argwhere(region[hierarchy.patches[window]] == shown)
        if region[patch] == shown or not len(at):
            return patch
        corner = [s.start for s in window]
        distance = np.abs(at + corner - np.array(place)).sum(axis=1)
        return int(hierarchy.patches[window][tuple(at[distance.argmin()])])

    # Strokes

    def paint(self, image: Image) -> Labels:
        """Make the strokes layer of a segmented image the active one, with the brush."""
        result = self._state.results.get(image)
        if result is None:
            raise InputError("There is nothing to paint strokes on: segment an image first.")
        layer = result.markers
        if layer is None or layer not in self._viewer.layers:
            layer = self._new_strokes(image, np.zeros(result.hierarchy.patches.shape, np.uint8))
        layer.visible = True
        if layer.data.size > MOST_STROKES:
            self._state.message = _UNSAVED
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"
        return layer

    def _show_strokes(self) -> None:
        """Show strokes in the mode "markers", and hide them when another one is chosen."""
        mode = self._state.cut.mode
        if mode == self._mode:
            return
        self._mode = mode
        for result in self._state.results.values():
            if result.markers is not None:
                result.markers.visible = mode == "markers"

    def _color_strokes(self) -> None:
        """Give strokes the colours of classes where they are these."""
        cut = self._state.cut
        if cut.mode != "markers" or self._state.class_colors(cut) == self._class_colors:
            return
        self._class_colors = self._state.class_colors(cut)
        for result in self._state.results.values():
            if result.markers is not None:
                result.markers.colormap = stroke_colors(self._class_colors)

    def restore(self, image: Image, draft: Draft) -> None:
        """Bring back what was done by hand on a segmented image."""
        patches = self._state.results[image].hierarchy.patches
        self._state.change_result(image, **by_hand(draft, patches))
        if draft.strokes is not None and draft.strokes.shape == patches.shape:
            self._new_strokes(image, draft.strokes).visible = self._state.cut.mode == "markers"

    def _new_strokes(self, image: Image, strokes: np.ndarray) -> Labels:
        """Make the layer of strokes of an image."""
        strokes, place = placed_on(image, self._state.results[image].hierarchy.axes, strokes)
        layer: Labels = unwrapped(
            self._viewer.add_labels(
                strokes,
                name=f"{image.name} strokes",
                colormap=stroke_colors(self._class_colors),
                opacity=1.0,
                **place,
            )
        )
        side = min(self._state.results[image].hierarchy.axes.space_shape[-2:])
        layer.brush_size = min(_BRUSH, max(1, side // _PART_OF_SIDE))
        self._follow(layer)
        self._state.change_result(image, markers=layer)
        return layer

    def _follow(self, strokes: Labels) -> None:
        """Have the previews updated whenever strokes change."""
        events = strokes.events
        # Strokes when they end, an array that is given, strokes while they go on.
        self._connections.connect(self._on_painted, events.paint, events.data, events.labels_update)
        self._connections.connect(self._on_drawn, events.set_data)

    def _on_painted(self, event: Any) -> None:
        self._strokes_changed()

    def _on_drawn(self, event: Any) -> None:
        layer = event.source
        # The only event of undo and redo; it also comes with every other slice.
        before = self._strokes.get(layer)
        if before is None or not np.array_equal(layer.data, before):
            self._strokes[layer] = np.array(layer.data)
            self._strokes_changed()

    # Classes

    def rename(self, number: int, name: str) -> None:
        """Name a class; one that is no longer shown is left alone."""
        if number <= self._state.n_classes:
            self._restyle("names", number, name.strip() or f"class {number}")

    def recolor(self, number: int, color: str) -> None:
        """Give a class a colour, such as "#ff8800"."""
        check_colors([color])
        self._restyle("colors", number, color)

    def _restyle(self, field: str, number: int, value: str) -> None:
        classes = self._state.classes
        values_of = classes.names_of if field == "names" else classes.colors_of
        values = list(values_of(max(number, len(getattr(classes, field)))))
        values[number - 1] = value
        self._store(**{field: tuple(values)})

    def fix_classes(self, image: Image) -> None:
        """Store the classes of an image in its model, so that they are the same everywhere."""
        model = self._state.model
        if model is None:
            raise InputError("There is no model to keep classes with: segment an image first.")
        self._check_model(image)
        prototypes = self._state.cut.prototypes_of(self._state.results[image].hierarchy)
        self._store(prototypes=prototypes, model=model)
        self._state.message = _STORED

    def _check_model(self, image: Image) -> None:
        if self._state.results[image].model is not self._state.model:
            raise InputError(
                f"{image.name} was segmented with another model than the current one: segment it "
                "again, or load that model first."
            )

    def store_learned(self) -> None:
        """Store the classes that were learned from strokes in the model, and show them."""
        state, learned = self._state, self._state.learned
        if learned is None or state.model is None:
            raise InputError("No class is learned yet: paint a stroke of each class first.")
        self._check_model(next(iter(learned.request.hierarchies)))
        self._store(prototypes=learned.prototypes, model=state.model)
        state.change_cut(mode="classes")
        state.message = _STORED

    def shown_prototypes(self, image: Image | None) -> Prototypes | None:
        """Return the classes that are shown, with names and colours, to find them in files."""
        state = self._state
        if state.cut.learns_classes:
            if state.learned is None:
                raise InputError("No class is learned yet: paint a stroke of each class first.")
            return state.classes.named(state.learned.prototypes)
        if image is None or not state.cut.needs_classes:
            return None
        if state.classes.prototypes is not None:
            return state.classes.prototypes
        self._check_model(image)
        return state.classes.named(state.cut.prototypes_of(state.results[image].hierarchy))

    def release_classes(self) -> None:
        """Let classes follow each image again."""
        if self._state.model is not None:
            self._state.model.prototypes = None
        self._state.classes = replace(self._state.classes, prototypes=None)

    def _store(self, **changes: Any) -> None:
        """Change the classes; where they are fixed, their prototypes and model have them too."""
        classes = replace(self._state.classes, **changes)
        if classes.prototypes is not None:
            prototypes = classes.named(classes.prototypes)
            classes = replace(classes, prototypes=prototypes)
            if classes.model is not None:
                classes.model.prototypes = prototypes
        self._state.classes = classes


def _patch(result: Result, place: Sequence[int]) -> int:
    return int(result.hierarchy.patches[checked_place(result.hierarchy, place)])
