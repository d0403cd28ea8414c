"""The model file: safetensors with a JSON header. No pickle, nothing is ever executed."""

from __future__ import annotations

import json
import math
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from napari_aeseg.autoencoder.model import Model, TrainingRecord
from napari_aeseg.autoencoder.network import Architecture, Autoencoder
from napari_aeseg.errors import ModelFileError
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.params import BASE_MODEL

if TYPE_CHECKING:
    from os import PathLike

#: Raised whenever an older package could misread the file.
FORMAT_VERSION = 1
#: The key of the safetensors metadata that holds the JSON text.
HEADER_KEY = "napari-aeseg"
#: The model that ships with the package, made by tools/make_base_model.py.
BASE_FILE = Path(__file__).parents[1] / f"{BASE_MODEL}.aeseg.safetensors"
_PARTS = ("package_version", "torch_version", "architecture", "intensity", "training")


def write_model(model: Model, path: str | PathLike[str]) -> None:
    """Write `model` to `path`: to a temporary file beside it, then renamed."""
    path = Path(path)
    header = {
        "format_version": FORMAT_VERSION,
        "package_version": version("napari-aeseg"),
        "torch_version": str(torch.__version__),
        "architecture": model.architecture.as_dict(),
        "intensity": None
        if model.intensity is None
        else {"low": model.intensity.low, "high": model.intensity.high},
        "training": model.record.as_dict(),
        "any_channels": model.any_channels,
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    data = safetensors.torch.save(tensors, {HEADER_KEY: json.dumps(header, allow_nan=False)})
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read; a model is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _file(path: str | PathLike[str]) -> Path:
    """Return the file that is meant: only the very text "base" means the shipped one."""
    return BASE_FILE if isinstance(path, str) and path == BASE_MODEL else Path(path)


def read_header(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the JSON header of a model file without reading its weights.

    Parameters
    ----------
    path : path-like or "base"

    Returns
    -------
    dict
        With "format_version", "package_version", "torch_version", "architecture", "intensity" and
        "training"; "any_channels" in files of today.

    Raises
    ------
    ModelFileError
        If this is not a model file of this project, or one of a newer format.
    FileNotFoundError
        If there is no such file.
    """
    path = _file(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(HEADER_KEY)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path.name} is not a model file, or it is damaged or cut short ({error}). "
            "Expected a *.aeseg.safetensors file written by napari-aeseg."
        ) from error
    if text is None:
        raise ModelFileError(
            f"{path.name} is a safetensors file, but not one written by napari-aeseg: it has no "
            f"'{HEADER_KEY}' header."
        )
    try:
        header = json.loads(text)
        written = header["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"The header of {path.name} cannot be read ({error}).") from error
    if not isinstance(written, int) or written < 1:
        raise ModelFileError(f"{path.name} has an impossible format version, {written!r}.")
    if written > FORMAT_VERSION:
        raise ModelFileError(
            f"{path.name} has format {written}, written by napari-aeseg "
            f"{header.get('package_version', '?')}; this version reads up to format "
            f"{FORMAT_VERSION}. Update napari-aeseg to read it."
        )
    missing = [name for name in _PARTS if name not in header]
    if missing:
        raise ModelFileError(f"The header of {path.name} is incomplete: no {', '.join(missing)}.")
    return dict(header)


def load_model_file(path: str | PathLike[str]) -> Model:
    """Read a model file; "base" is the one that ships with the package.

    Raises
    ------
    ModelFileError
        If the file is damaged, foreign, newer, or its weights do not fit its architecture.
    FileNotFoundError
        If there is no such file.
    """
    path = _file(path)
    header = read_header(path)
    try:
        architecture = Architecture(**header["architecture"])
        _check(architecture)
        with torch.device("meta"):
            expected = {
                k: (tuple(v.shape), v.dtype)
                for k, v in Autoencoder(architecture).state_dict().items()
            }
        intensity = header["intensity"]
        if intensity is not None:
            intensity = IntensityRange(
                tuple(map(float, intensity["low"])), tuple(map(float, intensity["high"]))
            )
            _check_intensity(intensity, architecture.channels)
        any_channels = header.get("any_channels", False)
        if type(any_channels) is not bool or (any_channels and intensity is not None):
            raise ValueError(f"any_channels = {any_channels!r} with intensity {intensity}")
        training = dict(header["training"])
        for name in ("images", "losses", "notes"):
            training[name] = tuple(training[name])
        record = TrainingRecord(**training)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"The header of {path.name} is incomplete or wrong ({error})."
        ) from error
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelFileError(f"The weights of {path.name} cannot be read ({error}).") from error
    found = {k: (tuple(v.shape), v.dtype) for k, v in tensors.items()}
    if found != expected:
        odd = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
        raise ModelFileError(
            f"The weights of {path.name} do not fit its architecture; differing: "
            f"{', '.join(odd[:5])}{' ...' if len(odd) > 5 else ''}."
        )
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise ModelFileError(f"{path.name} has weights that are NaN or infinite; train again.")
    network = Autoencoder(architecture)
    network.load_state_dict(tensors)
    return Model(network, intensity, record, any_channels)


def _check(architecture: Architecture) -> None:
    """Raise ValueError for values that no model of ours can have, before memory is taken."""
    limits = {"channels": 4096, "levels": 6, "width": 256, "convolutions": 4}
    for name, most in limits.items():
        value = getattr(architecture, name)
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} = {value!r} is not a whole number from 1 to {most}")
    if architecture.decoder not in ("transposed", "unpooling"):
        raise ValueError(f"decoder = {architecture.decoder!r} is not known")


def _check_intensity(intensity: IntensityRange, channels: int) -> None:
    """Raise ValueError for a range that does not have two finite numbers for each channel."""
    for name, values in (("low", intensity.low), ("high", intensity.high)):
        if len(values) != channels or not all(map(math.isfinite, values)):
            raise ValueError(f"intensity {name} = {values} for {channels} channel(s)")
