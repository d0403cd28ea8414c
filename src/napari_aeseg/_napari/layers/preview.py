"""The preview layers: Labels layers that follow the dock's state, one for each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from napari_aeseg._napari.layers.colors import (
    class_colormap,
    cyclic_colormap,
    outline_colors,
    some_colors,
)
from napari_aeseg._napari.layers.connections import Connections
from napari_aeseg._napari.layers.hover import hover_table
from napari_aeseg._napari.layers.image_input import unwrapped
from napari_aeseg._napari.layers.placement import part_in_view, placed_on
from napari_aeseg._napari.state import DISPLAYS, ClassStyle, DockState, Result
from napari_aeseg._napari.work.delay import Delay
from napari_aeseg._napari.work.worker import log_unexpected
from napari_aeseg._napari.work_requests import (
    BorderRequest,
    ObjectRequest,
    StrokesRequest,
    ViewRequest,
)

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_aeseg.regions.cuts.cut import Cut

_MILLISECONDS_TO_DESCRIBE = 200
_MILLISECONDS_TO_UPDATE = 15  # changes that come faster are shown together: the newest wins
_MILLISECONDS_TO_LOOK = 100  # until the view rests
_OPACITY, _OUTLINE = 0.5, 2  # of filled labels; width of outlines in pixels of the image
_KEY = "O"  # fill, outlines, off


class PreviewLayers:
    """Shows the state's cut, soon after anything has changed that it depends on.

    A layer is made when there is something to show, and again when the user has removed it. Once
    the user paints into it or gives it other data, it is the user's: it is left as it is and a new
    preview takes over. The arrays shown are replaced, never written to.
    """

    painted = Signal(object, object)  # Image layer, preview that the user made theirs
    failed = Signal(object)  # Exception

    def __init__(
        self,
        viewer: Viewer,
        state: DockState,
        find_objects: Callable[[Image, ObjectRequest], object],
        learn_classes: Callable[[StrokesRequest], object],
        refine: Callable[[Image, BorderRequest | ViewRequest | None], object],
    ) -> None:
        self._viewer = viewer
        self._state = state
        self._find_objects, self._learn_classes = find_objects, learn_classes
        self._refine = refine
        self._connections = Connections()
        self._is_writing = False
        self._shown_instead: Labels | None = None
        self._colormaps: dict[Image, Any] = {}
        self._outline_colors: WeakKeyDictionary[Image, Any] = WeakKeyDictionary()
        self._delay = Delay(_MILLISECONDS_TO_UPDATE, self._update_in_time)
        self._views: dict[Image, ViewRequest] = {}  # whose borders are refined where they are seen
        self._view_delay = Delay(_MILLISECONDS_TO_LOOK, self._refine_views)
        self._hover_delay = Delay(_MILLISECONDS_TO_DESCRIBE, self._describe)
        for image, layer in state.previews.items():  # of a dock that was closed
            self._connect(layer)
            self._colormaps[image] = self._colormap(state.cut, image)
        state.events.cut.connect(self._on_cut)
        state.events.results.connect(self._on_results)
        state.events.classes.connect(self._on_classes)
        state.events.objects.connect(self.request_update)
        state.events.display.connect(self._on_display)
        state.events.learned.connect(self.request_update)
        state.events.refined.connect(self.request_update)
        state.events.similarity.connect(self.request_update)

    @property
    def is_up_to_date(self) -> bool:
        """Whether no update is due."""
        return not (self._delay.is_waiting or self._view_delay.is_waiting)

    def close(self) -> None:
        """Leave all layers to napari."""
        for delay in (self._delay, self._view_delay, self._hover_delay):
            delay.cancel()
        self._connections.disconnect_all()
        for layer in self._state.previews.values():
            layer.bind_key(_KEY, None)

    def layer_of(self, image: Image) -> Labels | None:
        """Return the preview of an image, if it is in the viewer."""
        layer = self._state.previews.get(image)
        return layer if layer in self._viewer.layers else None

    def request_update(self) -> None:
        """Have the previews updated in a moment."""
        if not self._delay.is_waiting:
            self._delay.start()

    def update_if_due(self) -> None:
        """Do at once what `request_update` asked for, and raise errors."""
        if self._delay.is_waiting:
            self.update(self._state.images, self._state.cut)

    def update(self, images: Sequence[Image], cut: Cut) -> None:
        """Show a cut of those images that are segmented; if it is refused, nothing changes."""
        self._delay.cancel()
        state = self._state
        images = [image for image in images if image in state.results]
        if cut.mode == "objects":
            for image in images:
                if state.objects_of(image, cut) is None:
                    self._find_objects(image, state.object_request(image, cut))
            images = [image for image in images if state.objects_of(image, cut) is not None]
        request = state.strokes_request(images, cut)
        if request is None:
            state.learned = None  # nothing is painted any more
        elif not (state.learned and request.gives_same(state.learned.request)):
            self._learn_classes(request)
        # Borders of patches at once, those of pixels when they are known.
        example = state.example_of(images)
        labels = [state.layer_labels(image, cut, example or image) for image in images]
        for image, (values, missing) in zip(images, labels, strict=True):
            self._show(image, values, self._colormap(cut, image))
            if isinstance(missing, ViewRequest):
                self._views[image] = missing
                self._view_delay.start()
            else:
                self._views.pop(image, None)
                self._refine(image, missing)
        self._hover_delay.start()

    def _refine_views(self) -> None:
        """Have what is seen of large images refined."""
        for image, request in self._views.items():
            layer, result = self.layer_of(image), self._state.results.get(image)
            part = None
            if layer is not None and layer.visible and result is not None:
                part = part_in_view(self._viewer, layer, result.hierarchy.axes)
            if part is None or (request.refined is not None and request.refined.has(part)):
                self._refine(image, None)
            else:
                self._refine(image, replace(request, part=part))

    def _on_looked(self) -> None:
        if self._views:
            self._view_delay.start()

    def _describe(self) -> None:
        """Have napari say in its status bar what is under the pointer, once the controls rest."""
        state, mode = self._state, self._state.cut.mode
        kind = "segment" if mode == "markers" else mode.removesuffix("s")
        kind = kind if state.class_colors(state.cut) is None else "class"
        names = state.classes.names_of(state.n_classes) if mode == "classes" else ()
        for image, layer in state.previews.items():
            if image in state.results and isinstance(layer.data, np.ndarray):
                result = state.results[image]
                locked = result.locked if mode == "regions" else None
                table = hover_table(layer.data, kind, names, result.hierarchy.axes, locked)
                layer.features = {} if table is None else table

    def discard(self, image: Image) -> None:
        """Discard the result of an image, and leave its preview to the user, hidden."""
        layer = self.layer_of(image)
        self._state.drop_results([image])
        if layer is not None:
            _set_aside(layer, image)

    def release_removed(self) -> None:
        """Forget previews that the user has removed."""
        previews, layers = self._state.previews, self._viewer.layers
        if removed := [image for image, layer in previews.items() if layer not in layers]:
            self._release(removed)

    def show_instead(self, shown: Labels) -> None:
        """Hide the previews of all images for another layer, until they are shown again."""
        for layer in self._state.previews.values():
            if layer is not shown:
                layer.visible = False
        self._shown_instead = None if shown in self._state.previews.values() else shown

    def show(self, images: Sequence[Image]) -> None:
        """Show the previews of some images, and hide what was shown instead of them."""
        if self._state.display == "off":
            self._state.display = "fill"
        for image in images:
            layer = self.layer_of(image)
            if layer is not None and not layer.visible:
                layer.visible = True
        if self._shown_instead is not None:  # two layers of colours would mix
            self._shown_instead.visible = False
            self._shown_instead = None

    def _update_in_time(self) -> None:
        try:
            self.update(self._state.images, self._state.cut)
        except Exception as error:  # noqa: BLE001 - it is reported
            self.failed.emit(log_unexpected(error, "the preview"))

    def _on_display(self) -> None:
        for image, layer in self._state.previews.items():
            self._draw(layer)
            layer.visible = layer.visible and image.visible
        self.request_update()  # outlines have other colours

    def _draw(self, layer: Labels) -> None:
        """Fill the segments, half transparent, or draw their outlines, or hide the layer."""
        display = self._state.display
        layer.visible = display != "off"
        if display != "off":
            layer.contour = _OUTLINE if display == "outlines" else 0
            # The image is what filled labels are judged by.
            layer.opacity = 1.0 if display == "outlines" else _OPACITY

    def _next_display(self, _: Labels) -> None:
        i = DISPLAYS.index(self._state.display)
        self._state.display = DISPLAYS[(i + 1) % len(DISPLAYS)]

    def _on_cut(self) -> None:
        # Whoever changes a control wants to see what it does, but nothing of a hidden image.
        self.show([image for image in self._state.images if image.visible])
        self.request_update()

    def _on_results(self, new: Mapping[Image, Result], old: Mapping[Image, Result]) -> None:
        if removed := [image for image in self._state.previews if image not in new]:
            self._release(removed)
        changed = [r for image, r in new.items() if image in old and _differs(r, old[image])]
        if changed:  # what is segmented anew is shown by whoever took it over
            self.request_update()

    def _on_classes(self, new: ClassStyle, old: ClassStyle) -> None:
        if new.colors != old.colors or new.prototypes is not old.prototypes:
            self.request_update()

    def _colormap(self, cut: Cut, image: Image) -> Any:
        class_colors = self._state.class_colors(cut)
        if class_colors is None:
            if self._state.display != "outlines" or not image.rgb:
                return cyclic_colormap()
            if image not in self._outline_colors:
                self._outline_colors[image] = outline_colors(some_colors(image))
            return self._outline_colors[image]
        return class_colormap(class_colors)

    def _show(self, image: Image, labels: Any, colormap: Any) -> None:
        layer, axes = self.layer_of(image), self._state.results[image].hierarchy.axes
        labels, place = placed_on(image, axes, labels)
        is_pyramid = isinstance(labels, list)
        shape = labels[0].shape if is_pyramid else labels.shape
        is_new = layer is None or layer.data.shape != shape or layer.multiscale != is_pyramid
        if layer is not None and is_new:  # axes or resolution are others now
            _set_aside(layer, image)
        if layer is None or is_new:
            layer = self._new_layer(image, labels, place)
        if colormap is not self._colormaps.get(image):  # the user's choice stays in the same mode
            layer.colormap = self._colormaps[image] = colormap
        if is_new:
            return
        self._is_writing = True  # else the change would be taken for the user's
        level = layer.data_level
        try:
            layer.data = labels
            layer.data_level = level  # napari would draw the coarsest once
        finally:
            self._is_writing = False

    def _new_layer(self, image: Image, labels: Any, place: dict[str, Any]) -> Labels:
        self._release([image])
        selected = set(self._viewer.layers.selection)
        layer = unwrapped(
            self._viewer.add_labels(
                labels,
                name=f"{image.name} preview",
                opacity=_OPACITY,
                **place,
            )
        )
        layers = self._viewer.layers
        layers.move(layers.index(layer), layers.index(image) + 1)
        self._draw(layer)
        layer.visible = layer.visible and image.visible
        if not image.visible:  # clicks go to what is seen
            layers.selection = selected
        self._connect(layer)
        self._state.previews = {**self._state.previews, image: layer}
        return layer

    def _connect(self, layer: Labels) -> None:
        layer.bind_key(_KEY, self._next_display, overwrite=True)
        # Painting, filling and erasing send the one, being given an array the other.
        self._connections.connect(self._on_painted, layer.events.paint, layer.events.data)
        # Sent when the view moved to other pixels, or was zoomed to another level.
        self._connections.connect(self._on_looked, layer.events.set_data)

    def _release(self, images: Sequence[Image]) -> None:
        """Leave the previews of some images to the user."""
        previews = self._state.previews
        for image in images:
            if image in previews:
                events = previews[image].events
                previews[image].bind_key(_KEY, None)
                self._connections.disconnect(events.paint, events.data, events.set_data)
            self._colormaps.pop(image, None)
            self._views.pop(image, None)
        self._state.previews = {i: layer for i, layer in previews.items() if i not in images}

    def _on_painted(self, event: Any) -> None:
        layer = event.source
        image = next((i for i, preview in self._state.previews.items() if preview is layer), None)
        if image is not None and not self._is_writing:
            self._release([image])
            self.painted.emit(image, layer)


def _set_aside(layer: Labels, image: Image) -> None:
    """Hide a preview that no longer fits, for the user to keep or delete."""
    layer.visible, layer.name = False, f"{image.name} earlier"


def _differs(one: Result, other: Result) -> bool:
    """Whether two results of an image are shown differently."""
    return (
        one.hierarchy is not other.hierarchy
        or one.edits != other.edits
        or one.markers is not other.markers
        or one.locked is not other.locked
        or one.examples is not other.examples
    )
