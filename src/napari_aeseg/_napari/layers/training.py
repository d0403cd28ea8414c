"""The layer beside an image that shows, while training goes on, what the network makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg._napari.layers.adapter import OWN, labels_arguments, like, unwrapped

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg._napari.layers.adapter import Snapshot
    from napari_aeseg.progress import TrainingProgress

_GAP = 1.03  # of the width of the image, from its left border to that of the picture


class Watching:
    """Shows the pictures that come with training events.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._image: Image | None = None
        self._layer: Image | None = None

    def begin(self, image: Image, shot: Snapshot) -> None:
        """Remember whose pictures will come."""
        if image is not self._image:
            self._layer = None
        self._image, self._shot = image, shot

    def show(self, event: TrainingProgress) -> None:
        """Show the picture of an event, if it has one."""
        picture = getattr(event, "preview", None)
        if picture is None or self._image is None or self._image not in self._viewer.layers:
            return
        if not self._shot.fits(self._image):  # it was given other data since
            return
        rgb = self._image.rgb
        pixels = like(picture.pixels, self._image)
        if not rgb and "C" in picture.axes:  # channels that are no colours: their mean
            pixels = pixels.mean(axis=picture.axes.index("C"))
        layer = self._layer
        if layer is not None and layer in self._viewer.layers and layer.data.shape == pixels.shape:
            layer.data = pixels
            return
        limits = {} if rgb else {"contrast_limits": self._image.contrast_limits}
        name = f"{self._image.name} in training"
        placed = self._beside(picture.offset[-2:])
        layer = self._viewer.add_image(
            pixels, name=name, rgb=rgb, metadata={OWN: {"shows": "training"}}, **limits, **placed
        )
        self._layer = unwrapped(layer)
        self._viewer.reset_view()  # both are to be seen

    def _beside(self, offset: tuple[int, int]) -> dict[str, object]:
        """Return where a part of the plane lies, moved by the width of the image and a little."""
        placed = labels_arguments(self._image, self._shot.axes)
        planar = {name: placed[name][-2:] for name in ("scale", "units")}
        rotate = np.asarray(placed["rotate"])[-2:, -2:]
        planar["rotate"] = rotate
        width = dict(zip(self._shot.axes.letters, self._shot.axes.shape, strict=True))["X"]
        corner = np.add(offset, (0, _GAP * width))
        corner = rotate @ (corner * np.asarray(planar["scale"]))
        planar["translate"] = np.asarray(placed["translate"])[-2:] + corner
        return planar
