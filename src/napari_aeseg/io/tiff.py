"""TIFF: images are read with their axes and voxel size, labels are written tile by tile."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np

from napari_aeseg.errors import InputError, sanitized
from napari_aeseg.images.memory import check_fits
from napari_aeseg.images.units import unit_name, unit_symbol
from napari_aeseg.io.atomic_write import atomic_write
from napari_aeseg.io.file_array import (
    FileArray,
    ImageFile,
    channels_once,
    check_number,
    in_dask,
    resolution_notes,
    series_notes,
)
from napari_aeseg.progress import Clock, Progress, StopFlag, raise_if_stopped

#: Suffixes of TIFF files.
TIFF_SUFFIXES = (
    *(".tif", ".tiff", ".btf", ".tf2", ".tf8"),
    *(".lsm", ".stk", ".svs", ".ndpi", ".scn", ".bif", ".qptiff"),
)
# The first bytes of TIFF and BigTIFF, in both orders of bytes.
_FIRST_BYTES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Compression that Python itself has from 3.14 on.
_ZSTD = 50000
# Extra samples that are transparency.
_ALPHA = (1, 2)
# Axes of tifffile along which images of their own lie: positions of LSM and Micro-Manager, mosaics.
_POSITIONS = "PMR"
# Kinds of series that tifffile makes of the pages alone.
_PLAIN = ("uniform", "generic")
# Side of a tile, and bytes of labels that are computed at once.
_TILE, _BYTES = 512, 2**27


def is_tiff(path: Path) -> bool:
    """Return whether a file is TIFF, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) in _FIRST_BYTES


def open_tiff(path: Path, largest: float, resolution: int = 0, series: int = 0) -> ImageFile:
    """Open one series of a TIFF file, loaded if it has at most `largest` values."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        _refuse_cut_off(file, path.name)
        images = _images_in(file)
        if file.series and not images:
            raise InputError(f"{path.name} has its planes in other files: open one of these.")
        check_number("series", series, len(images), path.name)
        notes = series_notes(series, [_described(file.series[i], p) for i, p in images])
        series, position = images[series]
        whole = file.series[series]
        check_number("resolution", resolution, len(whole.levels), path.name)
        level = whole.levels[resolution]
        _refuse_missing_planes(whole, file, path)
        _refuse_missing_codec(level.keyframe, path.name)
        if level.size <= largest:
            check_fits(level.shape, level.dtype, path.name)
            try:
                pixels: Any = level.asarray()
            except MemoryError as error:  # the image fits, but a part of it claims to be larger
                raise InputError(
                    f"{path.name} is damaged, or there is too little memory to read it."
                ) from error
        else:
            pixels = FileArray(path, resolution=resolution, series=series)
        plain = _at_position(pixels, level.axes, position)
        extra = level.keyframe.extrasamples
        is_transparent = bool(extra) and int(extra[-1]) in _ALPHA
        pixels, axes = channels_once(*plain, is_transparent)
        larger = dict(zip(whole.axes, np.divide(whole.shape, level.shape), strict=True))
        in_file = _lengths_of(file, series)
        lengths = {a: (n * float(larger.get(a, 1)), u) for a, (n, u) in in_file.items()}
        shape = dict(zip(whole.axes, level.shape, strict=True))
        notes += resolution_notes(resolution, len(whole.levels), shape)
        notes += _notes_on_metadata(file, whole.kind)
        return ImageFile.of(pixels, axes, lengths, notes, _files(whole))


def _images_in(file: Any) -> list[tuple[int, tuple[int, ...]]]:
    """The images of a file: the number of each in tifffile, and its position there.

    Of OME-TIFF sets, tifffile also lists images that are in other files.
    """
    images = []
    for number, series in enumerate(file.series):
        if file.is_ome and all(page is None or page.parent is not file for page in series.pages):
            continue
        sizes = [n for a, n in zip(series.axes, series.shape, strict=True) if a in _POSITIONS]
        images += [(number, position) for position in np.ndindex(*sizes)]
    return images


def _described(series: Any, position: tuple[int, ...]) -> str:
    sizes = [n for a, n in zip(series.axes, series.shape, strict=True) if a not in _POSITIONS]
    text = f"{series.name} ".lstrip() + " x ".join(map(str, sizes))
    return f"{text}, position {', '.join(map(str, position))}" if position else text


def _notes_on_metadata(file: Any, kind: str) -> list[str]:
    """What of the metadata was not used, by the kind that tifffile takes an image for."""
    reference = re.search(r'<BinaryOnly[^>]*MetadataFile="([^"]+)"', file.ome_metadata or "")
    if reference is not None:
        text = (
            f"It is a part of the image that {reference[1]} describes: its own planes were taken."
        )
        return [sanitized(text)]
    if kind in _PLAIN and (file.is_ome or file.is_imagej):
        name = "OME" if file.is_ome else "ImageJ"
        return [f"The {name} metadata do not fit the pages: their axes were not used."]
    return []


def _at_position(pixels: Any, axes: str, position: tuple[int, ...]) -> tuple[Any, str]:
    """Return one of the images that lie along axes of positions, and its axes."""
    if not position:
        return pixels, axes
    left = iter(position)
    index = tuple(next(left) if a in _POSITIONS else slice(None) for a in axes)
    return in_dask(pixels)[index], "".join(a for a in axes if a not in _POSITIONS)


def _refuse_cut_off(file: Any, name: str) -> None:
    """Raise InputError if pages are missing at the end: tifffile reads the others in silence."""
    handle = file.filehandle
    handle.seek(file.pages.next_page_offset)
    packed = handle.read(file.tiff.offsetsize)
    following = int.from_bytes(packed, "little" if file.byteorder == "<" else "big")
    if following >= handle.size:
        raise InputError(f"{name} is cut off: pages are missing after {len(file.pages)} of them.")


def _refuse_missing_planes(series: Any, file: Any, path: Path) -> None:
    """Raise InputError if planes that the metadata name are not there: tifffile reads zeros."""
    if series.dataoffset is not None:
        return
    pages = list(series.pages)
    missing = sum(page is None for page in pages)
    if not missing:
        return
    names = dict.fromkeys(re.findall(r'FileName="([^"]+)"', file.ome_metadata or ""))
    present = {other.name for other in _files(series)} | {path.name}
    lost = [name for name in names if Path(name).name not in present]
    if not lost:
        raise InputError(
            f"{path.name}: {missing} of the {len(pages)} planes in its metadata are not in the "
            "file. Open it in napari, and save the planes that are there."
        )
    listing = f"{', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}"
    raise InputError(
        f"{path.name}: {missing} of the {len(pages)} planes are in other files that are missing or "
        f"damaged ({sanitized(listing)}). Put all files of the set into one folder."
    )


def _files(series: Any) -> tuple[Path, ...]:
    """The files that the pages of a series are in, if there are several."""
    if not series.is_multifile:
        return ()
    paths = (Path(page.parent.filehandle.path) for page in series.pages if page is not None)
    return tuple(dict.fromkeys(paths))


def _refuse_missing_codec(page: Any, name: str) -> None:
    """Raise InputError if the compression of a page needs a package that is not installed."""
    from tifffile import TIFF

    try:
        TIFF.DECOMPRESSORS[page.compression]
        TIFF.UNPREDICTORS[page.predictor]
        # tifffile has a function for Zstd in any case, which may need a module that is missing.
        reads_zstd = find_spec("imagecodecs") or find_spec("compression")
        is_missing = page.compression == _ZSTD and not reads_zstd
    except KeyError as error:
        is_missing = "imagecodecs" in str(error)
        if not is_missing:
            raise
    if is_missing:
        raise InputError(
            f"{name} is compressed ({page.compression.name}), which needs the package imagecodecs: "
            "install it (pip install imagecodecs), or save the image without compression."
        )


def _lengths_of(file: Any, series: int) -> dict[str, tuple[float, str]]:
    """Size of a voxel of a series by axis (Z, Y, X), and its unit."""
    try:
        if file.is_ome:
            return _ome_lengths(file, series)
        if file.is_imagej:
            return _imagej_lengths(file)
        if series:  # of other formats, thumbnails and the like
            return {}
        if file.is_lsm:
            return {a: (file.lsm_metadata[f"VoxelSize{a}"] * 1e6, "µm") for a in "ZYX"}
        if file.is_stk:
            return _stk_lengths(file.stk_metadata)
        if file.is_svs:
            size = re.search(r"MPP = ([\d.]+)", file.pages[0].description)
            return dict.fromkeys("YX", (float(size[1]), "µm")) if size else {}
    # The pixels can be read: metadata that make no sense are ignored.
    except (LookupError, TypeError, ValueError, AttributeError):
        pass
    return {}


def _ome_lengths(file: Any, series: int) -> dict[str, tuple[float, str]]:
    """Size and unit along each axis that an image of OME metadata has."""
    from tifffile import xml2dict

    try:
        image = xml2dict(file.ome_metadata or "")["OME"]["Image"]
    except ParseError:
        return {}
    images = image if isinstance(image, list) else [image]
    # There are fewer series if files of other images are not there.
    pixels = images[series if len(images) == len(file.series) else 0]["Pixels"]
    return {
        a: (float(pixels[f"PhysicalSize{a}"]), str(pixels.get(f"PhysicalSize{a}Unit", "µm")))
        for a in "ZYX"
        if f"PhysicalSize{a}" in pixels
    }


def _imagej_lengths(file: Any) -> dict[str, tuple[float, str]]:
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


def _stk_lengths(metadata: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Size and unit along each axis that a file of MetaMorph has, if it was calibrated."""
    if not metadata.get("SpatialCalibration"):
        return {}
    unit = str(metadata["CalibrationUnits"])
    sizes = {axis: (float(metadata[f"{axis}Calibration"]), unit) for axis in "YX"}
    distances = np.abs(metadata.get("ZDistance", ()))
    if len(distances) > 1 and np.ptp(distances) == 0:  # to the next plane
        sizes["Z"] = (float(distances[0]), unit)
    return sizes


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
            metadata=ome_metadata(*(description[k] for k in ("axes", "voxel_size", "unit"))),
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


def ome_metadata(axes: str, spacing: Sequence[float], unit: str) -> dict[str, Any]:
    """Return the metadata of OME-XML: sizes of pixels have the unit pixel if it is not known."""
    name = unit_name(unit)
    symbol = "pixel" if name is None else unit_symbol(name)
    metadata: dict[str, Any] = {"axes": axes}
    for axis, size in zip(axes, spacing, strict=True):
        if axis != "T" and (name is not None or set(spacing) != {1.0}):
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": symbol}
    return metadata
