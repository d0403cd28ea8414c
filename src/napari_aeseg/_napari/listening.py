"""Connections to what outlives the dock: layers, and the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Listening:
    """Connections that can be cut all at once, so that a closed dock hears no more."""

    def __init__(self) -> None:
        self._connections: list[tuple[Any, Callable[..., object]]] = []

    def to(self, *events: Any, then: Callable[..., object]) -> None:
        """Call `then` at each of some events."""
        for event in events:
            event.connect(then)
            self._connections.append((event, then))

    def leave(self) -> None:
        """Hear no more."""
        for event, then in self._connections:
            event.disconnect(then)
        self._connections.clear()
