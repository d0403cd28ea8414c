"""Layers that show what lies behind a segmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg._napari.layers.adapter import OWN, labels_arguments, like, unwrapped
from napari_aeseg._napari.work.jobs import measuring_error
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator
    from threading import Event

    from napari.layers import Image, Layer
    from napari.viewer import Viewer

    from napari_aeseg._napari.state import Result, Results
    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg._napari.work.worker import Work
    from napari_aeseg.progress import Progress

# What can be looked at: name of the layer, and what it is.
LOOKS = {
    "features": "The first three principal components of the encoder features of each patch, as "
    "red, green and blue: what has the same colour looks alike to the network.",
    "reconstruction": "What the autoencoder makes of the image.",
    "reconstruction error": "Where the model does not know the image: squared difference between "
    "the image and its reconstruction, in units of normalised intensity.",
    "border strength": "At the borders between patches, the threshold up to which both sides stay "
    "apart: bright lines are borders in every segmentation, dim ones in fine ones only.",
    "merge height": "Of each region shown at this moment, the threshold at which it merges with "
    "its neighbour: bright ones stay longest. Ask again after the regions have changed.",
}
_COLORMAPS = {"reconstruction error": "magma", "border strength": "gray", "merge height": "viridis"}


class Inside:
    """Makes the layers, and shows new values in those that are still there.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    results : Results
    """

    def __init__(self, viewer: Viewer, results: Results) -> None:
        self._viewer = viewer
        self._results = results
        self._layers: dict[tuple[Image, str], Layer] = {}

    def work(self, images: list[Image], what: str, cut: Cut, device: str) -> Work:
        """Return the work that computes what is to be shown of segmented images."""
        if what not in LOOKS:
            raise InputError(f"look at {what!r}: choose one of {', '.join(LOOKS)}.")
        images = [image for image in images if image in self._results.of]
        if not images:
            raise InputError("There is nothing to look into: segment an image first.")
        for image in images:
            if self._results.of[image].hierarchy.is_lazy:
                raise InputError(
                    f"{image.name} is worked on in blocks, and this shows whole images: open a "
                    "part of it that fits into memory."
                )
            if what.startswith("reconstruction"):
                self._check_model(image)
        labels = dict.fromkeys(images)
        if what == "merge height":
            # Only regions are nodes of the tree.
            shown = replace(cut, mode="regions")
            labels = {i: self._results.labels(i, shown, images[0]) for i in images}
        results = {image: self._results.of[image] for image in images}

        def work(stop: Event) -> Generator[Progress, None, dict[Image, np.ndarray]]:
            found = {}
            for image, result in results.items():
                found[image] = yield from _computed(result, what, labels[image], device, stop)
            return found

        return work

    def _check_model(self, image: Image) -> None:
        """Raise InputError if the network cannot be asked about an image."""
        result = self._results.of[image]
        if not result.can_encode:
            missing = "load its model" if result.has_image else "open its image, then it again"
            raise InputError(f"{image.name} comes from a saved segmentation: {missing} first.")

    def show(self, what: str, found: dict[Image, np.ndarray]) -> list[Layer]:
        """Show what was computed, each in a layer of its own; return the layers."""
        return [
            self._show(image, what, values)
            for image, values in found.items()
            if image in self._viewer.layers and image in self._results.of
        ]

    def _show(self, image: Image, what: str, values: np.ndarray) -> Layer:
        result = self._results.of[image]
        if what == "reconstruction error":
            result.error = values
        if what == "reconstruction":
            values = like(values, image)
        layer = self._layers.get((image, what))
        if layer is not None and layer in self._viewer.layers and layer.data.shape == values.shape:
            layer.data = values
            return layer
        arguments = labels_arguments(image, result.hierarchy.axes)
        rgb = what == "features"
        if what == "reconstruction":
            rgb = image.rgb
            if not rgb and "C" in result.hierarchy.axes.letters:
                arguments = image_arguments(image)
        layer = self._viewer.add_image(
            values,
            name=f"{image.name} {what}",
            rgb=rgb,
            colormap=_COLORMAPS.get(what, "gray") if not rgb else None,
            contrast_limits=None if rgb else _limits(what, values),
            metadata={OWN: {"shows": what, "image": image.name}},
            **arguments,
        )
        layers, preview = self._viewer.layers, self._results.preview_of(image)
        if preview is not None:  # the preview stays on top, and is hidden until a control is moved
            layers.move(layers.index(layer), layers.index(preview))
            preview.visible = False
        self._layers[image, what] = unwrapped(layer)
        return self._layers[image, what]


def image_arguments(image: Image) -> dict[str, Any]:
    """Return what a copy of an Image layer with all its axes needs to lie on it."""
    return {
        "scale": image.scale,
        "translate": image.translate,
        "rotate": image.rotate,
        "shear": image.shear,
        "affine": image.affine,
        "units": image.units,
    }


def _limits(what: str, values: np.ndarray) -> tuple[float, float]:
    """From 0 to what few pixels are above: a single outlier must not darken all the rest."""
    low = 0.0 if what != "reconstruction" else float(np.percentile(values, 0.5))
    positive = values[values > 0] if what == "border strength" else values
    high = float(np.percentile(positive, 99.5)) if positive.size else 1.0
    return (low, high if high > low else low + 1.0)


def _computed(
    result: Result, what: str, labels: np.ndarray | None, device: str, stop: Event
) -> Generator[Progress, None, np.ndarray]:
    hierarchy, shot = result.hierarchy, result.shot
    if what == "features":
        return hierarchy.feature_colors()
    if what == "border strength":
        return hierarchy.border_strength()
    if what == "merge height":
        return hierarchy.merge_height(labels)
    if what == "reconstruction error":
        return (yield from measuring_error(shot, result.model, device)(stop))
    return result.model.reconstruct(shot.data, axes=shot.axes_argument, device=device)
