"""What a batch does to each of its files: read, segmented, and written when it is complete."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_aeseg.api import hierarchy_steps
from napari_aeseg.autoencoder.device import memory_for
from napari_aeseg.errors import InputError
from napari_aeseg.io.atomic import whole_file
from napari_aeseg.io.file_array import is_ours
from napari_aeseg.io.images import overlay, write_label_image, write_picture
from napari_aeseg.io.labels import write_labels_steps
from napari_aeseg.large.build import needs_blocks
from napari_aeseg.params import HIERARCHY_SUFFIX, BlockParams, SegmentationParams
from napari_aeseg.progress import Progress
from napari_aeseg.regions.hierarchy import NO_OBJECTS
from napari_aeseg.regions.hierarchy_file import load_hierarchy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    import numpy as np

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.io.file_array import ImageFile
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.cuts.cut import Cut
    from napari_aeseg.regions.hierarchy import Hierarchy


def is_hierarchy(path: Path) -> bool:
    """Whether a path means a saved hierarchy rather than an image."""
    return path.name.endswith(HIERARCHY_SUFFIX)


def stem_of(path: Path) -> str:
    """Return what the results of a file are called after.

    Examples
    --------
    >>> from pathlib import Path
    >>> [stem_of(Path(name)) for name in ("a.tif", "b.ome.zarr", "c.aeseg.zarr")]
    ['a', 'b', 'c']
    """
    if is_hierarchy(path):
        return path.name.removesuffix(HIERARCHY_SUFFIX)
    return path.stem.removesuffix(".ome") if path.suffix.lower() == ".zarr" else path.stem


def planned_files(
    path: Path, folder: Path, table: bool = True, save_hierarchy: bool = False
) -> list[Path]:
    """Return the files that may be written for an image; the labels come first.

    Last are the labels of an image that is worked on in blocks.
    """
    endings = ["_labels.tif", "_overlay.png"]
    endings += ["_table.csv"] * table + [HIERARCHY_SUFFIX] * save_hierarchy
    return [folder / f"{stem_of(path)}{ending}" for ending in [*endings, "_labels.ome.zarr"]]


def refuse_objects_of_blocks(
    cut: Cut, image: Any, blocks: BlockParams | None, store: Path | None
) -> None:
    """Raise InputError before the work if objects are asked for that cannot be found after it."""
    if cut.mode == "objects" and (blocks is not None or store is not None or needs_blocks(image)):
        raise InputError(NO_OBJECTS)


def saved_hierarchy(path: Path, model: Model | None, params: SegmentationParams) -> Hierarchy:
    """Load a hierarchy, with the balance and scale that were asked for.

    Raises
    ------
    InputError
        If it was made with another model or other parameters.
    """
    tree = load_hierarchy(path)
    if model is not None and not model.is_meant(tree.model_fingerprint, tree.axes.channels):
        raise InputError(f"{path.name} was made with another model: leave the model out.")
    return _reweighted(tree, params)


def _reweighted(tree: Hierarchy, params: SegmentationParams) -> Hierarchy:
    """Return a saved hierarchy with the balance and scale that were asked for."""
    asked = {name: getattr(params, name) for name in params.model_fields_set - {"tile_size"}}
    weights = {name: asked.pop(name) for name in ("balance", "scale") if name in asked}
    for name, value in asked.items():
        known = getattr(tree.params, name)
        if value != known:
            raise InputError(
                f"{name} = {value!r}: this hierarchy was saved with {known!r}, and only its "
                "balance and scale can be changed. Segment the image instead."
            )
    unlike = {name for name, value in weights.items() if value != getattr(tree.params, name)}
    return tree.reweighted(**weights) if unlike else tree


@dataclass
class Job:
    """What is done to every file; the classes are those of the first one if need be."""

    folder: Path
    model: Model | None
    cut: Cut
    params: SegmentationParams
    read: Callable[[Path], tuple[ImageFile, Axes]]
    device: str
    table: bool
    save_hierarchy: bool
    stop: StopFlag | None
    prototypes: Prototypes | None
    done_before: list[Path]
    blocks: BlockParams | None = None
    store: Path | None = None
    replace: bool = False

    def __post_init__(self) -> None:
        if self.prototypes is None and self.model is not None:
            self.prototypes = self.model.prototypes

    @property
    def _lacks_classes(self) -> bool:
        return self.prototypes is None and self.cut.needs_classes

    def _find_earlier_classes(self) -> Generator[Progress, None, None]:
        """Find the classes of an earlier run again: they were those of its first file."""
        while self.done_before and self.prototypes is None:
            path = self.done_before.pop(0)
            try:
                _, example = yield from self._build(path)
                self.prototypes = self.cut.prototypes_of(example)
            except (InputError, OSError) as error:  # its results are there, but it is not any more
                message = f"{path.name} no longer tells what the classes are: {error}"
                yield Progress("classes", 1, 1, message=message)

    def _build(self, path: Path) -> Generator[Progress, None, tuple[Any, Hierarchy]]:
        """Return the hierarchy of a file, and the image that its labels are drawn on."""
        if is_hierarchy(path):
            return None, saved_hierarchy(path, self.model, self.params)
        assert self.model is not None  # noqa: S101 - has been checked
        opened, axes = self.read(path)
        refuse_objects_of_blocks(self.cut, opened.array, self.blocks, self.store)
        tree = yield from hierarchy_steps(
            opened.array,
            self.model,
            self.params,
            axes,
            self.device,
            self.stop,
            path.name,
            blocks=self.blocks,
            store=None if self.store is None else self.store / stem_of(path),
        )
        return opened.array, tree

    def segment(self, path: Path) -> Generator[Progress, None, tuple[str, int, tuple[Path, ...]]]:
        """Segment one file; return how it was read, the number of labels, and what was written."""
        with memory_for(path.name, "Close other programs, or work on it in blocks."):
            return (yield from self._segmented(path))

    def _segmented(
        self, path: Path
    ) -> Generator[Progress, None, tuple[str, int, tuple[Path, ...]]]:
        if self._lacks_classes:
            yield from self._find_earlier_classes()
        image, tree = yield from self._build(path)
        labels = self.cut.labels(tree, prototypes=self.prototypes, stop=self.stop)
        if tree.is_lazy:
            number = int(self.cut.of_patch(tree, self.prototypes).max())
            written = yield from self._write_lazily(path, tree, labels)
        else:
            number = int(labels.max())
            written = self._write_all(path, image, tree, labels)
        if self._lacks_classes:
            self.prototypes = self.cut.prototypes_of(tree)
        return str(tree.axes), number, written

    def _write_all(
        self, path: Path, image: Any, tree: Hierarchy, labels: np.ndarray
    ) -> tuple[Path, ...]:
        labels_path, overlay_path, *more, _ = self._planned(path)
        written = [labels_path]
        if tree.axes.space == "YX":
            ground = (tree.brightness, "YX") if image is None else (image, tree.axes.letters)
            picture = overlay(ground[0], labels, ground[1])
            _write(overlay_path, lambda p: write_picture(picture, p))
            written.append(overlay_path)
        written += self._write_more(more, tree, labels)
        # Labels last: they say that a file is done.
        _write(labels_path, lambda p: write_label_image(labels, p))
        return tuple(written)

    def _write_lazily(
        self, path: Path, tree: Hierarchy, labels: Any
    ) -> Generator[Progress, None, tuple[Path, ...]]:
        """Write labels that are computed meanwhile; goes on where an earlier run stopped."""
        _, _, *more, labels_path = self._planned(path)
        if self.replace and is_ours(labels_path) is not None:
            shutil.rmtree(labels_path)
        written = self._write_more(more, tree, labels)
        axes = tree.axes
        unit = "" if axes.unit == "pixel" else axes.unit
        yield from write_labels_steps(
            labels, labels_path, axes.space, axes.spacing, unit, self.stop
        )
        return (labels_path, *written)

    def _planned(self, path: Path) -> list[Path]:
        return planned_files(path, self.folder, self.table, self.save_hierarchy)

    def _write_more(self, paths: list[Path], tree: Hierarchy, labels: Any) -> list[Path]:
        """Write the table and the hierarchy, if they are wanted."""
        if self.table:
            frame = table_of(tree, labels, self.cut, self.prototypes, self.stop)
            _write(paths[0], lambda p: frame.to_csv(p, index=False))
        if self.save_hierarchy:
            tree.save(paths[-1])
        return paths


def table_of(
    tree: Hierarchy,
    labels: Any,
    cut: Cut,
    prototypes: Prototypes | None = None,
    stop: StopFlag | None = None,
) -> Any:
    """Measure labels; with their class where the cut depends on classes, and with the unit."""
    table = _measured(tree, labels, cut, prototypes, stop)
    return table if tree.voxel_size is None else table.assign(unit=tree.axes.unit)


def _measured(
    tree: Hierarchy, labels: Any, cut: Cut, prototypes: Prototypes | None, stop: StopFlag | None
) -> Any:
    if not cut.needs_classes:
        return tree.table(labels)
    of_kind = replace(cut, mode="classes")
    table = tree.table(labels, of_kind.labels(tree, prototypes, stop=stop))
    if prototypes is not None and prototypes.names:
        table["class"] = [prototypes.names[number - 1] for number in table["class"]]
    return table


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    with whole_file(path) as part:
        write(part)
