"""Patches are compared anew in a thread, and the newest value wins."""

from __future__ import annotations

import pytest
from napari.layers import Image

from _napari.conftest import halves, join_workers
from napari_aeseg import Hierarchy
from napari_aeseg._napari.layers.image_input import image_input
from napari_aeseg._napari.state import DockState, Result
from napari_aeseg._napari.work.comparison import Comparer


@pytest.fixture
def state(hierarchy):
    images = tuple(Image(halves(), name=name) for name in ("one", "two"))
    results = {image: Result(hierarchy, None, image_input(image)) for image in images}
    return DockState(images=images, results=results)


@pytest.fixture
def comparer(state, qtbot):
    comparer = Comparer(state)
    yield comparer
    comparer.close()
    join_workers(qtbot)


def balances(state) -> list[float]:
    return [result.hierarchy.comparison.balance for result in state.results.values()]


def test_all_hierarchies_follow_and_the_newest_value_wins(state, comparer, qtbot):
    for balance in (0.1, 0.2, 0.9):
        state.change_comparison(balance=balance)
    qtbot.waitUntil(lambda: not comparer.busy, timeout=20_000)

    assert balances(state) == [0.9, 0.9]


def test_an_image_that_was_removed_meanwhile_does_not_come_back(state, comparer, qtbot):
    one, two = state.images
    state.change_comparison(balance=0.9)
    state.drop_results([one])
    qtbot.waitUntil(lambda: not comparer.busy, timeout=20_000)

    assert list(state.results) == [two]
    assert balances(state) == [0.9]


def test_after_an_error_the_controls_show_what_the_preview_shows(
    state, comparer, qtbot, monkeypatch
):
    def refuse(*_):
        raise RuntimeError("it broke")

    errors = []
    comparer.failed.connect(errors.append)
    monkeypatch.setattr(Hierarchy, "compared_by", refuse)
    state.change_comparison(balance=0.9)
    qtbot.waitUntil(lambda: not comparer.busy, timeout=20_000)

    assert [str(error) for error in errors] == ["it broke"]
    assert state.comparison.balance == 0.3
    assert balances(state) == [0.3, 0.3]


def test_a_hierarchy_that_cannot_be_compared_is_tried_once(state, qtbot, monkeypatch):
    def refuse(*_):
        raise RuntimeError("it broke")

    one, two = state.images
    state.change_result(one, hierarchy=state.results[one].hierarchy.reweighted(balance=0.9))
    state.change_comparison(balance=0.9)
    monkeypatch.setattr(Hierarchy, "compared_by", refuse)
    comparer, errors = Comparer(state), []
    comparer.failed.connect(errors.append)
    qtbot.waitUntil(lambda: not comparer.busy, timeout=20_000)
    state.change_result(two, undone=())  # another change of the results

    assert not comparer.busy
    assert balances(state) == [0.9, 0.3]
    assert len(errors) == 1
    join_workers(qtbot)
