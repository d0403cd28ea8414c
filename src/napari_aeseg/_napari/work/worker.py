"""Runs the core's generators in a napari thread worker, and reports on the GUI thread.

Four habits of the workers are worked around here. A generator worker swallows a `RuntimeError`
(and torch's out-of-memory error is one), so nothing is ever raised into it: the outcome is its
result. `worker.quit()` drops the generator where it stands, with the model and the memory of the
GPU, so quitting sets an event instead that the core looks at. And napari keeps the `quit` of every
worker as long as its window lives, which outlives its closing, so `quit` refers to the job weakly,
and the job gives up what it holds when it ends. At last, a worker runs in `catch_warnings`, which
is not for threads: of two that overlap, one sets what the other had set when it began, and from
then on Python's warnings go to a worker that has ended. Here they go where they always do.

The window waits for Python's lock at each of the hundreds of calls that draw a layer, by default up
to 5 ms each time; while there is work, a tenth of that.

Besides, a worker begins a moment after it was started, and at its end napari waits only for workers
that have begun: the others are waited for here.
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from threading import Event
from typing import Any
from weakref import ref

from napari.qt.threading import GeneratorWorker, create_worker
from psygnal import EmitLoopError, Signal
from qtpy.QtCore import QEventLoop, QThreadPool, QTimer

from napari_aeseg._napari.work.imports import import_core
from napari_aeseg.errors import AesegError, DeviceError, StoppedError, is_out_of_memory
from napari_aeseg.progress import Progress, TrainingProgress, passed_on

Work = Callable[[Event], Any]

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_EVENTS = 0.1
_MILLISECONDS_BETWEEN_CHECKS = 10
_SECONDS_WITH_THE_LOCK = 5e-4  # after which a thread gives it up if another one waits
_SECONDS_BY_DEFAULT = sys.getswitchinterval()


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


Outcome = Done | Stopped | Failed


class Job:
    """One piece of work for one thread.

    `work` gets an event that is set when it should stop, and returns the result, or a generator of
    `Progress` events that returns it. It is called in the thread, so torch is imported there too.
    """

    def __init__(self, title: str, work: Work) -> None:
        self.title = title
        self.stop = Event()
        self.abandoned = False
        self._work: Work | None = work

    def __repr__(self) -> str:
        return f"AE Segment: {self.title}"  # napari shows it when the window is closed meanwhile

    def abandon(self) -> None:
        """Let the work come to its end unheard; napari calls it when the window closes."""
        self.abandoned = True
        self.stop.set()

    def run(self) -> Generator[Progress, None, Outcome]:
        """Do the work in this thread, once; never raise, whatever the work raises."""
        work, self._work = self._work, None
        assert work is not None, "a job runs once"  # noqa: S101
        if self.abandoned:  # before it began: importing torch would keep the process for seconds
            return Stopped("")
        try:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(import_core).result()
            result = work(self.stop)
            if isinstance(result, Generator):
                result = yield from passed_on(result, _as_many_as_can_be_shown())
            return Done(result, self.stop.is_set())
        except StoppedError as error:
            return Stopped(str(error))
        except Exception as error:  # noqa: BLE001 - what escapes here is swallowed
            return Failed(log_unexpected(error, self.title))


def _as_many_as_can_be_shown() -> Callable[[Progress], Progress | None]:
    """Return what leaves the first and the last event of a stage, those with a message, and some.

    Those of training, at most ten a second, are left too.
    """
    last_time, stage = 0.0, ""

    def if_due(event: Progress) -> Progress | None:
        nonlocal last_time, stage
        is_due = event.stage != stage or event.done >= event.total or bool(event.message)
        is_due = is_due or isinstance(event, TrainingProgress)
        if not is_due and time.monotonic() - last_time < _SECONDS_BETWEEN_EVENTS:
            return None
        last_time, stage = time.monotonic(), event.stage
        return event

    return if_due


def log_unexpected(error: Exception, title: str) -> Exception:
    """Log where an unexpected error came from; return it `explained`."""
    while isinstance(error, EmitLoopError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if not isinstance(error, AesegError | OSError):
        _log.error("%s failed\n%s", title, "".join(traceback.format_exception(error)))
    return explained(error)


def explained(error: Exception) -> Exception:
    """Return an error fit to be shown and kept: with what to do, and without its frames.

    Frames hold the arrays and networks of the work that failed.
    """
    if is_out_of_memory(error):
        return DeviceError(
            f"Out of memory ({str(error).strip() or 'no details'}). Choose smaller crops, batches "
            "or tiles under 'More', or the device 'cpu', or close other programs."
        )
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error


# Workers that have not ended, abandoned or not: a thread whose worker is collected fails.
_UNFINISHED: dict[object, _Worker] = {}


class _Worker(GeneratorWorker):
    def __init__(self, run: Callable[[], Generator[Progress, None, Any]]) -> None:
        super().__init__(run)
        self.aeseg_job: Job = run.__self__  # type: ignore[attr-defined] # a bound method of it

    def run(self) -> None:
        """Do the work, in Qt's thread, and emit the signals of every worker."""
        self.started.emit()
        self._running = True
        outcome = self.work()  # a job never raises: what comes as an error is of Qt, at its end
        if isinstance(outcome, Exception):
            _log.warning("%r could not report: %s", self.aeseg_job, outcome)
            return
        self.returned.emit(outcome)
        self._running = False
        self.finished.emit()
        self._finished.emit(self)

    @property
    def quit(self) -> Callable[[], None]:
        """A callable that keeps neither the worker nor the job."""
        return partial(_abandon, ref(self.aeseg_job))


def _forget(key: object) -> None:
    _UNFINISHED.pop(key, None)
    if not _UNFINISHED:
        sys.setswitchinterval(_SECONDS_BY_DEFAULT)


def _abandon(job: ref[Job]) -> None:
    running = job()
    if running is not None:
        running.abandon()


@cache
def _wait_at_exit() -> None:
    """Have workers waited for before Qt deletes the objects of their signals: they would crash.

    To be called when there is an application, whose end comes after what is registered later.
    """
    atexit.register(_end_all)


def _end_all() -> None:
    for worker in list(_UNFINISHED.values()):
        worker.aeseg_job.abandon()
    QThreadPool.globalInstance().waitForDone()


class JobRunner:
    """Runs one job at a time and reports on the GUI thread; an abandoned job is silent."""

    progressed = Signal(object)  # Progress
    ended = Signal(object)  # Outcome; `busy` is False by then

    def __init__(self) -> None:
        self._job: Job | None = None
        self._worker: _Worker | None = None  # Qt does not keep it

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._job is not None

    def start(self, job: Job, in_activity_dock: bool = False) -> None:
        """Run a job in a thread of its own; returns at once."""
        self.abandon()
        _wait_at_exit()
        self._job = job
        key = object()
        self._worker = create_worker(
            job.run,
            _worker_class=_Worker,
            # No total: with one, napari redraws the window, and lets in other events, at each tick.
            _progress={"desc": repr(job)} if in_activity_dock else None,
            _connect={
                "yielded": partial(self._on_progress, job),
                "returned": partial(self._on_ended, job),
                "errored": lambda error: self._on_ended(job, Failed(error)),
                "finished": partial(_forget, key),
            },
        )
        _UNFINISHED[key] = self._worker
        sys.setswitchinterval(_SECONDS_WITH_THE_LOCK)
        if self._worker.pbar is not None:
            self._worker.pbar.leave = False  # no line on the terminal where there is no dock

    def stop(self) -> None:
        """Ask the running job to stop, if there is one; it still ends with what it has."""
        if self._job is not None:
            self._job.stop.set()

    def abandon(self) -> None:
        """Stop the running job and ignore its outcome."""
        self.stop()
        self._job = self._worker = None

    def _on_progress(self, job: Job, event: Progress) -> None:
        if job is self._job:
            self.progressed.emit(event)

    def _on_ended(self, job: Job, outcome: Outcome) -> None:
        if job is self._job:
            self._job = self._worker = None
            if not job.abandoned:
                self.ended.emit(outcome)


def wait_until(done: Callable[[], bool], timeout: float | None = None) -> bool:
    """Let Qt work until `done` returns True; return False if it does not within the timeout.

    `done` is called every 10 ms; `timeout` is in seconds.
    """
    loop, check, end = QEventLoop(), QTimer(), QTimer()
    check.timeout.connect(lambda: loop.quit() if done() else None)
    check.start(_MILLISECONDS_BETWEEN_CHECKS)
    if timeout is not None:
        end.timeout.connect(loop.quit)
        end.start(int(1000 * timeout))
    if not done():
        loop.exec_()
    for timer in (check, end):  # a traceback may keep them alive
        timer.stop()
    return done()
