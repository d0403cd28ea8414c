"""The segmented images: their hierarchies, their previews, and what is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from napari.layers import Labels
from psygnal import Signal

from napari_aeseg._napari.jobs import reweighting
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


class Results:
    """Hierarchies and previews by image layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Attributes
    ----------
    reweighted : psygnal.Signal()
        Hierarchies compare patches differently now; not yet shown.
    failed : psygnal.Signal(Exception)
    """

    reweighted = Signal()
    failed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.hierarchies: dict[Image, Hierarchy] = {}
        self._previews: dict[Image, Preview] = {}
        self.runner = JobRunner()
        self.runner.ended.connect(self._on_reweighted)
        self._wanted: tuple[float, float | Literal["auto"]] | None = None

    def forget_removed(self) -> None:
        """Give up what belongs to images that are no longer in the viewer; layers stay."""
        for image in [i for i in self.hierarchies if i not in self._viewer.layers]:
            del self.hierarchies[image]
            self._previews.pop(image, None)

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
        example = self.hierarchies[images[0]]
        painted = []
        for image in images:
            hierarchy = self.hierarchies[image]
            lut = cut.of_patch(hierarchy, example)
            # napari draws 16 bits without converting them, in little more than half the time.
            lut = lut.astype(np.uint16) if lut.max() < 2**16 else lut
            painted.append(hierarchy.paint(lut))
        for image, labels in zip(images, painted, strict=True):
            preview = self._previews.setdefault(image, Preview(self._viewer, image))
            preview.show(labels, self.hierarchies[image].axes, place)

    def keep(self, images: Iterable[Image], cut: Cut) -> list[Labels]:
        """Copy what a cut shows to new layers, which are the user's from then on."""
        images = [image for image in images if image in self.hierarchies]
        if not images:
            raise InputError("There is nothing to keep: segment an image first.")
        kept = []
        for image in images:
            hierarchy = self.hierarchies[image]
            labels = hierarchy.paint(cut.of_patch(hierarchy, self.hierarchies[images[0]]))
            layer = Labels(
                labels,
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
            self.reweighted.emit()
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
