"""Formats of microscopes (.czi, .nd2, .lif ...), read through the optional package bioio."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_aeseg.errors import InputError
from napari_aeseg.images.memory import check_fits
from napari_aeseg.io.file_array import (
    ImageFile,
    channels_once,
    check_number,
    resolution_notes,
    series_notes,
)

# The package that reads a format, by its suffix. bioio has one for each format.
_PACKAGES = {
    ".czi": "bioio-czi",
    ".nd2": "bioio-nd2",
    ".lif": "bioio-lif",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy",
}


def bioio_suffixes() -> tuple[str, ...]:
    """Return the suffixes of those formats whose reader is installed."""
    if find_spec("bioio") is None:
        return ()
    return tuple(s for s, name in _PACKAGES.items() if find_spec(name.replace("-", "_")))


def bioio_advice(path: Path) -> str:
    """Return how a file could be read through bioio; "" if its suffix does not say."""
    package = _PACKAGES.get(path.suffix.lower())
    return f', or install its reader: pip install "napari-aeseg[bioio]" {package}' * bool(package)


def is_for_bioio(path: Path) -> bool:
    """Return whether a reader of bioio is installed for a file that Pillow does not read."""
    if find_spec("bioio") is None:
        return False
    from bioio.plugins import get_plugins
    from PIL.Image import registered_extensions

    if path.suffix.lower() in registered_extensions():
        return False
    return path.name.lower().endswith(tuple(get_plugins(use_cache=True)))


def open_with_bioio(path: Path, largest: float, resolution: int = 0, series: int = 0) -> ImageFile:
    """Open one scene of a file, loaded if it has at most `largest` values, else a dask array."""
    from bioio import BioImage
    from bioio_base.exceptions import UnsupportedFileFormatError

    try:
        image = BioImage(path)
    except UnsupportedFileFormatError as error:
        raise InputError(f"{path.name} is damaged: its reader does not know it.") from error
    check_number("series", series, len(image.scenes), path.name)
    image.set_scene(series)
    check_number("resolution", resolution, len(image.resolution_levels), path.name)
    lengths, finest = _lengths(image), _sizes(image.dims)
    image.set_resolution_level(resolution)
    sizes = _sizes(image.dims)
    if sizes.get("M", 1) > 1:
        raise InputError(
            f"{path.name} has {sizes['M']} tiles that its reader does not stitch: stitch them, and "
            "save them as OME-TIFF."
        )
    notes = series_notes(series, image.scenes)
    notes += resolution_notes(resolution, len(image.resolution_levels), sizes)
    notes += [
        f"Of {size} planes along its axis {axis}, the first was taken."
        for axis, size in _sizes(image.reader.dims).items()
        if size > 1 and axis not in sizes and axis != "M"  # tiles, which were stitched
    ]
    # bioio-czi gives colours as they lie in the file, blue first, and all of them as blue if they
    # are not loaded.
    is_blue_first = sizes.get("S") == 3 and type(image.reader).__module__.startswith("bioio_czi")
    if is_blue_first or math.prod(sizes.values()) <= largest:
        check_fits(image.shape, image.dtype, path.name)
        pixels: Any = image.data
    else:
        pixels = image.dask_data
    if is_blue_first:
        pixels = pixels[..., ::-1]
    # bioio gives every image the axes T, C, Z, Y and X.
    pixels = pixels[tuple(slice(None) if n > 1 or a in "YX" else 0 for a, n in sizes.items())]
    axes = "".join(a for a, n in sizes.items() if n > 1 or a in "YX")
    larger = {a: finest[a] / sizes[a] for a in sizes}
    scaled = {a: (length * larger[a], unit) for a, (length, unit) in lengths.items()}
    # A fourth sample of a pixel is transparency.
    return ImageFile.of(*channels_once(pixels, axes, sizes.get("S") == 4), scaled, notes)


def _sizes(dims: Any) -> dict[str, int]:
    return dict(zip(dims.order, map(int, dims.shape), strict=True))


def _lengths(image: Any) -> dict[str, tuple[float, str]]:
    """Size of a pixel along each axis for which it is known; micrometers unless bioio says else."""
    sizes, properties = image.physical_pixel_sizes, image.dimension_properties
    return {
        axis: (float(getattr(sizes, axis)), str(getattr(properties, axis).unit or "micrometer"))
        for axis in "ZYX"
        if getattr(sizes, axis)  # some readers give 0 for what a file does not tell
    }
