"""TIFF: images are read with their axes and voxel size, labels are written tile by tile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import isfinite
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.memory import check_fits
from napari_aeseg.io.atomic import atomic_write
from napari_aeseg.io.file_array import FileArray, ImageFile
from napari_aeseg.progress import Clock, Progress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from napari_aeseg.progress import StopFlag


# Units of length: name, in metres, as OME-XML writes it, other spellings (of ImageJ).
_UNITS = (
    ("nanometer", 1e-9, "nm"),
    ("micrometer", 1e-6, "µm", "μm", "um", "micron", "microns", "\\u00B5m"),
    ("millimeter", 1e-3, "mm"),
    ("centimeter", 1e-2, "cm"),
    ("meter", 1.0, "m"),
    ("inch", 0.0254, "in", "inch"),
)
_METRES = {spelling: metres for _, metres, *spellings in _UNITS for spelling in spellings}
_UNIT_NAMES = {spelling: name for name, _, *spellings in _UNITS for spelling in spellings}
_OME_UNITS = {name: symbol for name, _, symbol, *_ in _UNITS}
# Side of a tile, and bytes of labels that are computed at once.
_TILE, _BYTES = 512, 2**27


def open_tiff(path: Path, largest: float) -> ImageFile:
    """Open the first series of a TIFF file, loaded if it has at most `largest` values."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise InputError(f"{path.name} holds no image.")
        _refuse_cut_off(file, path.name)
        series = file.series[0]
        metadata = _axes_of(series), *_voxel_size_of(file)
        if series.size <= largest:
            check_fits(series.shape, series.dtype, path.name)
            try:
                return ImageFile(series.asarray(), *metadata)
            except MemoryError as error:  # the image fits, but a part of it claims to be larger
                raise InputError(
                    f"{path.name} is damaged, or there is too little memory to read it."
                ) from error
    return ImageFile(FileArray(path), *metadata)


def _refuse_cut_off(file: Any, name: str) -> None:
    """Raise InputError if pages are missing at the end: tifffile reads the others in silence."""
    handle = file.filehandle
    handle.seek(file.pages.next_page_offset)
    packed = handle.read(file.tiff.offsetsize)
    following = int.from_bytes(packed, "little" if file.byteorder == "<" else "big")
    if following >= handle.size:
        raise InputError(f"{name} is cut off: pages are missing after {len(file.pages)} of them.")


def _axes_of(series: Any) -> str | None:
    """Axes of a series of a TIFF file, if all of them are understood."""
    # S: samples of a pixel, such as red, green and blue. Other letters (I, Q) are unknown axes.
    axes = str(series.axes).replace("S", "C")
    return axes if set(axes) <= set("TCZYX") else None


def _voxel_size_of(file: Any) -> tuple[dict[str, float], str]:
    """Size of a voxel by axis (Z, Y, X) and its unit, "pixel" if not known."""
    sizes: dict[str, tuple[float, str]] = {}
    try:
        if file.is_ome:
            sizes = _ome_sizes(file.ome_metadata or "")
        elif file.is_imagej:
            sizes = _imagej_sizes(file)
    # The pixels can be read: metadata that make no sense are ignored.
    except (LookupError, TypeError, ValueError, AttributeError):
        pass
    return _in_one_unit({a: s for a, s in sizes.items() if isfinite(s[0]) and s[0] > 0})


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
    metadata = file.imagej_metadata or {}
    unit = str(metadata.get("unit", "pixel"))
    sizes = {"Z": (float(metadata["spacing"]), unit)} if "spacing" in metadata else {}
    if not sizes and unit == "pixel":
        return {}
    for axis in "YX":
        tag = file.pages[0].tags.get(f"{axis}Resolution")
        pixels, length = (1, 1) if tag is None else tag.value
        if pixels:
            sizes[axis] = (length / pixels, unit)  # tags hold pixels per length
    return sizes


def _in_one_unit(sizes: dict[str, tuple[float, str]]) -> tuple[dict[str, float], str]:
    """Lengths in the unit of the last axis; none if they cannot be converted."""
    if not sizes:
        return {}, "pixel"
    _, unit = list(sizes.values())[-1]
    name = _UNIT_NAMES.get(unit, unit)
    if all(u == unit for _, u in sizes.values()):
        return {a: n for a, (n, _) in sizes.items()}, name
    if not all(u in _METRES for _, u in sizes.values()):
        return {}, "pixel"
    return {a: n * _METRES[u] / _METRES[unit] for a, (n, u) in sizes.items()}, name


def tiff_steps(
    labels: Any, path: Path, description: dict[str, Any], stop: StopFlag | None = None
) -> Generator[Progress, None, None]:
    """Write labels as BigTIFF; see `napari_aeseg.io.labels.write_labels_steps`.

    The file appears under its name when it is complete; after a stop, writing starts again.
    """
    import tifffile

    if path.exists():
        raise InputError(f"{path} exists already: choose another name, or delete it first.")
    dtype = np.dtype(description["dtype"])
    if dtype.itemsize > 4:  # OME-TIFF has no whole numbers of 64 bits
        dtype = np.dtype(np.int32)
    events: SimpleQueue[Progress | None] = SimpleQueue()
    closed = Event()
    # In this order: the thread has ended before the file gets its name.
    with atomic_write(path) as part, ThreadPoolExecutor(1) as thread:
        # In a thread, because tifffile asks an iterator for the tiles.
        writing = thread.submit(
            tifffile.imwrite,
            part,
            _tiles(labels, dtype, (stop, closed), events),
            shape=tuple(description["shape"]),
            dtype=dtype,
            tile=(_TILE, _TILE),
            bigtiff=True,  # a classic TIFF ends at 4 GiB
            ome=True,
            photometric="minisblack",  # else three slices are taken for colours
            compression="zlib",
            # More workers would take tiles ahead, one for each thread.
            maxworkers=1,
            metadata=_ome_metadata(description),
        )
        writing.add_done_callback(lambda _: events.put(None))  # ends the loop, also after an error
        try:
            yield from iter(events.get, None)
        finally:  # a generator that is closed too
            closed.set()  # else the `with` would wait until all is written
        writing.result()  # raises what ended the thread


def _tiles(
    labels: Any,
    dtype: np.dtype[Any],
    stops: tuple[StopFlag | None, StopFlag],
    events: SimpleQueue[Progress | None],
) -> Iterator[np.ndarray]:
    """All tiles of the labels in the order of the file, padded to their size with zeros."""
    *others, rows, columns = labels.shape
    stack: list[tuple[int, ...]] = list(np.ndindex(*others))
    # Slices are computed together: a chunk of the labels may hold many of them.
    together = max(1, min(64, _BYTES // (rows * columns * dtype.itemsize)))
    height = max(_TILE, _BYTES // (columns * dtype.itemsize) // _TILE * _TILE)
    total, done = len(stack) * -(-rows // _TILE), 0
    clock = Clock(total)
    for first in range(0, len(stack), together):
        planes = stack[first : first + together]
        slab = _slab(labels, planes) if len(planes) > 1 else None
        for which, plane in enumerate(planes):
            for top in range(0, rows, height):
                for stop in stops:
                    raise_if_stopped(stop, "write")
                part = slice(top, min(top + height, rows))
                strip = labels[(*plane, part)] if slab is None else slab[which, part]
                strip = _as_dtype(np.asarray(strip), dtype)
                done += -(-len(strip) // _TILE)
                events.put(Progress("write", done, total, "", clock.seconds_left(done)))
                for row, left in product(range(0, len(strip), _TILE), range(0, columns, _TILE)):
                    tile = strip[row : row + _TILE, left : left + _TILE]
                    yield np.pad(tile, [(0, _TILE - n) for n in tile.shape])


def _as_dtype(labels: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Labels in the type of the file."""
    if labels.dtype.itemsize > dtype.itemsize:
        limits = np.iinfo(dtype)
        low, high = int(labels.min()), int(labels.max())
        if low < limits.min or high > limits.max:
            raise InputError(
                f"Labels run from {low} to {high}, but a TIFF file holds {limits.min} to "
                f"{limits.max}: choose a name that ends with .zarr, or renumber the labels."
            )
    return labels.astype(dtype, copy=False)


def _slab(labels: Any, planes: list[tuple[int, ...]]) -> np.ndarray:
    """Some planes of a stack."""
    if len(planes[0]) == 1:
        return np.asarray(labels[planes[0][0] : planes[-1][0] + 1])
    return np.stack([np.asarray(labels[plane]) for plane in planes])


def _ome_metadata(description: dict[str, Any]) -> dict[str, Any]:
    """Metadata of OME-XML."""
    unit = _OME_UNITS.get(description["unit"])
    metadata: dict[str, Any] = {"axes": description["axes"]}
    for axis, size in zip(description["axes"], description["voxel_size"], strict=True):
        if unit is not None and axis != "T":
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    return metadata
