"""Correcting regions and objects, and giving examples, by clicks on the preview."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_aeseg._napari.layers.colors import with_one_white

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_aeseg._napari.state import DockState, Tool
    from napari_aeseg.regions.cuts.cut import Mode

_HINTS: dict[Tool | None, str] = {
    "merge": "Click the two, or drag from one to the other. Escape to end.",
    "split": "Click what to split. Escape to end.",
    "add": "Click an object that was missed. Escape to end.",
    "delete": "Click an object. Escape to end.",
    "larger": "Click an object. Escape to end.",
    "smaller": "Click an object. Escape to end.",
    "lock": "Click a region to lock it, again to unlock it. Escape to end.",
    "similar": "Click an example; then what is missing, and what is not meant. Escape to end.",
}
#: The modes in which a tool has something to act on.
MODES_OF_TOOL: dict[Tool, tuple[Mode, ...]] = {
    "add": ("objects",),
    "delete": ("objects",),
    "merge": ("regions", "objects"),
    "split": ("regions", "objects"),
    "larger": ("objects",),
    "smaller": ("objects",),
    "lock": ("regions",),
    "similar": ("regions", "objects"),
}
_KEYS = {"Control-Z": "undo", "Control-Shift-Z": "redo"}
_KEYS_AT_POINTER: dict[str, Tool] = {"Shift-Up": "larger", "Shift-Down": "smaller"}
_LEAST_DRAG = 4  # pixels; a click is seldom quite still
_LEAVE = "Escape"
_MOST_MARKED = 5000  # labels, whose colours take 0.1 s


class EditTools:
    """Turns clicks on previews into places, while a tool is chosen."""

    used = Signal(str, object, tuple)  # tool, "undo" or "redo"; image layer; places in its labels

    def __init__(self, viewer: Viewer, state: DockState) -> None:
        self._viewer = viewer
        self._state = state
        self._layers: dict[Image, Labels] = {}
        self._callbacks: dict[Image, partial[Any]] = {}
        self._first: tuple[Image, tuple[int, ...]] | None = None
        self._marked: tuple[Labels, Any] | None = None  # layer, and its colours before
        state.events.tool.connect(self._on_tool)
        state.events.cut.connect(self._on_cut)
        state.events.results.connect(self._forget_first)
        state.on("previews", draw=self._on_previews)

    def close(self) -> None:
        """Leave all clicks and keys to napari."""
        for image in list(self._layers):
            self._release(image)

    def _on_previews(self) -> None:
        """Listen to clicks and keys on the previews, and to those on no other layer."""
        previews = self._state.previews
        for image, layer in list(self._layers.items()):
            if previews.get(image) is not layer:
                self._release(image)
        for image, layer in previews.items():
            if image not in self._layers:
                self._watch(image, layer)

    def _watch(self, image: Image, layer: Labels) -> None:
        self._layers[image] = layer
        self._callbacks[image] = partial(self._on_drag, image)
        layer.mouse_drag_callbacks.append(self._callbacks[image])
        # A partial has no name, which napari looks at.
        for key, name in _KEYS.items():
            layer.bind_key(key, lambda _, n=name: self.used.emit(n, image, ()), overwrite=True)
        for key, tool in _KEYS_AT_POINTER.items():
            layer.bind_key(
                key, lambda at, t=tool: self._use_at_pointer(t, image, at), overwrite=True
            )
        layer.bind_key(_LEAVE, self._leave, overwrite=True)
        self._prepare(layer)

    def _use_at_pointer(self, tool: Tool, image: Image, layer: Labels) -> None:
        place = _place(layer, self._viewer.cursor.position)
        if place is not None and self._state.cut.mode in MODES_OF_TOOL[tool]:
            self.used.emit(tool, image, (place,))

    def _leave(self, *_: Any) -> None:
        """Put the tool down."""
        if self._state.tool is not None:
            self._state.tool = None

    def _on_cut(self) -> None:
        """Put the tool down where it has no use: strokes are painted with other clicks."""
        self._forget_first()
        tool = self._state.tool
        if tool is not None and self._state.cut.mode not in MODES_OF_TOOL[tool]:
            self._leave()

    def _mark_first(self, image: Image, layer: Labels, place: tuple[int, ...]) -> None:
        """Take a region or object for the first of two, and show it in white."""
        self._forget_first()
        self._first = (image, place)
        most = 0 if layer.multiscale else int(layer.data.max())
        if 0 < most <= _MOST_MARKED:
            self._marked = (layer, layer.colormap)
            layer.colormap = with_one_white(layer.colormap, most, _value(layer, place))

    def _forget_first(self) -> None:
        self._first = None
        if self._marked is not None:
            (layer, colormap), self._marked = self._marked, None
            layer.colormap = colormap

    def _release(self, image: Image) -> None:
        self._forget_first()
        layer, callback = self._layers.pop(image), self._callbacks.pop(image)
        if callback in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(callback)
        for key in (*_KEYS, *_KEYS_AT_POINTER, _LEAVE):
            layer.bind_key(key, None)
        _leave_to_napari(layer)

    def _on_tool(self) -> None:
        """Prepare the previews; that of the image in sight is made the active layer."""
        self._forget_first()
        for layer in self._layers.values():
            self._prepare(layer)
        tool, image = self._state.tool, self._state.first_image
        if tool is not None and image in self._layers:
            self._viewer.layers.selection.active = self._layers[image]
        self._state.message = _HINTS.get(tool, "")

    def _prepare(self, layer: Labels) -> None:
        """Have drags on a preview reach the chosen tool, if there is one, instead of napari."""
        if self._state.tool is None:
            _leave_to_napari(layer)
        else:
            layer.mode = "pan_zoom"  # a brush would paint as well
            layer.mouse_pan = False

    def _on_drag(self, image: Image, layer: Labels, event: Any) -> Generator[None, None, None]:
        is_preview = self._layers.get(image) is layer
        if self._state.tool is None or event.button != 1 or not is_preview:
            return
        if layer.mode != "pan_zoom":  # a brush was chosen since
            return
        start = _place(layer, event.position)
        yield
        while event.type == "mouse_move":
            yield
        end = _place(layer, event.position)
        if start is None:
            return
        if self._is_split(layer, start, end):
            self.used.emit("split", image, (start, end))
        elif self._state.tool != "merge":
            self.used.emit(self._state.tool, image, (start,))
        elif end is not None and _value(layer, start) != _value(layer, end):
            self._forget_first()
            self.used.emit("merge", image, (start, end))
        elif self._first is not None and self._first[0] is image:
            first = self._first[1]
            self._forget_first()
            self.used.emit("merge", image, (first, start))
        else:
            self._mark_first(image, layer, start)
            self._state.message = "Now click what to merge it with."

    def _is_split(self, layer: Labels, start: tuple[int, ...], end: tuple[int, ...] | None) -> bool:
        """Whether a drag goes from one part of an object to another, to split it between them."""
        if self._state.tool != "split" or self._state.cut.mode != "objects" or end is None:
            return False
        is_drag = np.abs(np.subtract(start, end)).max() >= _LEAST_DRAG
        return bool(is_drag) and _value(layer, start) == _value(layer, end) > 0


def _leave_to_napari(layer: Labels) -> None:
    layer.mouse_pan = layer.mode == "pan_zoom"


def _place(layer: Labels, position: tuple[float, ...]) -> tuple[int, ...] | None:
    """Return the pixel at a position of the world, None outside the image."""
    at = np.rint(layer.world_to_data(position)).astype(int)
    inside = all(0 <= i < n for i, n in zip(at, layer.data.shape, strict=True))
    return tuple(int(i) for i in at) if inside else None


def _value(layer: Labels, place: tuple[int, ...]) -> int:
    """Return the label of a pixel; of a large image, where there are coarser ones, the finest."""
    labels = layer.data[0] if layer.multiscale else layer.data
    return int(labels[place])
