"""Finds what could be shown instead, in a thread, when the controls have come to rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.delay import Delay
from napari_aeseg._napari.work.worker import Done, Failed, Job, Outcome
from napari_aeseg._napari.work_requests import (
    AlternativesRequest,
    ModePictures,
    ModesRequest,
    ObjectRequest,
    Thumbnails,
)

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.state import DockState

    Request = AlternativesRequest | ModesRequest | ObjectRequest

_MILLISECONDS_OF_REST = 400  # a slider that is being dragged pauses for less
_FEW_PIXELS = 2**20  # of an image whose objects are found in a second or two


class AlternativesFinder(Background):
    """Writes pictures of each mode and of alternatives to the state; the newest request wins.

    Objects of the first image are detected on the way, which no other mode needs.
    """

    def __init__(self, state: DockState) -> None:
        super().__init__(state)
        self._running: Request | None = None
        self._image: Image | None = None  # whose objects are being detected
        self._delay = Delay(_MILLISECONDS_OF_REST, self._start)
        fields = ("cut", "images", "results", "comparison", "classes", "objects", "busy", "shown")
        state.on(*fields, "mode_pictures", "alternatives", draw=self._update)

    @property
    def is_up_to_date(self) -> bool:
        """Whether nothing is being found, nor will be in a moment."""
        return not (self.busy or self._delay.is_waiting)

    def detects(self, image: Image, request: ObjectRequest) -> bool:
        """Whether these objects of an image are being detected."""
        return image is self._image and _give_same(request, self._running)

    @property
    def is_awaited(self) -> bool:
        """Whether the preview waits for the objects that are being detected."""
        image, state = self._image, self._state
        if state.cut.mode != "objects" or image not in state.images or image not in state.results:
            return False
        return self.detects(image, state.object_request(image, state.cut))

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._delay.cancel()
        super().close()

    def _missing(self) -> Request | None:
        """What is to be found next; None where all is known, or other work comes first."""
        state, modes = self._state, self._state.modes_request
        # While a task of the user runs, or patches are being compared, these come first.
        if modes is None or state.busy or modes.hierarchy.comparison != state.comparison:
            return None
        if state.mode_pictures is None or not modes.gives_same(state.mode_pictures.request):
            return modes
        objects = state.objects_to_picture
        if objects is not None and objects.hierarchy.patches.size <= _FEW_PIXELS:
            return objects
        request = state.alternatives_request
        return objects if request is None or state.alternatives_fit else request

    def _update(self) -> None:
        state, missing = self._state, self._missing()
        alternatives, request = state.alternatives, state.alternatives_request
        if alternatives and not (request and alternatives.are_of(request.hierarchy)):
            state.alternatives = None
        if state.mode_pictures is not None and not state.hierarchies:
            state.mode_pictures = None
        if self.busy and (_give_same(missing, self._running) or self.is_awaited):
            return
        self._delay.cancel()
        self._runner.abandon()
        self._running = None
        if missing is not None:
            self._delay.start()

    def _start(self) -> None:
        self._running = request = self._missing()
        if isinstance(request, ObjectRequest):
            self._image = self._state.first_image
        if request is not None:
            self._runner.start(Job(request.title, request.answer))

    def _on_ended(self, outcome: Outcome) -> None:
        request, self._running = self._running, None
        state, image = self._state, self._image
        if isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
        elif not isinstance(outcome, Done):
            return
        elif isinstance(request, ObjectRequest) and image is not None:
            state.objects = {**state.objects, image: (request, outcome.result)}
            state.choose_mode(image)
        elif isinstance(outcome.result, ModePictures):
            state.mode_pictures = outcome.result
        else:
            assert isinstance(outcome.result, Thumbnails)  # noqa: S101 - for mypy
            state.alternatives = outcome.result


def _give_same(one: Any, other: Any) -> bool:
    return one is not None and type(one) is type(other) and bool(one.gives_same(other))
