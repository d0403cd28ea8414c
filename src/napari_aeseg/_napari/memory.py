"""What outlives the dock: closed and opened again, it goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_aeseg._napari.layers.adapter import unwrapped

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

    from napari_aeseg._napari.controller import Controller
    from napari_aeseg._napari.layers.kept import _Unmeasured
    from napari_aeseg._napari.state import ClassStyle, Result
    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg._napari.work.session import Origin
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.params import ComparisonParams, SegmentationParams, TrainingParams


@dataclass
class Memory:
    """The state of a dock without its controls."""

    model: Model | None
    origin: Origin
    results: dict[Image, Result]
    kept: tuple[_Unmeasured, ...]
    classes: ClassStyle
    cut: Cut
    training: TrainingParams
    segmentation: SegmentationParams
    comparison: ComparisonParams
    images: list[Image]
    axes: str | None
    device: str
    unfinished: Path | None  # where the model of a training is saved that was stopped by closing


# The results hold the viewer, by their layers: a table of memories would keep every viewer alive.
# Kept with the viewer's own layer list, they go when it goes.
_PLACE = "_napari_aeseg_memory"


def remember(controller: Controller) -> None:
    """Keep the state of a dock that is being closed, with its viewer."""
    dock, session = controller.dock, controller.session
    memory = Memory(
        session.model,
        session.origin,
        session.results.of,
        controller.keeper.followed,
        session.results.classes,
        dock.segments.cut,
        dock.model.params,
        dock.segments.params,
        dock.segments.comparison,
        dock.images.images,
        dock.images.axes,
        dock.model.device,
        session.autosaving,
    )
    setattr(unwrapped(controller.viewer).layers, _PLACE, memory)


def restore(controller: Controller) -> None:
    """Go on where the dock of this viewer was when it was closed, if there was one."""
    memory = vars(unwrapped(controller.viewer).layers).pop(_PLACE, None)
    if memory is None:
        return
    dock, results = controller.dock, controller.results
    controller.session.take_model(memory.model, memory.origin)
    results.classes = memory.classes
    controller.keeper.take_up(memory.kept)
    for image, result in memory.results.items():
        results.take_up(image, result)
        if result.markers is not None:
            controller.steering.follow(result.markers)
    results.forget_removed()
    for image in list(results.of):  # it may have been given other data while no dock was there
        controller.follow_data(image)
    dock.model.params, dock.model.device = memory.training, memory.device
    dock.segments.params, dock.segments.cut = memory.segmentation, memory.cut
    dock.segments.show_comparison(memory.comparison)
    dock.images.axes = memory.axes
    if there := [image for image in memory.images if image in dock.images.all]:
        dock.images.images = there
    controller.steering.take_over(memory.model)
    controller.show_model()
    if memory.unfinished is not None:
        dock.status.say(
            "The training was stopped when the dock was closed. The model as far as it got is in "
            f"{memory.unfinished}: load it, and Resume goes on."
        )
