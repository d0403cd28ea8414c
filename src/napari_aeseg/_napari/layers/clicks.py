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
_KEYS = ("Control-Z", "Control-Shift-Z")  # undo, redo


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
        self._callbacks: dict[Image, partial[Any]] = {}
        self._first: tuple[Image, tuple[int, ...]] | None = None
        self.tool: str | None = None

    def watch(self, image: Image, layer: Labels) -> None:
        """Listen to the clicks and keys on an image's preview, and to those on no other one."""
        self.release(image)
        self._layers[image] = layer
        self._callbacks[image] = partial(self._on_drag, image)
        layer.mouse_drag_callbacks.append(self._callbacks[image])
        for key, signal in zip(_KEYS, (self.undo, self.redo), strict=True):
            layer.bind_key(key, lambda _, signal=signal: signal.emit(image), overwrite=True)
        self._prepare(layer)

    def release(self, image: Image, *_: object) -> None:
        """Leave clicks and keys on what was the preview of an image to napari."""
        layer = self._layers.pop(image, None)
        if layer is None:
            return
        callback = self._callbacks.pop(image)
        if callback in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(callback)
        for key in _KEYS:
            layer.bind_key(key, None)
        _leave_to_napari(layer)

    def leave(self) -> None:
        """Put the tool down, and leave all clicks and keys to napari."""
        self.take(None, [])
        for image in list(self._layers):
            self.release(image)

    def take(self, tool: str | None, images: list[Image]) -> None:
        """Take a tool in hand, or none; the first preview of `images` is made the active layer."""
        self.tool, self._first = tool, None
        for layer in self._layers.values():
            self._prepare(layer)
        ours = [self._layers[image] for image in images if image in self._layers]
        active = self._viewer.layers.selection.active
        if tool is not None and ours and active not in ours and ours[0] in self._viewer.layers:
            self._viewer.layers.selection.active = ours[0]

    def _prepare(self, layer: Labels) -> None:
        """Have drags on a preview reach the tool in hand, if there is one, instead of napari."""
        if self.tool is None:
            _leave_to_napari(layer)
        else:
            layer.mode = "pan_zoom"  # a brush in hand would paint as well
            layer.mouse_pan = False

    def _on_drag(self, image: Image, layer: Labels, event: Any) -> Generator[None, None, None]:
        if self.tool is None or event.button != 1 or layer is not self._layers.get(image):
            return
        if layer.mode != "pan_zoom":  # a brush was taken in hand since
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
        elif end is not None and _value(layer, start) != _value(layer, end):
            self._first = None
            self.merged.emit(image, start, end)
        elif self._first is not None and self._first[0] is image:
            first, self._first = self._first[1], None
            self.merged.emit(image, first, start)
        else:
            self._first = (image, start)
            self.waiting.emit()


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
