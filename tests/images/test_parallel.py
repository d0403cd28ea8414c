import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from napari_aeseg.images.parallel import cores, in_threads, one_blas_thread, together


@pytest.mark.parametrize("number", [1, 2, 5])
def test_results_come_in_order_whoever_is_done_first(number):
    def work(item):
        time.sleep(0.002 * (5 - item % 5))
        return -item

    assert list(in_threads(work, range(12), number)) == [-i for i in range(12)]
    assert list(in_threads(work, [], number)) == []


def test_every_thread_is_prepared_before_any_works():
    prepared, working = set(), []
    meeting = threading.Barrier(3)

    def work(item):
        if item < 3:
            meeting.wait(10)  # all three take part
        working.append((threading.get_ident(), len(prepared)))

    list(in_threads(work, range(6), 3, lambda: prepared.add(threading.get_ident())))
    assert {thread for thread, _ in working} == prepared
    assert {known for _, known in working} == {3}


@pytest.mark.parametrize("number", ["1", "3"])
def test_work_done_together_returns_its_results_in_order_or_the_error_of_one(number, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", number)
    assert together(lambda: 1, lambda: 2, lambda: 3) == [1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        together(lambda: 1, lambda: 1 // 0)


@pytest.mark.parametrize("number", [1, 2])
def test_an_error_comes_out_where_the_result_is_asked_for(number):
    results = in_threads(lambda n: 1 // n, [1, 0, 1], number)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("number", [1, 2])
def test_no_item_begins_after_the_caller_ends(number):
    begun, ended = [], []

    def work(item):
        begun.append(item)
        time.sleep(0.01)
        ended.append(item)

    results = in_threads(work, range(100), number)
    next(results)
    results.close()
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 10
    assert not any(t.name.startswith("aeseg") for t in threading.enumerate())


def test_number_of_cores_is_positive():
    assert cores() >= 1


@pytest.mark.parametrize(("said", "most"), [("1", 1), ("0", None), ("some", None), ("9999", None)])
def test_cores_are_limited_by_OMP_NUM_THREADS(monkeypatch, said, most):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    there = cores()
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cores() == (most or there)


def blas_threads():
    # scipy has a library of its own, which may be loaded later; nothing here multiplies with it.
    known = [library for library in threadpool_info() if library["user_api"] == "blas"]
    found = [library["num_threads"] for library in known if "numpy" in library["filepath"]]
    return found or pytest.skip("numpy's BLAS is not one whose threads can be set")


def test_blas_has_one_thread_in_the_context_and_its_own_number_after_it():
    np.ones((2, 2)) @ np.ones((2, 2))
    before = blas_threads()
    with one_blas_thread():
        assert set(blas_threads()) == {1}
        with one_blas_thread():
            pass
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_blas_threads_are_restored_when_two_callers_end_in_any_order():
    before = blas_threads()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


def test_any_thread_can_limit_blas():
    def work(found):
        with one_blas_thread():
            found.append(set(blas_threads()))

    before = blas_threads()
    with one_blas_thread():
        pass
    found = []
    for _ in range(2):  # a thread each, after the main thread had its turn
        thread = threading.Thread(target=work, args=(found,))
        thread.start()
        thread.join()
    assert found == [{1}, {1}]
    assert blas_threads() == before


def test_blas_threads_are_restored_when_another_thread_ends_last():
    before, entered, leave = blas_threads(), threading.Event(), threading.Event()

    def work():
        with one_blas_thread():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    with one_blas_thread():
        thread.start()
        entered.wait(10)
    assert set(blas_threads()) == {1}
    leave.set()
    thread.join()
    assert blas_threads() == before
