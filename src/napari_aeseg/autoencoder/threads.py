"""Work on tiles in threads: each has a tile to itself, which scales better than sharing one."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    T = TypeVar("T")
    R = TypeVar("R")


def in_threads(work: Callable[[T], R], items: Iterable[T], number: int) -> Iterator[R]:
    """Do work on items in some threads, at most one item ahead of them; results in order.

    In each thread, torch keeps to that thread.

    Parameters
    ----------
    work : callable
    items : iterable
    number : int
        Threads. With one, everything is done in the calling thread, as each result is asked for.

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
    pool = _workers(number)
    pending = deque()
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


def _workers(number: int) -> ThreadPoolExecutor:
    """Start threads in which torch works with one thread each."""
    ready = Barrier(number + 1)

    def alone() -> None:
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(number, "aeseg-tile", initializer=alone)
    for _ in range(number):
        pool.submit(int)  # every thread is started: none is idle before all are there
    ready.wait()
    # Threads that start later take the number that was set last, by whichever thread.
    torch.set_num_threads(torch.get_num_threads())
    return pool
