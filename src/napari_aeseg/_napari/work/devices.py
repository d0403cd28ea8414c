"""Looks up where torch can work; on the way, torch is imported before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from napari_aeseg._napari.work.jobs import finding_devices
from napari_aeseg._napari.work.worker import Done, Job, JobRunner

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from napari_aeseg._napari.work.worker import Failed, Stopped

# After the dock has opened: importing torch takes seconds, which the first click would wait for.
_MILLISECONDS_TO_TORCH = 700


class DeviceFinder:
    """Looks for devices in a thread, a moment after it was made and whenever it is asked to.

    Parameters
    ----------
    parent : QObject
        What its timer lives with.

    Attributes
    ----------
    found : psygnal.Signal(list of str)
    """

    found = Signal(list)

    def __init__(self, parent: QObject) -> None:
        self._runner = JobRunner()
        self._runner.ended.connect(self._on_ended)
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.look)
        self._timer.start(_MILLISECONDS_TO_TORCH)

    @property
    def busy(self) -> bool:
        """Whether it is looking."""
        return self._runner.busy

    def look(self) -> None:
        """Begin to look; `found` follows."""
        if not self._runner.busy:
            self._runner.start(Job("looking for devices", finding_devices()), False)

    def leave(self) -> None:
        """Leave what is going on, and be silent from now on."""
        if isalive(self._timer):
            self._timer.stop()
        self._runner.leave()

    def _on_ended(self, outcome: Done | Stopped | Failed) -> None:
        if isinstance(outcome, Done):
            self.found.emit(outcome.result)
