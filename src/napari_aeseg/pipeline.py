"""The stages joined: what the public functions, the command line and the dock widget all call.

Each stage is a generator of frozen events that returns its result; the plain functions drain it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.autoencoder.checkpoint import check_images_to_resume, params_to_resume
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.model_file import load_model_file
from napari_aeseg.autoencoder.pooling import pooling_steps
from napari_aeseg.autoencoder.training import training_steps
from napari_aeseg.errors import InputError
from napari_aeseg.events import Progress, drain, raise_if_stopped
from napari_aeseg.images.axes import channels_first
from napari_aeseg.images.intensity import Image, IntensityRange, read_image
from napari_aeseg.params import SegmentationParams, TrainingParams, checked_params
from napari_aeseg.regions.graph import region_graph
from napari_aeseg.regions.hierarchy import Hierarchy
from napari_aeseg.regions.objects import brightness_of
from napari_aeseg.regions.patches import make_patches
from napari_aeseg.regions.statistics import PatchStatistics, channel_means, geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from os import PathLike

    from napari_aeseg.events import StopFlag

    ProgressCallback = Callable[[Progress], object]


def train_steps(
    images: Any,
    params: TrainingParams | None = None,
    axes: str | Sequence[str | None] | None = None,
    device: str = "auto",
    init: Model | str | PathLike[str] | None = None,
    stop: StopFlag | None = None,
    names: Sequence[str] | None = None,
    *,
    resume: bool = False,
    snapshot_seconds: float | None = None,
    picture_seconds: float | None = None,
) -> Generator[Progress, None, Model]:
    """Train as `train` does; a generator of `Progress` events that returns the model.

    Parameters
    ----------
    axes : str or sequence of (str or None), optional
        For all images, or one for each.
    names : sequence of str, optional
        What errors and the training record call the images.
    """
    start = init if init is None or isinstance(init, Model) else load_model(init)
    listed = list(images) if isinstance(images, list | tuple) else [images]
    if not listed:
        raise InputError("There is no image to train on: the list is empty.")
    names = list(names) if names is not None else [f"image {i + 1}" for i in range(len(listed))]
    given = [axes] * len(listed) if axes is None or isinstance(axes, str) else list(axes)
    if resume:
        params = params_to_resume(
            start, None if params is None else checked_params(TrainingParams, params)
        )
        assert start is not None  # noqa: S101 - has been checked
        check_images_to_resume(
            start.record, [(n, np.shape(i), None) for n, i in zip(names, listed, strict=True)]
        )
        given = [a or i["axes"] for a, i in zip(given, start.record.images, strict=True)]
    params = checked_params(TrainingParams, params)
    read, intensity = yield from _read_steps(
        listed, given, names, params, stop, start.intensity if start and resume else None
    )
    channels = {len(i.pixels) for i in read}
    if start is not None and start.any_channels and not resume and len(channels) == 1:
        start = start.fitted(channels.pop())
    return (
        yield from training_steps(
            read,
            params,
            device,
            start,
            stop,
            intensity,
            resume=resume,
            snapshot_seconds=snapshot_seconds,
            picture_seconds=picture_seconds,
        )
    )


def _read_steps(
    images: Sequence[Any],
    axes: Sequence[str | None],
    names: Sequence[str],
    params: TrainingParams,
    stop: StopFlag | None,
    known: IntensityRange | None,
) -> Generator[Progress, None, tuple[list[Image], IntensityRange | None]]:
    """Read the images of a training; return them and the range that they have in common, if any."""
    even = params.normalisation == "image"
    read: list[Image] = []
    for i, (image, letters, name) in enumerate(zip(images, axes, names, strict=True)):
        raise_if_stopped(stop, "read")
        read.append(read_image(image, letters, known, name, even))
        yield Progress("read", i + 1, len(images))
    if even or known is not None or len({len(i.pixels) for i in read}) > 1:
        return read, known
    intensity = IntensityRange(
        tuple(map(min, zip(*(i.intensity.low for i in read), strict=True))),
        tuple(map(max, zip(*(i.intensity.high for i in read), strict=True))),
    )
    again = zip(images, read, strict=True)
    return [read_image(image, i.axes, intensity, i.name) for image, i in again], intensity
        read = [
            read_image(image, i.axes, intensity, i.name)
            for image, i in zip(listed, read, strict=True)
        ]
    channels = {len(i.pixels) for i in read}
    if start is not None and start.any_channels and len(channels) == 1:
        start = start.fitted(channels.pop())
    return (yield from training_steps(read, params, device, start, stop, intensity))
    init : Model, path or "base", optional
        Weights to start from ("base" are those that ship with the package); with `resume`, the
        training to go on with.
    init : Model, path or "base", optional
        Weights to start from; "base" are those that ship with the package.
