"""Images that are given other data, or removed, while work on them goes on, or after it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from _napari.conftest import add_image, halves, heard, join_workers
from napari_aeseg import InputError


def enabled(widget) -> tuple[bool, bool]:
    return (
        widget._dock.segments.segment_button.isEnabled(),
        widget._dock.segments.keep_button.isEnabled(),
    )


# While it is segmented


@pytest.mark.parametrize("data", [halves(60), np.stack([halves()] * 3)], ids=["size", "axes"])
def test_a_hierarchy_is_refused_by_an_image_that_has_another_shape_now(widget, model, data):
    widget.model = model
    events = heard(widget)
    widget.segment()
    widget.images[0].data = data
    with pytest.raises(InputError, match="halves has another shape now"):
        widget.wait(20)

    assert [name for name, _ in events] == ["failed"]
    assert widget.hierarchies == {}
    assert len(widget.viewer_model.layers) == 1
    assert enabled(widget) == (True, False)
    widget.axes = "ZYX" if data.ndim == 3 else None
    widget.segment()
    widget.wait(20)
    assert widget.preview.data.shape == data.shape


def test_an_image_of_another_shape_does_not_keep_the_others_from_being_segmented(widget, model):
    widget.model = model
    first = widget.images[0]
    second = add_image(widget, halves(seed=1), "second", choose=False)
    widget.images = [first, second]
    widget.segment()
    first.data = halves(60)
    with pytest.raises(InputError, match="another shape"):
        widget.wait(20)

    assert list(widget.hierarchies) == [second]
    assert "halves has another shape now" in widget._dock.status.text.text()


def test_a_line_on_what_was_shown_goes_and_one_on_changed_pixels_stays(segmented):
    text = segmented._dock.status.text
    segmented._state.message = "2 regions, 1.7 s."
    segmented.mode = "classes"
    assert text.text() == ""
    segmented.images[0].data = halves(seed=5)
    segmented.n_classes = 2
    assert "Press Segment" in text.text()


def test_a_result_of_pixels_that_changed_comes_with_a_message(widget, model):
    widget.model = model
    widget.segment()
    widget.images[0].data = halves(seed=5)
    widget.wait(20)

    assert widget.preview is not None
    assert "halves changed after it was segmented" in widget._dock.status.text.text()


# After it was segmented


def test_a_segmentation_is_given_up_with_the_shape_of_its_image(segmented):
    preview, before = segmented.preview, segmented.preview.data
    segmented.images[0].data = halves(60)

    assert segmented.hierarchies == {}
    assert segmented.preview is None
    assert enabled(segmented) == (True, False)
    assert "halves has another shape now" in segmented._dock.status.text.text()
    # The layer is the user's from then on.
    assert preview in segmented.viewer_model.layers
    assert preview.data is before
    assert (preview.name, preview.visible) == ("halves earlier", False)
    segmented.n_regions = 5
    segmented.segment()
    segmented.wait(20)
    assert segmented.preview is not preview
    assert segmented.preview.data.shape == (60, 60)


def test_new_pixels_of_the_same_shape_are_reported_and_nothing_is_lost(segmented):
    segmented.n_regions = 5
    segmented.merge((2, 2), (40, 40))
    hierarchy = segmented.hierarchy
    segmented.images[0].data = halves(seed=5)

    assert segmented.hierarchy is hierarchy
    assert "halves changed after it was segmented" in segmented._dock.status.text.text()
    assert segmented.undo()


def test_the_same_data_again_say_nothing(segmented):
    image, text = segmented.images[0], segmented._dock.status.text.text()
    image.data = image.data

    assert segmented._dock.status.text.text() == text


def test_a_colour_image_is_not_taken_for_changed(widget):
    photo = np.zeros((48, 48, 4), np.uint8)
    photo[..., :3] = (200 * halves()[..., None]).clip(0, 255)
    photo[..., 3] = 255
    image = add_image(widget, photo, "photo", rgb=True)
    widget.segment()
    widget.wait(30)
    text = widget._dock.status.text.text()
    assert re.fullmatch(r"\d+ regions?, \d+\.\d s\.", text)
    image.data = image.data

    assert widget.preview is not None
    assert widget._dock.status.text.text() == text


def test_objects_of_a_removed_image_are_dropped(segmented, qtbot):
    image = segmented.images[0]
    segmented.mode = "objects"
    segmented.viewer_model.layers.remove(image)
    segmented.wait(30)
    join_workers(qtbot)

    assert segmented._controller.state.objects == {}


# What the dock says of images


def test_the_line_on_axes_follows_the_layer(widget):
    image = widget.images[0]
    image.scale, image.units = (4, 0.5), ("um", "um")
    assert widget.axes_text.endswith("pixels of 4 x 0.5 micrometer")

    image.data = np.stack([halves()] * 3)
    assert widget.axes_text.startswith("3 channels, 48 x 48 pixels")

    image.axis_labels = ("z", "y", "x")
    assert widget.axes_text.startswith("3 slices, 48 x 48 pixels")


# While it is trained on


def names(widget) -> list[str]:
    return [layer.name for layer in widget.viewer_model.layers]


@pytest.mark.parametrize("data", [halves(60), np.stack([halves()] * 3)], ids=["size", "axes"])
def test_pictures_of_a_training_are_not_shown_beside_another_shape(watched, data):
    watched.train()
    watched.images[0].data = data
    watched.wait(30)

    assert names(watched) == ["halves"]
    assert watched.model is not None


def test_a_refused_training_leaves_the_pictures_of_the_running_one_beside_its_image(watched):
    other = add_image(watched, halves(seed=1), "other", choose=False)
    watched.train()
    watched.images = [other]
    watched.train()
    with pytest.raises(InputError, match="Still busy with halves"):
        watched.wait(30)

    assert "halves in training" in names(watched)
    assert "other in training" not in names(watched)


# While a saved segmentation is opened


def test_a_saved_segmentation_is_not_shown_on_an_image_that_was_replaced_meanwhile(
    segmented, tmp_path
):
    path = tmp_path / "cells.aeseg.zarr"
    segmented.save_hierarchy(path)
    image = segmented.images[0]
    segmented._controller.open_hierarchy(path)
    image.data = halves(seed=5)
    segmented.wait(20)

    assert segmented.images == [segmented.viewer_model.layers["cells brightness"]]
