"""Layers that explain a segmentation: features, reconstruction, boundaries."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg._napari.layers.image_input import (
    METADATA_KEY,
    as_layer_dtype,
    unwrapped,
)
from napari_aeseg._napari.layers.placement import placed_on
from napari_aeseg._napari.work.jobs import measuring_error
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

    from napari_aeseg._napari.state import DockState, Result
    from napari_aeseg._napari.work.worker import Work
    from napari_aeseg.progress import Progress

# Each diagnostic: name of the layer, and what it shows.
DIAGNOSTICS = {
    "features": "The first three principal components of the encoder features of each patch, as "
    "red, green and blue. Patches of the same colour look alike to the network.",
    "reconstruction": "The image as the autoencoder reconstructs it.",
    "reconstruction error": "The squared difference between the image and its reconstruction, in "
    "units of normalised intensity. Bright parts are unlike the training images.",
    "border strength": "The highest threshold at which a border between two patches remains. "
    "Bright borders are in every segmentation, dim ones in fine segmentations only.",
    "merge height": "The threshold at which each region merges with its neighbour. Bright regions "
    "stay longest. Press again after the regions have changed.",
}
#: A layer of classes from strokes, which not every segmentation has.
UNCERTAINTY = "class uncertainty"
_COLORMAPS = {
    "reconstruction error": "magma",
    "border strength": "gray",
    UNCERTAINTY: "inferno",
    "merge height": "viridis",
}


class DiagnosticLayers:
    """Makes the layers, and shows new values in those that are still there."""

    def __init__(self, viewer: Viewer, state: DockState) -> None:
        self._viewer = viewer
        self._state = state
        self._layers: dict[tuple[Image, str], Layer] = {}

    def work(self, name: str) -> Work:
        """Return the work that computes a diagnostic of all chosen images that are segmented."""
        state, images = self._state, list(self._state.hierarchies)
        if name not in (*DIAGNOSTICS, UNCERTAINTY):
            names = ", ".join((*DIAGNOSTICS, UNCERTAINTY))
            raise InputError(f"look at {name!r}: choose one of {names}.")
        if not images:
            raise InputError("No image is segmented yet: press Segment first.")
        for image in images:
            _check(image, state.results[image], name)
        labels: dict[Image, np.ndarray | None] = dict.fromkeys(images)
        if name == "merge height":
            regions = replace(state.cut, mode="regions")  # only they are nodes of the tree
            labels = {i: state.cut_labels(i, regions, images[0])[0] for i in images}
        results = {image: state.results[image] for image in images}
        device, prototypes = state.device, state.learned_prototypes
        if name == UNCERTAINTY and prototypes is None:
            raise InputError("No class is learned from strokes yet: paint a stroke of each class.")

        def work(stop: Event) -> Generator[Progress, None, dict[Image, np.ndarray]]:
            values = {}
            for image, result in results.items():
                if name == UNCERTAINTY and prototypes is not None:
                    values[image] = result.hierarchy.class_uncertainty(prototypes)
                else:
                    values[image] = yield from _computed(result, name, labels[image], device, stop)
            return values

        return work

    def images_of(self, name: str) -> list[Image]:
        """Return the images that have a layer of a diagnostic."""
        self.update_names()
        return [image for image, other in self._layers if other == name]

    def layers_on(self, image: Image) -> list[Layer]:
        """Return the layers that were made for an image."""
        return [layer for (other, _), layer in self._layers.items() if other is image]

    def remove(self, name: str) -> None:
        """Remove the layers of a diagnostic."""
        layers = [layer for (_, other), layer in self._layers.items() if other == name]
        for layer in layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.update_names()

    def update_names(self) -> None:
        """Tell the state which diagnostics have a layer."""
        layers = self._viewer.layers
        self._layers = {key: layer for key, layer in self._layers.items() if layer in layers}
        self._state.diagnostics = frozenset(name for _, name in self._layers)

    def show(self, name: str, values: dict[Image, np.ndarray]) -> list[Layer]:
        """Show what was computed, each in a layer of its own; return the layers."""
        return [
            self._show(image, name, array)
            for image, array in values.items()
            if image in self._viewer.layers and image in self._state.results
        ]

    def _show(self, image: Image, name: str, values: np.ndarray) -> Layer:
        result = self._state.results[image]
        if name == "reconstruction error":
            self._state.errors[result.input] = values
        if name == "reconstruction":
            values = as_layer_dtype(values, image)
        axes = result.hierarchy.axes
        has_channels = name == "reconstruction" and not image.rgb
        values, place = placed_on(image, axes, values, axes.letters if has_channels else None)
        layer = self._layers.get((image, name))
        if layer is not None and layer in self._viewer.layers and layer.data.shape == values.shape:
            layer.data = values
            return layer
        selected = set(self._viewer.layers.selection)
        layer = unwrapped(
            self._viewer.add_image(
                values,
                name=f"{image.name} {name}",
                metadata={METADATA_KEY: {"shows": name, "image": image.name}},
                **_style(image, name, values),
                **place,
            )
        )
        preview = self._state.previews.get(image)
        layers = self._viewer.layers
        if (
            preview is not None and preview in layers
        ):  # it stays on top, hidden until a control is changed
            layers.move(layers.index(layer), layers.index(preview))
            preview.visible = False
        layer.visible = image.visible
        if name == UNCERTAINTY or not image.visible:  # painting goes on; clicks go to what is seen
            layers.selection = selected
        self._layers[image, name] = layer
        self.update_names()
        return layer


def _check(image: Image, result: Result, name: str) -> None:
    """Raise InputError if an image does not have a diagnostic."""
    if result.hierarchy.is_lazy:
        raise InputError(
            f"{image.name} is processed in blocks, and diagnostic layers show whole images: open a "
            "part of it that fits into memory."
        )
    if name.startswith("reconstruction") and not result.can_encode:
        todo = "Load its model." if result.has_image else "Open the original image, then reopen it."
        raise InputError(f"{image.name} comes from a saved segmentation. {todo}")


def _style(image: Image, name: str, values: np.ndarray) -> dict[str, Any]:
    """Return how a new layer looks."""
    if name == "features" or (name == "reconstruction" and bool(image.rgb)):
        return {"rgb": True}
    colormap, limits = _COLORMAPS.get(name, "gray"), _limits(name, values)
    return {"rgb": False, "colormap": colormap, "contrast_limits": limits}


def _limits(name: str, values: np.ndarray) -> tuple[float, float]:
    """From 0 to what few pixels are above: a single outlier must not darken all the rest."""
    low = 0.0 if name != "reconstruction" else float(np.percentile(values, 0.5))
    positive = values[values > 0] if name == "border strength" else values
    high = float(np.percentile(positive, 99.5)) if positive.size else 1.0
    return (low, high if high > low else low + 1.0)


def _computed(
    result: Result, name: str, labels: np.ndarray | None, device: str, stop: Event
) -> Generator[Progress, None, np.ndarray]:
    hierarchy, model, image = result.hierarchy, result.model, result.input
    if name == "features":
        return hierarchy.feature_colors()
    if name == "border strength":
        return hierarchy.border_strength()
    if name == "merge height":
        return hierarchy.merge_height(labels)
    assert model is not None, "_check has made sure"  # noqa: S101
    if name == "reconstruction error":
        return (yield from measuring_error(image, model, device)(stop))
    return model.reconstruct(image.data, axes=image.axes_argument, device=device)
