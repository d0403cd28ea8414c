"""Thumbnails in the dock: when they are shown, what a click does, what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_aeseg._napari.layers.colors import class_color
from napari_aeseg._napari.views.choices import alternatives as module


@pytest.fixture
def view(widget):
    return widget._controller.dock.segments.alternatives


@pytest.fixture
def with_thumbnails(segmented, qtbot):
    """The widget with thumbnails of four classes."""
    segmented.mode = "classes"
    segmented.n_classes = 4
    wait_for_alternatives(segmented, qtbot)
    return segmented


def wait_for_alternatives(widget, qtbot):
    widget.wait(20)
    finder = widget._controller.alternatives
    qtbot.waitUntil(lambda: finder.is_up_to_date, timeout=20_000)


def visible(view) -> list:
    return [button for button in view.buttons if not button.isHidden()]


def test_nothing_is_shown_and_takes_no_height_before_there_is_something_to_choose(
    widget, view, qtbot
):
    assert view.isHidden()
    assert view.buttons == []


def test_one_segmentation_is_no_choice(segmented, view, qtbot):
    segmented.mode = "classes"
    segmented.n_classes = 1
    wait_for_alternatives(segmented, qtbot)
    assert len(segmented._state.alternatives.settings) == 1
    assert view.isHidden()


def test_each_says_its_settings_and_the_first_is_in_use_and_stays_so_when_clicked(
    with_thumbnails, view
):
    assert not view.isHidden()
    buttons = visible(view)
    settings = with_thumbnails._state.alternatives.settings
    assert len(buttons) == len(settings) > 1
    assert buttons[0].toolTip() == "Balance 0.3, smoothing scale auto"
    assert [b.isChecked() for b in buttons] == [True] + [False] * (len(buttons) - 1)
    buttons[0].click()
    assert buttons[0].isChecked()
    for number, button in enumerate(buttons, 1):
        assert button.accessibleName() == f"Alternative {number}: {button.toolTip()}"
        assert button.focusPolicy() & Qt.FocusPolicy.TabFocus
        assert not button.icon().isNull()


def test_a_click_sets_the_controls_and_the_preview_follows(with_thumbnails, view, qtbot):
    before = with_thumbnails.cut
    for number, settings in enumerate(with_thumbnails._state.alternatives.settings):
        visible(view)[number].click()
        wait_for_alternatives(with_thumbnails, qtbot)
        assert with_thumbnails.comparison == settings.comparison
        assert with_thumbnails.cut == before
        expected = with_thumbnails.hierarchy.compared_by(settings.comparison).classes(
            4, refine=False
        )
        assert np.array_equal(with_thumbnails.preview.data, expected)
        assert [b.isChecked() for b in visible(view)].index(True) == number
        assert sum(b.isChecked() for b in visible(view)) == 1
    # So does the space bar
    qtbot.keyClick(visible(view)[1], Qt.Key.Key_Space)
    assert with_thumbnails.comparison == with_thumbnails._state.alternatives.settings[1].comparison


def test_those_of_another_number_cannot_be_chosen_while_new_ones_are_found(
    with_thumbnails, view, qtbot
):
    with_thumbnails.n_classes = 3
    assert not view.isHidden()
    assert not view.isEnabled()
    assert not any(button.isChecked() for button in view.buttons)
    wait_for_alternatives(with_thumbnails, qtbot)
    assert view.isEnabled()
    with_thumbnails.mode = "objects"
    assert view.isHidden()


def test_thumbnails_have_the_colours_of_the_preview(with_thumbnails, view, qtbot):
    def colours_of(button) -> set[str]:
        picture = button.icon().pixmap(500, 500).toImage()
        places = [(x, y) for x in range(picture.width()) for y in range(picture.height())]
        return {picture.pixelColor(*place).name() for place in places}

    def half(colour: str) -> str:
        """The colour as it is over black."""
        return "#" + "".join(f"{int(colour[i : i + 2], 16) // 2:02x}" for i in (1, 3, 5))

    state = with_thumbnails._state  # over black, colours can be told
    black = np.zeros_like(state.alternatives.picture)
    state.alternatives = replace(state.alternatives, picture=black)
    assert colours_of(view.buttons[0]) == {half(class_color(k)) for k in (1, 2, 3, 4)}
    with_thumbnails.class_colors = ("#ff0000", "#00ff00", "#0000ff", "#ffffff")
    expected = {half(color) for color in with_thumbnails.class_colors}
    assert colours_of(view.buttons[0]) == expected


def test_thumbnails_fill_the_width_and_do_not_widen_the_dock(with_thumbnails, view, qtbot):
    narrowest = with_thumbnails.native.minimumSizeHint().width()
    with_thumbnails.native.show()
    for width in (narrowest, narrowest + 60):
        with_thumbnails.native.resize(width, 800)
        qtbot.waitUntil(lambda width=width: abs(view.width() - width) < 40)
        for button in visible(view):
            assert module._SIDES[0] <= button.iconSize().width() <= view.width() / 3
            assert 3 * button.iconSize().width() > 0.9 * view.width()
    assert with_thumbnails.native.minimumSizeHint().width() == narrowest
