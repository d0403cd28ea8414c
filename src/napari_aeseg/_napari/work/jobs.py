"""What the dock has done in a thread: each function returns work for a `Job`.

The core is imported inside the work, because it brings in torch, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import wraps
from os import PathLike
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from napari_aeseg._napari.drafts import Draft, read_draft, write_draft
from napari_aeseg._napari.manifest.settings import prepare_folder
from napari_aeseg._napari.work.imports import garbage_left_alone
from napari_aeseg.images.axes import common_voxel_size
from napari_aeseg.io.zarr_folder import WORK_FILE
from napari_aeseg.params import BASE_MODEL, ComparisonParams, SegmentationParams, TrainingParams
from napari_aeseg.progress import Progress, autosaved

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from napari_aeseg._napari.layers.image_input import ImageInput
    from napari_aeseg._napari.work.worker import Work
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.batch import BatchReport
    from napari_aeseg.regions.hierarchy import Hierarchy

_P = ParamSpec("_P")

_SECONDS_BETWEEN_SAVES = 30.0
_SECONDS_BETWEEN_PICTURES = 1.0


def _later(function: Callable[Concatenate[Event, _P], Any]) -> Callable[_P, Work]:
    """Have a function called in a thread: it returns work, which gets the first argument there."""

    @wraps(function)
    def work_of(*args: _P.args, **kwargs: _P.kwargs) -> Work:
        return lambda stop: function(stop, *args, **kwargs)

    return work_of


@_later
def training(
    stop: Event,
    inputs: Sequence[ImageInput],
    params: TrainingParams | None,
    device: str,
    init: Model | str | None = None,
    resume: bool = False,
    watch: bool = False,
    path: Path | None = None,
) -> Generator[Progress, None, Model]:
    """Train a model on all images.

    With a path, the model so far is written to that file now and then, and at the end.
    """
    from napari_aeseg.api import train_steps

    if path is not None:  # a folder that cannot be written to is an error before the work
        prepare_folder(path.parent)
    steps = train_steps(
        [image.data for image in inputs],
        params,
        axes=[image.axes_argument for image in inputs],
        device=device,
        init=init,
        resume=resume,
        stop=stop,
        names=[image.name for image in inputs],
        snapshot_seconds=None if path is None else _SECONDS_BETWEEN_SAVES,
        preview_seconds=_SECONDS_BETWEEN_PICTURES if watch else None,
        voxel_size=common_voxel_size([image.axes for image in inputs]),
    )
    if path is None:
        return (yield from steps)
    model = yield from autosaved(steps, path)
    try:
        model.save(path)
    except OSError as error:  # a full disk must not cost the training
        text = f"The model could not be saved as {path}: {error.strerror or error}."
        yield Progress("train", 1, 1, message=text)
    return model


@_later
def segmenting(
    stop: Event,
    image: ImageInput,
    model: Model,
    params: SegmentationParams,
    comparison: ComparisonParams,
    device: str,
    labels: np.ndarray | None = None,
) -> Generator[Progress, None, Hierarchy]:
    """Build the hierarchy of one image, from segments if given."""
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
        labels=labels,
    )
    return _warm(hierarchy)


@_later
def comparing(
    stop: Event, hierarchies: Mapping[Any, Hierarchy], comparison: ComparisonParams
) -> dict[Any, Hierarchy]:
    """Compare the patches of hierarchies anew; the result has the same keys."""
    compared = {}
    for key, hierarchy in hierarchies.items():
        if stop.is_set():
            break
        compared[key] = _warm(hierarchy.compared_by(comparison).prepare(stop))
    return compared


@_later
def measuring_error(
    stop: Event, image: ImageInput, model: Model, device: str
) -> Generator[Progress, None, np.ndarray]:
    """Compute the reconstruction error of each pixel."""
    from napari_aeseg.autoencoder.model import error_steps

    read = model.read(image.data, image.axes, image.name)
    fitted = model.fitted(len(read.pixels))
    return (yield from error_steps(fitted, read, device, stop=stop))


@_later
def measuring(
    stop: Event,
    table_of: Callable[[np.ndarray | None], pd.DataFrame],
    error: np.ndarray | None,
    error_work: Work | None = None,
) -> Generator[Progress, None, tuple[np.ndarray | None, pd.DataFrame]]:
    """Make a table from the reconstruction error, which is computed first if there is work for it.

    The result is that error, None where it is not known, and the table.
    """
    by_pixel = error if error_work is None else (yield from error_work(stop))
    return by_pixel, table_of(by_pixel)


@_later
def loading(stop: Event, path: str | PathLike[str]) -> Model:
    """Load a model file."""
    from napari_aeseg.api import load_model

    return load_model(path)


@_later
def saving_hierarchy(
    stop: Event, hierarchy: Hierarchy, path: str | PathLike[str], draft: Draft
) -> None:
    """Write a hierarchy and the work on it to a folder."""
    hierarchy.save(path)
    write_draft(draft, Path(path) / WORK_FILE)


@_later
def opening_hierarchy(
    stop: Event, path: str | PathLike[str], images: Sequence[Any]
) -> tuple[Hierarchy, int | None, Draft | None]:
    """Read a hierarchy; the result is it, the index of its image among some arrays, and a draft.

    There is no index where the image is not open, and no draft where none was saved.
    """
    from napari_aeseg.regions.hierarchy import load_hierarchy

    hierarchy = _warm(load_hierarchy(path).prepare(stop))
    matching = (index for index, image in enumerate(images) if hierarchy.matches_image(image))
    draft = Path(path) / WORK_FILE
    return hierarchy, next(matching, None), read_draft(draft) if draft.is_file() else None


@_later
def finding_devices(stop: Event) -> list[str]:
    """Ask torch for its devices.

    What takes long to load is loaded on the way: torch, the library of the loss curve, and what
    napari loads and computes for its first layer of labels.
    """
    with garbage_left_alone():
        import pandas  # noqa: F401
        import pyqtgraph  # noqa: F401
        from vispy.visuals.line.dash_atlas import DashAtlas

        from napari_aeseg.autoencoder.device import available_devices

        DashAtlas()  # its patterns are remembered
    return available_devices()


def _warm(hierarchy: Hierarchy) -> Hierarchy:
    """Have everything computed that a first cut needs, so that the first move is as fast too."""
    hierarchy.region_of_patch(min(2, hierarchy.n_patches))
    hierarchy.class_of_patch(1)
    return hierarchy


@_later
def segmenting_files(
    stop: Event, /, model: Model | None, **options: Any
) -> Generator[Progress, None, BatchReport]:
    """Segment files with a model, by default the base model; `options` are fields of `Batch`."""
    from napari_aeseg.api import load_model
    from napari_aeseg.batch import Batch

    batch = Batch(model=model or load_model(BASE_MODEL), **options)
    return (yield from batch.steps(stop))
