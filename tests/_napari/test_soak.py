"""The shortest of the long runs in soak/, which `make soak` runs for as long as one likes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Scripts beside the package, not part of it
sys.path.insert(0, str(Path(__file__).parents[2] / "soak"))
import monkey
import window_faults


@pytest.mark.parametrize("case", window_faults.few_cases(), ids=str)
def test_a_fault_in_the_middle_of_work(qapp, tmp_path, case):
    assert window_faults.run(case, tmp_path) == []


@pytest.mark.viewer
def test_a_window_that_is_closed_in_the_middle_of_work(make_napari_viewer, tmp_path):
    case = window_faults.Case("segment", "encode", "window_closed")
    assert window_faults.run(case, tmp_path, make_napari_viewer()) == []


@pytest.mark.viewer
def test_a_monkey_at_the_window(qapp, make_napari_viewer):
    row = monkey.run(seed=1, number=40, limit=float("inf"))

    assert row["found"] == []
    assert row["actions"] > 15
