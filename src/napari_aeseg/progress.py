"""What long work reports while it runs: small frozen messages, safe to pass between threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari_aeseg.errors import InputError, StoppedError

if TYPE_CHECKING:
    import numpy as np

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a stage is done."""

    # "read", "train", "patches", "encode", "graph", "tree", "alternatives" or "error"; "file" and
    # "classes" in a batch.
    stage: str
    done: int
    total: int
    device: str = ""  # "cpu", "cuda:0", "mps"; empty for stages without torch
    seconds_left: float | None = None  # estimated; None while there is nothing to estimate from
    message: str = ""  # for the user, such as a fallback to a smaller batch; mostly empty


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPreview:
    """A part of an image as the network reconstructs it, to watch it learn."""

    pixels: np.ndarray  # float32, in the units of the image, dimensions in the order of `axes`
    axes: str  # "Y", "X" and, with channels, "C", in the order in which the image has them
    # Where the part lies: for each axis of the image but C, in its order, the first row or column,
    # or the index of the slice or time point.
    offset: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TrainingProgress(Progress):
    """Progress of training, with the loss."""

    loss: float = float("nan")  # of the last step: mean squared error of normalised intensities
    losses: tuple[float, ...] = ()  # since the previous event, the last one included
    steps_per_second: float | None = None  # at present; None while that is not known
    images_per_second: float | None = None  # the same in crops
    precision: str = ""  # "float32", or "tf32" where a GPU rounds it
    # The model so far if a snapshot was due: a copy on the CPU whose training can be resumed.
    # Any: what passes on messages need not know torch.
    snapshot: Any = field(default=None, repr=False, compare=False)
    # The reconstruction of the first image, if a preview was due.
    preview: TrainingPreview | None = field(default=None, repr=False, compare=False)


class StopFlag(Protocol):
    """Anything with `is_set()`, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Return True once the work should stop."""
        ...


def raise_if_stopped(stop: StopFlag | None, stage: str) -> None:
    """Raise `StoppedError` when `stop` is set, and InputError when it is nothing of the kind.

    `stage` is one that users see: all work from the graph to the tree is "tree".
    """
    if stop is not None and not hasattr(stop, "is_set"):
        raise InputError(f"stop = {stop!r}: give a threading.Event(), or nothing.")
    if stop is not None and stop.is_set():
        raise StoppedError(f"Stopped during '{stage}', before there was a result.")


class Clock:
    """Estimates the time left from the mean speed so far."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.start = time.perf_counter()

    def seconds_left(self, done: int) -> float | None:
        """Return the seconds for the steps that remain after `done`, None when none is done."""
        if done == 0:
            return None
        return (time.perf_counter() - self.start) / done * max(self.total - done, 0)


class Pace:
    """Measures how fast steps are done at present: over the last few `seconds`.

    `done` of `total` steps were done before the measurement begins.
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


def passed_on(
    work: Generator[Progress, None, _T], change: Callable[[Progress], Progress | None]
) -> Generator[Progress, None, _T]:
    """Pass events on, changed, but for those that become None."""
    with closing(work):
        while True:
            try:
                event = next(work)
            except StopIteration as end:
                return end.value
            changed = change(event)
            if changed is not None:
                yield changed


def collect_messages(
    work: Generator[Progress, None, _T], notes: list[str]
) -> Generator[Progress, None, _T]:
    """Pass events on, and add what they tell the user to a list."""

    def noted(event: Progress) -> Progress:
        if event.message:
            notes.append(event.message)
        return event

    return passed_on(work, noted)


def autosaved(steps: Generator[Progress, None, _T], path: Path) -> Generator[Progress, None, _T]:
    """Pass the events of a training on, and write the snapshots that they carry to a file.

    A snapshot that cannot be written is a message, and only the first one: a full disk must not
    end the training.
    """
    warnings: list[str] = []

    def saved(event: Progress) -> Progress:
        if not isinstance(event, TrainingProgress) or event.snapshot is None:
            return event
        message = event.message
        try:
            event.snapshot.save(path)
        except OSError as error:
            warning = f"The model could not be saved as {path}: {error.strerror or error}."
            message = message or ("" if warnings else warning)
            warnings.append(warning)
        return replace(event, snapshot=None, message=message)

    return passed_on(steps, saved)


def drain(
    work: Generator[Progress, None, _T], progress: Callable[[Progress], object] | None = None
) -> _T:
    """Run a generator of events to its end and return its result; `progress` gets every event."""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            return end.value
        if progress is not None:
            progress(event)
