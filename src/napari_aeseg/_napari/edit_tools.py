"""Merging and splitting regions by clicks on the preview."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.layers import Image, Labels
    from napari.viewer import Viewer

TOOLS = ("merge", "split")


class EditTools:
    """Turns clicks on previews into places, while a tool is in hand.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Attributes
    ----------
    merged : psygnal.Signal(Image layer, place, place)
        Data coordinates in two regions.
    split : psygnal.Signal(Image layer, place)
    waiting : psygnal.Signal()
        The first of two regions was clicked.
    undo, redo : psygnal.Signal(Image layer)
        The keys were pressed on the preview.
    """

    merged = Signal(object, tuple, tuple)
    split = Signal(object, tuple)
    waiting = Signal()
    undo = Signal(object)
    redo = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layers: dict[Image, Labels] = {}
        self._listeners: dict[Labels, partial[Any]] = {}
        self._first: tuple[Image, tuple[int, ...]] | None = None
        self.tool: str | None = None

    def watch(self, image: Image, layer: Labels) -> None:
        """Listen to the clicks and keys on an image's preview."""
        self._layers[image] = layer
        self._listeners[layer] = partial(self._on_drag, image)
        layer.mouse_drag_callbacks.append(self._listeners[layer])
        layer.bind_key("Control-Z", lambda _: self.undo.emit(image), overwrite=True)
        layer.bind_key("Control-Shift-Z", lambda _: self.redo.emit(image), overwrite=True)
        layer.mouse_pan = self.tool is None

    def leave(self) -> None:
        """Listen to no preview any more, and give them napari's own keys and mouse back."""
        for layer, listener in self._listeners.items():
            layer.mouse_drag_callbacks.remove(listener)
            for keys in ("Control-Z", "Control-Shift-Z"):
                layer.bind_key(keys, None)
        for layer in self._layers.values():
            layer.mouse_pan = True
        self._layers, self._listeners, self.tool = {}, {}, None

    def take(self, tool: str | None, images: list[Image]) -> None:
        """Take a tool in hand, or none; the first preview of `images` is made the active layer."""
        self.tool, self._first = tool, None
        for layer in self._layers.values():
            layer.mouse_pan = tool is None
        ours = [self._layers[image] for image in images if image in self._layers]
        active = self._viewer.layers.selection.active
        if tool is not None and ours and active not in ours and ours[0] in self._viewer.layers:
            self._viewer.layers.selection.active = ours[0]

    def _on_drag(self, image: Image, layer: Labels, event: Any) -> Generator[None, None, None]:
        if self.tool is None or event.button != 1 or layer is not self._layers.get(image):
            return
        start = _place(layer, event.position)
        yield
        while event.type == "mouse_move":
            yield
        end = _place(layer, event.position)
        if start is None:
            return
        if self.tool == "split":
            self.split.emit(image, start)
        elif end is not None and layer.data[start] != layer.data[end]:
            self._first = None
            self.merged.emit(image, start, end)
        elif self._first is not None and self._first[0] is image:
            first, self._first = self._first[1], None
            self.merged.emit(image, first, start)
        else:
            self._first = (image, start)
            self.waiting.emit()


def _place(layer: Labels, position: tuple[float, ...]) -> tuple[int, ...] | None:
    """Return the pixel at a position of the world, None outside the image."""
    at = np.rint(layer.world_to_data(position)).astype(int)
    inside = all(0 <= i < n for i, n in zip(at, layer.data.shape, strict=True))
    return tuple(int(i) for i in at) if inside else None
