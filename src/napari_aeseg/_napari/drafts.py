"""Drafts: what was done by hand on an image, as a file that brings it back."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg._napari.find_similar import Examples
from napari_aeseg._napari.state import FIRST_CUT, DockState, carried_over
from napari_aeseg.errors import InputError
from napari_aeseg.images.napari_layers import layer_pixels
from napari_aeseg.io.atomic_write import atomic_write
from napari_aeseg.params import ComparisonParams, SegmentationParams
from napari_aeseg.regions.cuts.cut import Cut
from napari_aeseg.regions.cuts.edits import edit_of
from napari_aeseg.regions.objects.edits import object_edit_of

if TYPE_CHECKING:
    from napari.layers import Image


SUFFIX = ".draft.npz"
MOST_STROKES = 2**27  # pixels of an image whose strokes are saved
_MOST_VALUES = 1_000_000  # of an image that are looked at to know it again
_ARRAYS = ("strokes", "locked", "patches")
_BY_HAND = "by_hand"  # says in a file that there is more than settings


@dataclass(frozen=True, eq=False)
class Draft:
    """What was done by hand on one image, and the settings that it was done with."""

    axes: str | None  # as typed
    model_path: str  # the file of the model, or "base"; "" where there is none
    segmentation: SegmentationParams
    comparison: ComparisonParams
    cut: Cut  # with the edits
    undone: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()  # of classes
    colors: tuple[str, ...] = ()
    similarity: float = 0.7
    examples: Examples | None = None
    strokes: np.ndarray | None = None  # uint8, shape of the labels
    locked: np.ndarray | None = None  # int32, shape of the labels
    patches: np.ndarray | None = None  # int32: those that edits name

    @property
    def is_by_hand(self) -> bool:
        """Whether there is more than settings of controls."""
        arrays = self.strokes, self.locked
        return bool(self.cut.edits or self.undone or self.examples) or any(
            array is not None for array in arrays
        )

    @property
    def has_work(self) -> bool:
        """Whether anything differs from what Segment shows by itself."""
        is_tuned = self.cut != FIRST_CUT or self.comparison != ComparisonParams()
        return self.is_by_hand or is_tuned or bool(self.names or self.colors)


def draft_of(state: DockState, image: Image) -> Draft:
    """Return a draft of what the dock shows of a segmented image; arrays are copies."""
    result = state.results[image]
    origin = None if result.model is None else state.models.get(result.model)
    patches, strokes = result.hierarchy.patches, result.strokes
    if strokes is not None and (strokes.size > MOST_STROKES or not strokes.any()):
        strokes = None
    if result.hierarchy.is_lazy or not (result.edits or result.undone):
        patches = None  # those of blocks are on disk, and come out the same again
    return Draft(
        axes=state.axes,
        model_path=str(origin.path or "") if origin is not None else "",
        segmentation=result.hierarchy.params,
        comparison=state.comparison,
        cut=replace(state.cut, edits=result.edits),
        undone=result.undone,
        names=state.classes.names,
        colors=state.classes.colors,
        similarity=state.similarity,
        examples=result.examples,
        strokes=None if strokes is None else strokes.astype(np.uint8),
        locked=result.locked,
        patches=patches,
    )


def restore_settings(state: DockState, draft: Draft) -> None:
    """Set the controls as they were."""
    state.axes, state.segmentation = draft.axes, draft.segmentation
    state.comparison, state.similarity = draft.comparison, draft.similarity
    state.classes = replace(state.classes, names=draft.names, colors=draft.colors)
    state.cut = replace(draft.cut, edits=())


def by_hand(draft: Draft, patches: np.ndarray) -> dict[str, Any]:
    """Return what was done by hand, on these patches, but for the strokes: fields of a `Result`."""
    edits: dict[str, Any] = {"edits": draft.cut.edits, "undone": draft.undone}
    if draft.patches is not None and not np.array_equal(draft.patches, patches):
        edits = {name: carried_over(patches, e, draft.patches)[0] for name, e in edits.items()}
    fits = draft.locked is not None and draft.locked.shape == patches.shape
    return {**edits, "examples": draft.examples, "locked": draft.locked if fits else None}


def digest_of(image: Image) -> str:
    """Return what an image is known by: its shape, and values all over it.

    Of an image that is not in memory, the path or the name stands for the values.
    """
    pixels = layer_pixels(image)
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype.str}".encode(), digest_size=8)
    if isinstance(pixels, np.ndarray):
        step = -(-pixels.size // _MOST_VALUES)
        flat = pixels.reshape(-1) if pixels.flags.c_contiguous else pixels.ravel()
        digest.update(np.ascontiguousarray(flat[::step]).tobytes())
    else:
        digest.update(str(image.source.path or image.name).encode())
    return digest.hexdigest()


def write_draft(draft: Draft, path: Path) -> None:
    """Write a draft; the file is complete when it appears, or stays as it was."""
    arrays = {name: getattr(draft, name) for name in _ARRAYS if getattr(draft, name) is not None}
    values: dict[str, Any] = {
        "axes": draft.axes,
        "model_path": draft.model_path,
        "segmentation": draft.segmentation.model_dump(mode="json"),
        "comparison": draft.comparison.model_dump(mode="json"),
        "cut": asdict(replace(draft.cut, edits=())),
        "names": draft.names,
        "colors": draft.colors,
        "similarity": draft.similarity,
        "examples": draft.examples and asdict(draft.examples),
        "undone": [edit.record for edit in draft.undone],
    }
    values["cut"]["edits"] = [edit.record for edit in draft.cut.edits]
    if draft.is_by_hand:  # edits of images in blocks and examples have no array of their own
        arrays[_BY_HAND] = np.array(True)
    text = json.dumps(values, default=lambda number: number.item())  # scripts give NumPy's numbers
    with atomic_write(path) as part:
        np.savez_compressed(part, values=np.array(text), **arrays)


def has_work_by_hand(path: Path) -> bool:
    """Whether a file has more than settings; of one that is damaged or gone, False."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return any(f"{name}.npy" in names for name in (*_ARRAYS, _BY_HAND))


def read_draft(path: Path) -> Draft:
    """Read what `write_draft` wrote; raise InputError if it is damaged, OSError if it is gone."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = json.loads(str(file["values"]))
            arrays = {name: file[name] for name in _ARRAYS if name in file}
        examples = values.pop("examples")
        if examples is not None:
            places = {name: tuple(map(tuple, examples[name])) for name in ("wanted", "unwanted")}
            examples = Examples(examples["mode"], **places)
        return Draft(
            segmentation=SegmentationParams(**values.pop("segmentation")),
            comparison=ComparisonParams(**values.pop("comparison")),
            cut=Cut.from_record(values.pop("cut")),
            undone=tuple(object_edit_of(e) or edit_of(e) for e in values.pop("undone")),
            names=tuple(values.pop("names")),
            colors=tuple(values.pop("colors")),
            examples=examples,
            **values,
            **arrays,
        )
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} is damaged: this work cannot be brought back.") from error
