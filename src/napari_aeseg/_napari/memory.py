"""What outlives the dock: closed and opened again, it goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_aeseg._napari.layers import unwrapped

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg._napari.results import ClassStyle, Result
    from napari_aeseg._napari.session import Origin
    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.params import SegmentationParams, TrainingParams


@dataclass
class Memory:
    """The state of a dock without its controls."""

    model: Model | None
    origin: Origin
    results: dict[Image, Result]
    classes: ClassStyle
    cut: Cut
    training: TrainingParams
    segmentation: SegmentationParams
    images: list[Image]
    axes: str | None
    device: str


# The results hold the viewer, by their layers: a table of memories would keep every viewer alive.
# Kept with the viewer's own layer list, they go when it goes.
_PLACE = "_napari_aeseg_memory"


def remember(viewer: Viewer, memory: Memory) -> None:
    """Keep the state of the dock of a viewer that is being closed."""
    setattr(unwrapped(viewer).layers, _PLACE, memory)


def recall(viewer: Viewer) -> Memory | None:
    """Return the state of the dock that a viewer had before, once."""
    return vars(unwrapped(viewer).layers).pop(_PLACE, None)
