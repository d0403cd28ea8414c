"""Learns classes from strokes in a thread, and writes them to the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.jobs import learning_classes
from napari_aeseg._napari.work.worker import Done, Failed, Job

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState
    from napari_aeseg._napari.work.worker import Outcome
    from napari_aeseg._napari.work_requests import StrokesRequest


class StrokeLearner(Background):
    """Runs one request at a time; the newest wins, so that the preview follows the brush."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state)
        self._waiting: StrokesRequest | None = None
        self._running: StrokesRequest | None = None

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._waiting = None
        super().close()

    def learn(self, request: StrokesRequest) -> None:
        """Begin to learn, unless the running request gives the same."""
        if not request.gives_same(self._running):
            self._waiting = request
            if not self._runner.busy:
                self._start()

    def _start(self) -> None:
        self._running, self._waiting = self._waiting, None
        if self._running is not None:
            self._runner.start(Job("learning classes", learning_classes(self._running)))

    def _on_ended(self, outcome: Outcome) -> None:
        self._start()
        if isinstance(outcome, Done):
            self._state.learned = outcome.result
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
