"""The size of voxels that TIFF files name, in their OME or ImageJ metadata."""

from __future__ import annotations

from math import isfinite
from typing import Any
from xml.etree.ElementTree import ParseError

# Units that lengths are converted from, where axes differ: in metres, with the name they get.
_UNITS = {"nm": (1e-9, "nanometer"), "mm": (1e-3, "millimeter"), "m": (1.0, "meter")}
_UNITS |= {"cm": (1e-2, "centimeter"), "inch": (0.0254, "inch")}
_UNITS |= dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m"), (1e-6, "micrometer"))


def tiff_voxel_size(file: Any) -> tuple[dict[str, float], str]:
    """Return the size of a voxel by axis (Z, Y, X) and its unit, "pixel" if not known.

    Parameters
    ----------
    file : tifffile.TiffFile
    """
    named: dict[str, tuple[float, str]] = {}
    try:
        if file.is_ome:
            named = _ome_sizes(file.ome_metadata or "")
        elif file.is_imagej:
            named = _imagej_sizes(file)
    # The pixels could be read; sizes that make no sense say nothing.
    except (LookupError, TypeError, ValueError, AttributeError):
        pass
    return _in_one_unit({a: s for a, s in named.items() if isfinite(s[0]) and s[0] > 0})


def _ome_sizes(xml: str) -> dict[str, tuple[float, str]]:
    """Size and unit along each axis that the first image of OME metadata has."""
    from tifffile import xml2dict

    try:
        image = xml2dict(xml)["OME"]["Image"]
    except ParseError:
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
