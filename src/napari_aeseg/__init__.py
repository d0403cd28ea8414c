"""Label-free segmentation: learn an autoencoder from the images, merge patches that look alike.

Names are loaded on first use: importing the package brings in neither torch nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.batch import image_files, segment_files
    from napari_aeseg.batch_report import BatchReport
    from napari_aeseg.errors import (
        AesegError,
        DeviceError,
        HierarchyFileError,
        InputError,
        ModelFileError,
        StoppedError,
    )
    from napari_aeseg.params import BlockParams, SegmentationParams, TrainingParams
    from napari_aeseg.pipeline import build_hierarchy, load_model, segment, train
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.cut import Cut
    from napari_aeseg.regions.edits import Merge, Split
    from napari_aeseg.regions.hierarchy import Hierarchy
    from napari_aeseg.regions.hierarchy_file import load_hierarchy

_HOME = {
    "AesegError": "errors",
    "BatchReport": "batch_report",
    "BlockParams": "params",
    "Cut": "regions.cut",
    "DeviceError": "errors",
    "Hierarchy": "regions.hierarchy",
    "HierarchyFileError": "errors",
    "InputError": "errors",
    "Merge": "regions.edits",
    "Model": "autoencoder.model",
    "ModelFileError": "errors",
    "Prototypes": "prototypes",
    "SegmentationParams": "params",
    "Split": "regions.edits",
    "StoppedError": "errors",
    "TrainingParams": "params",
    "build_hierarchy": "pipeline",
    "image_files": "batch",
    "load_hierarchy": "regions.hierarchy_file",
    "load_model": "pipeline",
    "segment": "pipeline",
    "segment_files": "batch",
    "train": "pipeline",
}

__all__ = [
    "AesegError",
    "BatchReport",
    "BlockParams",
    "Cut",
    "DeviceError",
    "Hierarchy",
    "HierarchyFileError",
    "InputError",
    "Merge",
    "Model",
    "ModelFileError",
    "Prototypes",
    "SegmentationParams",
    "Split",
    "StoppedError",
    "TrainingParams",
    "build_hierarchy",
    "image_files",
    "load_hierarchy",
    "load_model",
    "segment",
    "segment_files",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-aeseg")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
