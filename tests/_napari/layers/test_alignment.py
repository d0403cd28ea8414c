"""Layers stay on an image that is scaled, moved or turned after it was segmented."""

from __future__ import annotations

import numpy as np
import pytest

from _napari.conftest import add_image, halves, heard


def corners(layer) -> np.ndarray:
    """Where the first pixel and another one lie in the world."""
    return np.array([layer.data_to_world((0, 0)), layer.data_to_world((9, 4))])


def test_layers_move_with_the_image(segmented):
    image = segmented.images[0]
    segmented.paint()
    (kept,) = segmented.keep()
    heard_of = heard(segmented, "looked")
    for what in ("border strength", "reconstruction"):
        segmented.look(what)
        segmented.wait(20)
    shown = [layer for _, layers in heard_of for layer in layers]

    for number, (name, value) in enumerate(
        {
            "scale": (5, 7),
            "translate": (1, 2),
            "rotate": 30,
            "shear": [0.5],
            "affine": np.diag([2.0, 3, 1]),
        }.items()
    ):
        before = corners(image)
        setattr(image, name, value)
        assert not np.allclose(corners(image), before)

        segmented.n_regions = 5 + number
        for layer in (segmented.preview, segmented.paint(), kept, *shown):
            assert np.allclose(corners(layer), corners(image)), (layer.name, name)
            assert layer.units == image.units


def test_a_layer_that_the_user_moved_stays_there(segmented):
    (kept,) = segmented.keep()
    kept.translate = (100, 100)

    segmented.images[0].scale = (1, 1)

    assert np.array_equal(kept.translate, (100, 100))
    assert np.array_equal(kept.scale, (2, 3))


def test_kept_layers_are_measured_in_the_new_scale(segmented, tmp_path):
    (kept,) = segmented.keep()
    segmented.wait(20)
    before = kept.features["area"].sum()

    segmented.images[0].scale = (4, 6)
    segmented.export_table(tmp_path / "table.csv", kept)

    assert kept.features["area"].sum() == pytest.approx(4 * before)


def test_layers_of_an_image_whose_channels_are_not_first(widget):
    stack = np.stack([halves(32), halves(32)[:, ::-1]])[:, None].repeat(2, axis=1)
    image = add_image(widget, stack, "stack", axis_labels=("t", "c", "y", "x"), scale=(1, 1, 2, 2))
    widget.mode, widget.n_classes = "classes", 2
    widget.segment()
    widget.wait(60)

    def shown(layer, t: int) -> list[int]:
        places = (layer.world_to_data((t, 1, 20, x)) for x in (8, 56))
        return [int(layer.data[tuple(np.rint(place).astype(int))]) for place in places]

    strokes = widget.paint()
    strokes.paint((1, 0, 5, 5), 2)
    strokes.paint((1, 0, 5, 25), 1)
    (kept,) = widget.keep()
    for layer in (widget.preview, kept):
        assert shown(layer, 0) == [1, 2]
        assert shown(layer, 1) == [2, 1]
    assert kept.features["area_pixels"].sum() == stack[:, 0].size

    widget.mode, widget.markers_are = "markers", "segments"
    assert shown(widget.preview, 1) == [2, 1]
    image.scale = (1, 3, 1, 1)
    assert np.array_equal(widget.preview.scale, (1, 6, 1, 1))


def test_layers_of_each_resolution_stay_on_their_pixels(segmented):
    """An earlier preview and kept layers were moved to where the new labels lie."""
    widget, pixels = segmented, halves()
    image = widget.viewer_model.add_image([pixels, pixels[::2, ::2]], name="pyramid")
    widget.images = [image]
    kept = []
    for resolution in (0, 1):
        widget.resolution = resolution
        widget.segment()
        widget.wait(20)
        widget.mode = "markers"
        assert (
            widget.paint().data.shape
            == widget.preview.data.shape
            == np.shape(image.data[resolution])
        )
        widget.mode = "regions"
        kept += widget.keep()
    assert [np.unique(layer.scale).tolist() for layer in kept] == [[1], [2]]
    assert not widget.viewer_model.layers["pyramid earlier"].visible

    image.scale = (4, 6)

    assert [tuple(layer.scale) for layer in (*kept, widget.preview)] == [(4, 6), (8, 12), (8, 12)]
