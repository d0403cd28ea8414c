"""How a network is built: its architecture, and the choice of one for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from napari_aeseg.errors import InputError
from napari_aeseg.images.training_windows import WindowSample

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.images.intensity import Image
    from napari_aeseg.params import TrainingParams

#: Fields that `TrainingParams` calls by the same name.
PARAM_FIELDS = ("levels", "width", "convolutions", "decoder")
# With fewer slices, deeper levels see little but the border.
_MIN_SLICES = 16
# With longer voxels, neighbouring slices have too little in common to be worth the cost of 3D.
_MAX_Z_RATIO = 2.5


@dataclass(frozen=True, slots=True)
class Architecture:
    """All that is needed to build a network.

    Examples
    --------
    >>> Architecture(channels=1, dimensions=3, z_levels=1).total_stride
    (4, 8, 8)
    """

    channels: int  # of the image
    levels: int = 3  # of convolutions and pooling; each halves the resolution
    width: int = 16  # channels of level 1; level i has width * 2 ** (i - 1)
    convolutions: int = 2  # in each level, of 3 x 3 pixels or 3 x 3 x 3 voxels
    decoder: Literal["transposed", "unpooling"] = "transposed"  # how it regains resolution
    dimensions: int = 2  # 2: the network sees planes (Y, X); 3: volumes (Z, Y, X)
    # How many of the first levels of a 3D network convolve and pool slice by slice, because voxels
    # are longer in Z.
    z_levels: int = 0

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the image (level 0) and of each level."""
        return (self.channels, *(self.width * 2**i for i in range(self.levels)))

    @property
    def total_stride(self) -> tuple[int, ...]:
        """Pixels along each axis that one value of the code (the deepest output) stands for."""
        return tuple(2 ** (self.levels - n) for n in self._levels_skipped)

    @property
    def _levels_skipped(self) -> tuple[int, ...]:
        """How many of the first levels do not look along each axis."""
        return (self.z_levels, 0, 0)[-self.dimensions :]

    def stride(self, level: int) -> tuple[int, ...]:
        """Pixels along each axis that one value of a level stands for; level 0 is the image."""
        return tuple(2 ** max(level - 1 - n, 0) for n in self._levels_skipped)

    @property
    def evidence_step(self) -> tuple[int, ...]:
        """Pixels along each axis of a cell of the evidence for borders."""
        return tuple(1 if n else 2 for n in self._levels_skipped)

    def kernel(self, level: int) -> tuple[int, ...]:
        """Size of the convolutions of a level, from 1."""
        return tuple(1 if level <= n else 3 for n in self._levels_skipped)

    def pool(self, level: int) -> tuple[int, ...]:
        """Size of the max pooling after a level, from 1."""
        return tuple(1 if level <= n else 2 for n in self._levels_skipped)

    def receptive_radius(self, *, decoded: bool) -> tuple[int, ...]:
        """Pixels around a pixel that can change its features at the deepest level, for each axis.

        Each convolution reaches one value of its level, each pooling or un-pooling of two values
        at most one value of the finer level.
        """
        encoder = tuple((self.convolutions + 1) * (n - 1) for n in self.total_stride)
        if not decoded:
            return encoder
        # An axis that no level looks along has radius 0.
        return tuple(
            2 * radius + n if radius else 0
            for radius, n in zip(encoder, self.total_stride, strict=True)
        )

    def as_dict(self) -> dict[str, int | str]:
        """Return plain values for a file header; 2D is understood where nothing else is said."""
        values = asdict(self)
        if self.dimensions == 2:
            del values["dimensions"], values["z_levels"]
        return values


def architecture_for(
    images: Sequence[Image],
    params: TrainingParams,
    init: Architecture | None = None,
    voxel_size: Sequence[float] | None = None,
) -> tuple[Architecture, list[str]]:
    """Return the network to build for images, and notes for the user about the choice.

    The images have equal numbers of channels. `init` is the architecture of the model to start
    from; it is kept. `voxel_size` is the same for all images. InputError if all
    images are constant, or do not fit `init`, `voxel_size` or the dimensions asked for.
    """
    if all(i.is_constant for i in images):
        names = ", ".join(i.name for i in images)
        raise InputError(
            f"Nothing to learn from: every channel of {names} has one value only. "
            "Choose other images."
        )
    channels = len(images[0].pixels)
    ratio = 1.0
    if voxel_size is not None:
        measured = (i.axes.with_voxel_size(voxel_size, name=i.name) for i in images)
        ratio = max(axes.slice_distance for axes in measured)
    if init is not None:
        _check_init(init, channels, images, params)
        architecture = init
    else:
        dimensions = _dimensions(images, params, None if voxel_size is None else ratio)
        architecture = Architecture(
            channels,
            **{name: getattr(params, name) for name in PARAM_FIELDS},
            dimensions=dimensions,
            z_levels=z_levels_for(ratio, params.levels) if dimensions == 3 else 0,
        )
    return architecture, _notes(architecture, ratio, voxel_size)


def z_levels_for(ratio: float, levels: int) -> int:
    """Return how many levels work slice by slice until voxels are about as long as wide.

    `ratio` is the length of a voxel along Z in units of its width; the network has so many levels.
    """
    return min(max(round(math.log2(ratio)), 0), levels)


def anisotropy_warning(architecture: Architecture, ratio: float) -> str:
    """Return a note if voxels are not as long in Z as those that a network was made for, else "".

    `ratio` is the length of the voxels along Z in units of their width.
    """
    suited = z_levels_for(ratio, architecture.levels)
    if architecture.dimensions == 2 or suited == architecture.z_levels:
        return ""
    return (
        f"The network was made for voxels about {2**architecture.z_levels} times as long in Z as "
        f"wide, these are {ratio:.3g} times as long."
    )


def _check_init(
    init: Architecture, channels: int, images: Sequence[Image], params: TrainingParams
) -> None:
    """Raise InputError unless the model to start from fits the images and the parameters."""
    if channels != init.channels:
        raise InputError(
            f"The images have {channels} channel(s), the model to start from has "
            f"{init.channels}; start without it."
        )
    if params.dimensions not in ("auto", f"{init.dimensions}D"):
        raise InputError(
            f"dimensions = {params.dimensions!r}, but the model to start from is "
            f"{init.dimensions}D: leave dimensions at 'auto', or start without it."
        )
    if init.dimensions == 3:
        _check_volumes(images, "The model to start from is 3D")


def _dimensions(images: Sequence[Image], params: TrainingParams, ratio: float | None) -> int:
    """Return 2 or 3: what was asked for, else what suits all images.

    2D is right for all; 3D only where the distance of slices is known and small.
    """
    if params.dimensions == "3D":
        _check_volumes(images, "dimensions = '3D'")
    if params.dimensions != "auto":
        return int(params.dimensions[0])
    deep = all(_n_slices(i.axes) >= _MIN_SLICES and not isinstance(i, WindowSample) for i in images)
    return 3 if deep and ratio is not None and ratio <= _MAX_Z_RATIO else 2


def _n_slices(axes: Axes) -> int:
    return axes.shape[axes.letters.index("Z")] if "Z" in axes.letters else 0


def _check_volumes(images: Sequence[Image], reason: str) -> None:
    """Raise InputError unless all images can be seen as volumes."""
    for image in images:
        if isinstance(image, WindowSample):
            raise InputError(
                f"{reason}, but {image.name} is large and streamed as 2D windows: choose "
                "dimensions = '2D'."
            )
        if not _n_slices(image.axes):
            raise InputError(
                f"{reason}, but {image.name} has no slices, read as {image.axes}: name the axes "
                "if they were misread, or train in 2D."
            )


def _notes(
    architecture: Architecture, ratio: float, voxel_size: Sequence[float] | None
) -> list[str]:
    """Return what the user should know about a network of volumes."""
    if architecture.dimensions == 2:
        return []
    if voxel_size is None:
        return ["Isotropic voxels assumed: give voxel_size if slices are further apart."]
    notes = [anisotropy_warning(architecture, ratio)]
    if architecture.z_levels == architecture.levels:
        notes.append(
            "Voxels are so long in Z that no level looks across slices: 2D gives much the same, "
            "faster."
        )
    return [note for note in notes if note]
