"""What the dock has done in a thread: each function returns work for a `Job`.

The core is imported inside the work, because it brings in torch, which takes seconds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg._napari.drafts import read_draft, write_draft
from napari_aeseg._napari.manifest.settings import prepare_folder
from napari_aeseg._napari.work.imports import garbage_left_alone
from napari_aeseg._napari.work_requests import LearnedClasses, ModePictures, Thumbnails
from napari_aeseg.images.axes import common_voxel_size
from napari_aeseg.params import BASE_MODEL
from napari_aeseg.progress import Progress, autosaved
from napari_aeseg.regions.cuts.cut import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from os import PathLike
    from threading import Event

    import pandas as pd

    from napari_aeseg._napari.drafts import Draft
    from napari_aeseg._napari.layers.image_input import ImageInput
    from napari_aeseg._napari.state import DockState
    from napari_aeseg._napari.work.worker import Work
    from napari_aeseg._napari.work_requests import (
        AlternativesRequest,
        BorderRequest,
        ModesRequest,
        ObjectRequest,
        StrokesRequest,
        ViewRequest,
    )
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.batch import BatchReport, Existing
    from napari_aeseg.params import ComparisonParams, SegmentationParams, TrainingParams
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.cuts.cut import Mode
    from napari_aeseg.regions.hierarchy import Hierarchy

_SECONDS_BETWEEN_SAVES = 30.0
_SECONDS_BETWEEN_PICTURES = 1.0
_ALTERNATIVES = 6  # in two rows of the dock
_DRAFT = "work.npz"  # in the folder of a hierarchy
_THUMBNAIL = 184  # pixels, twice those of the dock: some screens show two where one is counted


def training(
    inputs: Sequence[ImageInput],
    params: TrainingParams | None,
    device: str,
    init: Model | str | None = None,
    resume: bool = False,
    watch: bool = False,
    path: Path | None = None,
) -> Work:
    """Train a model on all images; the result is a `Model`.

    With a path, the model so far is written to that file now and then, and at the end.
    """

    def work(stop: Event) -> Generator[Progress, None, Model]:
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

    return work


def segmenting(
    image: ImageInput,
    model: Model,
    params: SegmentationParams,
    comparison: ComparisonParams,
    device: str,
    labels: np.ndarray | None = None,
) -> Work:
    """Build the hierarchy of one image, from segments if given; the result is a `Hierarchy`."""

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
            labels=labels,
        )
        return _warm(hierarchy)

    return work


def comparing(hierarchies: Mapping[Any, Hierarchy], comparison: ComparisonParams) -> Work:
    """Compare the patches of hierarchies anew; the result is a dict with the same keys."""

    def work(stop: Event) -> Generator[Progress, None, dict[Any, Hierarchy]]:
        yield from ()
        compared = {}
        for key, hierarchy in hierarchies.items():
            if stop.is_set():
                break
            compared[key] = _warm(hierarchy.compared_by(comparison).prepare(stop))
        return compared

    return work


def detecting_objects(requests: Mapping[Any, ObjectRequest]) -> Work:
    """Detect objects; the result is a dict of labels with the same keys."""

    def work(stop: Event) -> Generator[Progress, None, dict[Any, np.ndarray]]:
        yield from ()
        # Of images in blocks, they are in memory from here on: the window counts and edits them.
        return {key: np.asarray(request.labels(stop)) for key, request in requests.items()}

    return work


def learning_classes(request: StrokesRequest) -> Work:
    """Learn classes from strokes and find them; the result is `LearnedClasses`."""

    def work(stop: Event) -> Generator[Progress, None, LearnedClasses]:
        yield from ()
        cut, prototypes = Cut("markers", markers_are="classes"), request.prototypes
        for image, strokes in request.strokes.items():
            hierarchy = request.hierarchies[image]
            prototypes = hierarchy.prototypes_from(strokes, others=prototypes)
        assert prototypes is not None, "a request has strokes or prototypes"  # noqa: S101
        labels = {
            image: cut.labels(hierarchy, prototypes, request.strokes[image], stop)
            if image in request.strokes
            else hierarchy.classes(prototypes=prototypes)
            for image, hierarchy in request.hierarchies.items()
        }
        return LearnedClasses(request, prototypes, labels)

    return work


def refining(requests: Mapping[Any, BorderRequest | ViewRequest]) -> Work:
    """Refine the borders of labels; the result is a dict of labels with the same keys."""

    def work(stop: Event) -> Generator[Progress, None, dict[Any, Any]]:
        yield from ()
        return {key: request.labels(stop) for key, request in requests.items()}

    return work


def finding_alternatives(request: AlternativesRequest) -> Work:
    """Find alternatives and make their thumbnails; the result is `Thumbnails`."""

    def work(stop: Event) -> Generator[Progress, None, Thumbnails]:
        from napari_aeseg.regions.alternatives import alternatives_steps
        from napari_aeseg.regions.small_plane import plane_of

        hierarchy = request.hierarchy
        alternatives = yield from alternatives_steps(
            hierarchy, _ALTERNATIVES, request.mode, request.number, stop
        )
        plane = plane_of(hierarchy, request.image, _THUMBNAIL)
        return Thumbnails(
            hierarchy.patches,
            request.mode,
            request.number,
            tuple(a.settings for a in alternatives),
            plane.picture,
            tuple(plane.labels(a.label_of_patch) for a in alternatives),
        )

    return work


def picturing_modes(request: ModesRequest) -> Work:
    """Draw what each mode shows small; the result is `ModePictures`."""

    def work(stop: Event) -> Generator[Progress, None, ModePictures]:
        yield from ()
        from napari_aeseg.regions.small_plane import plane_of, small_labels

        hierarchy, prototypes, objects = request.hierarchy, request.prototypes, request.objects
        plane = plane_of(hierarchy, request.image, _THUMBNAIL)
        regions = replace(request.cut, mode="regions")
        classes = replace(request.cut, mode="classes", edits=())
        labels: dict[Mode, np.ndarray] = {
            "regions": plane.labels(regions.of_patch(hierarchy)),
            "classes": plane.labels(classes.of_patch(hierarchy, prototypes)),
        }
        if objects is not None:
            labels["objects"] = small_labels(objects, hierarchy.axes.space, _THUMBNAIL)
        return ModePictures(request, plane.picture, labels)

    return work


def measuring_error(image: ImageInput, model: Model, device: str) -> Work:
    """Compute the reconstruction error of each pixel; the result is an array."""

    def work(stop: Event) -> Generator[Progress, None, np.ndarray]:
        from napari_aeseg.autoencoder.model import error_steps

        read = model.read(image.data, image.axes, image.name)
        fitted = model.fitted(len(read.pixels))
        return (yield from error_steps(fitted, read, device, stop=stop))

    return work


def measuring(
    table_of: Callable[[np.ndarray | None], pd.DataFrame],
    error: np.ndarray | None,
    error_work: Work | None = None,
) -> Work:
    """Make a table from the reconstruction error, which is computed first if there is work for it.

    The result is that error, None where it is not known, and the table.
    """

    def work(stop: Event) -> Generator[Progress, None, tuple[np.ndarray | None, pd.DataFrame]]:
        by_pixel = error if error_work is None else (yield from error_work(stop))
        return by_pixel, table_of(by_pixel)

    return work


def loading(path: str | PathLike[str]) -> Work:
    """Load a model file; the result is a `Model`."""

    def work(stop: Event) -> Generator[Progress, None, Model]:
        yield from ()
        from napari_aeseg.api import load_model

        return load_model(path)

    return work


def saving_hierarchy(hierarchy: Hierarchy, path: str | PathLike[str], draft: Draft) -> Work:
    """Write a hierarchy and the work on it to a folder; there is no result."""

    def work(stop: Event) -> Generator[Progress, None, None]:
        yield from ()
        hierarchy.save(path)
        write_draft(draft, Path(path) / _DRAFT)

    return work


def opening_hierarchy(path: str | PathLike[str], images: Sequence[Any]) -> Work:
    """Read a hierarchy; the result is it, the index of its image among some arrays, and a draft.

    There is no index where the image is not open, and no draft where none was saved.
    """

    def work(stop: Event) -> Generator[Progress, None, tuple[Hierarchy, int | None, Draft | None]]:
        yield from ()
        from napari_aeseg.regions.hierarchy import load_hierarchy

        hierarchy = _warm(load_hierarchy(path).prepare(stop))
        matching = (index for index, image in enumerate(images) if hierarchy.matches_image(image))
        draft = Path(path) / _DRAFT
        return hierarchy, next(matching, None), read_draft(draft) if draft.is_file() else None

    return work


def finding_devices() -> Work:
    """Ask torch for its devices; the result is a list of str.

    What takes long to load is loaded on the way: torch, the library of the loss curve, and what
    napari loads and computes for its first layer of labels.
    """

    def work(stop: Event) -> Generator[Progress, None, list[str]]:
        yield from ()
        with garbage_left_alone():
            import pandas  # noqa: F401
            import pyqtgraph  # noqa: F401
            from vispy.visuals.line.dash_atlas import DashAtlas

            from napari_aeseg.autoencoder.device import available_devices

            DashAtlas()  # its patterns are remembered
        return available_devices()

    return work


def _warm(hierarchy: Hierarchy) -> Hierarchy:
    """Have everything computed that a first cut needs, so that the first move is as fast too."""
    hierarchy.region_of_patch(min(2, hierarchy.n_patches))
    hierarchy.class_of_patch(1)
    return hierarchy


def segmenting_files(
    files: list[Path],
    output: Path,
    state: DockState,
    prototypes: Prototypes | None,
    existing: Existing,
) -> Work:
    """Segment files like the preview, with its classes; the result is a `BatchReport`."""
    model, cut, comparison = state.model, state.cut, state.comparison
    if cut.learns_classes:
        cut = replace(cut, mode="classes")
    params, axes, device = state.segmentation, state.axes, state.device

    def work(stop: Event) -> Generator[Progress, None, BatchReport]:
        from napari_aeseg.api import load_model
        from napari_aeseg.batch import Batch

        batch = Batch(
            files=files,
            output=output,
            model=model or load_model(BASE_MODEL),
            cut=cut,
            params=params,
            comparison=comparison,
            axes=axes,
            device=device,
            axes_must_fit=False,  # they were typed for the open images
            existing=existing,
            prototypes=prototypes,
        )
        return (yield from batch.steps(stop))

    return work
