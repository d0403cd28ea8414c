"""Image files: opened with their axes and voxel size; pictures of labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.images.intensity import as_array, read_image
from napari_aeseg.io.bioio_reader import bioio_advice, is_for_bioio, open_with_bioio
from napari_aeseg.io.file_array import ImageFile, check_only_image
from napari_aeseg.io.ome_zarr import is_zarr, open_zarr
from napari_aeseg.io.tiff import TIFF_SUFFIXES, is_tiff, open_tiff

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes

# Modes of Pillow with transparency, which is no measurement.
_TRANSPARENT = ("LA", "RGBA")
#: Suffixes of other image files that are taken from a folder.
OTHER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def _open_with_imageio(
    path: Path, _largest: float, resolution: int = 0, series: int = 0
) -> ImageFile:
    """Load PNG, JPEG and the other formats of imageio; without transparency."""
    from imageio.v3 import immeta, improps, imread

    check_only_image(path, resolution, series)
    # From memory: imageio leaves files open that it cannot read. Its old plugins warn of their age.
    data, suffix = path.read_bytes(), path.suffix or ".?"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pixels = np.asarray(imread(data, extension=suffix))
        mode = immeta(data, extension=suffix).get("mode")
        every: Any = ...
        number = improps(data, extension=suffix, index=every).n_images if mode else 1
    if mode in _EIGHT_BITS and _has_more_bits(data):
        pixels = _decoded_png(data, path.name)
        mode = None if pixels.ndim == 2 else {2: "LA", 4: "RGBA"}.get(pixels.shape[-1])
    if mode in _TRANSPARENT:
        pixels = pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :-1]
    if number == 1:
        still = pixels[0] if mode and pixels.ndim == 4 else pixels  # GIF, for example
        return ImageFile(still, None)
    if pixels.ndim < 4 and pixels.shape[0] != number:
        return ImageFile(pixels, None, notes=(f"The first of {number} frames was taken.",))
    return ImageFile(pixels, "TYXC" if pixels.ndim == 4 else "TYX")


# Modes in which Pillow has 8 bits for a channel.
_EIGHT_BITS = ("RGB", *_TRANSPARENT)


def _has_more_bits(data: bytes) -> bool:
    """Whether a file has 16 bits for each of its channels, of which Pillow drops 8."""
    from PIL import Image

    with Image.open(BytesIO(data)) as image:
        details = [tile[3] for tile in image.tile]  # of PNG "RGB;16B", of PPM ("RGB", 65535)
    return any(
        "16" in part if isinstance(part, str) else isinstance(part, int) and part > 255
        for detail in details
        for part in (detail if isinstance(detail, tuple) else (detail,))
    )


def _decoded_png(data: bytes, name: str) -> np.ndarray:
    """The pixels of a colour PNG of 16 bits; InputError if they cannot be read."""
    try:
        from imagecodecs import png_check, png_decode
    except ImportError:
        advice = "install imagecodecs (pip install imagecodecs), or save it as TIFF"
    else:
        if png_check(data):
            return np.asarray(png_decode(data))
        advice = "save it as TIFF"
    raise InputError(f"{name} has colours of 16 bits, which would be read as 8 bits: {advice}.")


def _open_numpy(path: Path, _largest: float, resolution: int = 0, series: int = 0) -> ImageFile:
    """Open the array of an .npy file, which is not loaded, or the only one of an .npz file."""
    check_only_image(path, resolution, series)
    if path.suffix.lower() == ".npy":
        return ImageFile(np.load(path, mmap_mode="r", allow_pickle=False), None)
    with np.load(path, allow_pickle=False) as arrays:
        if len(arrays.files) == 1:
            return ImageFile(arrays[arrays.files[0]], None)
        raise InputError(
            f"{path.name} holds {len(arrays.files)} arrays ({', '.join(arrays.files[:5])}): save "
            "one of them as .npy."
        )


#: Functions that open a file, by its suffix: they get the path, the number of values above which
#: the file is not loaded if that can be avoided, the resolution, 0 for the finest, and the series.
#: Of others, TIFF is known by its content; bioio, if it is installed, opens what it has a reader
#: for, and imageio the rest.
READERS: dict[str, Callable[[Path, float, int, int], ImageFile]] = {
    ".zarr": open_zarr,
    ".npy": _open_numpy,
    ".npz": _open_numpy,
    **dict.fromkeys(TIFF_SUFFIXES, open_tiff),
}


def open_file(
    path: str | PathLike[str],
    largest: float = float("inf"),
    resolution: int = 0,
    series: int = 0,
) -> ImageFile:
    """Open an image file; zarr arrays and large TIFF files are not loaded.

    TIFF of any name (with the axes of ImageJ, OME, LSM ...), PNG, JPEG, any other format of
    imageio, .npy, .npz with one array, or the folder of a zarr array or OME-Zarr image (versions
    0.1 to 0.5); with the package bioio and its readers also .czi, .nd2, .lif and others.
    Transparency is left out. A TIFF file is not loaded if it has more values than
    `largest`. `resolution` chooses one of a pyramid; 0 is the finest. `series` chooses one of
    several images in the file (scenes); 0 is the first. `notes` of the result say what was taken
    and what was not. Raises InputError if the file is missing, is no image, holds several, or
    does not fit into memory.
    """
    path = Path(path)
    if not (path.is_file() or is_zarr(path)):
        raise InputError(f"There is no image file {str(path)!r}.")
    reader = _reader(path)
    try:
        return reader(path, largest, resolution, series)
    except (InputError, MemoryError):
        raise
    # Decoders raise all kinds of errors on damaged files.
    except Exception as error:
        is_common = reader is not _open_with_imageio or path.suffix.lower() in OTHER_SUFFIXES
        if is_common or path.stat().st_size == 0:
            text = sanitized(error)  # of values in the file, which may be long
            other = "no image" if reader is not open_with_bioio else "nothing that bioio reads"
            raise InputError(f"{path.name} is damaged or {other} ({text}).") from error
        raise InputError(
            f"{path.name} is damaged or of a kind that is not supported. Open it in napari with a "
            f"reader plugin for it, or convert it to OME-TIFF or OME-Zarr{bioio_advice(path)}."
        ) from error


def _reader(path: Path) -> Callable[[Path, float, int, int], ImageFile]:
    """The function that opens a file."""
    if is_zarr(path):
        return open_zarr
    reader = READERS.get(path.suffix.lower())
    if reader is not None:
        return reader
    if is_tiff(path):
        return open_tiff
    return open_with_bioio if is_for_bioio(path) else _open_with_imageio


def read_file(path: str | PathLike[str]) -> tuple[np.ndarray, str | None]:
    """Read an image file whole; return the image, and its axes if the file names them.

    Formats and errors are those of `open_file`.
    """
    opened = open_file(path)
    return as_array(opened.array, Path(path).name), opened.axes


def axes_in_file(path: str | PathLike[str], shape: Sequence[int]) -> Axes | None:
    """Return the axes and the size of voxels in a TIFF or zarr file of an array of this shape.

    None if it is another file, or an array of another shape.
    """
    path = Path(path)
    try:
        if not (is_zarr(path) or (path.is_file() and is_tiff(path))):
            return None
        axes = _axes_in_file(path, path.stat().st_mtime_ns)
    except (InputError, OSError):  # it is gone, or has changed
        return None
    return axes if axes.shape == tuple(shape) else None


@lru_cache(maxsize=100)
def _axes_in_file(path: Path, _modified: int) -> Axes:
    return open_file(path, largest=0).read_axes()


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
