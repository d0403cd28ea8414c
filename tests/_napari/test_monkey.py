"""The shortest of the long runs in soak/, which `make soak` runs for as long as one likes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Scripts beside the package, not part of it
sys.path.insert(0, str(Path(__file__).parents[2] / "soak"))
import monkey


@pytest.mark.viewer
def test_random_actions_in_a_window_break_nothing(qapp, make_napari_viewer):
    row = monkey.run(seed=1, number=25)

    assert row["problems"] == []
    assert row["actions"] > 8
