"""Layers that show what lies behind a segmentation."""

from __future__ import annotations

import numpy as np
import pytest

from _napari.conftest import QUICK, add_image, halves, heard
from napari_aeseg import InputError, SegmentationParams
from napari_aeseg._napari.layers.diagnostics import DIAGNOSTICS


def look(widget, what: str):
    """Look, and return the only layer that is shown."""
    events = heard(widget)
    widget.look(what)
    widget.wait(30)
    assert [name for name, _ in events] == ["looked"]
    (layer,) = events[0][1]
    return layer


def expected(widget, what: str) -> np.ndarray:
    tree, image, model = widget.hierarchy, widget.images[0].data, widget.model
    return {
        "features": lambda: tree.feature_colors(),
        "reconstruction": lambda: model.reconstruct(image, device="cpu"),
        "reconstruction error": lambda: model.reconstruction_error(image, device="cpu"),
        "border strength": lambda: tree.border_strength(),
        "merge height": lambda: tree.merge_height(widget.preview.data),
    }[what]()


def test_each_diagnostic_is_a_layer_on_the_image_and_is_brought_up_to_date(segmented):
    segmented.n_regions = 5
    layers = {what: look(segmented, what) for what in DIAGNOSTICS}
    before = {what: layer.data for what, layer in layers.items()}
    for what, layer in layers.items():
        assert layer.name == f"halves {what}"
        assert layer in segmented.viewer_model.layers
        assert layer.rgb == (what == "features")
        assert np.array_equal(layer.data, expected(segmented, what))
        assert layer.data.std() > 0
        assert np.array_equal(layer.scale, (2, 3))
        assert layer.metadata["napari-aeseg"] == {"shows": what, "image": "halves"}
        layer.name = f"my {what}"
    # They are nothing to learn from.
    assert [image.name for image in segmented.images] == ["halves"]
    assert segmented._dock.images.list.count() == 1

    segmented.n_regions = 9
    segmented.segmentation_params = SegmentationParams(patch_size=5)
    segmented.balance = 0.9
    segmented.model = None
    segmented.training_params = QUICK.updated(seed=3)
    segmented.train()
    segmented.wait(20)
    segmented.segment()
    segmented.wait(20)

    for what, layer in layers.items():
        assert look(segmented, what) is layer
        assert layer.name == f"my {what}"
        assert np.array_equal(layer.data, expected(segmented, what))
        assert not np.array_equal(layer.data, before[what])

    segmented.viewer_model.layers.remove(layer)
    again = look(segmented, what)
    assert again is not layer
    assert again in segmented.viewer_model.layers


def test_merge_height_is_of_the_regions_shown_with_edits_and_in_other_modes(segmented):
    segmented.threshold = 0.2
    data = segmented.preview.data
    places = [tuple(np.argwhere(data == label)[0]) for label in (1, 2)]
    segmented.merge(*places)
    labels = segmented.preview.data
    segmented.mode = "classes"

    layer = look(segmented, "merge height")

    assert np.array_equal(layer.data, segmented.hierarchy.merge_height(labels))


@pytest.mark.parametrize(
    ("data", "more", "shape"),
    [
        (np.repeat(halves()[..., None] * 200, 3, -1).clip(0, 255).astype(np.uint8),
         {"rgb": True}, (48, 48, 3)),
        (np.stack([halves(), halves(seed=1)]), {"axis_labels": ("c", "y", "x")}, (2, 48, 48)),
        (np.stack([(halves() * 900 + 100).clip(0, None).astype(np.uint16)] * 3),
         {"axis_labels": ("z", "y", "x"), "scale": (5, 2, 2)}, (3, 48, 48)),
    ],
    ids=["RGB", "channels", "volume"],
)  # fmt: skip
def test_a_reconstruction_is_like_its_image(widget, data, more, shape):
    image = add_image(widget, data, "other", **more)
    widget.train()
    widget.wait(20)
    widget.segment()
    widget.wait(30)

    for _ in range(2):  # new, and brought up to date
        layer = look(widget, "reconstruction")
        assert layer.data.shape == shape
        assert layer.data.dtype == data.dtype
        assert layer.rgb == image.rgb
        assert np.array_equal(layer.scale, image.scale)
    error = look(widget, "reconstruction error")
    assert error.data.shape == widget.preview.data.shape


def test_several_images_have_a_layer_each(segmented):
    first = segmented.images[0]
    second = add_image(segmented, halves(40), "second", choose=False)
    segmented.images = [first, second]
    segmented.segment()
    segmented.wait(20)
    events = heard(segmented, "looked")

    segmented.look("features")
    segmented.wait(20)

    assert [layer.name for layer in events[0][1]] == ["halves features", "second features"]


def test_the_buttons_look(segmented):
    view = segmented._dock.diagnostics
    events = heard(segmented, "looked")
    for what in DIAGNOSTICS:
        view.buttons[what].click()
        assert not view.isEnabled()  # one at a time
        segmented.wait(20)
        assert view.isEnabled()

    assert [event[1][0].name for event in events] == [f"halves {what}" for what in DIAGNOSTICS]


def test_before_segmenting_diagnostics_are_refused(widget):
    events = heard(widget)

    widget.look("features")

    assert [name for name, _ in events] == ["failed"]
    assert "press Segment first" in str(events[0][1])
    assert not widget._dock.diagnostics.isEnabled()


def test_an_unknown_diagnostic_is_refused_with_a_list(segmented):
    segmented.look("the future")
    with pytest.raises(InputError, match="choose one of features, reconstruction"):
        segmented.wait(1)


def test_an_image_that_is_removed_meanwhile_shows_nothing(segmented):
    events = heard(segmented, "looked")
    segmented.look("reconstruction error")
    segmented.viewer_model.layers.remove("halves")
    segmented.wait(20)

    assert events == [("looked", [])]


def test_an_error_enables_everything_again(segmented, monkeypatch):
    def broken(*_, **__):
        yield from ()
        raise RuntimeError("no decoder")

    monkeypatch.setattr("napari_aeseg.autoencoder.model.error_steps", broken)
    segmented.look("reconstruction error")
    with pytest.raises(RuntimeError, match="no decoder"):
        segmented.wait(20)

    assert segmented._dock.diagnostics.isEnabled()
    assert segmented._dock.segments.segment_button.isEnabled()


def test_a_second_click_removes_the_layer_and_shows_the_preview_again(segmented):
    button = segmented._dock.diagnostics.buttons["features"]
    button.click()
    segmented.wait(20)
    assert button.isChecked()
    assert not segmented.preview.visible

    button.click()
    assert not button.isChecked()
    assert segmented.preview.visible
    assert [layer.name for layer in segmented.viewer_model.layers] == ["halves", "halves preview"]
