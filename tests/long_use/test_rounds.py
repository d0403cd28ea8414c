"""A few rounds of what soak/rounds.py does for long: nothing is left of a round."""

from __future__ import annotations

import gc
import json
import time
from contextlib import ExitStack
from importlib.metadata import version

import pytest
from packaging.version import Version

import counts
import rounds


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Small images; temporary folders and models where no other test makes some."""
    monkeypatch.setattr(rounds, "SIDE", 96)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: tmp_path / "data")


def left(one_round, names: tuple[str, ...], warm_up: int = 1, tries: int = 20) -> list[str]:
    """Do a round after some that warm up; say what is left of it."""
    gc.collect()
    gc.freeze()  # collections are quick without the objects of all that is imported
    for i in range(warm_up):
        one_round(i)
    before = counts.counted()
    one_round(warm_up)
    for _ in range(tries):
        after = counts.counted()
        grown = counts.grown([{name: row[name] for name in names} for row in (before, after)], 1)
        if not grown:
            break
        time.sleep(0.25)  # a busy machine takes its time to end what was stopped
    gc.unfreeze()
    return grown


def test_nothing_is_left_of_rounds_without_a_window():
    names = ("threads", "files", "folders", "ours", "tensors", "connections")
    # dask begins threads in the second round too
    assert left(rounds.headless, names, warm_up=2) == []


@pytest.mark.viewer
def test_nothing_is_left_of_docks_that_were_used_and_closed(make_napari_viewer, monkeypatch):
    # A dock that is opened again offers the newest models: no more than the first round makes.
    monkeypatch.setattr("napari_aeseg._napari.state._MOST_MODELS", 1)
    one = rounds.InOneViewer(make_napari_viewer())
    # Threads: dask has a pool for each of Qt's, which come and go as they are needed.
    names = ("folders", "tensors", "connections", "layers", "widgets", "workers")
    if Version(version("napari")) >= Version("0.9"):  # before, it keeps what it has done by name
        names += ("ours",)
    with rounds.small_images_in_blocks():
        assert left(one, names) == []


def test_what_is_left_is_found():
    gc.collect()  # of files that other tests have left
    with ExitStack() as held:

        def leaking(number):
            for _ in range(20):
                held.enter_context(open(__file__))

        found = left(leaking, ("files", "threads"), tries=1)
    assert [line.split(":")[0] for line in found] == ["files"]


def test_growth_is_judged_beyond_that_of_the_control():
    rows = [{"round": n, "seconds": 1, "resident": 100 + n, "files": n} for n in (5, 10, 15)]
    assert rounds.missed(rows) == ["resident: 105, then 115", "files: 5, then 10"]
    assert rounds.missed(rows, rows) == []
    assert json.loads(json.dumps(rounds.per_round(rows)))["files"] == 1
