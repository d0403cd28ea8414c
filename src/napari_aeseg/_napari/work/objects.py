"""Detects objects in a thread, and writes them to the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.jobs import detecting_objects
from napari_aeseg._napari.work.worker import Done, Failed, Job

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.state import DockState
    from napari_aeseg._napari.work.worker import Outcome
    from napari_aeseg._napari.work_requests import ObjectRequest


class ObjectFinder(Background):
    """Runs one request at a time; the newest request for an image wins."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state)
        self._waiting: dict[Image, ObjectRequest] = {}
        self._running: dict[Image, ObjectRequest] = {}

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._waiting.clear()
        super().close()

    def find(self, image: Image, request: ObjectRequest) -> None:
        """Begin to detect objects, unless the running request gives the same."""
        running = self._running.get(image)
        if running is None or not running.gives_same(request):
            self._waiting[image] = request
            if not self._runner.busy:
                self._start()

    def _start(self) -> None:
        self._running, self._waiting = self._waiting, {}
        self._runner.start(Job("detecting objects", detecting_objects(dict(self._running))))

    def _on_ended(self, outcome: Outcome) -> None:
        requests, self._running = self._running, {}
        if self._waiting:
            self._start()
        if isinstance(outcome, Done):
            labels = outcome.result
            results = self._state.results  # an image may have been removed meanwhile
            objects = {i: (request, labels[i]) for i, request in requests.items() if i in results}
            self._state.objects = {**self._state.objects, **objects}
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
