"""Reports errors: to the user, to scripts, and to whoever waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from psygnal import Signal

from napari_aeseg._napari.work.worker import log_unexpected
from napari_aeseg.errors import AesegError

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState


def error_text(error: Exception) -> str:
    """Return an error as a line for the user."""
    return str(error) if isinstance(error, AesegError) else f"{type(error).__name__}: {error}"


class Reporter:
    """Shows errors, and keeps the last one until somebody has waited for it."""

    failed = Signal(object)  # Exception, which the user has seen by then

    def __init__(self, state: DockState) -> None:
        self._state = state
        self._error: Exception | None = None
        self.shows_popups = True  # False while errors are raised anyway

    def clear(self) -> None:
        """Forget the last error: a new action begins."""
        self._error = None

    def raise_last(self) -> None:
        """Raise the last error, once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def report(self, error: Exception) -> None:
        """Show an error to the user, and tell scripts."""
        self._error = error
        text = error_text(error)
        if self.shows_popups:
            show_error(text)
        if not self._state.busy and text not in self._state.message:
            self._state.message = text
        self.failed.emit(error)

    def run_showing_errors(self, action: Callable[..., object], *arguments: object) -> None:
        """Call an action, and report its error instead of raising it."""
        try:
            action(*arguments)
        except Exception as error:  # noqa: BLE001 - it is reported, and nothing is left half done
            self.report(log_unexpected(error, "an action"))

    def slot(self, action: Callable[..., object], *arguments: object) -> Callable[..., None]:
        """Return a slot that calls an action, without what the signal sends, and reports errors."""
        return lambda *_: self.run_showing_errors(action, *arguments)
