import dataclasses
import pickle
import threading

import pytest

from napari_aeseg.errors import StoppedError
from napari_aeseg.events import Clock, Progress, TrainingProgress, drain, raise_if_stopped


@pytest.mark.parametrize("event", [Progress("encode", 1, 2), TrainingProgress("train", 1, 2)])
def test_events_are_messages_that_nobody_can_change(event):
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
