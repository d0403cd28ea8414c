"""The plugin's own Labels layer for an image: it follows the controls and owns nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_aeseg._napari.layers.adapter import labels_arguments, unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image, Labels
    from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap
    from napari.viewer import Viewer

    from napari_aeseg.images.axes import Axes

    LabelColormap = CyclicLabelColormap | DirectLabelColormap


class Preview:
    """One image's preview layer.

    The layer is made when there is something to show, and again when the user has removed it. Once
    the user paints into it or gives it other data, it is the user's: it is left as it is and a new
    preview takes over. The arrays shown are replaced, never written to.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari.layers.Image
        What the labels lie on.
    touched : callable
        Gets the image and the layer when the user makes the layer theirs.
    """

    def __init__(
        self, viewer: Viewer, image: Image, touched: Callable[[Image, Labels], object]
    ) -> None:
        self._viewer = viewer
        self._image = image
        self._touched = touched
        self._layer: Labels | None = None
        self._showing = False
        self._colors: LabelColormap | None = None

    def tell(self, touched: Callable[[Image, Labels], object]) -> None:
        """Tell somebody else, from now on, when the user makes the layer theirs."""
        self._touched = touched

    @property
    def layer(self) -> Labels | None:
        """The layer, if it is in the viewer and still the plugin's."""
        return self._layer if self._layer in self._viewer.layers else None

    def show(self, labels: Any, axes: Axes, colors: LabelColormap, place: bool = False) -> Labels:
        """Show labels, in the layer that is there or a new one.

        Parameters
        ----------
        labels : array of int, shape of the space axes, or list of arrays
            Not written to. Of a large image, dask arrays, the finest first.
        axes : Axes
            How the image was read.
        colors : CyclicLabelColormap or DirectLabelColormap
        place : bool
            Put a layer that is there where the image is now.
        """
        layer = self.layer
        many = isinstance(labels, list)
        shape = labels[0].shape if many else labels.shape
        if layer is None or layer.data.shape != shape or layer.multiscale != many:
            layer = self._new(labels, axes)
            self._color(layer, colors)
        else:
            self._color(layer, colors)
            self._showing = True
            try:
                layer.data = labels
            finally:
                self._showing = False
            if place:
                for name, value in labels_arguments(self._image, axes).items():
                    setattr(layer, name, value)
        return layer

    def _color(self, layer: Labels, colors: LabelColormap) -> None:
        if colors is not self._colors:  # what the user chose stays until the mode changes
            layer.colormap = self._colors = colors

    def _let_go(self) -> None:
        """Leave the layer to the user."""
        if self._layer is not None and not self._showing:
            self._layer.events.paint.disconnect(self._on_touched)
            self._layer.events.data.disconnect(self._on_touched)
            self._layer = None

    def _on_touched(self, *_: object) -> None:
        layer = self._layer
        self._let_go()
        if layer is not None and layer is not self._layer:
            self._touched(self._image, layer)

    def _new(self, labels: Any, axes: Axes) -> Labels:
        self._let_go()
        self._colors = None
        self._layer = unwrapped(
            self._viewer.add_labels(
                labels,
                name=f"{self._image.name} preview",
                opacity=0.5,  # the image is what the labels are judged by
                **labels_arguments(self._image, axes),
            )
        )
        # Painting, filling and erasing send the one, being given an array the other.
        self._layer.events.paint.connect(self._on_touched)
        self._layer.events.data.connect(self._on_touched)
        return self._layer
