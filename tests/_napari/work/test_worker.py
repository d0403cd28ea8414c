from __future__ import annotations

import gc
import subprocess
import sys
import warnings
import weakref
from threading import Event

import pytest
import torch
from qtpy.QtCore import QThread

from napari_aeseg._napari.work.worker import Done, Failed, Job, Stopped
from napari_aeseg.errors import DeviceError, InputError, StoppedError
from napari_aeseg.progress import Progress, TrainingProgress, drain


def run(qtbot, runner, work):
    """Run work to its end and return its outcome and the events."""
    outcomes, events = [], []
    runner.progressed.connect(events.append)
    runner.ended.connect(outcomes.append)
    runner.start(Job("testing", work), in_activity_dock=False)
    qtbot.waitUntil(lambda: bool(outcomes), timeout=5000)
    assert not runner.busy
    return outcomes[0], events


def test_result_and_events_come_back(qtbot, runner):
    def work(stop):
        yield Progress("read", 1, 1)
        return 42

    outcome, events = run(qtbot, runner, work)

    assert outcome == Done(42)
    assert events == [Progress("read", 1, 1)]


def test_work_runs_in_another_thread_and_reports_in_this_one(qtbot, runner):
    here, threads = QThread.currentThread(), []

    def work(stop):
        threads.append(QThread.currentThread())
        yield Progress("read", 1, 1)

    runner.progressed.connect(lambda _: threads.append(QThread.currentThread()))
    run(qtbot, runner, work)

    assert threads[0] is not here
    assert threads[1] is here


def test_the_window_gets_the_lock_of_python_soon_while_there_is_work(qtbot, runner):
    before = sys.getswitchinterval()

    def work(stop):
        yield Progress("read", 1, 1)
        return sys.getswitchinterval()

    outcome, _ = run(qtbot, runner, work)

    assert outcome.result <= before / 5
    qtbot.waitUntil(lambda: sys.getswitchinterval() == before)


def test_warnings_go_where_they_went_before_after_work_that_overlapped(qtbot, runner):
    other, ends = type(runner)(), []
    before, first_is_on = warnings.showwarning, Event()

    def first(stop):
        first_is_on.set()
        yield from ()
        stop.wait(5)

    def second(stop):
        yield from ()
        assert first_is_on.wait(5)
        runner.stop()  # the first ends while the second goes on
        stop.wait(0.3)

    runner.ended.connect(ends.append)
    other.ended.connect(ends.append)
    runner.start(Job("first", first))
    assert first_is_on.wait(5)
    other.start(Job("second", second))
    qtbot.waitUntil(lambda: len(ends) == 2, timeout=5000)

    assert warnings.showwarning is before


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (RuntimeError("shapes do not match"), RuntimeError, "shapes do not match"),
        (torch.OutOfMemoryError("CUDA out of memory"), DeviceError, "Choose smaller crops"),
        (MemoryError(), DeviceError, "Choose smaller crops"),
        (RuntimeError("std::bad_alloc"), DeviceError, "Choose smaller crops"),
        (InputError("image has NaN"), InputError, "image has NaN"),
        (StopIteration(), RuntimeError, "StopIteration"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_whatever_is_raised_comes_back_as_an_outcome(qtbot, runner, error, kind, text):
    def work(stop):
        yield Progress("read", 1, 2)
        raise error

    outcome, events = run(qtbot, runner, work)

    assert isinstance(outcome, Failed)
    assert type(outcome.error) is kind
    assert text in str(outcome.error)
    assert len(events) == 1


def test_an_error_keeps_no_arrays_alive(qtbot, runner):
    class Array:
        pass

    seen = []

    def work(stop):
        array = Array()
        seen.append(weakref.ref(array))
        yield Progress("read", 1, 1)
        try:
            raise KeyError("first")
        except KeyError as first:
            raise RuntimeError("second") from first

    outcome, _ = run(qtbot, runner, work)
    gc.collect()

    assert str(outcome.error) == "second"
    assert seen[0]() is None


def test_a_job_that_ended_holds_nothing(qtbot, runner):
    class Array:
        pass

    array = Array()
    seen = weakref.ref(array)

    def work(stop, array=array):
        yield Progress("read", 1, 1)
        return id(array)

    job = Job("testing", work)
    outcomes = []
    runner.ended.connect(outcomes.append)
    runner.start(job, in_activity_dock=False)
    del work, array
    qtbot.waitUntil(lambda: bool(outcomes), timeout=5000)
    gc.collect()

    assert seen() is None  # though the job is still there


def forever(stop):
    step = 0
    while not stop.is_set():
        step += 1
        yield Progress("train", step, 10**9)
        stop.wait(0.005)
    return step


def test_stop_keeps_the_partial_result(qtbot, runner):
    outcomes = []
    runner.ended.connect(outcomes.append)
    runner.start(Job("testing", forever), in_activity_dock=False)
    with qtbot.waitSignal(runner._worker.yielded, timeout=5000):
        pass

    runner.stop()
    qtbot.waitUntil(lambda: bool(outcomes), timeout=1000)

    assert outcomes[0].stopped
    assert outcomes[0].result > 0


def test_work_without_a_result_says_where_it_stopped(qtbot, runner):
    def work(stop):
        yield Progress("read", 1, 1)
        raise StoppedError("Stopped during 'read', before there was a result.")

    assert run(qtbot, runner, work)[0] == Stopped(
        "Stopped during 'read', before there was a result."
    )


def test_a_job_that_was_left_is_silent(qtbot, runner):
    heard = []
    runner.progressed.connect(heard.append)
    runner.ended.connect(heard.append)
    runner.start(Job("testing", forever), in_activity_dock=False)
    worker = runner._worker

    with qtbot.waitSignal(worker.finished, timeout=5000):
        runner.abandon()
        heard.clear()

    assert not runner.busy
    assert heard == []


def test_a_window_that_closes_ends_the_work_and_hears_nothing(qtbot, runner):
    ended = []
    runner.ended.connect(ended.append)
    runner.start(Job("testing", forever), in_activity_dock=False)

    with qtbot.waitSignal(runner._worker.finished, timeout=5000):
        runner._worker.quit()  # as napari does

    assert not runner.busy
    assert ended == []


@pytest.fixture
def all_in_one_moment(monkeypatch):
    """However slow the machine is, events come too fast to show them all."""
    monkeypatch.setattr("napari_aeseg._napari.work.worker._SECONDS_BETWEEN_EVENTS", 60)


@pytest.mark.usefixtures("all_in_one_moment")
def test_events_are_thinned_out_but_those_of_training_which_are_few():
    def work(stop):
        for step in range(100):
            yield TrainingProgress("train", step + 1, 100, loss=1.0)
        for tile in range(100):
            yield Progress("encode", tile + 1, 100)

    events = []
    drain(Job("testing", work).run(), events.append)

    assert [e.done for e in events if e.stage == "train"] == list(range(1, 101))
    assert [e.done for e in events if e.stage == "encode"] == [1, 100]


@pytest.mark.usefixtures("all_in_one_moment")
def test_messages_always_get_through():
    def work(stop):
        yield Progress("encode", 1, 9)
        yield Progress("encode", 2, 9)
        yield Progress("encode", 3, 9, message="going on with the CPU")

    events = []
    drain(Job("testing", work).run(), events.append)

    assert [e.done for e in events] == [1, 3]


IMPORTS = """
import sys, threading

class Spy:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "higra"):
            print(name, threading.current_thread().name, flush=True)

sys.meta_path.insert(0, Spy())
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
from napari_aeseg._napari.widget import AESegWidget

application = QApplication([])
widget = AESegWidget(ViewerModel())
widget.native.show()
assert "torch" not in sys.modules  # the window opens without it
from napari_aeseg._napari.work.jobs import finding_devices
from napari_aeseg._napari.work.worker import Job

job = Job("finding devices", finding_devices())
work = threading.Thread(target=lambda: list(job.run()), name="work")
work.start()
work.join()
"""


def test_torch_is_not_imported_by_a_thread_that_goes_on_to_other_work():
    """With torch 2.9, Python crashed when a tensor was freed in that thread later."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    where = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert where.keys() >= {"torch"}
    assert not {"work", "MainThread"} & set(where.values())
