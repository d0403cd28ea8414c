"""Answers what previews ask for, in threads: objects, classes from strokes, refined borders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.delay import Delay
from napari_aeseg._napari.work.worker import Done, Failed, Job, Outcome
from napari_aeseg._napari.work_requests import Request, StrokesRequest, ViewRequest

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState

_MILLISECONDS_OF_REST = 50  # a slider that is dragged changes labels more often


class Answerer(Background):
    """Answers requests for images; all that wait together, and the newest for an image wins.

    Requests are written to a field of the state with their answers.
    """

    def __init__(self, state: DockState, field: str, milliseconds_of_rest: int = 0) -> None:
        super().__init__(state)
        self._field = field
        self._waiting: dict[Any, Request] = {}
        self._running: dict[Any, Request] = {}
        self._delay = Delay(milliseconds_of_rest, self._start)

    @property
    def busy(self) -> bool:
        """Whether requests are being answered, or will be in a moment."""
        return super().busy or bool(self._waiting)

    def close(self) -> None:
        """Stop, and ignore the outcome."""
        self._waiting.clear()
        self._delay.cancel()
        super().close()

    def ask(self, image: Any, request: Request | None) -> None:
        """Have a request answered in a moment; None: what was asked for before is not needed."""
        self._waiting.pop(image, None)
        running = self._running.get(image)
        if request is not None and (running is None or not running.gives_same(request)):
            self._waiting[image] = request
            self._delay.start()

    def _start(self) -> None:
        if self._waiting and not self._runner.busy:
            self._running, self._waiting = requests, _ = self._waiting, {}
            title = next(iter(requests.values())).title
            work = Job(title, lambda stop: {key: r.answer(stop) for key, r in requests.items()})
            self._runner.start(work)

    def _on_ended(self, outcome: Outcome) -> None:
        requests, self._running = self._running, {}
        if isinstance(outcome, Done):
            self._take(requests, outcome.result)
        elif isinstance(outcome, Failed):
            self.failed.emit(outcome.error)
        if not self._delay.is_waiting:
            self._start()

    def _take(self, requests: Mapping[Any, Request], answers: Mapping[Any, Any]) -> None:
        images = self._state.results  # one may have been removed meanwhile
        new = {image: (r, answers[image]) for image, r in requests.items() if image in images}
        setattr(self._state, self._field, {**getattr(self._state, self._field), **new})


class StrokeLearner(Answerer):
    """Answers one request for all images, so that the preview follows the brush."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state, "learned")

    def learn(self, request: StrokesRequest) -> None:
        """Have classes learned."""
        self.ask(None, request)

    def _take(self, requests: Mapping[Any, Request], answers: Mapping[Any, Any]) -> None:
        (self._state.learned,) = answers.values()


class UncertaintyFinder(Answerer):
    """Finds how uncertain classes from strokes are, for the layers that show it."""

    found = Signal(dict)  # values of each image

    def __init__(self, state: DockState) -> None:
        super().__init__(state, "", _MILLISECONDS_OF_REST)

    def _take(self, requests: Mapping[Any, Request], answers: Mapping[Any, Any]) -> None:
        self.found.emit(dict(answers))


class BorderRefiner(Answerer):
    """Refines borders once the controls rest; of images in blocks, those in view."""

    def __init__(self, state: DockState) -> None:
        super().__init__(state, "refined", _MILLISECONDS_OF_REST)

    def ask(self, image: Any, request: Request | None) -> None:
        """Have labels refined; end early what keeps the chunks that are done."""
        super().ask(image, request)
        is_wanted = request is not None and image not in self._waiting
        of_views = all(isinstance(running, ViewRequest) for running in self._running.values())
        if image in self._running and not is_wanted and of_views:
            self._runner.stop()

    def _start(self) -> None:
        for image, request in self._waiting.items():  # with what has been refined meanwhile
            before = self._state.refined.get(image)
            if isinstance(request, ViewRequest) and before and request.continues(before[0]):
                self._waiting[image] = replace(request, refined=before[1])
        super()._start()
