"""Image files: read with their axes, labels and overlays written."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import numpy as np

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from os import PathLike

_TIFF = (".tif", ".tiff")
# Units that lengths are converted from, where axes differ: in metres, with the name they get.
_UNITS = {"nm": (1e-9, "nanometer"), "mm": (1e-3, "millimeter"), "m": (1.0, "meter")}
_UNITS |= {"cm": (1e-2, "centimeter"), "inch": (0.0254, "inch")}
_UNITS |= dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m"), (1e-6, "micrometer"))


def read_file(path: str | PathLike[str]) -> tuple[np.ndarray, str | None]:
    """Read an image file.

    Parameters
    ----------
    path : path-like
        TIFF (with ImageJ or OME axes), PNG, JPEG, or whatever else imageio reads.

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
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no image file {str(path)!r}.")
    try:
        return _read_tiff(path) if path.suffix.lower() in _TIFF else (_read_other(path), None)
    # Decoders raise all kinds of errors on damaged files.
    except Exception as error:
        raise InputError(f"{path.name} is damaged or no image ({error}).") from error


def _read_tiff(path: Path) -> tuple[np.ndarray, str | None]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        # S: samples of a pixel, such as red, green and blue. Other letters (I, Q) say nothing.
        axes = series.axes.replace("S", "C")
        return series.asarray(), axes if set(axes) <= set("TCZYX") else None


def read_voxel_size(path: str | PathLike[str]) -> tuple[dict[str, float], str]:
    """Read the size of a voxel that an image file names.

    Parameters
    ----------
    path : path-like
        A file that `read_file` reads.

    Returns
    -------
    size : dict
        By axis (Z, Y, X); empty where the file says nothing. OME files name it themselves; ImageJ
        has it in the resolution and the spacing. The resolution of other files is that of a print.
    unit : str
        "pixel" when it is not known.
    """
    import tifffile

    path = Path(path)
    if path.suffix.lower() not in _TIFF:
        return {}, "pixel"
    with tifffile.TiffFile(path) as file:
        if file.is_ome:
            named = _ome_sizes(file.ome_metadata or "")
        elif file.is_imagej:
            named = _imagej_sizes(file)
        else:
            named = {}
    return _in_one_unit({a: s for a, s in named.items() if isfinite(s[0]) and s[0] > 0})


def _ome_sizes(xml: str) -> dict[str, tuple[float, str]]:
    """Size and unit along each axis that the first image of OME metadata has."""
    from tifffile import xml2dict

    try:
        image = xml2dict(xml)["OME"]["Image"]
    except (ParseError, KeyError):  # the pixels could be read; this says nothing
        return {}
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    return {
        a: (float(pixels[f"PhysicalSize{a}"]), str(pixels.get(f"PhysicalSize{a}Unit", "µm")))
        for a in "ZYX"
        if f"PhysicalSize{a}" in pixels
    }


def _imagej_sizes(file: Any) -> dict[str, tuple[float, str]]:
    """Size and unit along each axis that an ImageJ file has."""
    known = file.imagej_metadata or {}
    unit = str(known.get("unit", "pixel"))
    sizes = {"Z": (float(known["spacing"]), unit)} if "spacing" in known else {}
    if not sizes and unit == "pixel":
        return {}
    for axis in "YX":
        tag = file.pages[0].tags.get(f"{axis}Resolution")
        pixels, length = (1, 1) if tag is None else tag.value
        if pixels:
            sizes[axis] = (length / pixels, unit)
    return sizes


def _in_one_unit(sizes: dict[str, tuple[float, str]]) -> tuple[dict[str, float], str]:
    """Lengths in the unit of the last axis; nothing where they cannot be converted."""
    if not sizes:
        return {}, "pixel"
    _, unit = list(sizes.values())[-1]
    _, name = _UNITS.get(unit, (1.0, unit))
    if all(u == unit for _, u in sizes.values()):
        return {a: n for a, (n, _) in sizes.items()}, name
    if not all(u in _UNITS for _, u in sizes.values()):
        return {}, "pixel"
    return {a: n * _UNITS[u][0] / _UNITS[unit][0] for a, (n, u) in sizes.items()}, name


def _read_other(path: Path) -> np.ndarray:
    import warnings

    from imageio.v3 import imread

    # From memory: imageio leaves files open that it cannot read. Its old plugins warn of their age.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(imread(path.read_bytes(), extension=path.suffix or ".?"))


def write_labels(labels: np.ndarray, path: str | PathLike[str]) -> None:
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
    from skimage import io

    io.imsave(path, picture, check_contrast=False)
