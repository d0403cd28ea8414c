"""The segmented images: their hierarchies, their previews, and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_aeseg._napari.layers.colors import class_colormap, cyclic_colormap
from napari_aeseg._napari.layers.preview import Preview
from napari_aeseg._napari.tuning import Cut
from napari_aeseg._napari.work.jobs import comparing
from napari_aeseg._napari.work.objects import ObjectFinder
from napari_aeseg._napari.work.worker import Done, Failed, Job, JobRunner
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_aeseg._napari.layers.adapter import Snapshot
    from napari_aeseg._napari.tuning import Edit
    from napari_aeseg._napari.work.worker import Stopped
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.params import ComparisonParams
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.hierarchy import Hierarchy


@dataclass
class Result:
    """What is known of one segmented image.

    Parameters
    ----------
    hierarchy : Hierarchy
    model : Model or None
        That it was encoded by; None when that is not at hand.
    shot : Snapshot
        The image as it was encoded.
    preview : Preview
    edits, undone : tuple of Merge and Split
        What the user merged and split by hand, and what was taken back of it.
    markers : Labels or None
        Strokes.
    error : ndarray or None
        Reconstruction error of each pixel, once it was asked for.
    path : Path or None
        The folder that the hierarchy was opened from.
    has_image : bool
        Whether the layer shows the image, and not its brightness only.
    """

    hierarchy: Hierarchy
    model: Model | None
    shot: Snapshot
    preview: Preview
    edits: tuple[Edit, ...] = ()
    undone: tuple[Edit, ...] = ()
    markers: Labels | None = None
    error: np.ndarray | None = None
    path: Path | None = None
    has_image: bool = True

    @property
    def can_encode(self) -> bool:
        """Whether the network can be asked about the image."""
        return self.model is not None and self.has_image


@dataclass
class ClassStyle:
    """How classes are shown, and their prototypes where they are fixed, with the model of these."""

    colors: tuple[str, ...]
    names: tuple[str, ...]
    prototypes: Prototypes | None = None
    model: Model | None = None

    def fixed_for(self, model: Model | None) -> Prototypes | None:
        """Return the prototypes if they are of this model: with another one they mean nothing."""
        if self.prototypes is None or self.model is None or model is None:
            return None
        same = model is self.model or model.fingerprint == self.model.fingerprint
        return self.prototypes if same else None


class Results:
    """Hierarchies and previews by image layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Attributes
    ----------
    changed : psygnal.Signal()
        Hierarchies compare patches differently now, or objects are found; not yet shown.
    shown : psygnal.Signal(Image layer, Labels layer)
        A preview was made.
    touched : psygnal.Signal(Image layer, Labels layer)
        The user painted on what was a preview: it is theirs now.
    failed : psygnal.Signal(Exception)
    """

    changed = Signal()
    shown = Signal(object, object)
    touched = Signal(object, object)
    failed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.of: dict[Image, Result] = {}
        self.cut = Cut()  # what was shown last
        self.classes = ClassStyle((), ())
        self.finder = ObjectFinder()
        self.finder.found.connect(self.changed.emit)
        self.finder.failed.connect(self.failed.emit)
        self.runner = JobRunner()
        self.runner.ended.connect(self._on_compared)
        self._wanted: ComparisonParams | None = None

    @property
    def hierarchies(self) -> dict[Image, Hierarchy]:
        """The hierarchy of each segmented image."""
        return {image: result.hierarchy for image, result in self.of.items()}

    @property
    def busy(self) -> bool:
        """Whether anything that the previews wait for is going on."""
        return self.runner.busy or self.finder.busy

    def leave(self) -> None:
        """Leave what is going on, and be silent from now on."""
        self.runner.leave()
        self.finder.leave()
        for result in self.of.values():
            result.preview.tell(lambda *_: None)

    def take_up(self, image: Image, result: Result) -> None:
        """Take over what is known of an image from a dock that was closed."""
        self.of[image] = result
        result.preview.tell(self.touched.emit)
        if result.preview.layer is not None:
            self.shown.emit(image, result.preview.layer)

    def add(
        self,
        image: Image,
        hierarchy: Hierarchy,
        model: Model | None,
        shot: Snapshot,
        path: Path | None = None,
        has_image: bool = True,
    ) -> bool:
        """Take over a new hierarchy; return False if edits by hand had to be given up."""
        before = self.of.get(image)
        if before is None:
            preview = Preview(self._viewer, image, self.touched.emit)
            self.of[image] = Result(hierarchy, model, shot, preview, path=path, has_image=has_image)
            return True
        # Patches depend on the image and their size only: what was merged by hand fits again.
        same = _same_patches(before.hierarchy, hierarchy)
        edits, undone = (before.edits, before.undone) if same else ((), ())
        self.of[image] = Result(
            hierarchy,
            model,
            shot,
            before.preview,
            edits,
            undone,
            before.markers,
            path=path,
            has_image=has_image,
        )
        return same or not before.edits

    def know(self, model: Model | None) -> None:
        """Give a model to those hierarchies that were opened without theirs and are of this one."""
        for result in self.of.values():
            if result.model is None:
                result.model = model_of(result.hierarchy, model)

    def forget_removed(self) -> bool:
        """Give up what belongs to images that are no longer in the viewer; layers stay.

        Return whether a preview now shows what is no longer so: its strokes were removed.
        """
        for image in [i for i in self.of if i not in self._viewer.layers]:
            self.forget(image)
        layers = self._viewer.layers
        bare = [r for r in self.of.values() if r.markers is not None and r.markers not in layers]
        for result in bare:
            result.markers = None
        return bool(bare)

    def forget(self, image: Image) -> None:
        """Give up what belongs to an image; layers stay."""
        del self.of[image]
        self.finder.forget(image)

    def give_up(self, image: Image) -> None:
        """Give up what was found in an image that is another one by now; its preview is hidden."""
        layer = self.preview_of(image)
        self.forget(image)
        if layer is not None:
            layer.visible, layer.name = False, f"{image.name} earlier"

    def preview_of(self, image: Image) -> Labels | None:
        """Return the preview layer of an image, if there is one."""
        result = self.of.get(image)
        return None if result is None else result.preview.layer

    def show(self, images: Iterable[Image], cut: Cut, place: bool = False) -> None:
        """Show a cut in the previews of those images that are segmented."""
        images = [image for image in images if image in self.of]
        if not images:
            return
        self.cut = cut
        # Painted first: a cut that is refused must not leave some previews changed.
        if cut.mode == "objects":
            known = {image: self._objects(image, cut) for image in images}
            images = [image for image in images if known[image] is not None]
        painted = [self.seen(image, cut, images[0]) for image in images]
        colors = class_colormap(self.classes.colors) if cut.mode == "classes" else cyclic_colormap()
        for image, labels in zip(images, painted, strict=True):
            preview = self.of[image].preview
            before = preview.layer
            layer = preview.show(labels, self.of[image].hierarchy.axes, colors, place)
            if layer is not before:
                self.shown.emit(image, layer)

    def labels(self, image: Image, cut: Cut, example: Image) -> np.ndarray:
        """Labels of a cut as they are shown; classes have their ids from the example."""
        result = self.of[image]
        hierarchy = result.hierarchy
        if cut.mode == "objects":
            labels = self._objects(image, cut)
            if labels is None:
                raise InputError("Objects are still being looked for: wait until they are shown.")
            return narrow(labels)
        if cut.mode == "markers":
            return self._from_markers(result, cut)
        return hierarchy.map_to_pixels(self._of_patch(image, cut, example))

    def seen(self, image: Image, cut: Cut, example: Image) -> Any:
        """Labels of a cut as a layer shows them: of a large image, coarser ones too."""
        hierarchy = self.of[image].hierarchy
        if not hierarchy.coarse or cut.mode in ("objects", "markers"):
            return self.labels(image, cut, example)
        return hierarchy.map_to_pyramid(self._of_patch(image, cut, example))

    def _of_patch(self, image: Image, cut: Cut, example: Image) -> np.ndarray:
        prototypes = self._prototypes(image, cut, example)
        return narrow(self.cut_of(image, cut).of_patch(self.of[image].hierarchy, prototypes))

    def cut_of(self, image: Image, cut: Cut) -> Cut:
        """Return the cut with what was merged and split by hand in this image."""
        result = self.of.get(image)
        edits = result.edits if result is not None and cut.mode == "regions" else ()
        return replace(cut, edits=edits)

    def _prototypes(self, image: Image, cut: Cut, example: Image) -> Prototypes | None:
        if cut.mode != "classes":
            return None
        fixed = self.classes.fixed_for(self.of[image].model)
        if fixed is not None or image is example:
            return fixed
        source = self.of[example].hierarchy
        return source.prototypes(min(cut.n_classes, source.max_classes))

    def _from_markers(self, result: Result, cut: Cut) -> np.ndarray:
        strokes = None if result.markers is None else np.asarray(result.markers.data)
        if strokes is None or not strokes.any():
            return np.zeros(result.hierarchy.patches.shape, np.uint16)  # nothing painted yet
        return narrow(cut.labels(result.hierarchy, markers=strokes))

    def _objects(self, image: Image, cut: Cut) -> np.ndarray | None:
        """Objects as far as they are found; looks for them in a thread where they are not."""
        result = self.of[image]
        prototypes = None if cut.class_ids is None else self.classes.fixed_for(result.model)
        return self.finder.objects(image, result.hierarchy, cut, prototypes)

    def number_of_objects(self, image: Image | None, cut: Cut) -> int | None:
        """Return how many objects of a cut are known; None if they are not."""
        result = None if image is None else self.of.get(image)
        if result is None:
            return None
        prototypes = None if cut.class_ids is None else self.classes.fixed_for(result.model)
        labels = self.finder.known(image, result.hierarchy, cut, prototypes)
        return None if labels is None else int(labels.max(initial=0))

    def foreground_class(self, image: Image, cut: Cut) -> int:
        """Return the class of which the largest part stands out; the brightest if none is known."""
        classes = self.labels(image, replace(cut, mode="classes", class_ids=None), image)
        objects = self._objects(image, replace(cut, mode="objects", class_ids=None))
        if objects is None or not objects.any():
            return int(classes.max())
        size = np.bincount(classes.ravel())
        inside = np.bincount(classes[objects > 0], minlength=len(size))
        return int(np.argmax(inside / np.maximum(size, 1)))

    def compare(self, comparison: ComparisonParams) -> None:
        """Compare patches differently, in a thread; the newest wish wins."""
        self._wanted = comparison
        if not self.runner.busy:
            self._start()

    def _start(self) -> None:
        comparison = self._wanted
        stale = {
            image: result.hierarchy
            for image, result in self.of.items()
            if comparison is not None and result.hierarchy.comparison != comparison
        }
        self._wanted = None
        if stale:
            self._sources = stale
            job = Job("comparing patches", comparing(stale, comparison))
            self.runner.start(job, in_activity_dock=False)

    def _on_compared(self, outcome: Done | Stopped | Failed) -> None:
        if isinstance(outcome, Done):
            for image, hierarchy in outcome.result.items():
                # An image that was segmented anew or removed meanwhile is left alone.
                if image in self.of and self.of[image].hierarchy is self._sources[image]:
                    self.of[image].hierarchy = hierarchy
        self._sources = {}
        if self._wanted is not None:
            self._start()
        if isinstance(outcome, Done):
            self.changed.emit()
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)


def _same_patches(one: Hierarchy, other: Hierarchy) -> bool:
    """Whether two hierarchies of one image have the same patches; those on disk are not read."""
    if one.coarse or other.coarse or one.n_patches != other.n_patches:
        return False
    return bool(np.array_equal(one.patches, other.patches))


def model_of(hierarchy: Hierarchy, model: Model | None) -> Model | None:
    """Return the model if the hierarchy is of it, else None."""
    if model is None:
        return None
    meant = model.has_fingerprint(hierarchy.model_fingerprint, hierarchy.axes.channels)
    return model if meant else None


def narrow(labels: np.ndarray) -> np.ndarray:
    """Labels in 16 bits if possible: napari draws them in little more than half the time."""
    return labels.astype(np.uint16) if labels.max(initial=0) < 2**16 else labels
