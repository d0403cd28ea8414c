"""Waiting without freezing the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEventLoop, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

_MILLISECONDS_TO_LOOK = 10


def wait_until(done: Callable[[], bool], timeout: float | None = None) -> bool:
    """Let Qt work until something is so; return False when it is not after `timeout` seconds."""
    loop, look, end = QEventLoop(), QTimer(), QTimer()
    look.timeout.connect(lambda: loop.quit() if done() else None)
    look.start(_MILLISECONDS_TO_LOOK)
    if timeout is not None:
        end.timeout.connect(loop.quit)
        end.start(int(1000 * timeout))
    if not done():
        loop.exec_()
    for timer in (look, end):  # a traceback may keep them alive
        timer.stop()
    return done()
