"""Opens model files and saved hierarchies in the dock: File > Open, a drop, `viewer.open`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_aeseg.params import HIERARCHY_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    Reader = Callable[[str | list[str]], list[Any]]

_SUFFIX = ".aeseg.safetensors"


def get_reader(path: str | list[str]) -> Reader | None:
    """Return a reader for a model file, or None for anything else (npe2 reader contribution)."""
    return _read if all(str(p).endswith(_SUFFIX) for p in _listed(path)) else None


def get_hierarchy_reader(path: str | list[str]) -> Reader | None:
    """Return a reader for a saved hierarchy, or None for anything else (npe2 reader contribution).

    Examples
    --------
    >>> get_hierarchy_reader("tissue.zarr") is None
    True
    """
    # A folder may come with a slash at its end.
    names = [str(p).rstrip("/\\") for p in _listed(path)]
    return _read_hierarchies if all(name.endswith(HIERARCHY_SUFFIX) for name in names) else None


def _listed(path: str | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else path


def _read(path: str | list[str]) -> list[tuple[None]]:
    """Load a model into the dock of the current viewer; there is no layer to return.

    Raises
    ------
    InputError
        If several models are opened at once, or there is no window.
    ModelFileError
        If the file is damaged, foreign, or of a newer format.
    """
    from napari_aeseg.errors import InputError

    paths = _listed(path)
    if len(paths) != 1:
        raise InputError(
            f"{len(paths)} models at once: open one, the dock works with one at a time."
        )
    _widget("model", "load_model").load_model(paths[0])
    return [(None,)]


def _read_hierarchies(path: str | list[str]) -> list[tuple[None]]:
    """Open hierarchies in the dock of the current viewer, which makes the layers.

    Raises
    ------
    InputError
        If there is no window.
    HierarchyFileError
        If a folder is damaged, foreign, or of a newer format.
    """
    widget = _widget("saved segmentation", "load_hierarchy")
    for one in _listed(path):
        widget.open_hierarchy(one)
    return [(None,)]


def _widget(what: str, function: str) -> Any:
    """Return the dock widget of the current viewer, shown."""
    from napari import current_viewer

    from napari_aeseg.errors import InputError

    viewer = current_viewer()
    if viewer is None:
        raise InputError(
            f"A {what} opens in napari's dock, and there is no viewer. In a script, use "
            f"napari_aeseg.{function}(path)."
        )
    dock, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    dock.show()
    return widget
