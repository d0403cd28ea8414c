"""Refines the borders of labels in a thread, once the controls rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.jobs import refining
from napari_aeseg._napari.work.worker import Done, Failed, Job

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.requests import BorderRequest
    from napari_aeseg._napari.state import DockState
    from napari_aeseg._napari.work.worker import Outcome

_MILLISECONDS_OF_REST = 50  # a slider that is dragged changes labels more often


class BorderRefiner(Background):
    """Runs one request at a time; the newest request for an image wins."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state)
        self._waiting: dict[Image, BorderRequest] = {}
        self._running: dict[Image, BorderRequest] = {}
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

    def refine(self, image: Image, request: BorderRequest | None) -> None:
        """Begin to refine labels in a moment; None: what was asked for before is not needed."""
        self._waiting.pop(image, None)
        running = self._running.get(image)
        if request is not None and (running is None or not running.gives_same(request)):
            self._waiting[image] = request
            self._timer.start()

    def _start(self) -> None:
        if self._waiting and not self._runner.busy:
            self._running, self._waiting = self._waiting, {}
            self._runner.start(Job("refining borders", refining(dict(self._running))))

    def _on_ended(self, outcome: Outcome) -> None:
        requests, self._running = self._running, {}
        if not self._timer.isActive():
            self._start()
        if isinstance(outcome, Done):
            results, labels = self._state.results, outcome.result
            refined = {i: (r, labels[i]) for i, r in requests.items() if i in results}
            self._state.refined = {**self._state.refined, **refined}
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
