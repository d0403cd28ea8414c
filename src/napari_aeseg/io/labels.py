"""Labels in a file, written part by part: they may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, read_axes
from napari_aeseg.images.checks import check_not_masked, check_rectangular
from napari_aeseg.images.units import unit_name
from napari_aeseg.io.ome_zarr import ome_zarr_steps
from napari_aeseg.io.tiff import ome_metadata, tiff_steps
from napari_aeseg.progress import Progress, StopFlag, drain

Writer = Callable[[Any, Path, dict[str, Any], StopFlag | None], Generator[Progress, None, None]]

#: Functions that write labels, by the suffix of the file: they get the labels, the path, the
#: metadata that `_in_file_order` returns, and the stop flag.
WRITERS: dict[str, Writer] = {
    ".zarr": ome_zarr_steps,
    ".tif": tiff_steps,
    ".tiff": tiff_steps,
}


def write_labels_steps(
    labels: Any,
    path: str | PathLike[str],
    axes: str | None = None,
    voxel_size: Sequence[float] | None = None,
    unit: str = "",
    stop: StopFlag | None = None,
) -> Generator[Progress, None, Path]:
    """Write labels as `write_labels` does; a generator of events that returns the path."""
    if not isinstance(path, str | PathLike):
        raise InputError(f"path = {type(path).__name__}: give the labels first, then the file.")
    path = Path(path)
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            f"{path.name}: labels are written as {', '.join(WRITERS)}: choose a name that ends so."
        )
    if not hasattr(labels, "dtype"):
        check_rectangular(labels, "labels")
        labels = np.asarray(labels)
    check_not_masked(labels, "labels")
    labels, description = _in_file_order(labels, axes, voxel_size, unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    yield from writer(labels, path, description, stop)
    return path


def write_labels(
    labels: Any,
    path: str | PathLike[str],
    axes: str | None = None,
    voxel_size: Sequence[float] | None = None,
    unit: str = "",
    progress: Callable[[Progress], object] | None = None,
    stop: StopFlag | None = None,
) -> Path:
    """Write labels to a file, part by part: they may be larger than memory.

    Parameters
    ----------
    labels : array_like of int
        numpy, dask or zarr. Labels of an image in blocks are computed while they are written.
    path : path_like
        ``*.zarr`` for OME-Zarr 0.5 with a pyramid, which leaves out every second row and column, so
        that labels never mix. After a stop, the same call goes on there. ``*.tif`` for a tiled
        BigTIFF with OME metadata and at most 32 bits for a label. After a stop, it starts again.
    axes : str, optional
        One letter per dimension, such as ``tree.axes.space``; "YX", "ZYX" or "TZYX" by default.
        Labels in another order are written in this one, as both formats ask for.
    voxel_size : sequence of float, optional
        Size of a pixel along each of the axes, such as ``tree.voxel_size``; 1 by default. T may be
        left out.
    unit : str
        Of these sizes, a unit of length such as "micrometer" or "nm"; not known by default.
    progress : callable, optional
        Called with a `Progress` event for each part.
    stop : threading.Event or alike, optional
        Looked at before each part.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the labels are no whole numbers, masked, or too large for TIFF, `axes`, `voxel_size` or
        `unit` do not fit, the suffix is another, or the file exists and is not an unfinished one of
        the same labels (some of its parts are compared): nothing is ever replaced.
    StoppedError
        When asked to stop.

    Examples
    --------
    >>> import tempfile, zarr
    >>> path = Path(tempfile.mkdtemp()) / "labels.ome.zarr"
    >>> _ = write_labels(np.eye(4, dtype=np.int32), path, voxel_size=(0.5, 0.5), unit="micrometer")
    >>> zarr.open(path, mode="r")["0"][1].tolist()
    [0, 1, 0, 0]
    """
    return drain(write_labels_steps(labels, path, axes, voxel_size, unit, stop), progress)


def _in_file_order(
    labels: Any, axes: str | None, voxel_size: Sequence[float] | None, unit: str
) -> tuple[Any, dict[str, Any]]:
    """Check labels; return them and their metadata in the order of axes that both formats ask for.

    The metadata are plain values: "shape", "dtype", "axes", "voxel_size" and "unit".
    """
    shape = tuple(int(n) for n in labels.shape)
    dtype = np.dtype(labels.dtype)
    if dtype.kind not in "bui":
        raise InputError(f"The labels are of dtype {dtype}: give whole numbers.")
    if not 2 <= len(shape) <= 4 or 0 in shape:
        raise InputError(f"Labels of shape {shape} cannot be written: give 2 to 4 dimensions.")
    letters = {2: "YX", 3: "ZYX", 4: "TZYX"}[len(shape)] if axes is None else str(axes).upper()
    in_order = "".join(a for a in "TZYX" if a in letters)
    is_valid = in_order in ("YX", "ZYX", "TYX", "TZYX")
    if not is_valid or not len(letters) == len(shape) == len(set(letters)):
        raise InputError(
            f"axes = {axes!r} of labels of shape {shape}: give YX, ZYX, TYX or TZYX, in the order "
            "of the labels."
        )
    sizes = [1.0] * len(shape)
    if voxel_size is not None:
        sizes = list(read_axes(shape, letters).with_voxel_size(voxel_size).spacing or sizes)
        if "T" in letters and len(voxel_size) == len(letters):
            sizes[letters.index("T")] = float(voxel_size[letters.index("T")])
    if unit in ("", "pixel"):
        unit = ""
    elif (name := unit_name(unit)) is not None:
        unit = name
    else:
        raise InputError(f'unit = {unit!r}: give a unit of length, such as "micrometer".')
    order = tuple(letters.index(a) for a in in_order)
    if letters != in_order:
        if not hasattr(labels, "transpose"):
            import dask.array as da

            labels = da.from_array(labels)
        labels = labels.transpose(order)
    return labels, {
        "shape": [shape[i] for i in order],
        "dtype": "uint8" if dtype.kind == "b" else dtype.newbyteorder("=").name,
        "axes": in_order,
        "voxel_size": [sizes[i] for i in order],
        "unit": unit,
    }


def write_label_image(
    labels: np.ndarray, path: str | PathLike[str], axes: Axes | None = None
) -> None:
    """Write labels that are in memory as a compressed TIFF: uint16 when they fit, else int32.

    With the `axes` of their image (``tree.axes``), the file has the names of the axes and the size
    of a voxel.
    """
    import tifffile

    fits = labels.size == 0 or labels.max() < 2**16
    metadata = None
    if axes is not None:
        space = "".join(a for a in "TZYX" if a in axes.space)
        labels = labels.transpose([axes.space.index(a) for a in space])
        lengths = dict(zip(axes.space, axes.spacing or (1.0,) * len(space), strict=True))
        metadata = ome_metadata(space, [lengths[a] for a in space], axes.unit)
    tifffile.imwrite(
        path,
        labels.astype(np.uint16 if fits else np.int32),
        photometric="minisblack",  # else three slices are taken for colours
        compression="zlib",
        ome=axes is not None,
        metadata=metadata,
    )
