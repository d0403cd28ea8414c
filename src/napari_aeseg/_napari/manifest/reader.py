"""Opens model files in the dock: File > Open, a file dropped on the window, `viewer.open`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_aeseg._napari.manifest.commands import dock_widget
from napari_aeseg.params import MODEL_SUFFIX


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]] | None:
    """Return a reader for a model file, or None for anything else (npe2 reader contribution)."""
    paths = [path] if isinstance(path, str) else path
    return _read if all(str(p).endswith(MODEL_SUFFIX) for p in paths) else None


def _read(path: str | list[str]) -> list[tuple[None]]:
    """Load a model into the dock of the current viewer; there is no layer to return."""
    from napari_aeseg.errors import InputError

    paths = [path] if isinstance(path, str) else path
    if len(paths) != 1:
        raise InputError(
            f"{len(paths)} models at once: open one, the dock works with one at a time."
        )
    widget = dock_widget(
        "A model opens in napari's dock, and there is no viewer. In a script, use "
        "napari_aeseg.load_model(path)."
    )
    widget.load_model(paths[0])
    return [(None,)]
