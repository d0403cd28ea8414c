"""The queue of jobs that the user starts: one runs at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_aeseg._napari.work.errors import Reporter, error_text
from napari_aeseg._napari.work.worker import (
    Failed,
    Job,
    JobRunner,
    Outcome,
    Stopped,
    Work,
    log_unexpected,
)
from napari_aeseg.errors import AesegError, InputError

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState
    from napari_aeseg.progress import Progress


@dataclass(frozen=True)
class Task:
    """One job of the queue, and what becomes of its result."""

    subject: str  # what is worked on, such as the name of an image
    title: str  # what is done, such as "Segmenting tissue"
    work: Work
    # Gets the result and whether the work was stopped, changes the state, returns lines for the
    # user.
    finish: Callable[[Any, bool], list[str]]
    # Gets the result when the next task has begun, or none is left.
    announce: Callable[[Any], object] | None = None
    independent: bool = False  # whether the tasks after it go on when it has failed


class JobQueue:
    """Runs tasks one after the other, and tells the state how they go."""

    progressed = Signal(object)  # Progress
    stopped = Signal(str)  # the user stopped the tasks; the text says what is kept

    def __init__(self, state: DockState, reporter: Reporter) -> None:
        self._state = state
        self._reporter = reporter
        self._tasks: Iterator[Task] = iter(())
        self._task: Task | None = None
        self._lines: list[str] = []  # for the user, when all tasks have ended
        self._runner = JobRunner()
        self._runner.progressed.connect(self._on_progress)
        self._runner.ended.connect(self._on_ended)

    def run(self, tasks: Iterable[Task]) -> None:
        """Begin some tasks; each is made when the one before it has ended."""
        self.check_free()
        self._reporter.clear()
        self._tasks, self._lines = iter(tasks), []
        self._begin_next()

    def check_free(self) -> None:
        """Raise InputError if a task is running."""
        if busy := self._state.busy:
            raise InputError(f"Still busy with {busy}: wait until it is done, or press Stop.")

    def stop(self) -> None:
        """Ask the running task to stop; those after it do not begin."""
        self._runner.stop()

    def close(self) -> None:
        """Stop, and ignore all outcomes from now on."""
        self._tasks = iter(())
        self._runner.abandon()

    def _begin_next(self) -> None:
        """Begin the next task, if one is left."""
        self._task = next(self._tasks, None)
        if self._task is None:
            self._tasks = iter(())
            self._state.message = "\n".join(self._lines)
            self._state.busy = ""
            return
        self._state.progress = None
        self._runner.start(Job(self._task.title, self._task.work), in_activity_dock=True)
        self._state.message = f"{self._task.title} …"
        self._state.busy = self._task.subject

    def _on_progress(self, event: Progress) -> None:
        self._state.progress = event
        self.progressed.emit(event)

    def _on_ended(self, outcome: Outcome) -> None:
        task = self._task
        assert task is not None, "a job without a task"  # noqa: S101
        if isinstance(outcome, Failed):
            self._on_failed(task, outcome.error)
            return
        stopped = isinstance(outcome, Stopped) or outcome.stopped
        if stopped:
            self._tasks = iter(())
        try:
            lines = (
                [outcome.text]
                if isinstance(outcome, Stopped)
                else task.finish(outcome.result, stopped)
            )
        except Exception as error:  # noqa: BLE001 - nobody else would end what was begun
            self._on_failed(task, log_unexpected(error, task.subject))
            return
        self._lines += lines
        self._begin_next()
        if not isinstance(outcome, Stopped) and task.announce is not None:
            try:
                task.announce(outcome.result)
            except Exception as error:  # noqa: BLE001 - of a script, which does not end the tasks
                self._reporter.report(log_unexpected(error, task.subject))
        if stopped and lines:
            self.stopped.emit(lines[-1])

    def _on_failed(self, task: Task, error: Exception) -> None:
        self._lines.append(error_text(error))
        if not (task.independent and isinstance(error, AesegError)):
            self._tasks = iter(())
        self._begin_next()
        self._reporter.report(error)
