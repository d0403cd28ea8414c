"""Labels written to a file part by part, however large they are."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_rectangular
from napari_aeseg.images.intensity import refuse_masked
from napari_aeseg.io.file_array import TIFF
from napari_aeseg.io.ome_zarr import ome_zarr_steps
from napari_aeseg.io.tiff import tiff_steps
from napari_aeseg.progress import Progress, drain

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari_aeseg.progress import StopFlag

#: Endings that say what is written.
WRITTEN = (".zarr", *TIFF)


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
    if path.suffix.lower() not in WRITTEN:
        raise InputError(
            f"{path.name}: labels are written as {', '.join(WRITTEN)}: give a name that ends so."
        )
    if not hasattr(labels, "dtype"):
        check_rectangular(labels, "labels")
        labels = np.asarray(labels)
    refuse_masked(labels, "labels")
    labels, about = _turned(labels, _about(labels, axes, voxel_size, unit))
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = tiff_steps if path.suffix.lower() in TIFF else ome_zarr_steps
    yield from steps(labels, path, about, stop)
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
        numpy, dask or zarr; of a hierarchy of blocks, what is written is computed meanwhile.
    path : path-like
        ``*.zarr`` for OME-Zarr 0.5 with a pyramid, made by leaving out every second row and column,
        so that labels never mix. What was stopped goes on there, called again with the same labels.
        ``*.tif`` for a tiled BigTIFF with OME metadata, which begins anew after a stop; it has at
        most 32 bits for a label.
    axes : str, optional
        One letter per dimension, such as ``tree.axes.space``; "YX", "ZYX" or "TZYX" by default.
        What is in another order is written in this one, as both kinds of file ask for.
    voxel_size : sequence of float, optional
        Size of a pixel along each of the axes, as ``tree.voxel_size`` has it; 1 by default. T may
        be left out.
    unit : str
        Of these sizes, such as "micrometer".
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
        If the labels are no whole numbers, masked, or too large for TIFF, `axes` or `voxel_size` do
        not fit, the name ends otherwise, or something is there already that is not a part of the
        same labels: nothing is ever replaced. (Of the parts that are there, some are compared.)
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


def _turned(labels: Any, about: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Turn labels, and what is said of them, to the order that both kinds of file ask for."""
    wanted = _in_order(about["axes"])
    if about["axes"] == wanted:
        return labels, about
    if not hasattr(labels, "transpose"):
        import dask.array as da

        labels = da.from_array(labels)  # type: ignore[no-untyped-call]
    order = [about["axes"].index(a) for a in wanted]
    told = {name: [about[name][i] for i in order] for name in ("shape", "voxel_size")}
    return labels.transpose(tuple(order)), {**about, **told, "axes": wanted}


def _in_order(letters: str) -> str:
    return "".join(a for a in "TZYX" if a in letters)


def _about(
    labels: Any, axes: str | None, voxel_size: Sequence[float] | None, unit: str
) -> dict[str, Any]:
    """What is said of the labels in the file, as plain values; checked."""
    shape = tuple(int(n) for n in labels.shape)
    dtype = np.dtype(labels.dtype)
    if dtype.kind not in "bui":
        raise InputError(f"The labels are of dtype {dtype}: give whole numbers.")
    if not 2 <= len(shape) <= 4 or 0 in shape:
        raise InputError(f"Labels of shape {shape} cannot be written: give 2 to 4 dimensions.")
    letters = {2: "YX", 3: "ZYX", 4: "TZYX"}[len(shape)] if axes is None else str(axes).upper()
    known = _in_order(letters) in ("YX", "ZYX", "TYX", "TZYX")
    if not known or not len(letters) == len(shape) == len(set(letters)):
        raise InputError(
            f"axes = {axes!r} of labels of shape {shape}: give YX, ZYX, TYX or TZYX, in the order "
            "of the labels."
        )
    try:
        size = [1.0] * len(shape) if voxel_size is None else [float(s) for s in voxel_size]
    except (TypeError, ValueError):
        size = []
    if "T" in letters and len(size) == len(shape) - 1:
        size.insert(letters.index("T"), 1.0)
    if len(size) != len(shape) or not all(np.isfinite(s) and s > 0 for s in size):
        raise InputError(f"voxel_size = {voxel_size!r}: give {len(shape)} numbers above 0.")
    if not isinstance(unit, str):
        raise InputError(f'unit = {unit!r}: give a word, such as "micrometer".')
    kind = "uint8" if dtype.kind == "b" else dtype.newbyteorder("=").name
    return {
        "shape": list(shape),
        "dtype": kind,
        "axes": letters,
        "voxel_size": size,
        "unit": unit,
    }
