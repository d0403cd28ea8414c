"""Safetensors of unknown origin: read only as far as no more memory is taken than they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import safetensors

from napari_aeseg.errors import ModelFileError, shown

if TYPE_CHECKING:
    from pathlib import Path

    import torch

#: Bytes of a header, and how many tensors there may be. A million losses are 23 MB.
MOST_HEADER, MOST_TENSORS = 2**25, 10_000
# Lists and objects in JSON, and values: each becomes an object of Python of some 60 bytes.
_MOST_NESTED, _MOST_VALUES = 200_000, 1_500_000
# torch knows no tensors of more axes.
_MOST_AXES = 32
_EXPECTED = "Expected a *.aeseg.safetensors file written by napari-aeseg."
# What safetensors and torch raise on numbers that they cannot work with, and on files that are
# longer than what can be mapped.
_ERRORS = (
    *(safetensors.SafetensorError, OSError, MemoryError, RuntimeError, ValueError, TypeError),
)


def check_json(text: str | bytes, name: str) -> None:
    """Raise ModelFileError if JSON has more parts than any of ours; `name` is of the file."""
    one = str if isinstance(text, str) else str.encode
    nested = text.count(one("{")) + text.count(one("["))  # type: ignore[arg-type]
    values = text.count(one(","))  # type: ignore[arg-type]
    if nested > _MOST_NESTED or values > _MOST_VALUES:
        raise ModelFileError(
            f"The header of {name} cannot be read (it has {values} values in {nested} parts: too "
            f"many). {_EXPECTED}"
        )


def read_metadata(path: Path, key: str) -> str | None:
    """Return a text of the metadata of a file, None if there is none of this name.

    Raises
    ------
    ModelFileError
        If this is no such file, or its header is too large.
    """
    if not path.is_file():
        raise ModelFileError(f"{path.name} is not a file. {_EXPECTED}")
    try:
        _check_head(path)
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(key)
    except _ERRORS as error:
        raise _damaged(path, error) from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file whose metadata was read; none refers to the file any more.

    Raises
    ------
    ModelFileError
        If they cannot be read.
    """
    size = path.stat().st_size
    found = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > MOST_TENSORS:
                raise ValueError(f"{len(names)} tensors")
            for name in names:
                shape = file.get_slice(name).get_shape()
                # Of nothing, any number of rows would fit into the file.
                if len(shape) > _MOST_AXES or any(n > size for n in shape):
                    raise ValueError(f"{name} has a shape that no tensor has")
                # Tensors are views of the mapped file: whoever shortens it would end the process.
                found[name] = file.get_tensor(name).clone()
    except _ERRORS as error:
        raise ModelFileError(
            f"The weights of {path.name} cannot be read ({shown(error)})."
        ) from error
    return found


def _check_head(path: Path) -> None:
    """Raise an error if the header is longer, or has more parts, than that of any model."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MOST_HEADER:
            raise ValueError(f"its header claims to have {length} bytes")
        check_json(file.read(length), path.name)


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{path.name} is not a model file, or it is damaged or cut short ({shown(error)}). "
        f"{_EXPECTED}"
    )
