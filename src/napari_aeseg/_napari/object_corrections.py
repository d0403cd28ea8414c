"""What the user corrects on objects by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg._napari.layers.placement import checked_place
from napari_aeseg.errors import InputError
from napari_aeseg.regions.objects.edits import (
    DeleteObject,
    MergeObjects,
    ObjectEdit,
    SplitObject,
    TakeObject,
)

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.state import DockState

_ONE_OBJECT = "These places are in the same object: choose places in two objects."
_ONE_PIXEL = "This object is a single pixel, which cannot be split."
_NOTHING_MISSED = "Nothing stands out at this place: click inside what was missed."
_NONE_LARGER = "Nothing larger stands out at this place."
_NONE_SMALLER = "Nothing smaller stands out at this place: click the part that is meant."
# From this factor on, a candidate is larger than an object.
_LARGER = 1.15


class ObjectCorrections:
    """Writes corrections of objects to the state; places are data coordinates of the labels."""

    def __init__(self, state: DockState) -> None:
        self._state = state

    def add(self, image: Image, place: Sequence[int]) -> None:
        """Add the most likely object at a place without one."""
        at, objects = self._objects_at(image, place)
        if objects[at]:
            raise InputError("There is an object at this place already: click what was missed.")
        self._edit(image, TakeObject(at), _NOTHING_MISSED)

    def delete(self, image: Image, place: Sequence[int]) -> None:
        """Delete the object at a place."""
        self._edit(image, DeleteObject(self._place_inside(image, place)), "")

    def merge(self, image: Image, *places: Sequence[int]) -> None:
        """Merge the objects at some places."""
        at = tuple(self._place_inside(image, place) for place in places)
        self._edit(image, MergeObjects(at), _ONE_OBJECT)

    def split(self, image: Image, *places: Sequence[int]) -> None:
        """Split the object at a place: at its neck, or between this and other places in it."""
        at = tuple(self._place_inside(image, place) for place in places)
        self._edit(image, SplitObject(at), _ONE_PIXEL)

    def larger(self, image: Image, place: Sequence[int]) -> None:
        """Take the next larger candidate instead of the object at a place."""
        self._resize(image, place, larger=True)

    def smaller(self, image: Image, place: Sequence[int]) -> None:
        """Take the next smaller candidate instead of the object at a place."""
        self._resize(image, place, larger=False)

    def _resize(self, image: Image, place: Sequence[int], *, larger: bool) -> None:
        at, objects = self._objects_at(image, place)
        own = objects == objects[self._place_inside(image, place)]
        axes = self._state.results[image].hierarchy.axes
        if "T" in axes.space:  # candidates are of one frame
            own = own.take(at[axes.space.index("T")], axes.space.index("T"))
        size = int(own.sum())
        sizes = self._state.object_request(image, self._state.cut).sizes_at(at)
        if larger:
            nearest = min((s for s in sizes if s > _LARGER * size), default=None)
        else:
            nearest = max((s for s in sizes if s * _LARGER < size), default=None)
        unchanged = _NONE_LARGER if larger else _NONE_SMALLER
        if nearest is None:
            raise InputError(unchanged)
        self._edit(image, TakeObject(at, nearest), unchanged)

    def detect_now(self, image: Image) -> None:
        """Show objects with other corrections at once: what was found before these is kept."""
        request = self._state.object_request(image, self._state.cut)
        self._state.objects = {**self._state.objects, image: (request, request.answer())}

    def _objects_at(self, image: Image, place: Sequence[int]) -> tuple[tuple[int, ...], np.ndarray]:
        """The place in the labels, and all objects."""
        state = self._state
        if image not in state.results:
            raise InputError(f"{image.name} is not segmented yet: there are no objects to change.")
        if state.cut.mode != "objects":
            raise InputError("This correction is for objects: choose the mode Objects first.")
        objects = state.objects_of(image, state.cut)
        if objects is None:
            raise InputError("Objects are still being detected: wait until they are shown.")
        return checked_place(state.results[image].hierarchy, place), objects

    def _place_inside(self, image: Image, place: Sequence[int]) -> tuple[int, ...]:
        at, objects = self._objects_at(image, place)
        if not objects[at]:
            raise InputError("There is no object at this place: click inside one.")
        return at

    def _edit(self, image: Image, edit: ObjectEdit, unchanged: str) -> None:
        """Add an edit and show what it changes; raise InputError if that is nothing."""
        state = self._state
        before, result = state.objects[image][1], state.results[image]
        request = state.object_request(image, state.cut)
        request = replace(request, cut=replace(request.cut, edits=(*request.cut.edits, edit)))
        after = request.answer()  # at once: what was found is kept
        if np.array_equal(before, after):
            raise InputError(unchanged)
        undone = tuple(e for e in result.undone if not isinstance(e, ObjectEdit))
        state.change_result(image, edits=(*result.edits, edit), undone=undone)
        state.objects = {**state.objects, image: (request, after)}
        state.message = f"{state.summary(image)}."
