"""Classes that are learned from strokes in the dock."""

import numpy as np
import pytest
import tifffile

import napari_aeseg as aeseg
from _napari.conftest import add_image, halves, heard
from napari_aeseg import InputError
from napari_aeseg._napari.layers.image_input import camera_of


@pytest.fixture
def learning(segmented):
    """The widget with the preview of classes learned from strokes, and the strokes layer."""
    segmented.mode = "markers"
    segmented.markers_are = "classes"
    return segmented, segmented.paint()


def stroke(layer, label, column, rows=range(10, 20)):
    layer.selected_label = label
    for row in rows:
        layer.paint((row, column), label)


def test_all_that_looks_like_a_stroke_gets_its_class(learning):
    widget, layer = learning
    assert not widget.preview.data.any()
    layer.brush_size = 2
    stroke(layer, 1, 8)
    stroke(layer, 2, 40)
    widget.wait(20)
    expected = widget.hierarchy.classes_from(layer.data)
    assert np.array_equal(widget.preview.data, expected)
    assert (expected == np.where(halves() > 0.5, 2, 1)).mean() > 0.95
    layer.data = np.zeros_like(layer.data)
    widget.wait(20)
    assert not widget.preview.data.any()


def test_other_images_have_the_same_classes(learning):
    widget, layer = learning
    other = add_image(widget, halves(seed=1)[:, ::-1].copy(), "mirrored")
    widget.segment()
    widget.wait(20)
    widget.images = [widget.viewer_model.layers["halves"], other]
    layer.data[10:20, 8], layer.data[10:20, 40] = 1, 2
    layer.refresh()
    widget.wait(20)
    mirrored = widget.viewer_model.layers["mirrored preview"].data
    assert (mirrored == np.where(halves(seed=1)[:, ::-1] > 0.5, 2, 1)).mean() > 0.95


def test_uncertainty_of_a_removed_image_does_not_stop_the_others(learning):
    widget, layer = learning
    one, other = widget.images[0], add_image(widget, halves(seed=1), "other")
    widget.images = [one, other]
    widget.segment()
    widget.wait(20)
    layer.data[10:20, 8], layer.data[10:20, 40] = 1, 2
    layer.refresh()
    widget.wait(20)
    looked = heard(widget, "looked")
    widget.look("class uncertainty")
    widget.wait(20)
    ((_, shown),) = looked
    before = {id(uncertainty): uncertainty.data.copy() for uncertainty in shown}
    widget.viewer_model.layers.remove(other)
    layer.data[30:40, 8:12] = 2
    layer.refresh()
    widget.wait(20)
    changed = [not np.array_equal(u.data, before[id(u)]) for u in shown]
    assert changed == [u.name.startswith(one.name) for u in shown]


def test_strokes_grow_into_segments_again(learning):
    widget, layer = learning
    layer.data[10:20, 8], layer.data[10:20, 40] = 1, 2
    layer.refresh()
    widget.wait(20)
    widget.markers_are = "segments"
    assert np.array_equal(widget.preview.data, widget.hierarchy.from_markers(layer.data))
    script = widget.script
    widget.markers_are = "classes"
    assert "classes_from" not in script
    assert ".classes_from(" in widget.script


def test_stored_classes_are_named_and_kept_with_the_model(learning):
    widget, layer = learning
    layer.data[10:20, 8], layer.data[10:20, 40] = 1, 2
    layer.refresh()
    widget.wait(20)
    before = widget.preview.data.copy()
    widget.store_learned_classes()
    widget.class_names = ("dark", "bright")
    widget.wait(20)
    assert widget.mode == "classes"
    prototypes = widget.model.prototypes
    assert prototypes.names == ("dark", "bright")
    expected = widget.hierarchy.classes(prototypes=prototypes)
    assert np.array_equal(widget.preview.data, expected)
    assert (expected == before).mean() > 0.98  # but for marked pixels


def test_a_folder_gets_the_classes_of_strokes(learning, tmp_path):
    widget, layer = learning
    tifffile.imwrite(tmp_path / "one.tif", halves(seed=1))
    widget.segment_folder(tmp_path)
    with pytest.raises(InputError, match="No class is learned yet"):
        widget.wait(20)
    layer.data[10:20, 8], layer.data[10:20, 40] = 1, 2
    layer.refresh()
    widget.wait(20)
    widget.segment_folder(tmp_path)
    widget.wait(20)
    tree = aeseg.build_hierarchy(halves(seed=1), widget.model, device="cpu")
    expected = tree.classes(prototypes=widget.hierarchy.prototypes_from(layer.data))
    assert np.array_equal(tifffile.imread(tmp_path / "segments" / "one_labels.tif"), expected)


def test_where_next_shows_an_uncertain_place(learning):
    widget, layer = learning
    button = widget._dock.segments.markers.next_button
    assert not button.isEnabled()
    with pytest.raises(InputError, match="No class is learned yet"):
        widget.show_uncertain_place()
    layer.data[10:20, 8], layer.data[10:20, 40] = 1, 2
    layer.refresh()
    widget.wait(20)
    assert button.isEnabled()
    row, column = widget.show_uncertain_place()
    centre = camera_of(widget.viewer_model).center[-2:]
    np.testing.assert_allclose(centre, layer.data_to_world((row, column)))
    assert "in the middle of the view" in widget._dock.status.text.text()
    layer.data[row, column] = 1
    layer.refresh()
    assert "in the middle of the view" not in widget._dock.status.text.text()


def test_uncertainty_is_a_layer(learning):
    widget, layer = learning
    widget.look("class uncertainty")
    with pytest.raises(InputError, match="No class is learned"):
        widget.wait(20)
    layer.data[10:20, 8], layer.data[10:20, 40] = 1, 2
    layer.refresh()
    widget.wait(20)
    looked = heard(widget, "looked")
    widget.look("class uncertainty")
    widget.wait(20)
    ((_, (shown,)),) = looked
    prototypes = widget.hierarchy.prototypes_from(layer.data)
    np.testing.assert_allclose(shown.data, widget.hierarchy.class_uncertainty(prototypes))
    assert shown.visible

    # It follows the strokes, in the same layer, and keeps the brush.
    layer.data[30:40, 8:12] = 2
    layer.refresh()
    widget.wait(20)
    prototypes = widget.hierarchy.prototypes_from(layer.data)
    np.testing.assert_allclose(shown.data, widget.hierarchy.class_uncertainty(prototypes))
    assert sum("uncertainty" in other.name for other in widget.viewer_model.layers) == 1
    assert widget.viewer_model.layers.selection.active is layer

    # It goes with the strokes, and nothing of a hidden image is shown.
    widget.store_learned_classes()
    assert shown not in widget.viewer_model.layers
    assert "stored in the model" in widget._dock.status.text.text()
    widget.images[0].visible = False
    widget.look("border strength")
    widget.wait(20)
    assert not looked[-1][1][0].visible
    assert widget.viewer_model.layers.selection.active is layer

    # Nor does it come when the mode was left meanwhile.
    widget.mode = "markers"
    widget.wait(20)
    widget.look("class uncertainty")
    widget.mode = "regions"
    widget.wait(20)
    assert looked[-1] == ("looked", [])
