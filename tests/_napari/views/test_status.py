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


def test_the_bar_of_a_folder_fills_from_the_first_file_to_the_last(view):
    view, state = view
    state.busy = "2 files"
    values = []
    for number in (1, 2):
        for stage, done, total in [("file", number, 2), ("classes", 1, 1), ("encode", 1, 1)]:
            state.progress = Progress(stage, done, total)
            values.append(view.bar.value())
        state.progress = Progress("tree", 1, 1)
        values.append(view.bar.value())
    assert values == [0, 0, 35, 50, 50, 50, 85, 100]
    state.busy = "one image"
    state.progress = Progress("tree", 1, 1)
    assert view.bar.value() == 100


def test_work_that_says_nothing_of_its_progress_is_seen_to_go_on(view, qtbot):
    view, state = view
    state.busy = "cells"
    assert view.bar.maximum() == 100
    qtbot.waitUntil(lambda: view.bar.maximum() == 0, timeout=5000)
    state.busy = ""
    assert view.bar.isHidden()
