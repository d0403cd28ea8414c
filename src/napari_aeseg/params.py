"""Parameters of each stage: frozen models that drive the API, the command line and the form.

Titles and descriptions are what a user reads in the window and in `--help`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from napari_aeseg.errors import InputError

_P = TypeVar("_P", bound="_Params")

#: Given where a model file is asked for, this text means the model that ships with the package.
BASE_MODEL = "base"
#: The end of the names of model files.
MODEL_SUFFIX = ".aeseg.safetensors"
#: The end of the names of saved hierarchies, which are folders.
HIERARCHY_SUFFIX = ".aeseg.zarr"


class _Params(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        field_title_generator=lambda name, _: name.replace("_", " ").capitalize(),
    )

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_explain(type(self), error)) from error

    def updated(self, **changes: object) -> Self:
        """Return a copy with some values changed; the copy is validated like a new one.

        Examples
        --------
        >>> TrainingParams().updated(steps=10).steps
        10
        """
        return type(self)(**{**self.model_dump(), **changes})


def checked_params(kind: type[_P], params: object) -> _P:
    """Return `params`, or the defaults for None; raise `InputError` for anything else."""
    if params is None:
        return kind()
    if not isinstance(params, kind):
        raise InputError(
            f"{params!r} is not a {kind.__name__}. Give {kind.__name__}(...), or leave it out."
        )
    return params


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    """Turn pydantic's report into one line per value, with what is allowed."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "value"
        if item["type"] == "extra_forbidden":
            names = ", ".join(kind.model_fields)
            lines.append(f"{kind.__name__} has no parameter '{name}'. It has: {names}.")
        else:
            lines.append(f"{kind.__name__}.{name} = {item['input']!r}: {item['msg']}.")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Preset:
    """A choice of parameters with a name.

    Parameters
    ----------
    title, description : str
        For the user.
    changes : dict
        What differs from the defaults.
    """

    title: str
    description: str
    changes: Mapping[str, object]


class TrainingParams(_Params):
    """How the autoencoder is built and trained.

    Examples
    --------
    >>> TrainingParams(steps=100).width
    16
    >>> TrainingParams(width=1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    napari_aeseg.errors.InputError: TrainingParams.width = 1: Input should be ... or equal to 2.
    """

    levels: int = Field(
        3,
        ge=1,
        le=6,
        description="Convolution and pooling levels of the encoder; each halves the resolution.",
    )
    width: int = Field(
        16,
        ge=2,
        le=256,
        description="Channels of the first level; every further level has twice as many.",
    )
    convolutions: int = Field(
        2,
        ge=1,
        le=4,
        description="Convolutions of 3 pixels along each axis in each level.",
    )
    decoder: Literal["transposed", "unpooling"] = Field(
        "transposed",
        title="Decoder upsampling",
        description="How the decoder restores the resolution: transposed convolution, or "
        "max-unpooling, which puts values back where the maximum was.",
    )
    dimensions: Literal["auto", "2D", "3D"] = Field(
        "auto",
        description="2D convolutions on slices, or 3D convolutions on volumes (slower). 'auto' is "
        "3D for volumes of 16 slices or more whose voxels are known to be at most 2.5 times as "
        "long in Z.",
    )
    crop_size: int = Field(
        64,
        ge=16,
        le=1024,
        multiple_of=8,
        description="Side in pixels of the random crops that training uses. In volumes, the length "
        "in Z is the same.",
    )
    batch_size: int = Field(
        8,
        ge=1,
        le=1024,
        description="Crops per training step. In volumes there are fewer, with as many pixels in "
        "total.",
    )
    steps: int = Field(400, ge=1, le=1_000_000, description="Optimisation steps (batches).")
    learning_rate: float = Field(
        0.004,
        ge=0.00001,
        le=0.1,
        json_schema_extra={"step": 0.00001},
        description="Highest learning rate of the optimiser; it warms up first and decays later.",
    )
    weight_decay: float = Field(
        0.0001,
        ge=0,
        le=1,
        json_schema_extra={"step": 0.00001},
        description="Weight decay of the AdamW optimiser.",
    )
    noise: float = Field(
        0.1,
        ge=0,
        le=1,
        json_schema_extra={"step": 0.01},
        description="Standard deviation of the noise that is added to crops, in units of "
        "normalised intensity. The network learns to reconstruct the crop without it.",
    )
    augment: bool = Field(True, description="Flip and rotate crops at random.")
    normalisation: Literal["image", "training"] = Field(
        "image",
        description="Scale intensities by the percentiles of each image, or by those of all "
        "training images (for calibrated intensities).",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="The same seed, images, device and number of threads give the same model.",
    )

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return the parameters of a preset: "fast", "balanced" (the defaults) or "thorough".

        Parameters
        ----------
        name : str
            One of `PRESETS`.

        Raises
        ------
        InputError
            If there is no such preset.

        Examples
        --------
        >>> TrainingParams.preset("balanced") == TrainingParams()
        True
        """
        if name not in PRESETS:
            raise InputError(f"There is no preset {name!r}. Choose one of: {', '.join(PRESETS)}.")
        return cls(**PRESETS[name].changes)


#: The presets of `TrainingParams`, the fastest first. Times and losses are in docs/how_it_works.md.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(
            "Fast",
            "Four crops per step: two thirds of the time on a CPU, slightly worse reconstructions.",
            {"batch_size": 4},
        ),
        "balanced": Preset("Balanced", "Good for most images.", {}),
        "thorough": Preset(
            "Thorough",
            "Four times the steps and the time of balanced, for finer reconstructions.",
            {"steps": 1600},
        ),
    }
)


class SegmentationParams(_Params):
    """How an image is cut into patches and encoded.

    Examples
    --------
    >>> SegmentationParams(patch_size=12).patches
    'watershed'
    """

    patches: Literal["watershed", "grid"] = Field(
        "watershed",
        description="Small starting regions that follow edges (watershed) or square cells (grid).",
    )
    patch_size: int = Field(
        8,
        ge=2,
        le=256,
        description="Side in pixels of an average patch. Nothing smaller can be separated.",
    )
    source: Literal["encoder", "decoder"] = Field(
        "encoder", title="Features from", description="Features of the encoder or of the decoder."
    )
    levels: tuple[int, ...] | None = Field(
        None,
        title="Levels used",
        description="Network levels whose features are used: 0 is the image itself, 1 the first "
        "level. None uses all.",
    )
    tile_size: int = Field(
        384,
        ge=32,
        le=8192,
        multiple_of=8,
        description="Side in pixels of the tiles that are encoded one by one (in 3D, cubes of a "
        "quarter of it); larger on a CUDA device with free memory. Changes memory and speed, not "
        "the result.",
    )

    @field_validator("levels", mode="after")
    @classmethod
    def _levels_are_distinct(cls, levels: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if levels is not None and (not levels or len(set(levels)) < len(levels) or min(levels) < 0):
            raise ValueError("levels must be distinct numbers from 0, at least one")
        return levels


class ComparisonParams(_Params):
    """How patches are compared: what can be changed without encoding the image again.

    Examples
    --------
    >>> ComparisonParams(balance=0.8).scale
    'auto'
    """

    balance: float = Field(
        0.3,
        ge=0,
        le=1,
        json_schema_extra={"step": 0.01},
        description="0 compares brightness and colour, 1 compares texture.",
    )
    scale: float | Literal["auto"] = Field(
        "auto",
        title="Smoothing scale",
        description="Patches averaged over before they are compared: 1 is fine, 100 coarse; "
        "'auto' chooses from the image.",
    )
    whitening: Literal["neighbours", "regions"] = Field(
        "neighbours",
        description="For classes: what counts as noise, differences between 'neighbours', or all "
        "variation within 'regions'. With 'regions', brightness counts less, and what is the same "
        "all over a region more.",
    )

    @field_validator("scale", mode="after")
    @classmethod
    def _scale_is_positive(cls, scale: float | str) -> float | str:
        if isinstance(scale, float | int) and not 1 <= scale <= 10_000:
            raise ValueError("scale must be 'auto' or a number from 1 to 10000")
        return scale


class BlockParams(_Params):
    """How an image that does not fit into memory is segmented, block by block.

    Examples
    --------
    >>> BlockParams(block_size=512).max_patches
    'auto'
    """

    block_size: int | Literal["auto"] = Field(
        "auto",
        description="Side in pixels of the blocks that are processed one by one. 'auto' depends on "
        "the free memory.",
    )
    max_patches: int | Literal["auto"] = Field(
        "auto",
        title="Maximum number of patches",
        description="Larger images get larger patches: similar ones are merged within each block. "
        "A patch needs about 2.5 kB of memory. 'auto' is 32768 and one more for every 10000 "
        "pixels.",
    )
    unreadable: Literal["stop", "skip"] = Field(
        "stop",
        title="Unreadable parts",
        description="Stop at a block that cannot be read, or skip it (label 0).",
    )

    @field_validator("max_patches", mode="after")
    @classmethod
    def _patches_are_enough(cls, max_patches: int | str) -> int | str:
        if isinstance(max_patches, int) and not 16 <= max_patches < 2**31:
            raise ValueError("max_patches must be 'auto' or a whole number from 16 to 2147483647")
        return max_patches

    @field_validator("block_size", mode="after")
    @classmethod
    def _block_size_is_usable(cls, block_size: int | str) -> int | str:
        if isinstance(block_size, int) and not 32 <= block_size <= 2**20:
            raise ValueError("block_size must be 'auto' or a whole number from 32 to 1048576")
        return block_size
