import dataclasses
import pickle
import threading

import numpy as np
import pytest

from napari_aeseg.errors import InputError, StoppedError
from napari_aeseg.progress import Clock, Pace, Progress, TrainingProgress, drain, raise_if_stopped


@pytest.mark.parametrize("event", [Progress("encode", 1, 2), TrainingProgress("train", 1, 2)])
def test_events_are_immutable(event):
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.done = 3
    assert hash(event) == hash(dataclasses.replace(event))
    assert pickle.loads(pickle.dumps(event)).stage == event.stage


def test_drain_returns_the_result_and_passes_every_event_on():
    def work():
        yield Progress("graph", 1, 2)
        yield Progress("graph", 2, 2)
        return "result"

    seen = []
    assert drain(work(), seen.append) == "result"
    assert [event.done for event in seen] == [1, 2]
    assert drain(work()) == "result"


def test_drain_lets_errors_through():
    def work():
        yield Progress("graph", 1, 2)
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        drain(work())


def test_stop_flag_raises_only_when_set():
    flag = threading.Event()
    raise_if_stopped(None, "encode")
    raise_if_stopped(flag, "encode")
    flag.set()
    with pytest.raises(StoppedError, match="'encode'"):
        raise_if_stopped(flag, "encode")


def test_clock_extends_the_speed_so_far(monkeypatch):
    now = iter([100.0, 106.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = Clock(total=10)
    # 3 steps in 6 seconds: 7 more take 14.
    assert clock.seconds_left(3) == pytest.approx(14)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: a list of one number."""
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_pace_is_that_of_the_last_seconds(clock):
    pace = Pace(total=1000, seconds=5)
    for done in range(1, 11):  # one a second
        clock[0] += 1
        pace.mark(done)
    assert pace.per_second == pytest.approx(1)
    assert pace.seconds_left == pytest.approx(990)
    for done in range(20, 70, 10):  # ten a second
        clock[0] += 1
        pace.mark(done)
    assert pace.per_second == pytest.approx(10)
    assert pace.seconds_left == pytest.approx(94)


def test_pace_of_steps_longer_than_the_window(clock):
    pace = Pace(total=4, seconds=5)
    for done in (1, 2, 3):
        clock[0] += 60
        pace.mark(done)
    assert pace.seconds_left == pytest.approx(60)


def test_pace_of_resumed_work_does_not_count_what_was_done_before(clock):
    pace = Pace(total=100, done=90)
    assert pace.per_second is pace.seconds_left is None
    clock[0] += 2
    pace.mark(94)
    assert pace.per_second == pytest.approx(2)
    assert pace.seconds_left == pytest.approx(3)
    pace.mark(100)
    assert pace.seconds_left == 0


def test_what_an_event_carries_is_not_compared_or_printed():
    event = TrainingProgress("train", 1, 2, snapshot=np.zeros(3))
    assert event == TrainingProgress("train", 1, 2)
    assert "snapshot" not in repr(event)


@pytest.mark.parametrize("stop", [True, lambda: True, {}])
def test_stop_without_is_set_is_refused(stop):
    with pytest.raises(InputError, match=r"give a threading\.Event"):
        raise_if_stopped(stop, "read")
