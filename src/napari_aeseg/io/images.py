"""Image files: opened with their axes and voxel size; pictures of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.images.intensity import as_array, read_image
from napari_aeseg.io.file_array import TIFF_SUFFIXES, ImageFile
from napari_aeseg.io.ome_zarr import is_zarr, open_zarr
from napari_aeseg.io.tiff import open_tiff

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike


def _open_with_imageio(path: Path, _largest: float) -> ImageFile:
    """Load PNG, JPEG and the other formats of imageio; without transparency."""
    import warnings

    from imageio.v3 import immeta, imread

    # From memory: imageio leaves files open that it cannot read. Its old plugins warn of their age.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        data, suffix = path.read_bytes(), path.suffix or ".?"
        pixels = np.asarray(imread(data, extension=suffix))
        # Transparency is no measurement.
        is_transparent = immeta(data, extension=suffix).get("mode") in ("LA", "RGBA")
    return ImageFile(pixels[..., :-1] if is_transparent else pixels, None)


#: Functions that open a file, by its suffix: they get the path, and the number of values above
#: which the file is not loaded if that can be avoided. imageio opens all others.
READERS: dict[str, Callable[[Path, float], ImageFile]] = {
    ".zarr": open_zarr,
    **dict.fromkeys(TIFF_SUFFIXES, open_tiff),
}


def open_file(path: str | PathLike[str], largest: float = float("inf")) -> ImageFile:
    """Open an image file; zarr arrays and large TIFF files are not loaded.

    TIFF (with ImageJ or OME axes), PNG, JPEG, any other format of imageio, or the folder of a zarr
    array or OME-Zarr image (versions 0.1 to 0.5; its finest level is taken). The transparency of
    PNG and the like is left out. A TIFF file is not loaded if it has more than the `largest` number
    of values. Raises InputError if the file is missing, is no image, holds several, or does not fit
    into memory.
    """
    path = Path(path)
    if not (path.is_file() or is_zarr(path)):
        raise InputError(f"There is no image file {str(path)!r}.")
    suffix = ".zarr" if is_zarr(path) else path.suffix.lower()
    try:
        return READERS.get(suffix, _open_with_imageio)(path, largest)
    except (InputError, MemoryError):
        raise
    # Decoders raise all kinds of errors on damaged files.
    except Exception as error:
        text = sanitized(error)  # of values in the file, which may be long
        raise InputError(f"{path.name} is damaged or no image ({text}).") from error


def read_file(path: str | PathLike[str]) -> tuple[np.ndarray, str | None]:
    """Read an image file whole; return the image, and its axes if the file names them.

    Formats and errors are those of `open_file`.
    """
    opened = open_file(path)
    return as_array(opened.array, Path(path).name), opened.axes


def overlay(image: Any, labels: np.ndarray, axes: str) -> np.ndarray:
    """Draw labels (Y, X) over a 2D image: tinted in distinct colours, with their outlines.

    Returns uint8 of shape (Y, X, 3). `axes` of the image are "YX", "YXC" or "CYX".
    """
    ground = rgb_of(read_image(image, axes, flatten_illumination=False).pixels)
    return tinted(ground, labels, distinct_colours(int(labels.max())), 0.35, outlines=True)


def rgb_of(pixels: np.ndarray) -> np.ndarray:
    """Return a picture, (Y, X, 3) from 0 to 1, of (C, Y, X) pixels; grey but for three channels."""
    ground = np.moveaxis(np.clip(pixels, 0, 1), 0, -1)
    if ground.shape[-1] != 3:
        ground = np.repeat(ground.mean(axis=-1, keepdims=True), 3, axis=-1)
    return ground


def tinted(
    ground: np.ndarray,
    labels: np.ndarray,
    colours: np.ndarray,
    strength: float,
    outlines: bool = False,
) -> np.ndarray:
    """Mix a picture, (Y, X, 3) from 0 to 1, with the colours of labels 1 .. n, shape (n, 3).

    Returns uint8; label 0 has no colour. `strength` is the part of the colour, 0 to 1.
    """
    from skimage.segmentation import find_boundaries

    inside = labels > 0
    picture = np.array(ground, np.float32)
    picture[inside] += strength * (colours[labels[inside] - 1] - picture[inside])
    if outlines:
        picture[find_boundaries(labels, mode="inner")] = (1, 1, 0.3)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def distinct_colours(number: int) -> np.ndarray:
    """Colours of equal saturation whose hues step by the golden ratio, shape (number, 3)."""
    from skimage.color import hsv2rgb

    hue = (0.6 + np.arange(max(number, 1)) * 0.618034) % 1
    return np.asarray(hsv2rgb(np.stack([hue, np.full_like(hue, 0.75), np.ones_like(hue)], -1)))


def write_picture(picture: np.ndarray, path: str | PathLike[str]) -> None:
    """Write an RGB picture, (Y, X, 3) uint8, in the format of its suffix."""
    from imageio.v3 import imwrite

    # Through memory: on a full disk, imageio would raise a second error in a destructor.
    Path(path).write_bytes(imwrite("<bytes>", picture, extension=Path(path).suffix))
