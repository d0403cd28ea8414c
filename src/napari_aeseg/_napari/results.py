"""The segmented images: their hierarchies, their previews, and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from napari.layers import Labels
from psygnal import Signal

from napari_aeseg._napari.jobs import finding_objects, reweighting
from napari_aeseg._napari.layers import labels_arguments
from napari_aeseg._napari.preview import Preview
from napari_aeseg._napari.worker import Done, Failed, Job, JobRunner
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg._napari.worker import Stopped
    from napari_aeseg.regions.hierarchy import Hierarchy


@dataclass(frozen=True, slots=True)
class _Objects:
    """Objects found in an image, and what they depend on."""

    brightness: np.ndarray
    min_size: int | None
    labels: np.ndarray


class Results:
    """Hierarchies and previews by image layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Attributes
    ----------
    changed : psygnal.Signal()
        Hierarchies compare patches differently now, or objects are found; not yet shown.
    failed : psygnal.Signal(Exception)
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.hierarchies: dict[Image, Hierarchy] = {}
        self._previews: dict[Image, Preview] = {}
        self.runner = JobRunner()
        self.runner.ended.connect(self._on_reweighted)
        self._finder = JobRunner()
        self._finder.ended.connect(self._on_found)
        self._objects: dict[Image, _Objects] = {}
        self._wanted: tuple[float, float | Literal["auto"]] | None = None

    @property
    def busy(self) -> bool:
        """Whether anything that the previews wait for is going on."""
        return self.runner.busy or self._finder.busy

    def leave(self) -> None:
        """Leave what is going on, and be silent from now on."""
        self.runner.leave()
        self._finder.leave()

    def forget_removed(self) -> None:
        """Give up what belongs to images that are no longer in the viewer; layers stay."""
        for image in [i for i in self.hierarchies if i not in self._viewer.layers]:
            del self.hierarchies[image]
            self._previews.pop(image, None)
            self._objects.pop(image, None)

    def preview_of(self, image: Image) -> Labels | None:
        """Return the preview layer of an image, if there is one."""
        preview = self._previews.get(image)
        return None if preview is None else preview.layer

    def show(self, images: Iterable[Image], cut: Cut, place: bool = False) -> None:
        """Show a cut in the previews of those images that are segmented."""
        images = [image for image in images if image in self.hierarchies]
        if not images:
            return
        # Painted first: a cut that is refused must not leave some previews changed.
        if cut.mode == "objects":
            self._find_objects(images, cut)
            images = [image for image in images if self._known(image, cut) is not None]
        painted = [self._labels(image, cut, self.hierarchies[images[0]]) for image in images]
        for image, labels in zip(images, painted, strict=True):
            preview = self._previews.setdefault(image, Preview(self._viewer, image))
            preview.show(labels, self.hierarchies[image].axes, place)

    def _labels(self, image: Image, cut: Cut, example: Hierarchy) -> np.ndarray:
        """Labels of a cut as they are shown."""
        hierarchy = self.hierarchies[image]
        if cut.mode == "objects":
            known = self._known(image, cut)
            return _narrow(hierarchy.objects(min_size=cut.min_size) if known is None else known)
        # Ids from one image, so that a class means the same in all.
        shared = cut.mode == "classes" and example is not hierarchy
        prototypes = cut.prototypes_of(example) if shared else None
        return hierarchy.paint(_narrow(cut.of_patch(hierarchy, prototypes)))

    def _known(self, image: Image, cut: Cut) -> np.ndarray | None:
        """Objects of an image as far as they are found; they do not depend on the weights."""
        found = self._objects.get(image)
        asked = (self.hierarchies[image].brightness, cut.min_size)
        if found is None or found.brightness is not asked[0] or found.min_size != asked[1]:
            return None
        return found.labels

    def _find_objects(self, images: list[Image], cut: Cut) -> None:
        """Look for objects in a thread, where they are not known; `changed` follows."""
        missing = {i: self.hierarchies[i] for i in images if self._known(i, cut) is None}
        if missing and not self._finder.busy:  # else it is asked for again when that is done
            self._looking = (missing, cut.min_size)
            job = Job("looking for objects", finding_objects(missing, cut.min_size))
            self._finder.start(job, in_activity_dock=False)

    def _on_found(self, outcome: Done | Stopped | Failed) -> None:
        if isinstance(outcome, Done):
            hierarchies, min_size = self._looking
            for image, labels in outcome.result.items():
                if image not in self.hierarchies:  # removed meanwhile
                    continue
                brightness = hierarchies[image].brightness
                self._objects[image] = _Objects(brightness, min_size, labels)
            self.changed.emit()
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)

    def keep(self, images: Iterable[Image], cut: Cut) -> list[Labels]:
        """Copy what a cut shows to new layers, which are the user's from then on."""
        images = [image for image in images if image in self.hierarchies]
        if not images:
            raise InputError("There is nothing to keep: segment an image first.")
        kept = []
        for image in images:
            hierarchy = self.hierarchies[image]
            labels = self._labels(image, cut, self.hierarchies[images[0]])
            layer = Labels(
                labels.astype(np.int32),  # a copy: the preview may show the same array
                name=f"{image.name} {cut.title(hierarchy)}",
                features=hierarchy.table(labels),
                metadata={"napari-aeseg": cut.record(hierarchy, image.name)},
                visible=False,  # it would shine through the preview once that moves on
                **labels_arguments(image, hierarchy.axes),
            )
            self._put_under_preview(layer, image)
            kept.append(layer)
        return kept

    def _put_under_preview(self, layer: Labels, image: Image) -> None:
        layers = self._viewer.layers
        selected = set(layers.selection)
        preview = self.preview_of(image)
        layers.insert(len(layers) if preview is None else layers.index(preview), layer)
        layers.selection = selected  # a hidden layer is not what anybody wants to work on next

    def reweight(self, balance: float, scale: float | Literal["auto"]) -> None:
        """Compare patches differently, in a thread; the newest wish wins."""
        self._wanted = (balance, scale)
        if not self.runner.busy:
            self._start()

    def _start(self) -> None:
        balance, scale = self._wanted or (0, 0)
        stale = {
            image: hierarchy
            for image, hierarchy in self.hierarchies.items()
            if (hierarchy.params.balance, hierarchy.params.scale) != (balance, scale)
        }
        self._wanted = None
        if stale:
            self._sources = stale
            job = Job("comparing patches", reweighting(stale, balance, scale))
            self.runner.start(job, in_activity_dock=False)

    def _on_reweighted(self, outcome: Done | Stopped | Failed) -> None:
        if isinstance(outcome, Done):
            for image, hierarchy in outcome.result.items():
                # An image that was segmented anew or removed meanwhile is left alone.
                if self.hierarchies.get(image) is self._sources[image]:
                    self.hierarchies[image] = hierarchy
        self._sources = {}
        if self._wanted is not None:
            self._start()
        if isinstance(outcome, Done):
            self.changed.emit()
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)


def _narrow(labels: np.ndarray) -> np.ndarray:
    """Labels in 16 bits if possible: napari draws them in little more than half the time."""
    return labels.astype(np.uint16) if labels.max(initial=0) < 2**16 else labels
