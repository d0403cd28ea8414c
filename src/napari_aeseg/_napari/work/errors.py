"""Says what went wrong: to the user, to scripts, to whoever listens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from psygnal import Signal

from napari_aeseg._napari.work.worker import noted
from napari_aeseg.errors import AesegError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def said(error: Exception) -> str:
    """Return how an error is said to the user."""
    return str(error) if isinstance(error, AesegError) else f"{type(error).__name__}: {error}"


class Reporter:
    """Keeps the last error until somebody has waited for it.

    Attributes
    ----------
    failed : psygnal.Signal(Exception, str)
        The error, and how it is said.
    """

    failed = Signal(object, str)

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._popups = True

    def clear(self) -> None:
        """Forget the last error: something new begins."""
        self._error = None

    def raise_last(self) -> None:
        """Raise the last error, once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def report(self, error: Exception) -> None:
        """Show an error to the user and to scripts."""
        self._error = error
        text = said(error)
        if self._popups:
            show_error(text)
        self.failed.emit(error, text)

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Report what goes wrong inside, instead of raising it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - it is told, and nothing is left half done
            self.report(noted(error, "an action"))

    def reporting(self, action: Callable[..., object]) -> Callable[..., None]:
        """Return a slot that does the action, without what the signal sends, and reports."""

        def slot(*_: object) -> None:
            with self.reported():
                action()

        return slot

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Let nothing pop up inside: what goes wrong will be raised."""
        self._popups = False
        try:
            yield
        finally:
            self._popups = True
