"""The same work on many parts of an image, in threads."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Lock
from typing import TYPE_CHECKING, TypeVar

from napari_aeseg.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager

    from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return how many processor cores this process may use.

    ``OMP_NUM_THREADS`` is heeded, as torch does: clusters give each worker its share by it.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(share)) if share.isdecimal() and int(share) else there


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
    failed: list[BaseException] = []

    def begin() -> None:
        try:
            prepare()
        except BaseException as error:
            failed.append(error)
            ready.abort()  # who waits would wait for ever
            raise
        ready.wait()

    pool = ThreadPoolExecutor(number, "aeseg", initializer=begin)
    try:
        for _ in range(number):
            pool.submit(int)  # none is idle before all are there: each starts a thread
        ready.wait()
    except BaseException as error:
        ready.abort()
        pool.shutdown()
        if not isinstance(error, RuntimeError):  # a barrier that is broken is one
            raise
        raise DeviceError(
            f"{number} threads cannot be started ({failed[0] if failed else error}): close other "
            "programs, or set OMP_NUM_THREADS to less."
        ) from error
    return pool


class _Blas:
    """What numpy multiplies matrices with, and how many callers want it in one thread now."""

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._controller: ThreadpoolController | None = None

    @contextmanager
    def in_one_thread(self) -> Iterator[None]:
        from threadpoolctl import ThreadpoolController  # a window opens sooner without it

        with self._lock:
            if self._controller is None:
                self._controller = ThreadpoolController().select(user_api="blas")
            self._users += 1
            if self._users == 1:
                _let_this_thread_set()
                self._limit = self._controller.limit(limits=1)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    _let_this_thread_set()
                    self._limit.restore_original_limits()
                    _let_this_thread_set()


def _let_this_thread_set() -> None:
    """Let the calling thread set OpenBLAS's threads, whichever did so before.

    Newer versions of threadpoolctl ignore in silence what a second thread sets. The lock of
    `_Blas` is what keeps threads from setting at the same time here.
    """
    import threadpoolctl

    controller = getattr(threadpoolctl, "OpenBLASController", None)
    clear = getattr(controller, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


_blas = _Blas()


def one_blas_thread() -> AbstractContextManager[None]:
    """Let numpy multiply matrices and solve eigenvalue problems in one thread meanwhile.

    Its threads wait for each other at every column. Where another program has one of two cores, the
    eigenvalues of 230 x 230 numbers take 0.2 s and more, in one thread 10 ms.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     np.linalg.eigvalsh(np.eye(2)).tolist()
    [1.0, 1.0]
    """
    return _blas.in_one_thread()
