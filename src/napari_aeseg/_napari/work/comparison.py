"""Compares the patches of segmented images anew, in a thread, when the controls have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.jobs import comparing
from napari_aeseg._napari.work.worker import Done, Failed, Job, Outcome

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.state import DockState
    from napari_aeseg.params import ComparisonParams
    from napari_aeseg.regions.hierarchy import Hierarchy


class Comparer(Background):
    """Brings hierarchies in line with the state's `comparison`; the newest value wins."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state)
        self._running: tuple[dict[Image, Hierarchy], ComparisonParams | None] = ({}, None)
        self._failed: dict[Image, tuple[Hierarchy, ComparisonParams | None]] = {}
        state.on("comparison", "results", draw=self._update)

    def _update(self) -> None:
        if self._runner.busy:
            return
        comparison = self._state.comparison
        hierarchies = {image: result.hierarchy for image, result in self._state.results.items()}
        stale = {
            image: hierarchy
            for image, hierarchy in hierarchies.items()
            if hierarchy.comparison != comparison and not self._has_failed(image, hierarchy)
        }
        if stale:
            self._running = (stale, comparison)
            self._runner.start(Job("comparing patches", comparing(stale, comparison)))

    def _has_failed(self, image: Image, hierarchy: Hierarchy) -> bool:
        """Whether this hierarchy could not be compared in the way that is asked for."""
        failed, comparison = self._failed.get(image, (None, None))
        return failed is hierarchy and comparison == self._state.comparison

    def _on_ended(self, outcome: Outcome) -> None:
        (hierarchies, comparison), self._running = self._running, ({}, None)
        if isinstance(outcome, Done):
            # An image that was segmented anew or removed meanwhile is left alone.
            pairs = {image: (hierarchies[image], new) for image, new in outcome.result.items()}
            self._state.compare_anew(pairs)
        elif isinstance(outcome, Failed):
            self._failed = {image: (h, comparison) for image, h in hierarchies.items()}
            first = self._state.hierarchy
            if first is not None and self._state.comparison == comparison:
                self._state.comparison = first.comparison  # that the preview shows
        self._update()
        if isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
