"""What napari's command palette does in the dock, which is opened where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_aeseg._napari.widget import AESegWidget

_NO_VIEWER = "There is no viewer: open one, with napari.Viewer() in a script."


def dock_widget(advice: str) -> AESegWidget:
    """Return the dock of the current viewer, open; InputError with some advice without a viewer."""
    from napari import current_viewer

    from napari_aeseg.errors import InputError

    viewer = current_viewer()
    if viewer is None:
        raise InputError(advice)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    dock.show()
    inner: AESegWidget = widget
    return inner


def segment() -> None:
    """Press Segment."""
    dock_widget(_NO_VIEWER).segment(choose_mode=True)


def train() -> None:
    """Press Train."""
    dock_widget(_NO_VIEWER).train()


def keep() -> None:
    """Press Keep; an error is shown as the button shows it."""
    dock_widget(_NO_VIEWER).press_keep()
