"""Small controls."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QPalette

from napari_aeseg._napari.views.widgets import NumberSlider


@pytest.fixture
def slider(qtbot):
    """A logarithmic slider of 1 to 10,000 whole numbers, at 12, and what it sends."""
    slider = NumberSlider(1, 10_000)
    qtbot.addWidget(slider)
    slider.value = 12
    slider.sent = []
    slider.changed.connect(slider.sent.append)
    return slider


@pytest.mark.parametrize(
    ("key", "value"),
    [("Right", 13), ("Up", 13), ("Left", 11), ("Down", 11), ("PageUp", 22), ("PageDown", 2)],
)
def test_every_key_changes_a_whole_number(qtbot, slider, key, value):
    qtbot.keyClick(slider.slider, getattr(Qt.Key, f"Key_{key}"))

    assert slider.value == value
    assert slider.sent == [value]


def test_a_number_that_is_not_known_is_not_shown(slider):
    slider.show_unknown()
    assert slider.number.text() == "–"
    assert slider.sent == []

    slider.value = 1
    assert slider.number.text() == "1"


def test_the_number_of_a_disabled_slider_is_legible(slider):
    slider.setStyleSheet("* { color: #f0f0f0; } :disabled { color: rgba(240, 240, 240, 90); }")
    slider.setEnabled(False)
    slider.number.ensurePolished()
    text = slider.number.palette().color(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Text)
    assert text.getRgb() == (240, 240, 240, 160)
