"""Which network is built for which images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg.autoencoder.architecture import Architecture, z_levels_for
from napari_aeseg.errors import InputError
from napari_aeseg.images.anisotropy import z_ratio
from napari_aeseg.images.windows import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.images.intensity import Image
    from napari_aeseg.params import TrainingParams

# Fewer slices are seen by no deeper level as more than their border.
_ENOUGH_SLICES = 16
# With longer voxels, neighbouring slices have less in common than 3D costs.
_LONGEST_VOXELS = 2.5


def architecture_for(
    images: Sequence[Image],
    params: TrainingParams,
    init: Model | None = None,
    voxel_size: Sequence[float] | None = None,
) -> tuple[Architecture, list[str]]:
    """Check that the images can be trained on together and return the network to build.

    Parameters
    ----------
    images : sequence of Image
    params : TrainingParams
    init : Model, optional
        To start from: its architecture is kept.
    voxel_size : sequence of float, optional
        See `z_ratio`; the same for all images.

    Returns
    -------
    Architecture
    list of str
        What the user should know about the choice.

    Raises
    ------
    InputError
        If the images differ in channels or all are constant, do not fit `init`, `voxel_size` or
        the dimensions asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_aeseg.images.intensity import read_image
    >>> from napari_aeseg.params import TrainingParams
    >>> volume = read_image(np.arange(16 * 8 * 8).reshape(16, 8, 8), "ZYX")
    >>> architecture_for([volume], TrainingParams(), voxel_size=(2, 1, 1))[0].reduction
    (4, 8, 8)
    """
    channels = _channels(images)
    ratio = max(z_ratio(voxel_size, i.axes, i.name) for i in images)
    if init is not None:
        return _kept(init, channels, images, params), _notes(init.architecture, ratio, voxel_size)
    dimensions = _dimensions(images, params, None if voxel_size is None else ratio)
    architecture = Architecture(
        channels,
        params.levels,
        params.width,
        params.convolutions,
        params.decoder,
        dimensions,
        z_levels_for(ratio, params.levels) if dimensions == 3 else 0,
    )
    return architecture, _notes(architecture, ratio, voxel_size)


def _channels(images: Sequence[Image]) -> int:
    """Return the number of channels that all images have."""
    channels = {len(i.pixels) for i in images}
    if len(channels) > 1:
        listing = ", ".join(f"{i.name}: {len(i.pixels)}" for i in images)
        raise InputError(
            f"The images have different numbers of channels ({listing}): name the axes if they "
            "were misread, or train on them one by one."
        )
    if all(i.is_constant for i in images):
        names = ", ".join(i.name for i in images)
        raise InputError(
            f"Nothing to learn from: every channel of {names} has one value only. "
            "Choose other images."
        )
    return channels.pop()


def _kept(
    init: Model, channels: int, images: Sequence[Image], params: TrainingParams
) -> Architecture:
    """Return the architecture of the model to start from, if it fits."""
    architecture = init.architecture
    if channels != architecture.channels:
        raise InputError(
            f"The images have {channels} channel(s), the model to start from has "
            f"{architecture.channels}; start without it."
        )
    if params.dimensions not in ("auto", f"{architecture.dimensions}D"):
        raise InputError(
            f"dimensions = {params.dimensions!r}, but the model to start from is "
            f"{architecture.dimensions}D: leave dimensions at 'auto', or start without it."
        )
    if architecture.dimensions == 3:
        _check_volumes(images, "The model to start from is 3D")
    return architecture


def _dimensions(images: Sequence[Image], params: TrainingParams, ratio: float | None) -> int:
    """Return 2 or 3, as was asked for or as suits the images.

    Stacks of slices whose distance nobody named are seen in 2D: that is right for all of them.
    So are images that are learnt from by windows.
    """
    if params.dimensions == "3D":
        _check_volumes(images, "dimensions = '3D'")
    if params.dimensions != "auto":
        return int(params.dimensions[0])
    deep = all(_slices(i.axes) >= _ENOUGH_SLICES and not isinstance(i, Pool) for i in images)
    return 3 if deep and ratio is not None and ratio <= _LONGEST_VOXELS else 2


def _slices(axes: Axes) -> int:
    """Return the number of slices; 0 without Z."""
    return axes.shape[axes.letters.index("Z")] if "Z" in axes.letters else 0


def _check_volumes(images: Sequence[Image], why: str) -> None:
    """Raise InputError unless all images have slices, and are not learnt from by windows."""
    for image in images:
        if isinstance(image, Pool):
            raise InputError(
                f"{why}, but {image.name} is learnt from by windows, which are planes: choose "
                "dimensions = '2D'."
            )
        if not _slices(image.axes):
            raise InputError(
                f"{why}, but {image.name} has no slices, read as {image.axes}: name the axes if "
                "they were misread, or train in 2D."
            )


def _notes(
    architecture: Architecture, ratio: float, voxel_size: Sequence[float] | None
) -> list[str]:
    """Return what the user should know of a network of volumes."""
    if architecture.dimensions == 2:
        return []
    if voxel_size is None:
        return ["Voxels were taken for cubes in 3D: give voxel_size if slices are further apart."]
    return list(filter(None, [another_anisotropy(architecture, ratio), _flat(architecture)]))


def _flat(architecture: Architecture) -> str:
    if architecture.z_levels < architecture.levels:
        return ""
    return (
        "Voxels are so long in Z that no level looks across slices: 2D gives much the same, faster."
    )


def another_anisotropy(architecture: Architecture, ratio: float) -> str:
    """Return a note when voxels are not as long in Z as those that a network was made for.

    Parameters
    ----------
    architecture : Architecture
    ratio : float
        Length of the voxels along Z, in units of their width, see `z_ratio`.

    Returns
    -------
    str
        Empty when they are, or the network sees planes.

    Examples
    --------
    >>> another_anisotropy(Architecture(channels=1, dimensions=3, z_levels=2), 1.0)
    'The network was made for voxels about 4 times as long in Z as wide, these are 1 times as long.'
    >>> another_anisotropy(Architecture(channels=1, dimensions=3, z_levels=2), 5.0)
    ''
    """
    suited = z_levels_for(ratio, architecture.levels)
    if architecture.dimensions == 2 or suited == architecture.z_levels:
        return ""
    return (
        f"The network was made for voxels about {2**architecture.z_levels} times as long in Z as "
        f"wide, these are {ratio:.3g} times as long."
    )
