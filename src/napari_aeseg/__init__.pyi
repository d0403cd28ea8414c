from .api import build_hierarchy, load_model, segment, train
from .autoencoder.model import Model
from .batch import BatchReport, image_files, segment_files
from .errors import (
    AesegError,
    DeviceError,
    HierarchyFileError,
    InputError,
    ModelFileError,
    StoppedError,
)
from .io.labels import write_labels
from .params import BlockParams, ComparisonParams, SegmentationParams, TrainingParams
from .prototypes import Prototypes
from .regions.cuts.cut import Cut
from .regions.cuts.edits import Merge, Split
from .regions.hierarchy import Hierarchy, load_hierarchy
from .regions.objects.edits import DeleteObject, MergeObjects, SplitObject, TakeObject

__all__ = [
    "AesegError",
    "BatchReport",
    "BlockParams",
    "ComparisonParams",
    "Cut",
    "DeleteObject",
    "DeviceError",
    "Hierarchy",
    "HierarchyFileError",
    "InputError",
    "Merge",
    "MergeObjects",
    "Model",
    "ModelFileError",
    "Prototypes",
    "SegmentationParams",
    "Split",
    "SplitObject",
    "StoppedError",
    "TakeObject",
    "TrainingParams",
    "build_hierarchy",
    "image_files",
    "load_hierarchy",
    "load_model",
    "segment",
    "segment_files",
    "train",
    "write_labels",
]

__version__: str
