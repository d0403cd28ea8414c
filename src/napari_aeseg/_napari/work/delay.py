"""Actions that wait until controls come to rest."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.compat import isalive
from qtpy.QtCore import QTimer


class Delay(QTimer):
    """Does an action so many milliseconds after the last call of `start`."""

    def __init__(self, milliseconds: int, action: Callable[[], object]) -> None:
        super().__init__()
        self.setSingleShot(True)
        self.setInterval(milliseconds)
        self.timeout.connect(action)

    @property
    def is_waiting(self) -> bool:
        """Whether the action is still to come."""
        return isalive(self) and self.isActive()

    def cancel(self) -> None:
        """Do nothing, after all; also when Python ends, where Qt deletes timers first."""
        if isalive(self):
            self.stop()
