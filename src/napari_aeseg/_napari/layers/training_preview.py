"""The layer beside an image that shows its reconstruction while training goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg._napari.layers.image_input import (
    METADATA_KEY,
    ImageInput,
    as_layer_dtype,
    unwrapped,
)
from napari_aeseg._napari.layers.placement import move, placed_on

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg._napari.state import DockState

_GAP = 1.03  # of the width of the image, from its left border to that of the picture


class TrainingLayer:
    """Shows the pictures that come with training events."""

    def __init__(self, viewer: Viewer, state: DockState) -> None:
        self._viewer = viewer
        self._state = state
        self._image: Image | None = None
        self._layer: Image | None = None
        state.events.progress.connect(self._update)

    def begin(self, image: Image, read: ImageInput) -> None:
        """Show the pictures of a training beside its first image."""
        if image is not self._image:
            self._layer = None
        self._image, self._input = image, read

    def _update(self) -> None:
        picture, image = getattr(self._state.progress, "preview", None), self._image
        if picture is None or image is None or image not in self._viewer.layers:
            return
        if not self._input.has_shape_of(image):  # it was given other data since
            return
        pixels = as_layer_dtype(picture.pixels, image)
        if not image.rgb and "C" in picture.axes:  # channels that are no colours: their mean
            pixels = pixels.mean(axis=picture.axes.index("C"))
        axes = self._input.axes
        corner = dict(zip(axes.space, picture.offset, strict=True))
        width = dict(zip(axes.letters, axes.shape, strict=True))["X"]
        corner["X"] += _GAP * width
        letters = "".join(a for a in axes.letters if a in "YX")
        pixels, place = placed_on(image, axes, pixels, letters, corner)
        layer = self._layer
        if layer is not None and layer in self._viewer.layers and layer.data.shape == pixels.shape:
            layer.data = pixels
            move(layer, place)  # the image may have been moved
            return
        limits = {} if image.rgb else {"contrast_limits": image.contrast_limits}
        layer = self._viewer.add_image(
            pixels,
            name=f"{image.name} in training",
            rgb=image.rgb,
            metadata={METADATA_KEY: {"shows": "training"}},
            **limits,
            **place,
        )
        self._layer = unwrapped(layer)
        self._viewer.reset_view()  # both are to be seen
