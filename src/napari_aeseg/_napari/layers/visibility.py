"""Which of several images is in sight, with what lies on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from napari_aeseg._napari.layers.image_input import unwrapped

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

    from napari_aeseg._napari.state import DockState

_KEYS = {"Alt-Right": 1, "Alt-Left": -1}
_SEE_THROUGH = ("additive", "minimum", "multiplicative")  # blending


class ImageVisibility:
    """Shows one image with its layers and hides the others with theirs."""

    def __init__(
        self, viewer: Viewer, state: DockState, layers_on: Callable[[Image], Iterable[Layer]]
    ) -> None:
        self._viewer = viewer
        self._state = state
        self._layers_on = layers_on
        for key, step in _KEYS.items():
            unwrapped(viewer).bind_key(
                key, lambda _, step=step: self.show_next(step), overwrite=True
            )

    def close(self) -> None:
        """Leave the keys to napari."""
        for key in _KEYS:
            self._viewer.bind_key(key, None)

    def show_only(self, image: Image) -> None:
        """Show an image with its preview; where a single image is checked, check this one."""
        state, image = self._state, unwrapped(image)
        for other in state.open_images:
            other.visible = other is image
            if other is not image and other in state.results:
                for layer in self._layers_on(other):
                    layer.visible = False
        preview, shown = state.previews.get(image), image
        if preview is not None and preview in self._viewer.layers:
            preview.visible, shown = state.display != "off", preview
        if image in state.results and (strokes := state.results[image].markers) is not None:
            strokes.visible = state.cut.mode == "markers"
        self._viewer.layers.selection.active = shown
        state.shown = image
        if len(state.images) <= 1:
            state.images = (image,)

    def show_next(self, step: int = 1) -> None:
        """Show the image that comes `step` images after the one in sight, as `show_only` does."""
        images = self._state.open_images
        if images:
            shown = self._state.shown
            index = images.index(shown) if shown in images else len(images) - 1
            self.show_only(images[(index + step) % len(images)])

    def is_covered(self, image: Image) -> bool:
        """Whether an image is hidden, by the user or by another image."""
        layers, images = self._viewer.layers, self._state.open_images
        above = layers[layers.index(image) + 1 :]
        return not image.visible or any(
            layer.visible and layer.blending not in _SEE_THROUGH
            for layer in map(unwrapped, above)
            if layer in images
        )
