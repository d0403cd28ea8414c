"""Hierarchies on disk: a folder of zarr arrays and a header. No pickle, no objects."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from napari_aeseg.errors import HierarchyFileError, InputError, sanitized
from napari_aeseg.images.axes import Axes, Source, read_axes
from napari_aeseg.io.zarr_folder import LazyIds, StoreWriter, existing, read_arrays, read_header
from napari_aeseg.params import ComparisonParams, SegmentationParams
from napari_aeseg.regions.compare.moments import FeatureCalibration, is_shallow
from napari_aeseg.regions.hierarchy import Hierarchy
from napari_aeseg.regions.patches.graph import RegionGraph, region_graph
from napari_aeseg.regions.patches.statistics import PatchStatistics, geometry
from napari_aeseg.regions.tree.merge_tree import MergeTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike

    Arrays = Mapping[str, np.ndarray]


#: Arrays of a saved hierarchy: dtype and shape in P patches, F features, E edges, C channels, the
#: axes of space, of which there are D, N = 2 F numbers, of which things are told apart by S.
ARRAYS: dict[str, tuple[str, str]] = {
    "patches": ("int32", "space"),
    "brightness": ("float16", "space"),
    "statistics/count": ("float64", "P"),
    "statistics/mean": ("float32", "PF"),
    "statistics/second": ("float32", "PF"),
    "statistics/level": ("int64", "F"),
    "statistics/centroid": ("float64", "PD"),
    "statistics/intensity": ("float64", "PC"),
    "graph/edges": ("int64", "E2"),
    "graph/border": ("float32", "E"),
    "tree/children": ("int64", "M2"),
    "tree/cost": ("float64", "M"),
}
#: Those that are there only if the tree was built.
TREE = ("tree/children", "tree/cost")
#: Those that are there only if patches were joined to larger ones.
FINE = "fine/"
ARRAYS |= {
    "fine/floor": ("float32", "F"),
    "fine/offset": ("float64", "N"),
    "fine/gain": ("float64", "N"),
    **{
        f"fine/{model}/{part}": ("float64", kind)
        for model, size in (("everything", "N"), ("things", "S"))
        for part, kind in (
            ("own", size), ("eigenvalues", size), ("vectors", 2 * size), ("covariance", 2 * size)
        )
    },
}  # fmt: skip
# A level of the largest network has 8192 features; what is compared has the square of their number.
_MOST_PATCHES, _MOST_FEATURES, _DEEPEST = 2**31 - 1, 2**15, 6
# Pixels along an axis and of an image; how often rows and columns are halved; and the mean square
# of a feature of which sums in float32 are finite.
_LONGEST, _MOST_PIXELS, _MOST_STEPS, _LARGEST_SQUARE = 2**40, 2**50, 40, 1e30
# Of a merge: nothing is told apart by more.
_LARGEST_COST = 1e100


def expected_arrays(
    axes: Axes,
    patches: int,
    features: int,
    edges: int,
    has_tree: bool,
    retry_on_oom: bool = True,
    shallow: int | None = None,
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of each array for these numbers of patches, features and edges.

    Without those that have a number per pixel for an image that does not fit into memory. `shallow`
    features are those by which things were told apart before patches were joined, None if they were
    not.
    """
    for what, n, least, most in (
        ("patches", patches, 1, _MOST_PATCHES),
        ("features", features, 1, _MOST_FEATURES),
        ("edges", edges, 0, 2**40),
    ):
        if type(n) is not int or not least <= n <= most:
            raise ValueError(f"{n!r} {what}")
    if shallow is not None and (type(shallow) is not int or not 1 <= shallow <= features):
        raise ValueError(f"{shallow!r} shallow features")
    space = axes.space_shape
    sizes = {"P": patches, "F": features, "E": edges, "C": axes.channels, "D": len(space)}
    sizes |= {"M": patches - 1, "2": 2, "N": 2 * features, "S": 2 * (shallow or 0)}
    return {
        name: (space if kind == "space" else tuple(sizes[letter] for letter in kind), dtype)
        for name, (dtype, kind) in ARRAYS.items()
        if (has_tree or name not in TREE)
        and (retry_on_oom or kind != "space")
        and (shallow is not None or not name.startswith(FINE))
    }


def coarse_shapes(axes: Axes, steps: object) -> dict[str, tuple[int, ...]]:
    """Return the shapes of patch ids at all pixels and at every so many-th row and column."""
    if (
        not isinstance(steps, list)
        or not 1 <= len(steps) <= _MOST_STEPS
        or any(type(n) is not int or n != 2**i for i, n in enumerate(steps))
    ):
        raise ValueError(f"steps {sanitized(repr(steps), 50)} between rows and columns")
    return {
        "patches" if step == 1 else f"coarse/{step}": tuple(
            -(-n // step) if a in "YX" else n
            for a, n in zip(axes.space, axes.space_shape, strict=True)
        )
        for step in steps
    }


def axes_of(values: Mapping[str, Any]) -> Axes:
    """Return the axes; letters that do not fit the shape are refused."""
    letters, shape, source = values["letters"], values["shape"], values["source"]
    if not isinstance(letters, str) or source not in get_args(Source):
        raise ValueError(f"axes {letters!r}, {source!r}")
    whole = isinstance(shape, list) and all(type(n) is int and 1 <= n <= _LONGEST for n in shape)
    if not whole or prod(shape) > _MOST_PIXELS:
        raise ValueError(f"shape {sanitized(repr(shape), 50)}")
    checked = read_axes(shape, letters)
    axes = Axes(checked.letters, checked.shape, source)
    voxels, unit = values.get("voxel_size"), values.get("unit", axes.unit)
    if not isinstance(unit, str):
        raise ValueError(f"unit {unit!r}")
    return axes if voxels is None else axes.with_voxel_size(voxels, unit)


def check_arrays(arrays: Arrays) -> None:
    """Raise ValueError unless these arrays, of the shapes expected, are those of one image."""
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name} has NaN or infinite values")
    count = arrays["statistics/count"]
    if (count < 1).any() or (count != np.floor(count)).any():
        raise ValueError("statistics/count has numbers of pixels that are no whole ones from 1")
    if "patches" in arrays:
        _check_patches(arrays)
    second, mean = arrays["statistics/second"], arrays["statistics/mean"]
    if (second < 0).any():
        raise ValueError("statistics/second has squares below 0")
    if (second > _LARGEST_SQUARE).any() or (np.abs(mean) > _LARGEST_SQUARE**0.5).any():
        raise ValueError("statistics have means above 1e15, or squares above 1e30")
    level = arrays["statistics/level"]
    if level.min() < 0 or level.max() > _DEEPEST:
        raise ValueError(f"statistics/level is not from 0 to {_DEEPEST}")
    if f"{FINE}gain" in arrays and 2 * is_shallow(level).sum() != len(arrays["fine/things/own"]):
        raise ValueError("fine/things is of another number of features")
    _check_graph(arrays)
    if TREE[0] in arrays:
        _check_tree(arrays)


def _check_patches(arrays: Arrays) -> None:
    """Ids are 0 .. P-1, each is there, and sizes and places are theirs."""
    patches, number = arrays["patches"], len(arrays["statistics/count"])
    if patches.min() != 0 or patches.max() != number - 1:
        raise ValueError(f"patches are not numbered 0 .. {number - 1}")
    count, centroid = geometry(patches)
    same = np.array_equal(count, arrays["statistics/count"])
    if not same or not np.array_equal(centroid, arrays["statistics/centroid"]):
        raise ValueError("sizes and places of patches are not those of the patches")


def _check_graph(arrays: Arrays) -> None:
    from scipy import sparse

    edges, number = arrays["graph/edges"], len(arrays["statistics/count"])
    first, second = edges.T
    if len(edges) and (first.min() < 0 or second.max() >= number or (first >= second).any()):
        raise ValueError(f"graph/edges are no pairs of 0 .. {number - 1}, the smaller first")
    if (np.diff(first * number + second) <= 0).any():
        raise ValueError("graph/edges are not in order")
    if (arrays["graph/border"] <= 0).any():
        raise ValueError("graph/border has lengths that are not above 0")
    ones = np.ones(len(edges), np.int8)
    matrix = sparse.coo_array((ones, (first, second)), shape=(number, number))
    if sparse.csgraph.connected_components(matrix, directed=False, return_labels=False) > 1:
        raise ValueError("graph/edges leave patches on their own")
    if "patches" in arrays and not np.array_equal(edges, region_graph(arrays["patches"]).edges):
        raise ValueError("graph/edges are not those of the patches")


def _check_tree(arrays: Arrays) -> None:
    """Every node but the last is joined once, with a neighbour, by a merge that costs no less."""
    children, cost = arrays["tree/children"], arrays["tree/cost"]
    merges = len(children)
    parent = np.arange(merges + 1, 2 * merges + 1)[:, np.newaxis]
    if merges and (children.min() < 0 or (children >= parent).any()):
        raise ValueError("tree/children join what is not there yet")
    if (np.bincount(children.ravel(), minlength=2 * merges) != 1).any():
        raise ValueError("tree/children join some nodes twice and others never")
    if (cost < 0).any() or (np.diff(cost) < 0).any():
        raise ValueError("tree/cost is below 0 or falls")
    if (cost > _LARGEST_COST).any():
        raise ValueError(f"tree/cost is above {_LARGEST_COST:g}")
    tree = MergeTree.of(children, cost, np.ones(merges + 1))
    joined = tree.merges_joining(arrays["graph/edges"])
    if not np.bincount(joined, minlength=merges)[:merges].all():
        raise ValueError("tree/children join regions that do not touch")


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
        "comparison": hierarchy.comparison.model_dump(mode="json"),
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
            f"{path.name} is damaged or was changed: {sanitized(error)}. Copy it again from where "
            "it came, or build the hierarchy from the image again."
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
        comparison = ComparisonParams(**header["comparison"])
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
        known = None if fine is None else FeatureCalibration.of_parts(fine, own)
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
        comparison,
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
