"""Connections to what outlives the dock: layers, and the viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Connections:
    """Connections that can be undone all at once, when a dock is closed."""

    def __init__(self) -> None:
        self._connections: list[tuple[Any, Callable[..., object]]] = []

    def connect(self, callback: Callable[..., object], *events: Any) -> None:
        """Call `callback` at each of some events."""
        for event in events:
            event.connect(callback)
            self._connections.append((event, callback))

    def disconnect(self, *events: Any) -> None:
        """Undo the connections to some events."""
        for event, callback in self._connections:
            if any(event is other for other in events):
                event.disconnect(callback)
        self._connections = [c for c in self._connections if not any(c[0] is e for e in events)]

    def disconnect_all(self) -> None:
        """Undo all connections."""
        self.disconnect(*(event for event, _ in self._connections))
