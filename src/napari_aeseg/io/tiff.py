"""Labels as a tiled BigTIFF file, written tile by tile."""

from __future__ import annotations

from contextlib import closing
from math import isfinite
from queue import Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.io.atomic import atomic_write
from napari_aeseg.progress import Clock, Progress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from napari_aeseg.progress import StopFlag


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


# Side of a tile, and bytes of labels that are computed at once.
_TILE, _BYTES = 512, 2**27
# What OME-XML calls units.
_OME_UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "meter": "m"}


def tiff_steps(
    labels: Any, path: Path, about: dict[str, Any], stop: StopFlag | None = None
) -> Generator[Progress, None, None]:
    """Write labels as BigTIFF; see `napari_aeseg.io.labels.write_labels_steps`.

    The file appears under its name when it is complete: what was stopped starts again.
    """
    if path.exists():
        raise InputError(f"{path} exists already: give another name, or remove it first.")
    if np.dtype(about["dtype"]).itemsize > 4:  # OME-TIFF has no whole numbers of 64 bits
        about = {**about, "dtype": "int32"}
    with atomic_write(path) as part, closing(_Writer(part, about)) as writer:
        yield from _fed(labels, writer, np.dtype(about["dtype"]), stop)


def _fed(
    labels: Any, writer: _Writer, dtype: np.dtype[Any], stop: StopFlag | None
) -> Generator[Progress, None, None]:
    """Give a writer all tiles in their order."""
    *others, rows, columns = labels.shape
    stack: list[tuple[int, ...]] = list(np.ndindex(*others))
    # Slices are computed together: a chunk of the labels has many of them.
    together = max(1, min(64, _BYTES // (rows * columns * dtype.itemsize)))
    height = max(_TILE, _BYTES // (columns * dtype.itemsize) // _TILE * _TILE)
    total, done = len(stack) * -(-rows // _TILE), 0
    clock = Clock(total)
    for first in range(0, len(stack), together):
        planes = stack[first : first + together]
        slab = _slab(labels, planes) if len(planes) > 1 else None
        for which, plane in enumerate(planes):
            for top in range(0, rows, height):
                raise_if_stopped(stop, "write")
                strip = slice(top, min(top + height, rows))
                found = labels[(*plane, strip)] if slab is None else slab[which, strip]
                for tile in _tiles(_narrowed(np.asarray(found), dtype)):
                    writer.put(tile)
                done += -(-(strip.stop - top) // _TILE)
                yield Progress("write", done, total, "", clock.seconds_left(done))
    writer.finish()


def _narrowed(labels: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Labels in the type of the file."""
    if labels.dtype.itemsize > dtype.itemsize:
        known = np.iinfo(dtype)
        low, high = int(labels.min()), int(labels.max())
        if low < known.min or high > known.max:
            raise InputError(
                f"Labels run from {low} to {high}, a TIFF file of them from {known.min} to "
                f"{known.max}: give a name that ends with .zarr, or number them anew."
            )
    return labels.astype(dtype, copy=False)


def _slab(labels: Any, planes: list[tuple[int, ...]]) -> np.ndarray:
    """Some planes of a stack."""
    if len(planes[0]) == 1:
        return np.asarray(labels[planes[0][0] : planes[-1][0] + 1])
    return np.stack([np.asarray(labels[plane]) for plane in planes])


def _tiles(strip: np.ndarray) -> Iterator[np.ndarray]:
    """The tiles of some rows, filled up to their size with zeros."""
    for top in range(0, len(strip), _TILE):
        for left in range(0, strip.shape[1], _TILE):
            tile = strip[top : top + _TILE, left : left + _TILE]
            missing = [(0, _TILE - n) for n in tile.shape]
            yield np.pad(tile, missing)


class _Writer:
    """Writes a file in a thread of its own, because it asks for tiles instead of being given some.

    Parameters
    ----------
    path : Path
    about : dict
        Shape, type, axes, voxel size and unit.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self._waiting: Queue[np.ndarray | None] = Queue(maxsize=64)
        self._error: Exception | None = None
        self._thread = Thread(target=self._write, args=(path, about), daemon=True)
        self._thread.start()

    def _write(self, path: Path, about: dict[str, Any]) -> None:
        import tifffile

        try:
            tifffile.imwrite(
                path,
                self._given(),
                shape=tuple(about["shape"]),
                dtype=about["dtype"],
                tile=(_TILE, _TILE),
                bigtiff=True,
                ome=True,
                photometric="minisblack",
                compression="zlib",
                # Else tiles are taken ahead, one for each thread.
                maxworkers=1,
                metadata=_metadata(about),
            )
        except Exception as error:  # noqa: BLE001 - told by `put` or `close`, in the other thread
            self._error = error

    def _given(self) -> Iterator[np.ndarray]:
        while (tile := self._waiting.get()) is not None:
            yield tile

    def put(self, tile: np.ndarray | None) -> None:
        """Hand over a tile, None after the last; wait while too many are there."""
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._waiting.put(tile, timeout=0.1)
            except Full:
                continue
            return

    def finish(self) -> None:
        """Wait for a file of which all tiles were given; raise what went wrong."""
        self.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread, whether the file is complete or not."""
        while self._thread.is_alive():
            try:
                self._waiting.put(None, timeout=0.1)
            except Full:
                continue
            self._thread.join(0.1)


def _metadata(about: dict[str, Any]) -> dict[str, Any]:
    """What OME-XML says of the labels."""
    unit = _OME_UNITS.get(about["unit"])
    found: dict[str, Any] = {"axes": about["axes"]}
    for axis, size in zip(about["axes"], about["voxel_size"], strict=True):
        if unit is not None and axis != "T":
            found |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    return found
