"""A hierarchy as a folder: zarr arrays, and all other values as JSON. Nothing is pickled."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, Source, read_axes
from napari_aeseg.io.zarr_folder import (
    ZarrFolderWriter,
    check_memory,
    open_ids,
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
from napari_aeseg.regions.patches.statistics import PatchStatistics
from napari_aeseg.regions.refine import PatchEvidence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    ShapeAndType = tuple[tuple[int, ...], str]

#: Arrays of a saved hierarchy: dtype, and shape in P patches, F features, E edges, M merges,
#: C channels and D axes of space.
ARRAYS: dict[str, tuple[str, str]] = {
    "patches": ("int32", "space"),
    "brightness": ("float16", "space"),
    "stain": ("float16", "space"),
    "channels": ("float16", "C_space"),
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
_STATISTICS = ("count", "mean", "second", "level", "centroid", "intensity")
_CALIBRATION, _COARSE, _EVIDENCE = "calibration/", "coarse/", "evidence"
# Of images in blocks.
_OF_PATCHES = ("evidence_of_patches/mean", "evidence_of_patches/within")
_MEMBERS = {
    name.split("/")[0] for name in (*ARRAYS, _CALIBRATION, _COARSE, _EVIDENCE, *_OF_PATCHES)
}


@dataclass(frozen=True, slots=True)
class HierarchyParts:
    """What is saved of a hierarchy: the fields of `napari_aeseg.Hierarchy`. All else follows."""

    patches: Any
    statistics: PatchStatistics
    graph: RegionGraph
    axes: Axes
    params: SegmentationParams
    comparison: ComparisonParams
    brightness: np.ndarray | None
    evidence: Any
    model_fingerprint: str
    notes: tuple[str, ...]
    coarse: tuple[Any, ...]
    calibration: FeatureCalibration | None
    merges: tuple[np.ndarray, np.ndarray] | None
    stain: np.ndarray | None = None
    evidence_of_patches: PatchEvidence | None = None
    channels: np.ndarray | None = None


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
        expected = dict(
            zip(
                _OF_PATCHES,
                (((n_patches, sides), "float32"), ((sides, sides), "float64")),
                strict=True,
            )
        )
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


def write_hierarchy(parts: HierarchyParts, path: str | PathLike[str]) -> None:
    """Write a hierarchy; see `Hierarchy.save`."""
    header = _header(parts)
    expected = _expected_arrays(header, parts.axes)
    with ZarrFolderWriter(Path(path), _MEMBERS) as folder:
        arrays = {n: _as_stored(n, a, expected.get(n)) for n, a in _arrays(parts).items()}
        for name, values in arrays.items():
            folder.write(name, values)
        if is_lazy(parts.patches):
            names = _ids_shapes(parts.axes, header["steps"])
            for name, ids in zip(names, (parts.patches, *parts.coarse), strict=True):
                folder.write_by_chunks(name, ids)
            if parts.evidence is not None:
                folder.write_by_chunks(_EVIDENCE, parts.evidence)
        folder.close(header)


def _arrays(parts: HierarchyParts) -> dict[str, np.ndarray]:
    """The arrays that are written whole, by their names in the folder."""
    arrays = {f"statistics/{name}": getattr(parts.statistics, name) for name in _STATISTICS}
    arrays |= {"graph/edges": parts.graph.edges, "graph/border": parts.graph.border}
    if not is_lazy(parts.patches):
        arrays |= {"patches": parts.patches, "brightness": np.asarray(parts.brightness)}
    if parts.stain is not None:
        arrays["stain"] = parts.stain
    if parts.channels is not None:
        arrays["channels"] = parts.channels
    if parts.evidence_of_patches is not None:
        of_patches = parts.evidence_of_patches
        arrays |= dict(zip(_OF_PATCHES, (of_patches.mean, of_patches.within), strict=True))
    elif parts.evidence is not None:
        arrays[_EVIDENCE] = parts.evidence
    if parts.calibration is not None:
        arrays |= {_CALIBRATION + name: a for name, a in parts.calibration.arrays().items()}
    if parts.merges is not None:
        arrays |= dict(zip(("tree/children", "tree/cost"), parts.merges, strict=True))
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


def _header(parts: HierarchyParts) -> dict[str, Any]:
    axes = parts.axes
    return {
        "package_version": version("napari-aeseg"),
        "axes": {
            "letters": axes.letters,
            "shape": list(axes.shape),
            "source": axes.source,
            "voxel_size": axes.voxel_size and list(axes.voxel_size),
            "unit": axes.unit,
        },
        "patches": parts.graph.number,
        "features": len(parts.statistics.level),
        "edges": len(parts.graph.edges),
        "params": parts.params.model_dump(mode="json"),
        "comparison": parts.comparison.model_dump(mode="json"),
        "model": parts.model_fingerprint,
        "notes": list(parts.notes),
        "has_tree": parts.merges is not None,
        "has_stain": parts.stain is not None,
        "has_channels": parts.channels is not None,
        "evidence": None if parts.evidence is None else list(parts.evidence.shape),
        # Steps between the rows and columns at which there are patch ids.
        "steps": [2**i for i in range(1 + len(parts.coarse))] if is_lazy(parts.patches) else None,
        "calibration": None if parts.calibration is None else parts.calibration.numbers(),
    }


def hierarchy_header(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the header of a saved hierarchy; its arrays are not read.

    With "format_version", "package_version", "axes", "patches", "features", "edges", "params",
    "comparison", "model", "notes", "has_tree", "evidence", "steps", "calibration" and "checksums".
    Raises HierarchyFileError if this is no saved hierarchy, or one of a newer format.
    """
    return read_header(saved_folder(Path(path)))


def read_hierarchy(path: str | PathLike[str]) -> HierarchyParts:
    """Read a saved hierarchy; see `napari_aeseg.load_hierarchy`."""
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
    arrays |= {name: open_ids(folder, name, s, n_patches) for name, s in ids_shapes.items()}
    of_patches = None
    if ids_shapes and header.get("evidence") is not None:
        of_patches = PatchEvidence(*(arrays[name] for name in _OF_PATCHES))
        arrays[_EVIDENCE] = open_lazily(folder, _EVIDENCE, tuple(header["evidence"]), "int8")
    return HierarchyParts(
        arrays["patches"],
        PatchStatistics(*(arrays[f"statistics/{name}"] for name in _STATISTICS)),
        RegionGraph(n_patches, arrays["graph/edges"], arrays["graph/border"]),
        axes,
        params,
        comparison,
        arrays.get("brightness"),
        arrays.get(_EVIDENCE),
        model,
        tuple(notes),
        tuple(arrays[name] for name in ids_shapes if name != "patches"),
        _calibration(folder, header),
        (arrays["tree/children"], arrays["tree/cost"]) if header["has_tree"] else None,
        arrays.get("stain"),
        of_patches,
        arrays.get("channels"),
    )


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
