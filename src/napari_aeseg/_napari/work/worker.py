"""Runs the core's generators in a napari thread worker, and says on the GUI thread how they went.

Three habits of the workers are worked around here. A generator worker swallows a `RuntimeError`
(and torch's out-of-memory error is one), so nothing is ever raised into it: the outcome is its
result. `worker.quit()` drops the generator where it stands, with the model and the memory of the
GPU, so quitting sets an event instead that the core looks at. And napari keeps the `quit` of every
worker as long as its window lives, which outlives its closing, so `quit` refers to the job weakly,
and the job gives up what it holds when it ends.

Besides, a worker begins a moment after it was told to, and napari waits at its end for those only
that have begun: the others are waited for here.
"""

from __future__ import annotations

import atexit
import logging
import time
import traceback
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Event
from typing import TYPE_CHECKING, Any
from weakref import ref

from napari.qt.threading import GeneratorWorker, create_worker
from psygnal import EmitLoopError, Signal
from qtpy.QtCore import QThreadPool

from napari_aeseg.errors import AesegError, DeviceError, StoppedError
from napari_aeseg.progress import TrainingProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_aeseg.progress import Progress

    Work = Callable[[Event], Generator[Progress, None, Any]]

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_EVENTS = 0.1


@dataclass(frozen=True, slots=True)
class Done:
    """Work that came to a result; `stopped` when it was asked to stop before the end."""

    result: Any
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """Work that was stopped before there was a result; `text` says where."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Work that failed with `error`, which keeps no frames alive."""

    error: Exception


class Job:
    """One piece of work for one thread.

    Parameters
    ----------
    title : str
        What it does, for the user.
    work : callable
        Gets an event that is set when it should stop, and returns a generator of `Progress`
        events that returns the result. Called in the thread, so torch is imported there too.
    """

    def __init__(self, title: str, work: Work) -> None:
        self.title = title
        self.stop = Event()
        self.abandoned = False  # the window closes: nobody is there to hear the outcome
        self._work: Work | None = work

    def __repr__(self) -> str:
        return f"AE Segment: {self.title}"  # napari shows it when the window is closed meanwhile

    def abandon(self) -> None:
        """Let the work come to its end, for nobody; napari calls it when the window closes."""
        self.abandoned = True
        self.stop.set()

    def run(self) -> Generator[Progress, None, Done | Stopped | Failed]:
        """Do the work in this thread, once; never raise, whatever the work raises."""
        work, self._work = self._work, None
        assert work is not None, "a job runs once"  # noqa: S101
        if self.abandoned:  # before it began: importing torch would keep the process for seconds
            return Stopped("")
        try:
            result = yield from throttled(work(self.stop))
        except StoppedError as error:
            return Stopped(str(error))
        except Exception as error:  # noqa: BLE001 - what escapes here is swallowed
            return Failed(noted(error, self.title))
        return Done(result, self.stop.is_set())


def throttled(
    events: Generator[Progress, None, Any], seconds: float = _SECONDS_BETWEEN_EVENTS
) -> Generator[Progress, None, Any]:
    """Pass on as many events as a window can show, and return what `events` returns.

    The first and the last of a stage and those with a message or a picture always get through; the
    losses of an event that is held back come with the next one.
    """
    shown, stage = 0.0, ""
    losses: tuple[float, ...] = ()
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        if isinstance(event, TrainingProgress):
            losses += event.losses
            event = replace(event, losses=losses)
        new = event.stage != stage or event.done >= event.total or event.message
        new = new or getattr(event, "preview", None) is not None
        if new or time.monotonic() - shown >= seconds:
            shown, stage, losses = time.monotonic(), event.stage, ()
            yield event


def noted(error: Exception, title: str) -> Exception:
    """Write down where an error that nobody foresaw came from; return it `explained`."""
    while isinstance(error, EmitLoopError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if not isinstance(error, AesegError | OSError):
        _log.error("%s failed\n%s", title, "".join(traceback.format_exception(error)))
    return explained(error)


def explained(error: Exception) -> Exception:
    """Return an error fit to be shown and kept: with what to do, and without the frames of it.

    Frames hold the arrays and networks of the work that failed.
    """
    if not isinstance(error, AesegError) and (
        isinstance(error, MemoryError) or "out of memory" in str(error).lower()
    ):
        return DeviceError(
            f"Out of memory ({str(error).strip() or 'no details'}). Choose smaller crops, batches "
            "or tiles under 'More', or the device 'cpu', or close other programs."
        )
    kept: BaseException | None = error
    while kept is not None:
        kept.__traceback__ = None
        kept = kept.__cause__ or kept.__context__
    return error


# Workers whose end nobody has heard yet, left behind or not: a thread whose worker is gone fails.
_AT_WORK: dict[object, _Worker] = {}


class _Worker(GeneratorWorker):
    def __init__(self, run: Callable[[], Generator[Progress, None, Any]]) -> None:
        super().__init__(run)
        self._aeseg_job: Job = run.__self__  # type: ignore[attr-defined]

    @property
    def quit(self) -> Callable[[], None]:
        """A callable that keeps neither the worker nor the job."""
        return partial(_abandon, ref(self._aeseg_job))


def _abandon(job: ref[Job]) -> None:
    running = job()
    if running is not None:
        running.abandon()


@cache
def _wait_at_exit() -> None:
    """Have work waited for before Qt takes away what workers speak through: they would crash.

    To be called when there is an application, whose end comes after what is registered later.
    """
    atexit.register(_end_all)


def _end_all() -> None:
    for worker in list(_AT_WORK.values()):
        worker._aeseg_job.abandon()
    QThreadPool.globalInstance().waitForDone()


class JobRunner:
    """Runs one job at a time and reports on the GUI thread; a job that was left behind is silent.

    Attributes
    ----------
    progressed : psygnal.Signal(Progress)
    ended : psygnal.Signal(Done or Stopped or Failed)
        `busy` is False by then.
    """

    progressed = Signal(object)
    ended = Signal(object)

    def __init__(self) -> None:
        self._job: Job | None = None
        self._worker: _Worker | None = None  # Qt does not keep it

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._job is not None

    def start(self, job: Job, in_activity_dock: bool = True) -> None:
        """Run a job in a thread of its own; returns at once."""
        self.leave()
        _wait_at_exit()
        self._job = job
        key = object()
        self._worker = create_worker(
            job.run,
            _worker_class=_Worker,
            # No total: with one, napari redraws the window, and lets in other events, at each tick.
            _progress={"desc": repr(job)} if in_activity_dock else None,
            _connect={
                "yielded": partial(self._progressed, job),
                "returned": partial(self._ended, job),
                "errored": partial(self._errored, job),
                "finished": partial(_AT_WORK.pop, key, None),
            },
        )
        _AT_WORK[key] = self._worker
        if self._worker.pbar is not None:
            self._worker.pbar.leave = False  # no line on the terminal where there is no dock

    def stop(self) -> None:
        """Ask the running job to stop, if there is one; it still ends with what it has."""
        if self._job is not None:
            self._job.stop.set()

    def leave(self, *_: object) -> None:
        """Stop the running job and hear no more of it."""
        self.stop()
        self._job = self._worker = None

    def _progressed(self, job: Job, event: Progress) -> None:
        if job is self._job:
            self.progressed.emit(event)

    def _ended(self, job: Job, outcome: Done | Stopped | Failed) -> None:
        if job is self._job:
            self._job = self._worker = None
            if not job.abandoned:
                self.ended.emit(outcome)

    def _errored(self, job: Job, error: Exception) -> None:
        self._ended(job, Failed(error))
