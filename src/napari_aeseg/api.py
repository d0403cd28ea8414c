"""The public functions, and the generators behind them that command line and dock widget use.

The generators yield frozen events and return the result; the public functions drain them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.autoencoder.architecture import anisotropy_warning
from napari_aeseg.autoencoder.device import (
    number_of_threads,
    oom_as_device_error,
)
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.patch_moments import PatchMoments, patch_moments_steps
from napari_aeseg.autoencoder.resume import check_images_to_resume, params_to_resume
from napari_aeseg.autoencoder.trainer import Trainer
from napari_aeseg.autoencoder.training_loop import training_steps
from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, channels_first, common_voxel_size
from napari_aeseg.images.blocks import BlockImage
from napari_aeseg.images.checks import check_compatible, full_resolution, image_axes, plain_array
from napari_aeseg.images.intensity import (
    Image,
    IntensityRange,
    LoadedImage,
    as_array,
    load_image,
    read_image,
)
from napari_aeseg.images.memory import trim_heap
from napari_aeseg.images.napari_layers import is_layer
from napari_aeseg.images.parallel import together
from napari_aeseg.images.training_windows import window_sample_steps
from napari_aeseg.large.build import block_hierarchy_steps, needs_blocks
from napari_aeseg.large.cluster import active_client
from napari_aeseg.params import (
    BlockParams,
    ComparisonParams,
    SegmentationParams,
    TrainingParams,
    checked_params,
)
from napari_aeseg.progress import Progress, StopFlag, collect_messages, drain, raise_if_stopped
from napari_aeseg.regions.hierarchy import Hierarchy, checked_number
from napari_aeseg.regions.objects.maps import brightness_of, channels_of, stain_of
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.segments import checked_segments, patches_with_segments
from napari_aeseg.regions.patches.statistics import PatchStatistics, channel_means, geometry
from napari_aeseg.regions.patches.superpixels import make_patches, patch_shape, pixel_density

if TYPE_CHECKING:
    from os import PathLike

    ProgressCallback = Callable[[Progress], object]

_IN_BLOCKS = "give `blocks` (on the command line, --block-size)"


def train(
    images: Any,
    params: TrainingParams | None = None,
    axes: str | None = None,
    device: str = "auto",
    init: Model | str | PathLike[str] | None = None,
    progress: ProgressCallback | None = None,
    stop: StopFlag | None = None,
    *,
    resume: bool = False,
    snapshot_seconds: float | None = None,
    preview_seconds: float | None = None,
    voxel_size: Sequence[float] | None = None,
    blocks: BlockParams | None = None,
) -> Model:
    """Train an autoencoder on one image or several.

    Large dask and zarr arrays, and images that need more than half of the free memory, are
    streamed: crops are drawn from 2D windows at random places, 64 MB in all.

    Parameters
    ----------
    images : array_like or list of array_like
        Arrays of real numbers (numpy, dask, zarr, HDF5, xarray, PyTorch, pandas ...), with equal
        numbers of channels; sizes may differ, and dtypes unless normalisation is "training". Images
        smaller than a crop are mirrored to its size.
    params : TrainingParams, optional
    axes : str, optional
        One letter per dimension, such as "YX", "YXC", "CYX"; the same for all images. Inferred
        from each shape when not given: what was inferred is in ``model.record.images``.
    device : str
        "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".
    init : Model or path_like or "base", optional
        Weights to start from ("base" are those that ship with the package); with `resume`, the
        training to go on with.
    progress : callable, optional
        Called with every `Progress` event.
    stop : threading.Event or alike, optional
        Checked at every step. The model so far is returned; ``model.unfinished`` is True.
    resume : bool
        Whether to go on with the unfinished training of `init` where it stopped. Images and
        `params` must be those it began with; `params` and `axes` may be left out. On the CPU, the
        result is that of a training that was never stopped, bit for bit.
    snapshot_seconds : float, optional
        How often an event carries the model so far as `snapshot`, for example to save it.
    preview_seconds : float, optional
        How often an event carries the reconstruction of the first image as `preview`.
    voxel_size : sequence of float, optional
        Length of a voxel along Z, Y and X, in the order of the axes and any unit. For volumes, it
        decides whether the network works in 3D, and from which level on (`TrainingParams`,
        `dimensions`). Isotropic voxels are assumed if it is not given.
    blocks : BlockParams, optional
        Stream all images, also those that fit into memory; `unreadable` decides about windows that
        cannot be read.

    Returns
    -------
    Model
        On the CPU. ``model.losses`` has the loss of every step, ``model.record.notes`` what looks
        wrong with them.

    Raises
    ------
    InputError
        If an image is empty, complex, constant, has masked, NaN, infinite or immense values, cannot
        be read, or does not fit the others or `axes`; or if the training cannot be resumed, or not
        with these images or params.
    StoppedError
        If stopped before the first step.
    DeviceError
        If the device is not there, or if there was no memory for a single step. When it runs out of
        memory, batches are halved, then the CPU takes over: an event and ``model.record`` say so.

    Examples
    --------
    >>> import numpy as np
    >>> model = train(np.eye(64), TrainingParams(steps=2, width=4), device="cpu")
    >>> len(model.losses), model.unfinished
    (2, False)
    """
    work = train_steps(
        images,
        params,
        axes,
        device,
        init,
        stop,
        resume=resume,
        snapshot_seconds=snapshot_seconds,
        preview_seconds=preview_seconds,
        voxel_size=voxel_size,
        blocks=blocks,
    )
    return drain(work, progress)


def load_model(path: str | PathLike[str]) -> Model:
    """Load a trained model.

    Parameters
    ----------
    path : path_like or "base"
        A ``*.aeseg.safetensors`` file. "base" is the model that ships with the package, made for
        any image; a file of that name is ``Path("base")`` or ``"./base"``.

    Raises
    ------
    ModelFileError
        If the file is damaged, foreign, or of a newer format.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import napari_aeseg as aeseg, numpy as np, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tissue.aeseg.safetensors"
    >>> params = aeseg.TrainingParams(steps=1, width=4)
    >>> aeseg.train(np.eye(64), params, device="cpu").save(path)
    >>> load_model(path).architecture.width
    4
    """
    return Model.load(path)


def build_hierarchy(
    image: Any,
    model: Model | str | PathLike[str],
    params: SegmentationParams | None = None,
    axes: str | Axes | None = None,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    stop: StopFlag | None = None,
    *,
    comparison: ComparisonParams | None = None,
    voxel_size: Sequence[float] | None = None,
    blocks: BlockParams | None = None,
    store: str | PathLike[str] | None = None,
    client: Any = None,
    labels: Any = None,
) -> Hierarchy:
    """Encode an image and build the tree of all its segmentations.

    Large dask and zarr arrays, and images that need more than half of the free memory, are
    processed in blocks and never loaded whole; so is any image with `blocks`, `store` or
    `client`.

    Parameters
    ----------
    image : array_like
        Array (numpy, dask, zarr, HDF5, xarray, PyTorch, pandas ...) or Image layer, with the
        channels the model was trained on; any for "base". Of several levels, the finest is taken:
        give ``layer.data[1]`` for another.
    model : Model or path_like or "base"
        From `train` or `load_model`; "base" is the model that ships with the package.
    params : SegmentationParams, optional
    axes : str or Axes, optional
        One letter per dimension, such as "YXC"; inferred from the shape when not given:
        ``tree.axes`` says how. What ``open_file(...).read_axes()`` returns has the size of a voxel
        and its unit too.
    device : str
        "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".
    progress : callable, optional
        Called with every `Progress` event.
    stop : threading.Event or alike, optional
        Checked several times a second, in every stage.
    comparison : ComparisonParams, optional
        How patches are compared; `Hierarchy.reweighted` changes it at once.
    voxel_size : sequence of float, optional
        Size of a pixel along each of Z, Y and X that the image has, in its order; equal by default.
        It decides how many slices a patch has, and `table` measures in it.
    blocks : BlockParams, optional
        How to process the image in blocks. Patch ids and labels are dask arrays then.
    store : path_like, optional
        Folder for finished blocks; run again with it, stopped work is resumed. By default a
        temporary folder, deleted when nothing refers to the result.
    client : distributed.Client, optional
        Its workers process the blocks; they see `store` under the same path. With `store`, the
        active client is the default.
    labels : array_like of int or Labels layer, optional
        Existing segments (by hand, Cellpose, StarDist, SAM ...), one label for each pixel, 0 for
        none. Each connected part of a segment is one patch, which regions and classes never cut;
        pixels without a segment are cut into patches as usual. Not with images in blocks.

    Returns
    -------
    Hierarchy

    Raises
    ------
    InputError
        If the image cannot be used, or does not fit the model, or `voxel_size` or `labels` do not
        fit.
    StoppedError
        When asked to stop.

    Examples
    --------
    >>> import numpy as np
    >>> model = train(np.eye(64), TrainingParams(steps=1, width=4), device="cpu")
    >>> int(build_hierarchy(np.eye(64), model, device="cpu").regions(n_regions=3).max())
    3
    """
    work = hierarchy_steps(
        image,
        model,
        params,
        axes,
        device,
        stop,
        comparison=comparison,
        voxel_size=voxel_size,
        blocks=blocks,
        store=store,
        client=client,
        labels=labels,
    )
    return drain(work, progress)


def segment(
    image: Any,
    model: Model | str | PathLike[str] | None = None,
    n_regions: int | None = None,
    n_classes: int | None = None,
    *,
    params: SegmentationParams | None = None,
    comparison: ComparisonParams | None = None,
    axes: str | None = None,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    stop: StopFlag | None = None,
    voxel_size: Sequence[float] | None = None,
) -> np.ndarray:
    """Segment an image in one call.

    Parameters
    ----------
    image : array_like
        The image.
    model : Model or path_like or "base", optional
        Without one, a model is trained on the image first; "base" needs no training.
    n_regions : int, optional
        Number of connected segments; by default `Hierarchy.suggest_n_regions` chooses it.
    n_classes : int, optional
        Number of classes instead: the same texture gets the same label wherever it is.
    params, comparison, axes, device, progress, stop, voxel_size : optional
        As of `build_hierarchy`.

    Returns
    -------
    ndarray of int32, shape of the space axes
        Labels from 1.

    Raises
    ------
    InputError
        If both numbers are given, or as `train` and `build_hierarchy` do.

    Examples
    --------
    >>> import numpy as np
    >>> model = train(np.eye(64), TrainingParams(steps=1, width=4), device="cpu")
    >>> segment(np.eye(64), model, n_regions=4, device="cpu").shape
    (64, 64)
    """
    if n_regions is not None and n_classes is not None:
        raise InputError("Give n_regions or n_classes, not both.")
    params = checked_params(SegmentationParams, params)
    comparison = checked_params(ComparisonParams, comparison)
    for name, number in (("n_regions", n_regions), ("n_classes", n_classes)):
        if number is not None:  # before any work; how many there can be is known after it
            checked_number(name, number)
    array, reading = _full_image(image, axes, "image", voxel_size)
    if not needs_blocks(array):
        array = as_array(array, "image")  # read once, not for the training and again
    if model is None:
        model = train([array], axes=reading.letters, device=device, progress=progress, stop=stop)
    hierarchy = build_hierarchy(
        array, model, params, reading, device, progress, stop, comparison=comparison
    )
    if n_classes is not None:
        return hierarchy.classes(n_classes)
    return hierarchy.regions(hierarchy.suggest_n_regions() if n_regions is None else n_regions)


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
    preview_seconds: float | None = None,
    voxel_size: Sequence[float] | None = None,
    blocks: BlockParams | None = None,
) -> Generator[Progress, None, Model]:
    """Train as `train` does; a generator of `Progress` events that returns the model.

    `axes` are for all images or one for each; errors and the training record use `names`.
    """
    number_of_threads()  # this thread keeps it: another may change it for a moment while it encodes
    start = init if init is None or isinstance(init, Model) else Model.load(init)
    listed = list(images) if isinstance(images, list | tuple) else [images]
    if not listed:
        raise InputError("There is no image to train on: the list is empty.")
    names = list(names) if names is not None else [f"image {i + 1}" for i in range(len(listed))]
    given = _axes_of_each(axes, len(listed))
    intensity = None
    if resume:
        start = _unfinished(start)
        params = None if params is None else checked_params(TrainingParams, params)
        params = params_to_resume(start.record, start.architecture, params)
        shapes = [np.shape(full_resolution(image)) for image in listed]
        check_images_to_resume(start.record, list(zip(names, shapes, given, strict=True)))
        given = [image["axes"] for image in start.record.images]
        intensity = start.intensity
    params = checked_params(TrainingParams, params)
    full = [_full_image(i, a, n) for i, a, n in zip(listed, given, names, strict=True)]
    arrays, readings = map(list, zip(*full, strict=True))
    voxel_size = common_voxel_size(readings) if voxel_size is None else voxel_size
    in_common = params.normalisation == "training"
    check_compatible(arrays, readings, names, one_dtype=in_common)
    with oom_as_device_error("the training", f"Train on fewer or smaller images, or {_IN_BLOCKS}."):
        read, intensity = yield from _read_steps(
            arrays, readings, names, params, intensity, blocks, stop
        )
        trainer = Trainer(
            read, params, device, start, intensity, resume=resume, voxel_size=voxel_size
        )
        return (
            yield from training_steps(
                trainer, stop, snapshot_seconds=snapshot_seconds, preview_seconds=preview_seconds
            )
        )


def hierarchy_steps(
    image: Any,
    model: Model | str | PathLike[str],
    params: SegmentationParams | None = None,
    axes: str | Axes | None = None,
    device: str = "auto",
    stop: StopFlag | None = None,
    name: str = "image",
    *,
    comparison: ComparisonParams | None = None,
    voxel_size: Sequence[float] | None = None,
    blocks: BlockParams | None = None,
    store: str | PathLike[str] | None = None,
    client: Any = None,
    labels: Any = None,
) -> Generator[Progress, None, Hierarchy]:
    """Build a hierarchy as `build_hierarchy` does; a generator of events that returns it.

    Errors call the image `name`.
    """
    params = checked_params(SegmentationParams, params)
    comparison = checked_params(ComparisonParams, comparison)
    array, reading = _full_image(image, axes, name, voxel_size)
    if not isinstance(model, Model):
        model = Model.load(model)
    in_blocks = any(option is not None for option in (blocks, store, client))
    in_blocks = in_blocks or needs_blocks(array)
    segments = None
    if labels is not None:
        if in_blocks:
            raise InputError(f"labels cannot be used with {name} in blocks: crop the image.")
        segments = checked_segments(labels, reading, name)
    work = (array, model, params, comparison, reading, device, stop, name)
    if not in_blocks:
        with oom_as_device_error(name, f"Close other programs, or {_IN_BLOCKS}."):
            return (yield from _steps_in_memory(*work, segments))
    with oom_as_device_error(name, "Give smaller blocks (block_size, --block-size)."):
        return (
            yield from block_hierarchy_steps(
                *work,
                blocks=blocks,
                store=store,
                client=active_client() if client is None and store is not None else client,
            )
        )


def _full_image(
    image: Any, axes: str | Axes | None, name: str, voxel_size: Sequence[float] | None = None
) -> tuple[Any, Axes]:
    """Return the full resolution of an image as an array, and how its dimensions are read."""
    image = image if is_layer(image) else full_resolution(image)
    array = plain_array(image, name)
    reading = image_axes(image, axes, name)
    return array, reading if voxel_size is None else reading.with_voxel_size(voxel_size)


def _axes_of_each(axes: str | Sequence[str | None] | None, number: int) -> list[str | None]:
    """Return the axes of each of several images, given for all of them or one by one."""
    if axes is None or isinstance(axes, str):
        return [axes and axes.upper()] * number
    if not isinstance(axes, Sequence) or len(axes) != number:
        raise InputError(
            f"axes = {axes!r}: give a text for all images, or one for each of the {number}."
        )
    return [a if a is None else str(a).upper() for a in axes]


def _unfinished(model: Model | None) -> Model:
    """Return a model whose training can be resumed; raise InputError for others."""
    if model is None:
        raise InputError("There is nothing to resume: give the unfinished model as init.")
    if not model.unfinished:
        raise InputError(
            f"There is nothing to resume: the training of this model ended after "
            f"{model.record.steps} steps. To start a new training from its weights, give it as "
            "init, without resume."
        )
    return model


def _read_steps(
    arrays: Sequence[Any],
    readings: Sequence[Axes],
    names: Sequence[str],
    params: TrainingParams,
    intensity: IntensityRange | None,
    blocks: BlockParams | None,
    stop: StopFlag | None,
) -> Generator[Progress, None, tuple[list[Image], IntensityRange | None]]:
    """Read the images of a training; return them and the range that they have in common, if any."""
    in_common = params.normalisation == "training"
    skip = blocks is not None and blocks.unreadable == "skip"
    loaded: list[Image | LoadedImage | BlockImage] = []
    inputs = zip(arrays, readings, names, strict=True)
    for number, (array, axes, name) in enumerate(inputs, 1):
        raise_if_stopped(stop, "read")
        if blocks is not None or needs_blocks(array):
            loaded.append(BlockImage.of(array, axes, name, intensity, skip=skip, stop=stop))
        elif in_common:
            loaded.append(load_image(array, axes, name))
        else:
            loaded.append(read_image(array, axes, name=name))
        yield Progress("read", number, len(arrays))
    if in_common and intensity is None:
        ranges = [i.intensity() if isinstance(i, LoadedImage) else i.intensity for i in loaded]
        intensity = IntensityRange(
            tuple(map(min, zip(*(r.low for r in ranges), strict=True))),
            tuple(map(max, zip(*(r.high for r in ranges), strict=True))),
        )
    n_lazy = sum(isinstance(image, BlockImage) for image in loaded)
    images: list[Image] = []
    for number, image in enumerate(loaded):
        if isinstance(image, LoadedImage):
            images.append(image.scaled(intensity or image.intensity()))
        elif isinstance(image, BlockImage):
            scaled = replace(image, intensity=intensity or image.intensity)
            seed = params.seed + number
            sample = window_sample_steps(scaled, params.crop_size, seed, n_lazy, stop, skip=skip)
            images.append((yield from sample))
        else:
            images.append(image)
    return images, intensity


def _notes_of(read: Image, model: Model, axes: Axes) -> list[str]:
    """Return what the user is told of an image that is encoded."""
    notes = []
    if read.light is not None:
        factor = float(read.light.max() / read.light.min())
        notes.append(f"Uneven illumination was corrected (by a factor of up to {factor:.1f}).")
    if note := anisotropy_warning(model.architecture, axes.slice_distance):
        notes.append(note)
    return notes


def _in_image_order(axes: Axes, values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(axes.to_image_order(values))


def _evidence_in_image_order(axes: Axes, evidence: np.ndarray | None) -> np.ndarray | None:
    if evidence is None:
        return None
    by_direction = axes.to_image_order(np.moveaxis(evidence, -1, 0))
    return np.ascontiguousarray(np.moveaxis(by_direction, 0, -1))


def _maps_for_objects(pixels: np.ndarray, axes: Axes) -> dict[str, Any]:
    """Fields of a hierarchy that objects are detected in, in the order of the image's axes."""
    stain, channels = stain_of(pixels), channels_of(pixels)
    return {
        "brightness": _in_image_order(axes, brightness_of(pixels)),
        "stain": None if stain is None else _in_image_order(axes, stain),
        "channels": None if channels is None else axes.to_image_order(channels),
    }


def _statistics(patches: np.ndarray, pixels: Any, moments: PatchMoments) -> PatchStatistics:
    """Complete the moments of patches."""
    count, centroid = geometry(patches)
    intensity = channel_means(patches, pixels, count)
    return PatchStatistics(count, moments.mean, moments.second, moments.level, centroid, intensity)


def _steps_in_memory(
    array: Any,
    model: Model,
    params: SegmentationParams,
    comparison: ComparisonParams,
    axes: Axes,
    device: str,
    stop: StopFlag | None,
    name: str,
    segments: np.ndarray | None,
) -> Generator[Progress, None, Hierarchy]:
    """Build the hierarchy of an image that is loaded as a whole."""
    levels = model.levels(params.levels)
    array = as_array(array, name)
    read = model.read(array, axes, name)
    model = model.fitted(len(read.pixels))
    yield Progress("read", 1, 1)
    raise_if_stopped(stop, "read")
    sides, density = patch_shape(axes, params.patch_size), pixel_density(axes)
    patches = make_patches(read.pixels, sides, params.patches, stop, density)
    if segments is not None:
        patches = patches_with_segments(patches, segments, in_time="T" in axes.letters)
    yield Progress("patches", 1, 1)
    raise_if_stopped(stop, "patches")
    notes = _notes_of(read, model, axes)
    work = patch_moments_steps(
        model,
        read,
        patches,
        levels,
        params.source,
        device,
        params.tile_size,
        stop,
        with_evidence=segments is None,  # borders that were given stay
    )
    moments = yield from collect_messages(work, notes)
    del work
    trim_heap()  # threads that encode leave much behind
    # From here on in the order of the image's axes, as the labels will be.
    patches = _in_image_order(axes, patches)
    evidence = _evidence_in_image_order(axes, moments.evidence)
    pixels = axes.to_image_order(channels_first(array, axes))
    raise_if_stopped(stop, "graph")
    graph, maps, statistics = together(
        partial(region_graph, patches, stop),
        partial(_maps_for_objects, read.pixels, axes),
        partial(_statistics, patches, pixels, moments),
    )
    del read  # the scaled image is large
    yield Progress("graph", 1, 1)
    raise_if_stopped(stop, "graph")
    hierarchy = Hierarchy(
        patches=patches,
        statistics=statistics,
        graph=graph,
        axes=axes,
        params=params,
        comparison=comparison,
        evidence=evidence,
        model_fingerprint=model.fingerprint,
        notes=tuple(notes),
        **maps,
    ).prepare(stop)
    trim_heap()
    yield Progress("tree", 1, 1)
    return hierarchy
