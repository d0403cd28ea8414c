"""What outlives the dock: closed and opened again, it goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

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


_MEMORIES: WeakKeyDictionary[Any, Memory] = WeakKeyDictionary()  # by viewer, gone with it


def remember(viewer: Viewer, memory: Memory) -> None:
    """Keep the state of the dock of a viewer that is being closed."""
    _MEMORIES[unwrapped(viewer)] = memory


def recall(viewer: Viewer) -> Memory | None:
    """Return the state of the dock that a viewer had before, once."""
    return _MEMORIES.pop(unwrapped(viewer), None)
