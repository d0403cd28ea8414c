"""What the widget has done in a thread: each function returns work for a `Job`.

The core is imported inside the work, because it brings in torch, which takes seconds.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any

from napari_aeseg._napari.manifest.settings import prepare_folder
from napari_aeseg.images.axes import common_voxel_size
from napari_aeseg.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from os import PathLike
    from pathlib import Path
    from threading import Event

    import numpy as np

    from napari_aeseg._napari.layers.adapter import Snapshot
    from napari_aeseg._napari.tree_files import Opened
    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg._napari.work.worker import Work
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.batch import BatchReport
    from napari_aeseg.params import ComparisonParams, SegmentationParams, TrainingParams
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.hierarchy import Hierarchy

_SECONDS_BETWEEN_SAVES = 30.0
_SECONDS_BETWEEN_PICTURES = 1.0


def _with_core(work: Work) -> Work:
    """Have the core imported before some work, in a thread that ends with that."""

    @wraps(work)
    def begun(stop: Event) -> Generator[Progress, None, Any]:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_import_core).result()
        return (yield from work(stop))

    return begun


def _import_core() -> None:
    """Import what is written in C++.

    pybind11, as torch 2.9 still has it, keeps the state of the thread that first imports it. One of
    Qt's has another state for each piece of work: the next tensor that was freed in it ended the
    process.
    """
    import napari_aeseg.api  # noqa: F401 - brings in torch

    with suppress(ImportError):  # there are platforms without it
        import higra  # noqa: F401


def training(
    images: Sequence[Snapshot],
    params: TrainingParams | None,
    device: str,
    init: Model | str | None = None,
    resume: bool = False,
    watch: bool = False,
    autosave: Path | None = None,
) -> Work:
    """Train a model on all images; the result is a `Model`.

    With `autosave`, the model so far is written to that file now and then, and at the end.
    """

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, Model]:
        from napari_aeseg.api import train_steps

        if autosave is not None:  # a folder that cannot be written is told before the work
            prepare_folder(autosave.parent)
        steps = train_steps(
            [image.data for image in images],
            params,
            axes=[image.axes_argument for image in images],
            device=device,
            init=init,
            resume=resume,
            stop=stop,
            names=[image.name for image in images],
            snapshot_seconds=None if autosave is None else _SECONDS_BETWEEN_SAVES,
            preview_seconds=_SECONDS_BETWEEN_PICTURES if watch else None,
            voxel_size=common_voxel_size([image.axes for image in images]),
        )
        return (yield from _saving(steps, autosave))

    return work


def _saving(
    steps: Generator[Progress, None, Model], autosave: Path | None
) -> Generator[Progress, None, Model]:
    """Pass events on; write the models that come with them here, and not on the GUI thread."""
    told = ""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            model: Model = end.value
            break
        if getattr(event, "snapshot", None) is not None:
            wrong = _save(event.snapshot, autosave)
            event = replace(event, snapshot=None, message=event.message or ("" if told else wrong))
            told = told or wrong
        yield event
    if wrong := _save(model, autosave):
        yield Progress("train", 1, 1, message=wrong)
    return model


def _save(model: Model, path: Path | None) -> str:
    """Write a model; return what went wrong: a full disk must not cost the training."""
    if path is None:
        return ""
    try:
        model.save(path)
    except OSError as error:
        return (
            f"The model could not be saved as {path}: {error.strerror or error}. Save it by hand."
        )
    return ""


def segmenting(
    image: Snapshot,
    model: Model,
    params: SegmentationParams,
    comparison: ComparisonParams,
    device: str,
) -> Work:
    """Build the hierarchy of one image; the result is a `Hierarchy`."""

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, Hierarchy]:
        from napari_aeseg.api import hierarchy_steps

        hierarchy = yield from hierarchy_steps(
            image.data,
            model,
            params,
            image.axes,
            device,
            stop,
            image.name,
            comparison=comparison,
        )
        return _warm(hierarchy)

    return work


def comparing(hierarchies: dict[Any, Hierarchy], comparison: ComparisonParams) -> Work:
    """Compare the patches of hierarchies anew; the result is a dict with the same keys."""

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, dict[Any, Hierarchy]]:
        yield from ()
        new = {}
        for key, hierarchy in hierarchies.items():
            if stop.is_set():
                break
            new[key] = _warm(hierarchy.compared_by(comparison).prepare(stop))
        return new

    return work


def finding_objects(
    searches: dict[Any, tuple[Hierarchy, Cut, Prototypes | None]],
) -> Work:
    """Find objects; the result is a dict of labels with the same keys."""

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, dict[Any, np.ndarray]]:
        yield from ()
        return {
            key: cut.labels(hierarchy, prototypes, stop=stop)
            for key, (hierarchy, cut, prototypes) in searches.items()
        }

    return work


def measuring_error(image: Snapshot, model: Model, device: str) -> Work:
    """Compute the reconstruction error of each pixel; the result is an array."""

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, np.ndarray]:
        from napari_aeseg.autoencoder.model import error_steps

        read = model.read(image.data, image.axes, image.name)
        fitted = model.fitted(len(read.pixels))
        return (yield from error_steps(fitted, read, device, stop=stop))

    return work


def loading(path: str | PathLike[str]) -> Work:
    """Load a model file; the result is a `Model`."""

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, Model]:
        yield from ()
        from napari_aeseg.api import load_model

        return load_model(path)

    return work


def saving_hierarchy(hierarchy: Hierarchy, path: str | PathLike[str]) -> Work:
    """Write a hierarchy to a folder; there is no result."""

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, None]:
        yield from ()
        hierarchy.save(path)

    return work


def opening_hierarchy(path: str | PathLike[str], images: Sequence[Any]) -> Work:
    """Read a hierarchy and look which of some images it is of; the result is an `Opened`."""

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, Opened]:
        yield from ()
        from napari_aeseg._napari.tree_files import Opened
        from napari_aeseg.regions.hierarchy import load_hierarchy

        hierarchy = _warm(load_hierarchy(path).prepare(stop))
        places = (place for place, image in enumerate(images) if hierarchy.matches_image(image))
        return Opened(hierarchy, next(places, None))

    return work


def finding_devices() -> Work:
    """Ask torch for its devices; the result is a list of str.

    What takes long to load is loaded on the way: torch, and the library of the loss curve.
    """

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, list[str]]:
        yield from ()
        import pyqtgraph  # noqa: F401

        from napari_aeseg.autoencoder.device import available_devices, warm_up

        warm_up()
        return available_devices()

    return work


def _warm(hierarchy: Hierarchy) -> Hierarchy:
    """Have everything computed that a first cut needs, so that the first move is as fast too."""
    hierarchy.region_of_patch(min(2, hierarchy.n_patches))
    hierarchy.class_of_patch(1)
    return hierarchy


def segmenting_files(files: list[Path], output: Path, *settings: Any) -> Work:
    """Segment files; the result is a `BatchReport`. Settings are those of `Batch`."""
    model, cut, params, comparison, axes, device, existing = settings

    @_with_core
    def work(stop: Event) -> Generator[Progress, None, BatchReport]:
        from napari_aeseg.api import load_model
        from napari_aeseg.batch import Batch

        batch = Batch(
            files=files,
            output=output,
            model=load_model(model) if isinstance(model, str) else model,
            cut=cut,
            params=params,
            comparison=comparison,
            axes=axes,
            device=device,
            axes_must_fit=False,  # they were typed for the open images
            existing=existing,
        )
        return (yield from batch.steps(stop))

    return work
