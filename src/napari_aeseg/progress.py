"""What long work reports while it runs: small frozen messages, safe to pass between threads."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari_aeseg.errors import InputError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    import numpy as np

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a stage is done.

    Parameters
    ----------
    stage : str
        "read", "train", "patches", "encode", "graph", "tree" or "error"; "file" and "classes" in a
        batch.
    done, total : int
        Steps done and steps in all.
    device : str
        Where the work runs: "cpu", "cuda:0", "mps". Empty for stages without torch.
    seconds_left : float or None
        Estimated from the steps so far; None while there is nothing to estimate from.
    message : str
        A note for the user, such as a fallback to a smaller batch. Mostly empty.
    """

    stage: str
    done: int
    total: int
    device: str = ""
    seconds_left: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPreview:
    """A part of an image as the network reconstructs it, to watch it learn.

    Parameters
    ----------
    pixels : ndarray of float32
        In the units of the image, dimensions in the order of `axes`.
    axes : str
        "Y", "X" and, with channels, "C", in the order in which the image has them.
    offset : tuple of int
        Where the part lies: for each axis of the image but C, in its order, the first row or
        column, or the index of the slice or time point.
    """

    pixels: np.ndarray
    axes: str
    offset: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TrainingProgress(Progress):
    """Progress of training, with the loss.

    Parameters
    ----------
    loss : float
        Mean squared reconstruction error of the last step, in units of normalised intensity.
    losses : tuple of float
        Losses since the previous event, the last one included.
    steps_per_second, images_per_second : float or None
        How fast it goes at present, in steps and in crops; None while that is not known.
    precision : str
        What is trained in: "float32", "bfloat16", or "tf32" where a GPU rounds float32 on the way.
    snapshot : Model or None
        The model so far, if snapshots were asked for and one was due: a copy that nothing changes,
        on the CPU, whose training can be resumed.
    preview : TrainingPreview or None
        The reconstruction of the first image, if previews were asked for and one was due.
    """

    loss: float = float("nan")
    losses: tuple[float, ...] = ()
    steps_per_second: float | None = None
    images_per_second: float | None = None
    precision: str = ""
    # Any: what passes on messages need not know torch.
    snapshot: Any = field(default=None, repr=False, compare=False)
    preview: TrainingPreview | None = field(default=None, repr=False, compare=False)


class StopFlag(Protocol):
    """Anything with `is_set()`, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Return True once the work should stop."""
        ...


def raise_if_stopped(stop: StopFlag | None, stage: str) -> None:
    """Raise `StoppedError` when `stop` is set, and InputError when it is nothing of the kind."""
    if stop is not None and not hasattr(stop, "is_set"):
        raise InputError(f"stop = {stop!r}: give a threading.Event(), or nothing.")
    if stop is not None and stop.is_set():
        raise StoppedError(f"Stopped during '{stage}', before there was a result.")


class Clock:
    """Estimates the time left from the mean speed so far.

    Examples
    --------
    >>> clock = Clock(total=10)
    >>> clock.seconds_left(0) is None
    True
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.start = time.perf_counter()

    def seconds_left(self, done: int) -> float | None:
        """Return the seconds for the steps that remain after `done`, None when none is done."""
        if done == 0:
            return None
        return (time.perf_counter() - self.start) / done * max(self.total - done, 0)


class Pace:
    """Measures how fast steps are done at present, over the last few seconds.

    Parameters
    ----------
    total : int
        Steps in all.
    done : int
        Steps done before the measurement begins.
    seconds : float
        How far the measurement looks back.

    Examples
    --------
    >>> pace = Pace(total=10)
    >>> pace.per_second is None, pace.seconds_left is None
    (True, True)
    """

    def __init__(self, total: int, done: int = 0, seconds: float = 5.0) -> None:
        self.total = total
        self.seconds = seconds
        self._marks = deque([(time.perf_counter(), done)])

    def mark(self, done: int) -> None:
        """Note that so many steps are done by now."""
        now = time.perf_counter()
        self._marks.append((now, done))
        # The last mark before the window opens stays: slow steps need two marks as well.
        while len(self._marks) > 2 and self._marks[1][0] <= now - self.seconds:
            self._marks.popleft()

    @property
    def per_second(self) -> float | None:
        """Steps a second; None while none is done."""
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - start) if last > first and end > start else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds for the steps that remain at this pace; None while it is not known."""
        left = self.total - self._marks[-1][1]
        if left <= 0:
            return 0.0
        return None if self.per_second is None else left / self.per_second


def collect_messages(
    work: Generator[Progress, None, _T], notes: list[str]
) -> Generator[Progress, None, _T]:
    """Pass events on, and add what they tell the user to a list.

    Examples
    --------
    >>> notes = []
    >>> events = (Progress("encode", i, 2, message="slow" * i) for i in (0, 1))
    >>> _ = list(collect_messages(events, notes))
    >>> notes
    ['slow']
    """
    with closing(work):
        while True:
            try:
                event = next(work)
            except StopIteration as end:
                return end.value
            if event.message:
                notes.append(event.message)
            yield event


def autosaved(steps: Generator[Progress, None, _T], path: Path) -> Generator[Progress, None, _T]:
    """Pass the events of a training on, and write the snapshots that they carry to a file.

    A snapshot that cannot be written is a message, and only the first one: a full disk must not
    end the training.
    """
    warned = False
    with closing(steps):
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                return end.value
            if isinstance(event, TrainingProgress) and event.snapshot is not None:
                message = event.message
                try:
                    event.snapshot.save(path)
                except OSError as error:
                    warning = f"The model could not be saved as {path}: {error.strerror or error}."
                    message, warned = message or ("" if warned else warning), True
                event = replace(event, snapshot=None, message=message)
            yield event


def drain(
    work: Generator[Progress, None, _T], progress: Callable[[Progress], object] | None = None
) -> _T:
    """Run a generator of events to its end and return its result.

    Parameters
    ----------
    work : generator
        Yields `Progress` events and returns the result.
    progress : callable, optional
        Called with every event.
    """
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            return end.value
        if progress is not None:
            progress(event)
