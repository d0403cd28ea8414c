"""What long work reports while it runs: small frozen messages, safe to pass between threads."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from napari_aeseg.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a stage is done.

    Parameters
    ----------
    stage : str
        "read", "train", "patches", "encode", "graph", "tree" or "error".
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


@dataclass(frozen=True, slots=True)
class TrainingProgress(Progress):
    """Progress of training, with the loss.

    Parameters
    ----------
    loss : float
        Mean squared reconstruction error of the last step, in units of normalised intensity.
    losses : tuple of float
        Losses since the previous event, the last one included.
    """

    loss: float = float("nan")
    losses: tuple[float, ...] = ()


class StopFlag(Protocol):
    """Anything with `is_set()`, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Return True once the work should stop."""
        ...


def raise_if_stopped(stop: StopFlag | None, stage: str) -> None:
    """Raise `StoppedError` when `stop` is set."""
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
        return (time.perf_counter() - self.start) / done * (self.total - done)


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
