from __future__ import annotations

import pytest

from napari_aeseg._napari.state import DockState
from napari_aeseg._napari.views.status import StatusView
from napari_aeseg.progress import Progress


@pytest.fixture
def view(qtbot):
    state = DockState()
    view = StatusView(state)
    qtbot.addWidget(view)
    return view, state


def test_the_bar_fills_from_the_first_stage_of_segmenting_to_the_last(view):
    view, state = view
    state.busy = "cells"
    values = [view.bar.value()]
    for stage, done, total in [
        ("read", 1, 1),
        ("patches", 1, 1),
        ("encode", 1, 2),
        ("encode", 2, 2),
        ("graph", 1, 1),
        ("tree", 1, 1),
    ]:
        state.progress = Progress(stage, done, total)
        assert view.bar.maximum() == 100
        values.append(view.bar.value())
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (0, 100)


def test_work_that_says_nothing_of_its_progress_is_seen_to_go_on(view, qtbot):
    view, state = view
    state.busy = "cells"
    assert view.bar.maximum() == 100
    qtbot.waitUntil(lambda: view.bar.maximum() == 0, timeout=5000)
    state.busy = ""
    assert view.bar.isHidden()
