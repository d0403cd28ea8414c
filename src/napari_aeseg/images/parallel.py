"""The same work on many parts of an image, in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Lock
from typing import TYPE_CHECKING, Any, TypeVar

from napari_aeseg.errors import DeviceError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return how many processor cores this process may use.

    No more than ``OMP_NUM_THREADS``, like torch: clusters give each worker its share by it.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        n_cores = len(os.sched_getaffinity(0))
    else:
        n_cores = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(n_cores, int(limit)) if limit.isdecimal() and int(limit) else n_cores


def in_threads(
    work: Callable[[T], R],
    items: Iterable[T],
    number: int,
    prepare: Callable[[], object] = int,
) -> Generator[R, None, None]:
    """Do work on items in several threads; yield the results in order.

    Items are taken from their iterator only as threads become free, and one more. With one thread,
    the calling thread does each item as its result is asked for. `prepare` is called once in each
    new thread, before any item.
    """
    if number == 1:
        yield from map(work, items)
        return
    pool = _prepared_threads(number, prepare)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > number:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # A caller that ends early waits for the items that have begun: they use memory.
        pool.shutdown(cancel_futures=True)


def together(*work: Callable[[], Any]) -> list[Any]:
    """Do several things beside each other, the first in this thread; return their results."""
    threads = min(len(work), cores()) - 1
    if threads < 1:
        return [do() for do in work]
    pool = _prepared_threads(threads, int)
    try:
        others = [pool.submit(do) for do in work[1:]]
        return [work[0](), *(other.result() for other in others)]
    finally:
        pool.shutdown(cancel_futures=True)


def _prepared_threads(number: int, prepare: Callable[[], object]) -> ThreadPoolExecutor:
    """Start threads, and wait until all are prepared."""
    pool = ThreadPoolExecutor(number, "aeseg")
    ready = Barrier(number)

    def begin() -> None:
        try:
            prepare()
        except BaseException:
            ready.abort()  # the others would wait for ever
            raise
        ready.wait()

    try:
        # None is idle before all are ready: each call starts a thread.
        for started in [pool.submit(begin) for _ in range(number)]:
            started.result()
    except BaseException as error:
        ready.abort()
        pool.shutdown(cancel_futures=True)
        if not isinstance(error, RuntimeError):  # BrokenBarrierError is one
            raise
        raise DeviceError(
            f"{number} threads cannot be started: close other programs, or set OMP_NUM_THREADS to "
            "less."
        ) from error
    return pool


class _OneBlasThread:
    """Makes contexts in which numpy multiplies matrices and finds eigenvalues in one thread.

    Several threads wait for each other at every column. If another program uses one of two cores,
    the eigenvalues of 230 x 230 numbers take 0.2 s and more, in one thread 10 ms. The number of
    threads comes back when the last of the callers, which may be in several threads, is done.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._controller: ThreadpoolController | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        from threadpoolctl import ThreadpoolController  # not at import: a window opens sooner

        with self._lock:
            if self._controller is None:
                self._controller = ThreadpoolController().select(user_api="blas")
            self._users += 1
            if self._users == 1:
                _allow_this_thread_to_set()
                self._limit = self._controller.limit(limits=1)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    _allow_this_thread_to_set()
                    self._limit.restore_original_limits()  # by the last user: others still work
                    _allow_this_thread_to_set()


one_blas_thread = _OneBlasThread()


def _allow_this_thread_to_set() -> None:
    """Let the calling thread set OpenBLAS's number of threads, whichever thread did so before.

    Newer versions of threadpoolctl ignore in silence what a second thread sets. The lock of
    `one_blas_thread` keeps two threads from setting it at the same time.
    """
    import threadpoolctl

    controller = getattr(threadpoolctl, "OpenBLASController", None)
    clear = getattr(controller, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)
