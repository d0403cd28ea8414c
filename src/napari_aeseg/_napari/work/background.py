"""Work that follows the dock's state by itself, beside the tasks that the user starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

from napari_aeseg._napari.work.worker import JobRunner, Outcome

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState


class Background:
    """Runs one job at a time in a thread; subclasses start jobs, and take the outcomes."""

    failed = Signal(object)  # Exception

    def __init__(self, state: DockState) -> None:
        self._state = state
        self._runner = JobRunner()
        self._runner.ended.connect(self._on_ended)

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._runner.busy

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._runner.abandon()

    def _on_ended(self, outcome: Outcome) -> None:
        raise NotImplementedError
