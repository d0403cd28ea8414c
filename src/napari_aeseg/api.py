"""The stages joined: what the public functions, the command line and the dock widget all call.

Each stage is a generator of frozen events that returns its result; the plain functions drain it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.autoencoder.architecture import anisotropy_warning
from napari_aeseg.autoencoder.device import oom_as_device_error
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.patch_moments import pooling_steps
from napari_aeseg.autoencoder.resume import check_images_to_resume, params_to_resume
from napari_aeseg.autoencoder.trainer import Trainer
from napari_aeseg.autoencoder.training import training_steps
from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, channels_first, read_axes
from napari_aeseg.images.blocks import BlockImage
from napari_aeseg.images.checks import check_compatible, check_rectangular, full_resolution
from napari_aeseg.images.intensity import Image, IntensityRange, as_array, read_image
from napari_aeseg.images.windows import window_sample_steps
from napari_aeseg.large.build import block_hierarchy_steps, needs_blocks
from napari_aeseg.large.cluster import active_client
from napari_aeseg.params import (
    ComparisonParams,
    SegmentationParams,
    TrainingParams,
    checked_params,
)
from napari_aeseg.progress import Progress, collect_messages, drain, raise_if_stopped
from napari_aeseg.regions.cuts.objects import brightness_of
from napari_aeseg.regions.hierarchy import Hierarchy, checked_number
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.statistics import PatchStatistics, channel_means, geometry
from napari_aeseg.regions.patches.superpixels import make_patches, patch_shape, pixel_density

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from os import PathLike

    from napari_aeseg.autoencoder.device import Precision
    from napari_aeseg.params import BlockParams
    from napari_aeseg.progress import StopFlag

    ProgressCallback = Callable[[Progress], object]

_IN_BLOCKS = "give `blocks` (on the command line, --block-size)"


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

    Parameters
    ----------
    axes : str or sequence of (str or None), optional
        For all images, or one for each.
    names : sequence of str, optional
        What errors and the training record call the images.
    """
    start = init if init is None or isinstance(init, Model) else load_model(init)
    listed = [
        full_resolution(i) for i in (images if isinstance(images, list | tuple) else [images])
    ]
    if not listed:
        raise InputError("There is no image to train on: the list is empty.")
    names = list(names) if names is not None else [f"image {i + 1}" for i in range(len(listed))]
    given = _axes_of_each(axes, len(listed))
    if resume:
        start = _unfinished(start)
        params = params_to_resume(
            start.record,
            start.architecture,
            None if params is None else checked_params(TrainingParams, params),
        )
        check_images_to_resume(
            start.record,
            [(n, np.shape(i), a) for n, i, a in zip(names, listed, given, strict=True)],
        )
        given = [i["axes"] for i in start.record.images]
    params = checked_params(TrainingParams, params)
    check_compatible(listed, given, names, one_dtype=params.normalisation == "training")
    known = start.intensity if start and resume else None
    with oom_as_device_error("the training", f"Train on fewer or smaller images, or {_IN_BLOCKS}."):
        read, intensity = yield from _read_steps(listed, given, names, params, stop, known, blocks)
        trainer = Trainer(
            read, params, device, start, intensity, resume=resume, voxel_size=voxel_size
        )
        return (
            yield from training_steps(
                trainer, stop, snapshot_seconds=snapshot_seconds, preview_seconds=preview_seconds
            )
        )


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


def _axes_of_each(axes: str | Sequence[str | None] | None, number: int) -> list[str | None]:
    """Return the axes of each of several images, given for all of them or one by one."""
    if axes is None or isinstance(axes, str):
        return [axes and axes.upper()] * number
    if not isinstance(axes, Sequence) or len(axes) != number:
        raise InputError(
            f"axes = {axes!r}: give a text for all images, or one for each of the {number}."
        )
    return [a if a is None else str(a).upper() for a in axes]


def _read_steps(
    images: Sequence[Any],
    axes: Sequence[str | None],
    names: Sequence[str],
    params: TrainingParams,
    stop: StopFlag | None,
    known: IntensityRange | None,
    blocks: BlockParams | None,
) -> Generator[Progress, None, tuple[list[Image], IntensityRange | None]]:
    """Read the images of a training; return them and the range that they have in common, if any."""
    even = params.normalisation == "image"
    skip = blocks is not None and blocks.unreadable == "skip"
    read: list[Image | BlockImage] = []
    for i, (image, letters, name) in enumerate(zip(images, axes, names, strict=True)):
        raise_if_stopped(stop, "read")
        if blocks is not None or needs_blocks(image):
            read.append(BlockImage.of(image, letters, name, known, skip=skip, stop=stop))
        else:
            read.append(read_image(image, letters, known, name, even))
        yield Progress("read", i + 1, len(images))
    intensity = known
    if not even and known is None:
        intensity = IntensityRange(
            tuple(map(min, zip(*(i.intensity.low for i in read), strict=True))),
            tuple(map(max, zip(*(i.intensity.high for i in read), strict=True))),
        )
        again = zip(images, read, strict=True)
        read = [
            replace(i, intensity=intensity)
            if isinstance(i, BlockImage)
            else read_image(image, i.axes, intensity, i.name)
            for image, i in again
        ]
    lazy = sum(isinstance(i, BlockImage) for i in read)
    ready: list[Image] = []
    for number, found in enumerate(read):
        if isinstance(found, BlockImage):
            seed = params.seed + number
            found = yield from window_sample_steps(
                found, params.crop_size, seed, lazy, stop, skip=skip
            )
        ready.append(found)
    return ready, intensity


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

    Of a large dask or zarr array, or an image that takes more than half of the free memory, a pool
    of windows at random places is read, 64 MB of it, and crops are drawn from these.

    Parameters
    ----------
    images : array_like or list of array_like
        numpy, dask or zarr arrays of real numbers, with equal numbers of channels; sizes may
        differ, and dtypes unless normalisation is "training". Images smaller than a crop are
        mirrored to its size.
    params : TrainingParams, optional
    axes : str, optional
        One letter per dimension, such as "YX", "YXC", "CYX"; the same for all images. Inferred
        from each shape when not given: what was inferred is in ``model.record.images``.
    device : str
        "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".
    init : Model, path or "base", optional
        Weights to start from ("base" are those that ship with the package); with `resume`, the
        training to go on with.
    progress : callable, optional
        Called with every `Progress` event.
    stop : threading.Event or alike, optional
        Checked at every step. The model so far is returned; it is ``model.unfinished``.
    resume : bool
        Whether to go on with the unfinished training of `init` where it stopped. Images and
        `params` must be those it began with; `params` and `axes` may be left out. On the CPU, the
        result is that of a training that was never stopped, bit for bit.
    snapshot_seconds : float, optional
        How often an event carries the model so far as `snapshot`, for example to save it.
    preview_seconds : float, optional
        How often an event carries, as `picture`, what the model makes of the first image.
    voxel_size : sequence of float, optional
        Length of a voxel along Z, Y and X, in the order of the axes and any unit: of volumes, it
        says whether a network sees them in 3D, and from which level on (`TrainingParams`,
        `dimensions`). Voxels are taken for cubes when not given.
    blocks : BlockParams, optional
        Have all images learnt from by a pool of windows, as large dask and zarr arrays are;
        `unreadable` says what becomes of windows that cannot be read.

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
    path : path-like or "base"
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


def hierarchy_steps(
    image: Any,
    model: Model | str | PathLike[str],
    params: SegmentationParams | None = None,
    axes: str | Axes | None = None,
    device: str = "auto",
    stop: StopFlag | None = None,
    name: str = "image",
    precision: Precision = "float32",
    *,
    comparison: ComparisonParams | None = None,
    voxel_size: Sequence[float] | None = None,
    blocks: BlockParams | None = None,
    store: str | PathLike[str] | None = None,
    client: Any = None,
) -> Generator[Progress, None, Hierarchy]:
    """Build a hierarchy as `build_hierarchy` does; a generator of events that returns it.

    Parameters
    ----------
    axes : str or Axes, optional
        `Axes` that are measured say the size of a voxel too.
    name : str
        What errors call the image.
    precision : {"float32", "bfloat16"}
        Of the network; see `pooling_steps`.
    """
    params = checked_params(SegmentationParams, params)
    comparison = checked_params(ComparisonParams, comparison)
    image = full_resolution(image)
    check_rectangular(image, name)
    if not isinstance(model, Model):
        model = load_model(model)
    reading = axes if isinstance(axes, Axes) else read_axes(np.shape(image), axes)
    if voxel_size is not None:
        reading = reading.with_voxel_size(voxel_size)
    if any(given is not None for given in (blocks, store, client)) or needs_blocks(image):
        client = active_client() if client is None and store is not None else client
        with oom_as_device_error(name, "Give smaller blocks (block_size, --block-size)."):
            return (
                yield from block_hierarchy_steps(
                    *(image, model, params, reading, device, stop, name, precision),
                    *(blocks, store, client, comparison),
                )
            )
    with oom_as_device_error(name, f"Close other programs, or {_IN_BLOCKS}."):
        return (
            yield from _steps_in_memory(
                image, model, params, comparison, reading, device, stop, name, precision
            )
        )


def _steps_in_memory(
    image: Any,
    model: Model,
    params: SegmentationParams,
    comparison: ComparisonParams,
    reading: Axes,
    device: str,
    stop: StopFlag | None,
    name: str,
    precision: Precision,
) -> Generator[Progress, None, Hierarchy]:
    """Build the hierarchy of an image that is loaded as a whole."""
    levels = model.levels(params.levels)
    image = as_array(image, name)
    read = model.read(image, reading, name)
    model = model.fitted(len(read.pixels))
    yield Progress("read", 1, 1)
    raise_if_stopped(stop, "read")
    sides, density = patch_shape(reading, params.patch_size), pixel_density(reading)
    patches = make_patches(read.pixels, sides, params.patches, stop, density)
    yield Progress("patches", 1, 1)
    raise_if_stopped(stop, "patches")
    notes: list[str] = []
    if read.light is not None:
        factor = float(read.light.max() / read.light.min())
        notes.append(f"Uneven illumination was corrected (by a factor of up to {factor:.1f}).")
    if note := anisotropy_warning(model.architecture, read.axes.slice_distance):
        notes.append(note)
    work = pooling_steps(
        model, read, patches, levels, params.source, device, params.tile_size, stop, precision
    )
    pooled = yield from collect_messages(work, notes)
    # From here on as the labels will lie: in the order of the image's axes.
    brightness = np.ascontiguousarray(reading.as_given(brightness_of(read.pixels)))
    del read, work  # the scaled image is large
    patches = np.ascontiguousarray(reading.as_given(patches))
    pixels = reading.as_given(channels_first(image, reading))
    raise_if_stopped(stop, "graph")
    graph = region_graph(patches, stop)
    count, centroid = geometry(patches)
    raise_if_stopped(stop, "graph")
    intensity = channel_means(patches, pixels, count)
    statistics = PatchStatistics(
        count, pooled.mean, pooled.second, pooled.level, centroid, intensity
    )
    yield Progress("graph", 1, 1)
    raise_if_stopped(stop, "graph")
    hierarchy = Hierarchy(
        patches,
        statistics,
        graph,
        reading,
        params,
        comparison,
        brightness,
        model.fingerprint,
        tuple(notes),
    ).prepare(stop)
    yield Progress("tree", 1, 1)
    return hierarchy


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
) -> Hierarchy:
    """Encode an image and build the tree of all its segmentations.

    A large dask or zarr array, or an image that takes more than half of the free memory, is worked
    on in blocks and never loaded whole; so is any with one of the last three parameters.

    Parameters
    ----------
    image : array_like
        numpy, dask or zarr array with the channels the model was trained on; any for "base".
    model : Model, path or "base"
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
        Looked at several times a second, in every stage.
    comparison : ComparisonParams, optional
        How patches are compared; `Hierarchy.reweighted` changes it at once.
    voxel_size : sequence of float, optional
        Size of a pixel along each of Z, Y and X that the image has, in its order; by default all
        are taken for equal. Patches have as many slices as come nearest to the length of their
        sides, and `table` measures in it.
    blocks : BlockParams, optional
        How it is worked on in blocks. Patch ids and labels are dask arrays then.
    store : path-like, optional
        Folder in which blocks that are done are kept; work that was stopped goes on there. Without
        it, a temporary folder is deleted when nothing refers to the result.
    client : distributed.Client, optional
        Blocks are worked on by its workers, which see `store` under the same path. With `store`,
        the active client is taken when none is given.

    Returns
    -------
    Hierarchy

    Raises
    ------
    InputError
        If the image cannot be used, or does not fit the model, or `voxel_size` does not fit.
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
    model : Model, path or "base", optional
        Without one, a model is trained on the image first; "base" needs no training.
    n_regions : int, optional
        Number of connected segments. When neither number is given, the number is suggested by
        the image (`Hierarchy.suggest_n_regions`).
    n_classes : int, optional
        Number of classes instead: the same texture gets the same label wherever it is.
    params, comparison, axes, device, progress, stop, voxel_size
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
    if voxel_size is not None:  # before a training
        check_rectangular(image)
        read_axes(np.shape(image), axes).with_voxel_size(voxel_size)
    if model is None:
        model = train(image, axes=axes, device=device, progress=progress, stop=stop)
    hierarchy = build_hierarchy(
        image,
        model,
        params,
        axes,
        device,
        progress,
        stop,
        comparison=comparison,
        voxel_size=voxel_size,
    )
    if n_classes is not None:
        return hierarchy.classes(n_classes)
    return hierarchy.regions(hierarchy.suggest_n_regions() if n_regions is None else n_regions)
