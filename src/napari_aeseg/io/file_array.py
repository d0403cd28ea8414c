"""Image files that are not loaded: zarr arrays, OME-Zarr images and large TIFF files."""

from __future__ import annotations

import json
import weakref
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import AXIS_WORDS, Axes, read_axes
from napari_aeseg.images.memory import check_fits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

#: Endings of TIFF files.
TIFF = (".tif", ".tiff")
# What says that a folder is a zarr array or group.
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that was opened.

    Parameters
    ----------
    array : ndarray or FileArray
        A `FileArray` where the file is not loaded.
    axes : str or None
        One letter per dimension where the file names them.
    voxel_size : dict of str to float
        Size of a pixel along each axis that the file says it of.
    unit : str
        Of these sizes; "" where the file does not say it, or not the same for all.
    """

    array: Any
    axes: str | None
    voxel_size: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""

    def spacing(self, space: str) -> tuple[float, ...] | None:
        """Return the size of a pixel along some axes; None if it is not known of all.

        Examples
        --------
        >>> ImageFile(np.eye(2), "YX", {"Y": 0.5, "X": 0.5}).spacing("YX")
        (0.5, 0.5)
        """
        if not all(axis in self.voxel_size for axis in space):
            return None
        return tuple(self.voxel_size[axis] for axis in space)

    def read_axes(self, axes: str | None = None, voxel_size: Sequence[float] | None = None) -> Axes:
        """Return the axes and the size of voxels, as given or else as the file names them.

        Raises
        ------
        InputError
            If `axes` or `voxel_size` do not fit the image.

        Examples
        --------
        >>> print(ImageFile(np.eye(2), None, {"Y": 0.5, "X": 0.5}, "micrometer").read_axes("YX"))
        2 x 2 pixels (YX, as given), pixels of 0.5 x 0.5 micrometer
        """
        shape = np.shape(self.array)
        if axes is None:
            found = read_axes(shape, self.axes, source="file")
        else:
            found = read_axes(shape, axes)
        if voxel_size is not None:
            return found.with_voxel_size(voxel_size)
        size = self.spacing(found.measurable)
        return found if size is None else found.with_voxel_size(size, self.unit or "pixel")


@dataclass(frozen=True, eq=False)
class FileArray:
    """An array in a file: what is looked at is read. It can be sent to another process.

    Parameters
    ----------
    path : Path
        A zarr array's folder, or a TIFF file, of which the first series is meant.
    kept : tuple of int, optional
        Dimensions that are kept; the others have size 1. All, by default.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/a.zarr"
    >>> zarr.create_array(store=folder, data=np.eye(4)[np.newaxis])[0, 2, 2]
    array(1.)
    >>> array = FileArray(Path(folder), kept=(1, 2))
    >>> array.shape, array[2:, 2].tolist()
    ((4, 4), [1.0, 0.0])
    """

    path: Path
    kept: tuple[int, ...] | None = None
    _opened: Any = field(init=False, repr=False)
    _all: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        opened, store = _opened(self.path)
        object.__setattr__(self, "_opened", opened)
        if store is not None:
            weakref.finalize(self, store.close)
        kept = range(self._opened.ndim) if self.kept is None else self.kept
        object.__setattr__(self, "_all", tuple(kept))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.kept)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return tuple(int(self._opened.shape[i]) for i in self._all)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Size along each dimension of what is read at once."""
        chunks = getattr(self._opened, "chunks", self._opened.shape)
        return tuple(int(chunks[i]) for i in self._all)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(self._opened.dtype)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._all)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, index: Any) -> np.ndarray:
        given = index if isinstance(index, tuple) else (index,)
        if Ellipsis in given:
            at = given.index(Ellipsis)
            missing = self.ndim - len(given) + 1
            given = (*given[:at], *[slice(None)] * missing, *given[at + 1 :])
        full: list[Any] = [0] * self._opened.ndim
        for i, axis in enumerate(self._all):
            full[axis] = given[i] if i < len(given) else slice(None)
        return np.asarray(self._opened[tuple(full)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        check_fits(self.shape, self.dtype, self.path.name)
        return np.asarray(self[...], dtype)


def _opened(path: Path) -> tuple[Any, Any]:
    """What a path holds, to be indexed, and what is to be closed after use, if anything."""
    import zarr

    if path.suffix.lower() not in TIFF:
        return zarr.open_array(str(path), mode="r"), None
    import tifffile

    with tifffile.TiffFile(path) as file:
        plain = file.series[0].dataoffset is not None
    if plain:
        return tifffile.memmap(path, mode="r", series=0), None
    store = tifffile.imread(path, aszarr=True, series=0, level=0)
    return zarr.open_array(store, mode="r"), store


def is_zarr(path: str | PathLike[str]) -> bool:
    """Return whether a path is the folder of a zarr array or group: an image, not one of images."""
    path = Path(path)
    return path.is_dir() and (
        path.suffix.lower() == ".zarr" or any((path / name).is_file() for name in _ZARR_FILES)
    )


def open_zarr(path: Path) -> ImageFile:
    """Open a zarr array, or the finest level of an OME-Zarr image.

    Time, channel and slice axes of size 1 are dropped where there are names.

    Raises
    ------
    InputError
        If a group holds no image, or more than one.
    """
    import zarr

    found = zarr.open(str(path), mode="r")
    if isinstance(found, zarr.Array):
        return _squeezed(path, _letters(_names_in(found), found.ndim), {}, "")
    attributes: dict[str, Any] = dict(found.attrs)
    about = attributes.get("ome", attributes)
    if "multiscales" in about:
        return _open_multiscale(path, about["multiscales"][0])
    if "plate" in about or "well" in about:
        raise InputError(f"{path.name} is a plate or well: give one of the images in it.")
    # As bioformats2raw writes it: images are called 0, 1 ... .
    inner = [name for name in sorted(found.group_keys()) if name != "OME"]
    inner += sorted(found.array_keys())
    if len(inner) == 1:
        return open_zarr(path / inner[0])
    listing = f"{', '.join(inner[:5])}{' ...' if len(inner) > 5 else ''}"
    raise InputError(
        f"{path.name} is a group of {len(inner)} images or arrays ({listing}): give one of them, "
        f"such as {path.name}/{inner[0]}."
        if inner
        else f"{path.name} holds no image."
    )


def _names_in(array: Any) -> Sequence[Any]:
    """Names of the dimensions of an array, as zarr 3 or xarray keep them."""
    return getattr(array.metadata, "dimension_names", None) or array.attrs.get(
        "_ARRAY_DIMENSIONS", ()
    )


def _letters(names: Sequence[Any], ndim: int) -> str | None:
    """One letter for each name, or None where names are missing or say nothing."""
    letters = [AXIS_WORDS.get(str(name).upper(), str(name).upper()) for name in names]
    known = set(letters) <= set("TCZYX") and {"Y", "X"} <= set(letters)
    return "".join(letters) if known and len(letters) == len(set(letters)) == ndim else None


def _open_multiscale(path: Path, multiscale: Mapping[str, Any]) -> ImageFile:
    """The first, finest level of an image as OME-Zarr 0.1 to 0.5 describes it."""
    level = multiscale["datasets"][0]
    # Plain letters until 0.3, always all five before that.
    axes = [a if isinstance(a, dict) else {"name": a} for a in multiscale.get("axes", "tczyx")]
    names = [axis["name"] for axis in axes]
    scale = np.ones(len(axes))
    given = [*level.get("coordinateTransformations", ())]
    given += multiscale.get("coordinateTransformations", ())
    for transformation in given:
        if transformation.get("type") == "scale" and "scale" in transformation:
            scale = scale * np.asarray(transformation["scale"], float)
    inside = PurePosixPath(level["path"])
    if inside.is_absolute() or ".." in inside.parts:
        raise InputError(f"{path.name} names an array outside of it, {level['path']!r}.")
    letters = _letters(names, len(axes))
    sizes: dict[str, float] = {}
    units = set()
    if letters is not None and given:
        space = [i for i, a in enumerate(letters) if a in "ZYX"]
        sizes = {letters[i]: float(scale[i]) for i in space}
        units = {axes[i].get("unit", "") for i in space}
    return _squeezed(path / level["path"], letters, sizes, units.pop() if len(units) == 1 else "")


def _squeezed(path: Path, letters: str | None, sizes: Mapping[str, float], unit: str) -> ImageFile:
    """An opened array without axes that say nothing."""
    array = FileArray(path)
    if letters is None or len(letters) != array.ndim:
        return ImageFile(array, None)
    kept = tuple(i for i, a in enumerate(letters) if a in "YX" or array.shape[i] > 1)
    left = "".join(letters[i] for i in kept)
    return ImageFile(FileArray(path, kept), left, {a: sizes[a] for a in left if a in sizes}, unit)


def tiff_axes(series: Any) -> str | None:
    """Return the axes that a series of a TIFF file names, if all of them say something."""
    # S: samples of a pixel, such as red, green and blue. Other letters (I, Q) say nothing.
    axes = str(series.axes).replace("S", "C")
    return axes if set(axes) <= set("TCZYX") else None


def is_ours(path: Path) -> dict[str, Any] | None:
    """Return what this package noted in a zarr group that it wrote, or None."""
    file = path / "zarr.json"
    if not file.is_file():
        return None
    note: Any = None
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    for name in ("attributes", "napari-aeseg"):
        note = note.get(name) if isinstance(note, dict) else None
    return note if isinstance(note, dict) else None
