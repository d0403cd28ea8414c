"""Hierarchies on disk: a folder of zarr arrays and a header. No pickle, no objects."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import HierarchyFileError, InputError, shown
from napari_aeseg.io.array_folder import LazyIds, read_arrays
from napari_aeseg.io.zarr_folder import StoreWriter, existing, read_header
from napari_aeseg.params import SegmentationParams
from napari_aeseg.regions.compare.fine_scale import FineScale
from napari_aeseg.regions.hierarchy import Hierarchy
from napari_aeseg.regions.hierarchy_parts import (
    ARRAYS,
    FINE,
    TREE,
    axes_of,
    check_arrays,
    coarse_shapes,
    expected_arrays,
)
from napari_aeseg.regions.patches.graph import RegionGraph
from napari_aeseg.regions.patches.statistics import PatchStatistics
from napari_aeseg.regions.tree.merge_tree import MergeTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

_OURS = {name.split("/")[0] for name in ARRAYS} | {"coarse"}
_STATISTICS = "statistics/"


def write_hierarchy(hierarchy: Hierarchy, path: str | PathLike[str]) -> None:
    """Write a hierarchy; see `Hierarchy.save`."""
    given = _arrays(hierarchy)
    expected = expected_arrays(
        hierarchy.axes,
        hierarchy.n_patches,
        len(hierarchy.statistics.level),
        len(hierarchy.graph.edges),
        TREE[0] in given,
        not hierarchy.is_lazy,
        _shallow(hierarchy),
    )
    with StoreWriter(Path(path), _OURS) as store:
        arrays = {name: _as(name, given[name], *expected[name]) for name in expected}
        try:
            check_arrays(arrays)
        except ValueError as error:
            raise InputError(f"This hierarchy cannot be saved: {error}.") from error
        for name, (shape, dtype) in expected.items():
            store.write(name, shape, np.dtype(dtype), arrays[name].__getitem__)
        if hierarchy.is_lazy:
            shapes = coarse_shapes(hierarchy.axes, _steps(hierarchy))
            levels = (hierarchy.patches, *hierarchy.coarse)
            for (name, shape), ids in zip(shapes.items(), levels, strict=True):
                store.write(name, shape, np.dtype(np.int32), partial(_computed, ids))
        store.close(_header(hierarchy))


def _computed(ids: Any, where: tuple[slice, ...]) -> np.ndarray:
    return np.asarray(ids[where])


def _shallow(hierarchy: Hierarchy) -> int | None:
    """Features by which things were told apart before patches were joined, if they were."""
    return None if hierarchy.fine is None else len(hierarchy.fine.things.own) // 2


def _steps(hierarchy: Hierarchy) -> list[int]:
    """Steps between rows and columns at which there are patch ids, of a lazy hierarchy."""
    return [2**i for i in range(1 + len(hierarchy.coarse))]


def _arrays(hierarchy: Hierarchy) -> dict[str, np.ndarray]:
    """The arrays of a hierarchy by their names in the folder."""
    statistics, graph = hierarchy.statistics, hierarchy.graph
    arrays = {
        name: getattr(statistics, name.removeprefix(_STATISTICS))
        for name in ARRAYS
        if name.startswith(_STATISTICS)
    }
    if not hierarchy.is_lazy:
        arrays |= {"patches": hierarchy.patches, "brightness": hierarchy.brightness}
    arrays |= {"graph/edges": graph.edges, "graph/border": graph.border}
    if hierarchy.fine is not None:
        arrays |= {FINE + name: values for name, values in hierarchy.fine.arrays().items()}
    tree: MergeTree | None = vars(hierarchy).get("tree")
    return arrays if tree is None else {**arrays, TREE[0]: tree.children, TREE[1]: tree.cost}


def _as(name: str, values: np.ndarray, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Bring an array to the dtype it is stored in; raise InputError if that changes it."""
    stored = np.asarray(values, dtype)
    if stored.shape != shape:
        raise InputError(f"This hierarchy cannot be saved: {name} has shape {stored.shape}.")
    if stored.dtype != values.dtype and not np.array_equal(stored, values):
        raise InputError(f"This hierarchy cannot be saved: {name} does not fit {dtype}.")
    return stored


def _header(hierarchy: Hierarchy) -> dict[str, Any]:
    axes = hierarchy.axes
    return {
        "package_version": version("napari-aeseg"),
        "axes": {
            "letters": axes.letters,
            "shape": list(axes.shape),
            "source": axes.source,
            "voxel_size": axes.voxel_size and list(axes.voxel_size),
            "unit": axes.unit,
        },
        "patches": hierarchy.n_patches,
        "features": len(hierarchy.statistics.level),
        "edges": len(hierarchy.graph.edges),
        "params": hierarchy.params.model_dump(mode="json"),
        "model": hierarchy.model_fingerprint,
        "notes": list(hierarchy.notes),
        "has_tree": "tree" in vars(hierarchy),
        "steps": _steps(hierarchy) if hierarchy.is_lazy else None,
        "fine": None
        if hierarchy.fine is None
        else {"shallow": _shallow(hierarchy), **hierarchy.fine.numbers()},
    }


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what checks raise into an error that names the folder."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise HierarchyFileError(
            f"{path.name} is damaged or was changed: {shown(error)}. Copy it again from where it "
            "came, or build the hierarchy from the image again."
        ) from error


def hierarchy_header(path: str | PathLike[str]) -> dict[str, Any]:
    """Return what is said of a saved hierarchy without reading its arrays.

    Returns
    -------
    dict
        With "format_version", "package_version", "axes", "patches", "features", "edges", "params",
        "model", "notes", "has_tree" and "arrays".

    Raises
    ------
    HierarchyFileError
        If this is no saved hierarchy, or one of a newer format.
    FileNotFoundError
        If there is nothing of that name.
    """
    path = Path(path)
    return read_header(existing(path))


def load_hierarchy(path: str | PathLike[str]) -> Hierarchy:
    """Load a hierarchy that was saved.

    Parameters
    ----------
    path : path-like
        A folder written by `Hierarchy.save`.

    Returns
    -------
    Hierarchy
        It gives the labels that the one that was saved gives. Neither image nor model are needed.
        Patch ids of an image that was worked on in blocks stay on disk, and are read, with a
        checksum for each part, as labels are looked at: the folder must stay where it is.

    Raises
    ------
    HierarchyFileError
        If the folder is damaged, foreign, of a newer format, or its parts do not fit each other.
    FileNotFoundError
        If there is nothing of that name.

    Examples
    --------
    >>> import tempfile
    >>> import napari_aeseg as aeseg
    >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
    >>> model = aeseg.train(image, params=aeseg.TrainingParams(steps=1, width=2), device="cpu")
    >>> tree = aeseg.build_hierarchy(image, model, device="cpu")
    >>> path = tempfile.mkdtemp() + "/image.aeseg.zarr"
    >>> tree.save(path)
    >>> np.array_equal(load_hierarchy(path).regions(n_regions=3), tree.regions(n_regions=3))
    True
    """
    path = existing(Path(path))
    header = read_header(path)
    with _told(path):
        axes, params = axes_of(header["axes"]), SegmentationParams(**header["params"])
        model, notes, has_tree = header["model"], header["notes"], header["has_tree"]
        texts = [model, *notes] if isinstance(notes, list) else [None]
        if type(has_tree) is not bool or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"model {model!r:.50}, notes {notes!r:.50}, tree {has_tree!r:.50}")
        numbers = (header["patches"], header["features"], header["edges"])
        # Format 1 had neither at first.
        steps, fine = header.get("steps"), header.get("fine")
        shallow = None if fine is None else fine["shallow"]
        expected = expected_arrays(axes, *numbers, has_tree, steps is None, shallow)
        lazy = {} if steps is None else coarse_shapes(axes, steps)
        text = header["package_version"]
        if not isinstance(text, str):
            raise TypeError(f"package_version {text!r:.50}")
    ids = LazyIds({n: (s, "int32") for n, s in lazy.items()}, header["patches"])
    arrays = read_arrays(path, header, expected, ids)
    with _told(path):
        check_arrays({name: values for name, values in arrays.items() if name not in lazy})
        own = {k.removeprefix(FINE): v for k, v in arrays.items() if k.startswith(FINE)}
        known = None if fine is None else FineScale.of_parts(fine, own)
    statistics = PatchStatistics(
        **{k.removeprefix(_STATISTICS): v for k, v in arrays.items() if k.startswith(_STATISTICS)}
    )
    graph = RegionGraph(header["patches"], arrays["graph/edges"], arrays["graph/border"])
    hierarchy = Hierarchy(
        arrays["patches"],
        statistics,
        graph,
        axes,
        params,
        arrays.get("brightness"),
        model,
        tuple(notes),
        tuple(arrays[name] for name in lazy if name != "patches"),
        known,
    )
    if has_tree:
        # A cached property is what the instance's dictionary holds under its name.
        children, cost = arrays[TREE[0]], arrays[TREE[1]]
        vars(hierarchy)["tree"] = MergeTree.of(children, cost, hierarchy._weight)
    return hierarchy
