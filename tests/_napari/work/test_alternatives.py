"""Thumbnails of alternatives are found in a thread; the newest request wins."""

from __future__ import annotations

from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from napari.layers import Image

from _napari.conftest import halves, join_workers
from napari_aeseg._napari.layers.image_input import image_input
from napari_aeseg._napari.state import FIRST_CUT, ClassStyle, DockState, Result
from napari_aeseg._napari.views.choices.modes import ModesView
from napari_aeseg._napari.work.alternatives import AlternativesFinder
from napari_aeseg._napari.work_requests import AlternativesRequest, ObjectRequest
from napari_aeseg.regions import alternatives
from napari_aeseg.regions.cuts.cut import Cut


@pytest.fixture
def state(hierarchy):
    image = Image(halves(), name="halves")
    results = {image: Result(hierarchy, None, image_input(image))}
    cut = Cut("classes", n_classes=4)
    return DockState(images=(image,), results=results, cut=cut)


@pytest.fixture
def finder(state, qtbot, monkeypatch):
    monkeypatch.setattr("napari_aeseg._napari.work.alternatives._MILLISECONDS_OF_REST", 1)
    finder = AlternativesFinder(state)
    yield finder
    finder.close()
    join_workers(qtbot)


@pytest.fixture
def found(state, finder, qtbot):
    """Return a function that waits for the finder, and returns what is shown then."""

    def found():
        qtbot.waitUntil(lambda: finder.is_up_to_date, timeout=20_000)
        return state.alternatives

    return found


@pytest.fixture
def starts(monkeypatch):
    """The requests that were begun."""
    requests = []

    def work(request, stop, answer=AlternativesRequest.answer):
        requests.append((request.mode, request.number, request.hierarchy.comparison.balance))
        return answer(request, stop)

    monkeypatch.setattr(AlternativesRequest, "answer", work)
    return requests


def test_what_is_shown_comes_first(state, hierarchy, found):
    thumbnails = found()
    expected = hierarchy.alternatives(n_classes=4)
    assert [s.comparison for s in thumbnails.settings] == [a.settings.comparison for a in expected]
    assert len(expected) > 1
    assert state.alternatives_fit
    pixels = np.linspace(0, 47, thumbnails.picture.shape[0]).round().astype(int)
    for labels, alternative in zip(thumbnails.labels, expected, strict=True):
        assert np.mean(labels == alternative.labels[np.ix_(pixels, pixels)]) > 0.95
    assert (
        np.abs(thumbnails.picture[..., 0] - (halves() > 0.5)[np.ix_(pixels, pixels)]).mean() < 0.2
    )


def test_nothing_moves_when_the_pictures_of_modes_come(state, found, qtbot):
    view = ModesView(state)
    qtbot.addWidget(view)
    before = [button.minimumHeight() for button in view.buttons.values()]
    found()
    assert state.mode_pictures is not None
    assert [button.minimumHeight() for button in view.buttons.values()] == before


def test_each_mode_is_pictured_and_objects_are_found_on_the_way(state, found):
    found()
    pictures, (image,) = state.mode_pictures, state.images
    assert set(pictures.labels) == {"regions", "classes", "objects"}
    for labels in pictures.labels.values():
        assert labels.shape == pictures.picture.shape[:2]
    assert len(np.unique(pictures.labels["classes"])) == 4
    assert pictures.request.objects is state.objects[image][1]


def test_objects_on_the_way_are_those_of_the_preview(state, finder, qtbot, monkeypatch):
    (image,) = state.images
    looked = Event()

    def detecting(request, stop, answer=ObjectRequest.answer):
        looked.wait(10)  # not done before the test has looked
        return answer(request, stop)

    monkeypatch.setattr(ObjectRequest, "answer", detecting)
    qtbot.waitUntil(lambda: finder._image is not None, timeout=20_000)
    assert not finder.is_awaited
    state.change_cut(mode="objects")
    assert finder.is_awaited
    assert finder.detects(image, state.object_request(image, state.cut))
    state.change_cut(min_size=50)
    assert not finder.detects(image, state.object_request(image, state.cut))
    assert not finder.busy
    looked.set()


@pytest.mark.parametrize(
    ("changes", "is_clicked"), [({}, False), ({"n_classes": 2}, False), ({}, True)]
)
def test_objects_are_shown_where_they_stand_out_and_no_control_was_changed(
    state, hierarchy, changes, is_clicked, qtbot
):
    (image,) = state.images
    squares = np.kron(np.arange(16).reshape(4, 4), np.pad(np.ones((10, 10), int), 1))
    state.objects = {image: (None, squares)}
    state.change_result(image, hierarchy=replace(hierarchy, brightness=squares > 0))
    state.cut, state.mode_is_open = replace(FIRST_CUT, **changes), True
    if is_clicked:
        modes = ModesView(state)
        qtbot.addWidget(modes)
        modes.buttons["regions"].click()
    state.choose_mode(image)
    is_chosen = bool(changes) or is_clicked
    assert state.cut.mode == ("regions" if is_chosen else "objects")
    assert bool(state.message) != is_chosen


def test_another_number_and_mode_are_found_once_the_controls_rest(state, found, starts):
    found()
    for number in (5, 6, 7):
        state.change_cut(n_classes=number)
    assert not state.alternatives_fit  # the old ones are shown until then
    assert found().number == 7
    state.change_cut(mode="regions", n_regions=9)
    thumbnails = found()
    assert (thumbnails.mode, thumbnails.number) == ("regions", 9)
    assert starts == [("classes", 4, 0.3), ("classes", 7, 0.3), ("regions", 9, 0.3)]


def test_the_alternative_in_use_is_not_looked_for_again(state, found, starts):
    thumbnails = found()
    for settings in thumbnails.settings:
        state.use_alternative(settings)
        assert state.comparison == settings.comparison
        assert found() is thumbnails
        assert state.alternatives_fit
    assert len(starts) == 1


def test_another_comparison_has_alternatives_of_its_own(state, hierarchy, found):
    found()
    state.change_comparison(balance=0.77)
    assert not state.alternatives_fit
    (image,) = state.images
    state.change_result(image, hierarchy=hierarchy.compared_by(state.comparison))
    assert found().settings[0].comparison.balance == 0.77
    assert state.alternatives_fit


def test_a_suggested_number_of_regions_stays_when_an_alternative_is_used(state, hierarchy, found):
    state.change_cut(mode="regions", n_regions=None)
    state.use_alternative(found().settings[0])
    assert state.cut.n_regions == hierarchy.suggest_n_regions()
    assert state.cut.threshold is None


@pytest.mark.parametrize("mode", ["objects", "markers"])
def test_there_are_none_in_other_modes(state, found, starts, mode):
    found()
    state.change_cut(mode=mode)
    assert found() is None
    assert len(starts) == 1


def test_there_are_none_of_fixed_classes(state, hierarchy, found, model):
    (image,) = state.images
    found()
    state.change_result(image, model=model)
    state.classes = ClassStyle(prototypes=hierarchy.prototypes(2), model=model)
    assert found() is None
    state.change_cut(mode="regions", n_regions=5)
    assert found().mode == "regions"


def test_those_of_an_image_that_was_removed_are_gone(state, found):
    found()
    state.drop_results(state.images)
    assert state.alternatives is None


def test_tasks_of_the_user_come_first(state, finder, found, starts):
    state.busy = "segmenting"
    assert found() is None
    assert starts == []
    state.busy = ""
    assert found() is not None


def test_a_change_stops_what_is_running(state, finder, found, qtbot, monkeypatch):
    stops = []

    def slow(hierarchy, n, mode, number, stop=None, find=alternatives.alternatives_steps):
        stops.append(stop)
        while number == 4 and not stop.is_set():
            yield from ()
        return (yield from find(hierarchy, n, mode, number, stop))

    monkeypatch.setattr(alternatives, "alternatives_steps", slow)
    qtbot.waitUntil(lambda: bool(stops), timeout=20_000)
    state.change_cut(n_classes=2)
    assert stops[0].is_set()
    assert found().number == 2


def test_an_error_is_reported_once(state, finder, found, monkeypatch):
    def broken(*_):
        raise RuntimeError("it broke")

    errors = []
    finder.failed.connect(errors.append)
    monkeypatch.setattr(alternatives, "alternatives_steps", broken)
    assert found() is None
    assert [str(error) for error in errors] == ["it broke"]
