"""Finds alternatives to what is shown, in a thread, when the controls have come to rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.jobs import finding_alternatives
from napari_aeseg._napari.work.worker import Done, Failed, Job

if TYPE_CHECKING:
    from napari_aeseg._napari.requests import AlternativesRequest
    from napari_aeseg._napari.state import DockState
    from napari_aeseg._napari.work.worker import Outcome

_MILLISECONDS_OF_REST = 400  # a slider that is being dragged pauses for less


class AlternativesFinder(Background):
    """Writes thumbnails of alternatives to the state; the newest request wins."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state)
        self._running: AlternativesRequest | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MILLISECONDS_OF_REST)
        self._timer.timeout.connect(self._start)
        fields = ("cut", "images", "results", "comparison", "classes", "busy")
        state.on(*fields, draw=self._update)

    @property
    def is_up_to_date(self) -> bool:
        """Whether no alternatives are being found, nor will be in a moment."""
        return not (self.busy or self._timer.isActive())

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._stop()
        super().close()

    def _update(self) -> None:
        state = self._state
        request, thumbnails = state.alternatives_request, state.alternatives
        if thumbnails is not None and (request is None or not thumbnails.are_of(request.hierarchy)):
            state.alternatives = None
        if self.busy and request is not None and request.gives_same(self._running):
            return
        self._stop()
        if request is None or state.alternatives_fit:
            return
        # While a task of the user runs, or patches are being compared, these come first.
        if not state.busy and request.hierarchy.comparison == state.comparison:
            self._timer.start()

    def _stop(self) -> None:
        if isalive(self._timer):  # Qt deletes timers first when Python ends
            self._timer.stop()
        self._runner.abandon()
        self._running = None

    def _start(self) -> None:
        self._running = self._state.alternatives_request
        if self._running is not None:
            self._runner.start(Job("finding alternatives", finding_alternatives(self._running)))

    def _on_ended(self, outcome: Outcome) -> None:
        self._running = None
        if isinstance(outcome, Done):
            self._state.alternatives = outcome.result
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
