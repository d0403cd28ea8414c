"""The same work on many parts of an image, in threads."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    work: Callable[[T], R],
    items: Iterable[T],
    number: int,
    prepare: Callable[[], object] = int,
) -> Generator[R, None, None]:
    """Do work on items in some threads, at most one item ahead of them; results in order.

    Parameters
    ----------
    work : callable
    items : iterable
    number : int
        Threads. With one, everything is done in the calling thread, as each result is asked for.
    prepare : callable
        Called once in each new thread; all threads are prepared before any works.

    Yields
    ------
    result of each item

    Examples
    --------
    >>> list(in_threads(abs, [-1, 2, -3], number=2))
    [1, 2, 3]
    """
    if number == 1:
        yield from map(work, items)
        return
    pool = _prepared(number, prepare)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > number:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # When nobody asks for more, what has begun is waited for: its memory is in use.
        pool.shutdown(cancel_futures=True)


def _prepared(number: int, prepare: Callable[[], object]) -> ThreadPoolExecutor:
    """Start threads, and wait until all are prepared."""
    ready = Barrier(number + 1)

    def begin() -> None:
        prepare()
        ready.wait()

    pool = ThreadPoolExecutor(number, "aeseg", initializer=begin)
    for _ in range(number):
        pool.submit(int)  # none is idle before all are there: each starts a thread
    ready.wait()
    return pool
