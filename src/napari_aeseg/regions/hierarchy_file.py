"""A hierarchy as a folder: zarr arrays, and all other values as JSON. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, Source, read_axes
from napari_aeseg.io.zarr_folder import (
    ZarrFolderWriter,
    check_memory,
    open_lazily,
    read_array,
    read_header,
    saved_folder,
    wrapping_errors,
)
from napari_aeseg.params import ComparisonParams, SegmentationParams
from napari_aeseg.regions.compare.moments import FeatureCalibration
from napari_aeseg.regions.lazy_labels import is_lazy
from napari_aeseg.regions.patches.graph import RegionGraph
from napari_aeseg.regions.patches.statistics import STATISTICS_IN_FILES, PatchStatistics
from napari_aeseg.regions.refine import PatchEvidence

Merges = tuple[np.ndarray, np.ndarray]
ShapeAndType = tuple[tuple[int, ...], str]

#: Arrays of a saved hierarchy: dtype, and shape in P patches, F features, E edges, M merges,
#: C channels and D axes of space.
ARRAYS: dict[str, tuple[str, str]] = {
    "patches": ("int32", "space"),
    "brightness": ("float16", "space"),
    "stain": ("float16", "space"),
    "channels": ("float16", "C_space"),
    **{f"statistics/{name}": kind for name, kind in STATISTICS_IN_FILES.items()},
    "graph/edges": ("int64", "E2"),
    "graph/border": ("float32", "E"),
    "tree/children": ("int64", "M2"),
    "tree/cost": ("float64", "M"),
}
_CALIBRATION, _COARSE, _EVIDENCE = "calibration/", "coarse/", "evidence"
# Of images in blocks.
_OF_PATCHES = ("evidence_of_patches/mean", "evidence_of_patches/within")
_MEMBERS = {
    name.split("/")[0] for name in (*ARRAYS, _CALIBRATION, _COARSE, _EVIDENCE, *_OF_PATCHES)
}


def _expected_arrays(header: Mapping[str, Any], axes: Axes) -> dict[str, ShapeAndType]:
    """Shape and dtype of the arrays that are read whole, but for those of the calibration."""
    n_patches, space = header["patches"], axes.space_shape
    sizes = {"P": n_patches, "F": header["features"], "E": header["edges"], "M": n_patches - 1}
    sizes |= {"C": axes.channels, "D": len(space), "2": 2}
    # Version 0.1.0 had none.
    evidence, expected = header.get("evidence"), {}
    if evidence is not None and header["steps"] is None:
        expected[_EVIDENCE] = tuple(evidence), "int8"
    elif evidence is not None:
        sides = evidence[-1]
        shapes = ((n_patches, sides), "float32"), ((sides, sides), "float64")
        expected = dict(zip(_OF_PATCHES, shapes, strict=True))
    optional = {"stain": "has_stain", "channels": "has_channels"}  # not in files of older versions
    whole = {"space": space, "C_space": (axes.channels, *space)}
    return expected | {
        name: (whole.get(kind) or tuple(sizes[letter] for letter in kind), dtype)
        for name, (dtype, kind) in ARRAYS.items()
        if (header["has_tree"] or not name.startswith("tree/"))
        and (header["steps"] is None or kind not in whole)
        and (name not in optional or header.get(optional[name], False))
    }


def _ids_shapes(axes: Axes, steps: list[int]) -> dict[str, tuple[int, ...]]:
    """Shape of the patch ids at every n-th row and column, for each of these steps."""
    return {
        "patches" if step == 1 else f"{_COARSE}{step}": tuple(
            -(-n // step) if a in "YX" else n
            for a, n in zip(axes.space, axes.space_shape, strict=True)
        )
        for step in steps
    }


def write_hierarchy(tree: Any, merges: Merges | None, path: str | PathLike[str]) -> None:
    """Write a `Hierarchy`, with the merges of its tree if it is built; see `Hierarchy.save`."""
    header = _header(tree, merges)
    expected = _expected_arrays(header, tree.axes)
    with ZarrFolderWriter(Path(path), _MEMBERS) as folder:
        arrays = {n: _as_stored(n, a, expected.get(n)) for n, a in _arrays(tree, merges).items()}
        for name, values in arrays.items():
            folder.write(name, values)
        if is_lazy(tree.patches):
            names = _ids_shapes(tree.axes, header["steps"])
            for name, ids in zip(names, (tree.patches, *tree.coarse), strict=True):
                folder.write_by_chunks(name, ids)
            if tree.evidence is not None:
                folder.write_by_chunks(_EVIDENCE, tree.evidence)
        folder.close(header)


def _arrays(tree: Any, merges: Merges | None) -> dict[str, np.ndarray]:
    """The arrays that are written whole, by their names in the folder."""
    arrays = {f"statistics/{name}": getattr(tree.statistics, name) for name in STATISTICS_IN_FILES}
    arrays |= {"graph/edges": tree.graph.edges, "graph/border": tree.graph.border}
    if not is_lazy(tree.patches):
        arrays |= {"patches": tree.patches, "brightness": np.asarray(tree.brightness)}
    if tree.stain is not None:
        arrays["stain"] = tree.stain
    if tree.channels is not None:
        arrays["channels"] = tree.channels
    if tree.evidence_of_patches is not None:
        of_patches = tree.evidence_of_patches
        arrays |= dict(zip(_OF_PATCHES, (of_patches.mean, of_patches.within), strict=True))
    elif tree.evidence is not None:
        arrays[_EVIDENCE] = tree.evidence
    if tree.calibration is not None:
        arrays |= {_CALIBRATION + name: a for name, a in tree.calibration.arrays().items()}
    if merges is not None:
        arrays |= dict(zip(("tree/children", "tree/cost"), merges, strict=True))
    return arrays


def _as_stored(name: str, values: np.ndarray, expected: ShapeAndType | None) -> np.ndarray:
    """Bring an array to the dtype it is stored in; raise InputError if that changes it."""
    shape, dtype = expected or (values.shape, values.dtype)
    stored = np.asarray(values, dtype)
    if stored.shape != shape:
        raise InputError(f"This hierarchy cannot be saved: {name} has shape {stored.shape}.")
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise InputError(f"This hierarchy cannot be saved: {name} has NaN or infinite values.")
    if stored.dtype != values.dtype and not np.array_equal(stored, values):
        raise InputError(f"This hierarchy cannot be saved: {name} does not fit {dtype}.")
    return stored


def _header(tree: Any, merges: Merges | None) -> dict[str, Any]:
    axes = tree.axes
    return {
        "package_version": version("napari-aeseg"),
        "axes": {
            "letters": axes.letters,
            "shape": list(axes.shape),
            "source": axes.source,
            "voxel_size": axes.voxel_size and list(axes.voxel_size),
            "unit": axes.unit,
        },
        "patches": tree.graph.number,
        "features": len(tree.statistics.level),
        "edges": len(tree.graph.edges),
        "params": tree.params.model_dump(mode="json"),
        "comparison": tree.comparison.model_dump(mode="json"),
        "model": tree.model_fingerprint,
        "notes": list(tree.notes),
        "has_tree": merges is not None,
        "has_stain": tree.stain is not None,
        "has_channels": tree.channels is not None,
        "evidence": None if tree.evidence is None else list(tree.evidence.shape),
        # Steps between the rows and columns at which there are patch ids.
        "steps": [2**i for i in range(1 + len(tree.coarse))] if is_lazy(tree.patches) else None,
        "calibration": None if tree.calibration is None else tree.calibration.numbers(),
    }


def hierarchy_header(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the header of a saved hierarchy; its arrays are not read.

    With "format_version", "package_version", "axes", "patches", "features", "edges", "params",
    "comparison", "model", "notes", "has_tree", "evidence", "steps", "calibration" and "checksums".
    Raises HierarchyFileError if this is no saved hierarchy, or one of a newer format.
    """
    return read_header(saved_folder(Path(path)))


def read_hierarchy(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the arguments of a saved `Hierarchy`; see `napari_aeseg.load_hierarchy`."""
    folder = saved_folder(Path(path))
    header = read_header(folder)
    with wrapping_errors(folder, "its header"):
        axes = _axes_of(header["axes"])
        params = SegmentationParams(**header["params"])
        comparison = ComparisonParams(**header["comparison"])
        model, notes = header["model"], header["notes"]
        if not isinstance(notes, list) or not all(isinstance(s, str) for s in (model, *notes)):
            raise TypeError(f"model {model!r}, notes {notes!r}")
        expected = _expected_arrays(header, axes)
        ids_shapes = {} if header["steps"] is None else _ids_shapes(axes, header["steps"])
    check_memory(folder, expected)
    arrays = {name: read_array(folder, header, name, expected[name]) for name in expected}
    n_patches = len(arrays["statistics/count"])
    for name, shape in ids_shapes.items():
        arrays[name] = open_lazily(folder, name, shape, "int32", ids_below=n_patches)
    of_patches = None
    if ids_shapes and header.get("evidence") is not None:
        of_patches = PatchEvidence(*(arrays[name] for name in _OF_PATCHES))
        arrays[_EVIDENCE] = open_lazily(folder, _EVIDENCE, tuple(header["evidence"]), "int8")
    return {
        "patches": arrays["patches"],
        "statistics": PatchStatistics(
            *(arrays[f"statistics/{name}"] for name in STATISTICS_IN_FILES)
        ),
        "graph": RegionGraph(n_patches, arrays["graph/edges"], arrays["graph/border"]),
        "axes": axes,
        "params": params,
        "comparison": comparison,
        "model_fingerprint": model,
        "notes": tuple(notes),
        "coarse": tuple(arrays[name] for name in ids_shapes if name != "patches"),
        "calibration": _calibration(folder, header),
        "merges": (arrays["tree/children"], arrays["tree/cost"]) if header["has_tree"] else None,
        "evidence_of_patches": of_patches,
        **{name: arrays.get(name) for name in ("brightness", _EVIDENCE, "stain", "channels")},
    }


def _calibration(folder: Path, header: Mapping[str, Any]) -> FeatureCalibration | None:
    if header["calibration"] is None:
        return None
    names = [name for name in header["checksums"] if name.startswith(_CALIBRATION)]
    arrays = {n.removeprefix(_CALIBRATION): read_array(folder, header, n) for n in names}
    with wrapping_errors(folder, "its calibration"):
        return FeatureCalibration.of_parts(header["calibration"], arrays)


def _axes_of(values: Mapping[str, Any]) -> Axes:
    """Axes from the header; letters that do not fit the shape are refused."""
    if values["source"] not in get_args(Source):
        raise ValueError(f"source of the axes {values['source']!r}")
    axes = read_axes(values["shape"], values["letters"], source=values["source"])
    voxel_size = values["voxel_size"]
    return axes if voxel_size is None else axes.with_voxel_size(voxel_size, values["unit"])
