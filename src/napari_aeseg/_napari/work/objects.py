"""Detects objects in a thread, and writes them to the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

from napari_aeseg._napari.work.jobs import finding_objects
from napari_aeseg._napari.work.worker import Done, Failed, Job, JobRunner

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.state import DockState, ObjectSearch
    from napari_aeseg._napari.work.worker import Outcome


class ObjectFinder:
    """Runs one search at a time; the newest search for an image wins.

    Parameters
    ----------
    state : DockState

    Attributes
    ----------
    failed : psygnal.Signal(Exception)
    """

    failed = Signal(object)

    def __init__(self, state: DockState) -> None:
        self._state = state
        self._waiting: dict[Image, ObjectSearch] = {}
        self._running: dict[Image, ObjectSearch] = {}
        self._runner = JobRunner()
        self._runner.ended.connect(self._on_ended)

    @property
    def busy(self) -> bool:
        """Whether objects are being looked for."""
        return self._runner.busy

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._waiting.clear()
        self._runner.abandon()

    def find(self, image: Image, search: ObjectSearch) -> None:
        """Begin to look for objects, unless the running search gives the same."""
        running = self._running.get(image)
        if running is None or not running.gives_same(search):
            self._waiting[image] = search
            if not self._runner.busy:
                self._start()

    def _start(self) -> None:
        self._running, self._waiting = self._waiting, {}
        self._runner.start(Job("detecting objects", finding_objects(dict(self._running))))

    def _on_ended(self, outcome: Outcome) -> None:
        searches, self._running = self._running, {}
        if self._waiting:
            self._start()
        if isinstance(outcome, Done):
            labels = outcome.result
            results = self._state.results  # an image may have been removed meanwhile
            objects = {i: (search, labels[i]) for i, search in searches.items() if i in results}
            self._state.objects = {**self._state.objects, **objects}
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
