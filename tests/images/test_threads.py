import threading
import time

import pytest

from napari_aeseg.images.threads import cores, in_threads


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


@pytest.mark.parametrize("number", [1, 2])
def test_an_error_comes_out_where_the_result_is_asked_for(number):
    results = in_threads(lambda n: 1 // n, [1, 0, 1], number)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("number", [1, 2])
def test_nothing_goes_on_when_results_are_not_wanted_any_more(number):
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


def test_there_is_a_core():
    assert cores() >= 1
