"""Keeps the plugin's layers on their images when these are scaled, moved or turned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg._napari.layers.connections import Connections
from napari_aeseg._napari.layers.placement import arguments_on, lies_at, move
from napari_aeseg.images.napari_layers import layer_levels

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_aeseg._napari.state import DockState

_EVENTS = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


class LayerAlignment:
    """Moves layers with the image that they lie on; one that the user has moved stays there."""

    def __init__(self, state: DockState, layers_on: Callable[[Image], Iterable[Layer]]) -> None:
        self._state = state
        self._layers_on = layers_on
        self._images: set[Image] = set()
        self._connections = Connections()
        state.on("results", draw=self._on_results)

    def close(self) -> None:
        """Leave the images to napari."""
        self._connections.disconnect_all()

    def _on_results(self) -> None:
        results = self._state.results
        self._state.places = {i: place for i, place in self._state.places.items() if i in results}
        for image in self._images - set(results):
            self._connections.disconnect(*(image.events[name] for name in _EVENTS))
        for image in set(results) - self._images:
            events = (image.events[name] for name in _EVENTS)
            self._connections.connect(lambda event: self._follow(event.source), *events)
        self._images = set(results)
        for image in results:
            self._follow(image)

    def _follow(self, image: Image) -> None:
        """Move what lies on an image to where that is now."""
        result, places = self._state.results[image], self._state.places
        current = result.hierarchy.axes
        if not result.input.has_shape_of(image):
            return
        shapes = {np.shape(level) for level in layer_levels(image)}
        # Of earlier results too, which may have had another resolution: layers of them were kept.
        before = places.get(image, {})
        before = {a: p for a, p in before.items() if a.shape in shapes or a == current}
        places[image] = {
            # Labels, and pixels with channels.
            axes: tuple(arguments_on(image, axes, a) for a in (axes.space, axes.letters))
            for axes in {current: (), **before}
        }
        moves = [
            (old, new)
            for axes, places_before in before.items()
            for old, new in zip(places_before, places[image][axes], strict=True)
        ]
        for layer in self._layers_on(image):
            for old, new in moves:
                if lies_at(layer, old):
                    if not lies_at(layer, new):
                        move(layer, new)
                    break
