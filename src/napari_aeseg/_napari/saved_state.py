"""The state of a dock that was closed, kept with its viewer for the next dock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_aeseg._napari.layers.connections import Connections
from napari_aeseg._napari.layers.image_input import unwrapped
from napari_aeseg.progress import TrainingProgress

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_aeseg._napari.state import DockState

# The results hold the viewer, by their layers: a table of snapshots would keep every viewer alive.
# As an attribute of the viewer's own layer list, a snapshot ends with it.
_ATTRIBUTE = "_napari_aeseg_snapshot"


def save_state(viewer: Viewer, state: DockState) -> None:
    """Keep the state of a dock that is being closed, for the next one of its viewer."""
    message = ""
    if state.busy and isinstance(state.progress, TrainingProgress) and state.autosave is not None:
        message = (
            "The training was stopped when the dock was closed. The model so far is in "
            f"{state.autosave}: load it and press Resume to go on."
        )
    saved = replace(
        state,
        open_images=(),
        busy="",
        progress=None,
        message=message,
        tool=None,
        report="",
        alternatives=None,
        mode_pictures=None,
    )
    connections = Connections()

    def release(event: Any) -> None:
        """A preview that is painted on while no dock is open is the user's."""
        saved.previews = {i: p for i, p in saved.previews.items() if p is not event.source}

    for layer in saved.previews.values():
        connections.connect(release, layer.events.paint, layer.events.data)
    setattr(unwrapped(viewer).layers, _ATTRIBUTE, (saved, connections))


def restored_state(viewer: Viewer) -> DockState | None:
    """Return the state of the last dock of this viewer, if there was one."""
    state: DockState | None
    connections: Connections
    layers, nothing = viewer.layers, (None, Connections())
    state, connections = vars(unwrapped(viewer).layers).pop(_ATTRIBUTE, nothing)
    if state is None:
        return None
    connections.disconnect_all()
    state.drop_results([image for image in state.results if image not in layers])
    state.previews = {i: p for i, p in state.previews.items() if i in state.results and p in layers}
    state.kept = {layer: kept for layer, kept in state.kept.items() if layer in layers}
    state.images = tuple(image for image in state.images if image in layers)
    return state
