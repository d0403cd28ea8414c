"""Looks up where torch can work; on the way, torch is imported before it is needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.delay import Delay
from napari_aeseg._napari.work.jobs import finding_devices
from napari_aeseg._napari.work.worker import Done, Job, Outcome

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState

# After the dock has opened: importing torch takes seconds, which the first click would wait for.
_MILLISECONDS_TO_TORCH = 700
_MILLISECONDS_TO_PAINT = 100
LOADING = "Loading PyTorch …"


class DeviceFinder(Background):
    """Looks for devices in a thread, a moment after it was made and whenever it is asked to."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state)
        self._is_closed = False
        self._delay = Delay(_MILLISECONDS_TO_TORCH, self.find)
        self._delay.start()

    def find(self) -> None:
        """Begin to look; `state.devices` follows."""
        if self._runner.busy:
            return
        if "torch" not in sys.modules and not self._state.message:
            # Importing it holds up the window now and then: the line is painted before.
            self._state.message = LOADING
            QTimer.singleShot(_MILLISECONDS_TO_PAINT, self._start)
        else:
            self._start()

    def _start(self) -> None:
        if not self._runner.busy and not self._is_closed:
            self._runner.start(Job("looking for devices", finding_devices()))

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._delay.cancel()
        self._is_closed = True
        super().close()

    def _on_ended(self, outcome: Outcome) -> None:
        if self._state.message == LOADING:
            self._state.message = ""
        if isinstance(outcome, Done):
            new = [device for device in outcome.result if device not in self._state.devices]
            self._state.devices = (*self._state.devices, *new)
