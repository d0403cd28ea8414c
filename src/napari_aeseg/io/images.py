"""Image files: read or opened with their axes, labels and overlays written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.intensity import as_array
from napari_aeseg.images.memory import check_fits
from napari_aeseg.io.file_array import (
    TIFF,
    FileArray,
    ImageFile,
    is_zarr,
    open_zarr,
    tiff_axes,
)
from napari_aeseg.io.tiff import tiff_voxel_size

if TYPE_CHECKING:
    from os import PathLike


def open_file(path: str | PathLike[str], largest: float = float("inf")) -> ImageFile:
    """Open an image file; zarr arrays and large TIFF files are not loaded.

    Parameters
    ----------
    path : path-like
        The folder of a zarr array or OME-Zarr image (versions 0.1 to 0.5; its finest level is
        taken), or what `read_file` reads. Of PNG and the like, transparency is left out.
    largest : float
        A TIFF file with more values than this is not loaded; all are, by default. What has to be
        decoded to know its size (PNG, JPEG) is loaded.

    Returns
    -------
    ImageFile

    Raises
    ------
    InputError
        If the file is missing, is no image, holds several, or does not fit into memory.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> path = Path(tempfile.mkdtemp()) / "a.tif"
    >>> tifffile.imwrite(path, np.eye(32))
    >>> type(open_file(path).array).__name__, type(open_file(path, largest=100).array).__name__
    ('ndarray', 'FileArray')
    """
    path = Path(path)
    if not (path.is_file() or is_zarr(path)):
        raise InputError(f"There is no image file {str(path)!r}.")
    try:
        if is_zarr(path):
            return open_zarr(path)
        if path.suffix.lower() in TIFF:
            return _open_tiff(path, largest)
        return ImageFile(_read_other(path), None)
    except (InputError, MemoryError):
        raise
    # Decoders raise all kinds of errors on damaged files.
    except Exception as error:
        raise InputError(f"{path.name} is damaged or no image ({error}).") from error


def read_file(path: str | PathLike[str]) -> tuple[np.ndarray, str | None]:
    """Read an image file.

    Parameters
    ----------
    path : path-like
        TIFF (with ImageJ or OME axes), PNG, JPEG, or whatever else imageio reads; zarr, which is
        loaded here (`open_file` leaves it where it is).

    Returns
    -------
    image : ndarray
    axes : str or None
        One letter per dimension when the file names them, else None.

    Raises
    ------
    InputError
        If the file is missing or is no image.
    """
    opened = open_file(path)
    return as_array(opened.array, Path(path).name), opened.axes


def _open_tiff(path: Path, largest: float) -> ImageFile:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise InputError(f"{path.name} holds no image.")
        _refuse_cut_off(file, path.name)
        series = file.series[0]
        about = tiff_axes(series), *tiff_voxel_size(file)
        if series.size <= largest:
            check_fits(series.shape, series.dtype, path.name)
            try:
                return ImageFile(series.asarray(), *about)
            except MemoryError as error:  # the image would fit: a part of it claims not to
                raise InputError(
                    f"{path.name} is damaged, or there is too little memory to read it."
                ) from error
    return ImageFile(FileArray(path), *about)


def _refuse_cut_off(file: Any, name: str) -> None:
    """Raise InputError if pages are missing at the end: the others would be taken for all."""
    handle = file.filehandle
    handle.seek(file.pages.next_page_offset)
    packed = handle.read(file.tiff.offsetsize)
    following = int.from_bytes(packed, "little" if file.byteorder == "<" else "big")
    if following >= handle.size:
        raise InputError(f"{name} is cut off: pages are missing after {len(file.pages)} of them.")


def _read_other(path: Path) -> np.ndarray:
    import warnings

    from imageio.v3 import immeta, imread

    # From memory: imageio leaves files open that it cannot read. Its old plugins warn of their age.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        data, suffix = path.read_bytes(), path.suffix or ".?"
        pixels = np.asarray(imread(data, extension=suffix))
        # Transparency is no measurement.
        is_transparent = immeta(data, extension=suffix).get("mode") in ("LA", "RGBA")
    return pixels[..., :-1] if is_transparent else pixels


def write_label_image(labels: np.ndarray, path: str | PathLike[str]) -> None:
    """Write labels as a compressed TIFF: uint16 when they fit, else int32."""
    import tifffile

    fits = labels.size == 0 or labels.max() < 2**16
    narrow = labels.astype(np.uint16 if fits else np.int32)
    # Else three slices are stored as the planes of a colour image.
    tifffile.imwrite(path, narrow, photometric="minisblack", compression="zlib")


def overlay(image: Any, labels: np.ndarray, axes: str) -> np.ndarray:
    """Draw labels over a 2D image: tinted in distinct colours, with their outlines.

    Parameters
    ----------
    image : array_like
        With the axes "YX", "YXC" or "CYX".
    labels : ndarray of int, shape (Y, X)
    axes : str

    Returns
    -------
    ndarray of uint8, shape (Y, X, 3)

    Examples
    --------
    >>> overlay(np.eye(4), np.eye(4, dtype=int) + 1, "YX").shape
    (4, 4, 3)
    """
    from skimage.color import label2rgb
    from skimage.segmentation import find_boundaries

    from napari_aeseg.images.intensity import read_image

    pixels = np.clip(read_image(image, axes, even=False).pixels, 0, 1)
    ground = np.moveaxis(pixels, 0, -1)
    if ground.shape[-1] != 3:
        ground = np.repeat(ground.mean(axis=-1, keepdims=True), 3, axis=-1)
    colours = _distinct_colours(int(labels.max()))
    tinted = label2rgb(labels, ground, colors=colours, alpha=0.35, bg_label=0, saturation=1)
    tinted[find_boundaries(labels, mode="inner")] = (1, 1, 0.3)
    return (np.clip(tinted, 0, 1) * 255).astype(np.uint8)


def _distinct_colours(number: int) -> np.ndarray:
    """Colours of equal saturation whose hues step by the golden ratio, shape (number, 3)."""
    from skimage.color import hsv2rgb

    hue = (0.6 + np.arange(max(number, 1)) * 0.618034) % 1
    return np.asarray(hsv2rgb(np.stack([hue, np.full_like(hue, 0.75), np.ones_like(hue)], -1)))


def write_picture(picture: np.ndarray, path: str | PathLike[str]) -> None:
    """Write an RGB picture, (Y, X, 3) uint8, in the format that the name says."""
    from imageio.v3 import imwrite

    # Through memory: on a full disk, imageio would raise a second error where nobody hears it.
    Path(path).write_bytes(imwrite("<bytes>", picture, extension=Path(path).suffix))
