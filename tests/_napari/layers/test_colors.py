"""Colours mean the same on every layer and in every control."""

from __future__ import annotations

from colorsys import rgb_to_hsv

import numpy as np
import pytest

import napari_aeseg as aeseg


@pytest.fixture
def segmented(widget, model):
    widget.model = model
    widget.segment()
    widget.wait(60)
    return widget


def test_classes_have_the_colours_that_were_set(segmented):
    segmented.mode = "classes"
    segmented.n_classes = 2
    segmented.class_colors = ("#ff0000", "#00ff00")
    segmented.wait(10)
    assert segmented.class_colors == ("#ff0000", "#00ff00")
    assert np.allclose(segmented.preview.get_color(2), (0, 1, 0, 1))


def test_a_stroke_has_the_colour_of_its_segment_and_stands_out_from_it(segmented):
    segmented.mode = "markers"
    strokes = segmented.paint()
    segmented.markers_are = "segments"
    segmented.wait(10)
    for label in (1, 2, 3, 12):
        stroke, segment = strokes.get_color(label), segmented.preview.get_color(label)
        hues = [rgb_to_hsv(*color[:3])[0] for color in (stroke, segment)]
        assert hues[0] == pytest.approx(hues[1], abs=0.02)
        # A pale segment has a dark stroke: a bright one would be that of a vivid green.
        is_pale = rgb_to_hsv(*segment[:3])[1] < 0.4
        assert stroke[:3].max() == pytest.approx(0.45 if is_pale else 1, abs=0.01)
        assert stroke[:3].min() < 0.21
    colors = [strokes.get_color(label)[:3] for label in (1, 2, 3)]
    assert min(abs(colors[i] - colors[i - 1]).max() for i in range(3)) > 0.3


def test_strokes_and_what_is_learned_from_them_have_the_colours_of_classes(segmented):
    segmented.class_colors = ("#ff0000", "#00ff00", "#0000ff")
    segmented.mode = "markers"
    strokes = segmented.paint()
    strokes.data[2:4, 2:6] = 2
    strokes.refresh()
    segmented.wait(10)
    (kept,) = segmented.keep()
    for layer in (strokes, segmented.preview, kept):
        assert np.allclose(layer.get_color(2), (0, 1, 0, 1))
        assert np.allclose(layer.get_color(3), (0, 0, 1, 1))


def test_a_kept_layer_has_the_colours_of_the_preview(segmented):
    segmented.n_regions = 4
    segmented.wait(10)
    (kept,) = segmented.keep()
    for label in (1, 2, 3, 4):
        assert np.array_equal(kept.get_color(label), segmented.preview.get_color(label))


def test_the_box_says_what_a_layer_is_coloured_by(segmented):
    (kept,) = segmented.keep()
    segmented.viewer_model.layers.selection.active = kept
    segmented.color_by("area")
    segmented.wait(60)  # until the column that comes later is there
    assert "reconstruction_error" in kept.features
    assert segmented._dock.color_box.currentText() == "area"


def test_the_loss_of_the_base_model_is_not_shown(widget):
    widget.load_model("base")
    assert not widget._dock.model.curve.losses
    assert "Base model" in widget._dock.model.description.text()


def test_the_loss_of_a_model_of_ones_own_is_shown(widget, model):
    widget.model = model
    assert widget._dock.model.curve.losses == list(model.losses)
    assert isinstance(widget.model, aeseg.Model)
