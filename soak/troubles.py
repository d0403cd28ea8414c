"""Hears what goes wrong in a window and would otherwise pass unnoticed."""

from __future__ import annotations

import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QtMsgType, qInstallMessageHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

# What Qt and napari say of themselves, with the dock or without.
_NOISE = (
    "propagateSizeHints",
    "QSocketNotifier",
    "could not find font",
    "This plugin does not support",
    "QFontDatabase",
    "XDG_RUNTIME_DIR",
)
_BAD = (QtMsgType.QtWarningMsg, QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)


class Troubles(list[str]):
    """Texts of what went wrong so far."""

    def on_exception(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Note an exception that reached Qt's event loop."""
        self.append("".join(traceback.format_exception(kind, error, trace)))

    def on_unraisable(self, unraisable: Any) -> None:
        """Note an exception in a place that cannot raise, such as `__del__`."""
        trace = traceback.format_exception(unraisable.exc_value)
        self.append(f"{unraisable.err_msg or 'unraisable'} {unraisable.object!r}\n{''.join(trace)}")

    def on_message(self, kind: Any, context: Any, message: str) -> None:
        """Note a warning of Qt."""
        if kind in _BAD and not any(words in message for words in _NOISE):
            self.append(f"Qt: {message}")


@contextmanager
def troubles() -> Iterator[Troubles]:
    """Collect what goes wrong while inside."""
    found = Troubles()
    hook, unraisable = sys.excepthook, sys.unraisablehook
    handler = qInstallMessageHandler(found.on_message)
    sys.excepthook, sys.unraisablehook = found.on_exception, found.on_unraisable
    try:
        yield found
    finally:
        sys.excepthook, sys.unraisablehook = hook, unraisable
        qInstallMessageHandler(handler)
