"""What napari's command palette does in the dock, which is opened where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_aeseg._napari.widget import AESegWidget


def _dock() -> AESegWidget:
    """Return the dock of the current viewer, open."""
    from napari import current_viewer

    from napari_aeseg.errors import InputError

    viewer = current_viewer()
    if viewer is None:
        raise InputError("There is no viewer: open one, with napari.Viewer() in a script.")
    dock, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    dock.show()
    inner: AESegWidget = widget
    return inner


def segment() -> None:
    """Press Segment."""
    _dock().segment(choose_mode=True)


def train() -> None:
    """Press Train."""
    _dock().train()


def keep() -> None:
    """Press Keep; an error is shown as the button shows it."""
    _dock().press_keep()
