"""Refines the borders of labels in a thread, once the controls rest.

Of images in blocks, those in view.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.jobs import refining
from napari_aeseg._napari.work.worker import Done, Failed, Job
from napari_aeseg._napari.work_requests import ViewRequest

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.state import DockState
    from napari_aeseg._napari.work.worker import Outcome
    from napari_aeseg._napari.work_requests import BorderRequest

_MILLISECONDS_OF_REST = 50  # a slider that is dragged changes labels more often


class BorderRefiner(Background):
    """Runs one request at a time; the newest request for an image wins."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state)
        self._waiting: dict[Image, BorderRequest | ViewRequest] = {}
        self._running: dict[Image, BorderRequest | ViewRequest] = {}
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MILLISECONDS_OF_REST)
        self._timer.timeout.connect(self._start)

    @property
    def busy(self) -> bool:
        """Whether labels are being refined, or will be in a moment."""
        return super().busy or bool(self._waiting)

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._waiting.clear()
        if isalive(self._timer):  # Qt deletes timers first when Python ends
            self._timer.stop()
        super().close()

    def refine(self, image: Image, request: BorderRequest | ViewRequest | None) -> None:
        """Begin to refine labels in a moment; None: what was asked for before is not needed."""
        self._waiting.pop(image, None)
        running = self._running.get(image)
        is_wanted = running is not None and request is not None and running.gives_same(request)
        if request is not None and not is_wanted:
            self._waiting[image] = request
            self._timer.start()
        if running is not None and not is_wanted and self._can_end_early:
            self._runner.stop()

    @property
    def _can_end_early(self) -> bool:
        """Whether what is running keeps what it has when it is stopped."""
        return all(isinstance(request, ViewRequest) for request in self._running.values())

    def _start(self) -> None:
        if self._waiting and not self._runner.busy:
            self._running = {i: self._continued(i, r) for i, r in self._waiting.items()}
            self._waiting = {}
            self._runner.start(Job("refining borders", refining(dict(self._running))))

    def _continued(
        self, image: Image, request: BorderRequest | ViewRequest
    ) -> BorderRequest | ViewRequest:
        """Add what has been refined since a request was made."""
        before = self._state.refined.get(image)
        if isinstance(request, ViewRequest) and before and request.continues(before[0]):
            return replace(request, refined=before[1])
        return request

    def _on_ended(self, outcome: Outcome) -> None:
        requests, self._running = self._running, {}
        if isinstance(outcome, Done):
            results, labels = self._state.results, outcome.result
            refined = {i: (r, labels[i]) for i, r in requests.items() if i in results}
            self._state.refined = {**self._state.refined, **refined}
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
        if not self._timer.isActive():
            self._start()
