"""Finds objects in a thread, and remembers what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_aeseg._napari.work.jobs import finding_objects
from napari_aeseg._napari.work.worker import Done, Failed, Job, JobRunner

if TYPE_CHECKING:
    import numpy as np
    from napari.layers import Image

    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg._napari.work.worker import Stopped
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.hierarchy import Hierarchy

    Search = tuple[Hierarchy, Cut, Prototypes | None]


class ObjectFinder:
    """One search at a time; the newest wish for an image wins.

    Attributes
    ----------
    found : psygnal.Signal()
    failed : psygnal.Signal(Exception)
    """

    found = Signal()
    failed = Signal(object)

    def __init__(self) -> None:
        self._found: dict[Image, tuple[tuple[Any, ...], np.ndarray]] = {}
        self._wanted: dict[Image, Search] = {}
        self._running: dict[Image, Search] = {}
        self._runner = JobRunner()
        self._runner.ended.connect(self._on_ended)

    @property
    def busy(self) -> bool:
        """Whether something is looked for."""
        return self._runner.busy

    def leave(self) -> None:
        """Leave what is going on, and be silent from now on."""
        self._wanted.clear()
        self._runner.leave()

    def forget(self, image: Image) -> None:
        """Give up what was found in an image."""
        for known in (self._found, self._wanted, self._running):
            known.pop(image, None)

    def known(
        self, image: Image, hierarchy: Hierarchy, cut: Cut, prototypes: Prototypes | None
    ) -> np.ndarray | None:
        """Return the objects if they are known, else None."""
        key, labels = self._found.get(image, ((), None))
        return labels if _same(key, _key(hierarchy, cut, prototypes)) else None

    def objects(
        self, image: Image, hierarchy: Hierarchy, cut: Cut, prototypes: Prototypes | None
    ) -> np.ndarray | None:
        """Return the objects if they are known, else None and look for them: `found` follows."""
        search = (hierarchy, cut, prototypes)
        labels = self.known(image, *search)
        if labels is not None:
            return labels
        running = self._running.get(image)
        if running is None or not _same(_key(*running), _key(*search)):
            self._wanted[image] = search
            if not self._runner.busy:
                self._start()
        return None

    def _start(self) -> None:
        self._running, self._wanted = self._wanted, {}
        job = Job("looking for objects", finding_objects(dict(self._running)))
        self._runner.start(job, in_activity_dock=False)

    def _on_ended(self, outcome: Done | Stopped | Failed) -> None:
        searches, self._running = self._running, {}
        if isinstance(outcome, Done):
            for image, search in searches.items():  # without those that were given up meanwhile
                self._found[image] = (_key(*search), outcome.result[image])
        if self._wanted:
            self._start()
        if isinstance(outcome, Done):
            self.found.emit()
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)


def _key(hierarchy: Hierarchy, cut: Cut, prototypes: Prototypes | None) -> tuple[Any, ...]:
    """What objects depend on; those that stand out, on the image and the smallest size only."""
    if cut.class_ids is None:
        return (hierarchy.brightness, cut.min_size)
    wanted = cut.n_classes if prototypes is None else prototypes
    return (hierarchy, cut.min_size, cut.class_ids, wanted)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Compare keys: plain values by value, arrays and hierarchies by identity."""
    return len(one) == len(other) and all(
        a is b or (isinstance(a, int | tuple) and a == b) for a, b in zip(one, other, strict=True)
    )
