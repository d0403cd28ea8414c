"""What the widget has done in a thread: each function returns work for a `Job`.

The core is imported inside the work, because it brings in torch, which takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from os import PathLike
    from threading import Event

    import numpy as np

    from napari_aeseg._napari.layers import Snapshot
    from napari_aeseg._napari.worker import Work
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import Progress
    from napari_aeseg.params import SegmentationParams, TrainingParams
    from napari_aeseg.regions.hierarchy import Hierarchy


def training(images: Sequence[Snapshot], params: TrainingParams, device: str) -> Work:
    """Train a model on all images; the result is a `Model`."""

    def work(stop: Event) -> Generator[Progress, None, Model]:
        from napari_aeseg.pipeline import train_steps

        return (
            yield from train_steps(
                [image.data for image in images],
                params,
                axes=[image.axes_argument for image in images],
                device=device,
                stop=stop,
                names=[image.name for image in images],
            )
        )

    return work


def segmenting(image: Snapshot, model: Model, params: SegmentationParams, device: str) -> Work:
    """Build the hierarchy of one image; the result is a `Hierarchy`."""

    def work(stop: Event) -> Generator[Progress, None, Hierarchy]:
        from napari_aeseg.pipeline import hierarchy_steps

        hierarchy = yield from hierarchy_steps(
            image.data, model, params, image.axes_argument, device, stop, image.name
        )
        return _warm(hierarchy)

    return work


def reweighting(
    hierarchies: dict[Any, Hierarchy], balance: float, scale: float | Literal["auto"]
) -> Work:
    """Compare the patches of hierarchies anew; the result is a dict with the same keys."""

    def work(stop: Event) -> Generator[Progress, None, dict[Any, Hierarchy]]:
        yield from ()
        new = {}
        for key, hierarchy in hierarchies.items():
            if stop.is_set():
                break
            new[key] = _warm(hierarchy.reweighted(balance, scale))
        return new

    return work


def finding_objects(hierarchies: dict[Any, Hierarchy], min_size: int | None) -> Work:
    """Find objects; the result is a dict of labels with the same keys."""

    def work(stop: Event) -> Generator[Progress, None, dict[Any, np.ndarray]]:
        yield from ()
        found = {}
        for key, hierarchy in hierarchies.items():
            if stop.is_set():
                break
            found[key] = hierarchy.objects(min_size=min_size)
        return found

    return work


def loading(path: str | PathLike[str]) -> Work:
    """Load a model file; the result is a `Model`."""

    def work(stop: Event) -> Generator[Progress, None, Model]:
        yield from ()
        from napari_aeseg.pipeline import load_model

        return load_model(path)

    return work


def finding_devices() -> Work:
    """Ask torch for its devices; the result is a list of str."""

    def work(stop: Event) -> Generator[Progress, None, list[str]]:
        yield from ()
        from napari_aeseg.autoencoder.device import available_devices

        return available_devices()

    return work


def _warm(hierarchy: Hierarchy) -> Hierarchy:
    """Have everything computed that a first cut needs, so that the first move is as fast too."""
    hierarchy.region_of_patch(min(2, hierarchy.n_patches))
    hierarchy.class_of_patch(1)
    return hierarchy
