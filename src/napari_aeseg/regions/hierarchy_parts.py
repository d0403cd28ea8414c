"""The parts of a saved hierarchy, checked before anything is made of them.

A part that cannot be used raises a ValueError that says what is odd.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from napari_aeseg.errors import shown
from napari_aeseg.images.axes import Axes, Source, read_axes
from napari_aeseg.regions.compare.moments import is_shallow
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.statistics import geometry
from napari_aeseg.regions.tree.merge_tree import MergeTree
from napari_aeseg.regions.tree.ultrametric import joining_merges

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    in_memory: bool = True,
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
        and (in_memory or kind != "space")
        and (shallow is not None or not name.startswith(FINE))
    }


def coarse_shapes(axes: Axes, steps: object) -> dict[str, tuple[int, ...]]:
    """Return the shapes of patch ids at all pixels and at every so many-th row and column."""
    if (
        not isinstance(steps, list)
        or not 1 <= len(steps) <= _MOST_STEPS
        or any(type(n) is not int or n != 2**i for i, n in enumerate(steps))
    ):
        raise ValueError(f"steps {shown(repr(steps), 50)} between rows and columns")
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
        raise ValueError(f"shape {shown(repr(shape), 50)}")
    checked = read_axes(shape, letters)
    axes = Axes(checked.letters, checked.shape, source)
    voxels, unit = values.get("voxel_size"), values.get("unit", axes.unit)
    if not isinstance(unit, str):
        raise ValueError(f"unit {unit!r}")
    return axes if voxels is None else axes.measured(voxels, unit)


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
    joined = joining_merges(
        MergeTree.of(children, cost, np.ones(merges + 1)), arrays["graph/edges"]
    )
    if not np.bincount(joined, minlength=merges)[:merges].all():
        raise ValueError("tree/children join regions that do not touch")
