"""Layers that are kept, and their measurements."""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest

from _napari.conftest import add_image, discs, halves, measured
from napari_aeseg import InputError
from napari_aeseg._napari.widget import AESegWidget
from napari_aeseg._napari.work import jobs

COLUMNS = ["index", "area", "area_pixels", "area_share", "centroid_y", "centroid_x", "mean_1",
           "border_strength", "merge_height", "class", "reconstruction_error"]  # fmt: skip


@pytest.fixture(autouse=True)
def _late_error(monkeypatch):
    """The reconstruction error comes while a test waits, not before."""
    waits = Event()

    def measuring_error(*arguments, error_of=jobs.measuring_error):
        def work(stop):
            while not (waits.wait(0.01) or stop.is_set()):
                pass
            return (yield from error_of(*arguments)(stop))

        return work

    def wait(widget, timeout=None, original=AESegWidget.wait):
        waits.set()
        try:
            original(widget, timeout)
        finally:
            waits.clear()

    monkeypatch.setattr("napari_aeseg._napari.layers.kept_layers.measuring_error", measuring_error)
    monkeypatch.setattr(AESegWidget, "wait", wait)


def kept(widget, wait: bool = True):
    (layer,) = widget.keep()
    if wait:
        widget.wait(30)
    return layer


def test_columns(segmented):
    segmented.n_regions = 4
    layer = kept(segmented, wait=False)
    assert list(layer.features.columns) == COLUMNS[:-1]

    segmented.wait(30)

    table = measured(layer)
    assert list(table.columns) == COLUMNS
    labels, image = layer.data, segmented.images[0].data
    assert segmented.hierarchy.axes.inferred
    error = segmented.model.reconstruction_error(image, device="cpu")
    for _, row in table.iterrows():
        here = labels == row["index"]
        y, x = np.nonzero(here)
        assert row["area_pixels"] == here.sum()
        assert row["area"] == here.sum() * 2 * 3
        assert np.allclose((row["centroid_y"], row["centroid_x"]), (y.mean() * 2, x.mean() * 3))
        assert np.isclose(row["mean_1"], image[here].mean(), atol=1e-5)
        assert np.isclose(row["reconstruction_error"], error[here].mean(), rtol=1e-4)
        assert 0 < row["border_strength"] <= 1
        height = segmented.hierarchy.merge_height(labels)[here][0]
        assert height.dtype.type(row["merge_height"]) == height  # older pandas widens it
    assert set(table["class"]) <= {"class 1", "class 2", "class 3"}


def test_units(segmented):
    image = segmented.images[0]
    image.scale = (1, 1)
    table = kept(segmented).features
    assert "area_pixels" not in table
    assert table["area"].sum() == 48 * 48

    image.scale, image.units = (0.5, 0.25), ("um", "um")
    layer = kept(segmented)
    assert layer.features["area"].sum() == pytest.approx(48 * 48 / 8)
    assert str(layer.units[0]) == "micrometer"


def test_a_volume_has_three_coordinates_and_channels_have_means(widget):
    data = np.stack([np.stack([halves()] * 3), np.stack([halves(seed=1)] * 3)])
    add_image(widget, data, "volume", axis_labels=("c", "z", "y", "x"), scale=(1, 5, 1, 1))
    widget.train()
    widget.wait(20)
    widget.segment()
    widget.wait(30)

    table = kept(widget).features

    columns = ["centroid_z", "centroid_y", "centroid_x", "mean_1", "mean_2"]
    assert [name for name in table if name in columns] == columns
    assert table["area"].sum() == 3 * 48 * 48 * 5


def test_tables_have_the_names_of_classes(segmented):
    segmented.mode, segmented.n_classes = "classes", 2
    segmented.class_names = ("dark", "bright")
    segmented.class_colors = ("#112233", "#445566")
    layer = kept(segmented)

    assert list(measured(layer)["class"]) == ["dark", "bright"]
    assert measured(layer)["mean_1"].is_monotonic_increasing
    assert np.allclose(layer.get_color(1), np.array([0x11, 0x22, 0x33, 255]) / 255)
    segmented.mode, segmented.n_regions = "regions", 2
    assert set(measured(kept(segmented))["class"]) == {"dark", "bright"}


def test_objects_have_a_class_too(segmented):
    add_image(segmented, discs(), "discs")
    segmented.segment()
    segmented.wait(20)
    segmented.mode, segmented.n_classes = "objects", 2
    segmented.wait(30)
    layer = kept(segmented)

    table, classes = measured(layer), segmented.hierarchy.classes(2, refine=False)
    assert list(table["index"]) == [1, 2, 3, 4, 5]
    largest = [np.bincount(classes[layer.data == label]).argmax() for label in table["index"]]
    assert list(table["class"]) == [f"class {number}" for number in largest]


def test_a_second_layer_has_all_columns_at_once_until_the_image_is_segmented_anew(segmented):
    kept(segmented)
    segmented.n_regions = 7
    assert list(kept(segmented, wait=False).features.columns) == COLUMNS

    segmented.segment()
    segmented.wait(20)

    assert list(kept(segmented, wait=False).features.columns) == COLUMNS[:-1]


def test_layers_kept_one_after_the_other_are_all_completed_but_one_that_is_removed(segmented):
    removed, layers = kept(segmented, wait=False), []
    segmented.viewer_model.layers.remove(removed)
    for n in (3, 5, 7):
        segmented.n_regions = n
        layers.append(kept(segmented, wait=False))
    segmented.wait(30)
    assert list(removed.features.columns) == COLUMNS[:-1]

    assert [len(measured(layer)) for layer in layers] == [3, 5, 7]
    assert all(list(layer.features.columns) == COLUMNS for layer in layers)


def test_what_changes_meanwhile_reaches_the_kept_layer_only_if_it_is_painted_on(segmented):
    segmented.n_regions = 3
    other = kept(segmented, wait=False)
    heights = list(measured(other)["merge_height"])
    layer = kept(segmented, wait=False)
    painted = layer.data.copy()
    painted[20:30, 20:30] = 9
    layer.data = painted
    segmented.balance = 1.0
    segmented.wait(30)

    assert list(other.features.columns) == COLUMNS
    assert list(measured(other)["merge_height"]) == heights
    table = layer.features
    assert 9 in list(table["index"])
    assert table.loc[table["index"] == 9, "area_pixels"].item() == 100
    assert "reconstruction_error" in table


def test_a_layer_that_got_another_shape_meanwhile_is_an_error(segmented):
    layer = kept(segmented, wait=False)
    layer.data = np.ones((3, 3), int)
    with pytest.raises(InputError, match="shape"):
        segmented.wait(30)
    assert not segmented.busy
    kept(segmented)  # and goes on


def test_a_layer_stays_when_its_error_cannot_be_computed(segmented, monkeypatch):
    def broken(*_, **__):
        yield from ()
        raise RuntimeError("no decoder")

    monkeypatch.setattr("napari_aeseg.autoencoder.model.error_steps", broken)
    layer = kept(segmented, wait=False)
    with pytest.raises(RuntimeError, match="no decoder"):
        segmented.wait(30)

    assert layer in segmented.viewer_model.layers
    assert list(layer.features.columns) == COLUMNS[:-1]
    assert segmented._dock.segments.keep_button.isEnabled()


def test_of_several_images_those_with_labels_are_kept(segmented):
    flat = add_image(segmented, np.zeros((48, 48), np.float32), "flat", choose=False)
    second = add_image(segmented, discs(), "discs", choose=False)
    segmented.images = [flat, second]
    segmented.segment()
    segmented.wait(20)
    segmented.mode = "objects"
    segmented.wait(60)

    layers = segmented.keep()
    segmented.wait(30)

    assert [layer.name for layer in layers] == ["discs objects"]


def test_objects_that_are_still_looked_for_cannot_be_kept(segmented):
    segmented.mode = "objects"
    with pytest.raises(InputError, match="still being detected"):
        segmented.keep()
    segmented.wait(60)


def test_the_button_keeps_and_says_so(segmented):
    segmented._dock.segments.keep_button.click()
    segmented.wait(30)

    (layer,) = [one for one in segmented.viewer_model.layers if "regions" in one.name]
    assert not layer.visible
    assert f'Kept as "{layer.name}"' in segmented._dock.status.text.text()


def test_a_volume_is_segmented_by_its_voxels_and_says_how_it_was_read(widget):
    data = np.stack([halves()] * 4)
    add_image(widget, data, "volume", scale=(4, 0.5, 0.5), units=("um",) * 3)
    widget.axes = "ZYX"
    assert widget.axes_text.endswith("(ZYX, as given), voxels of 4 x 0.5 x 0.5 micrometer")
    widget.segment()
    widget.wait(30)

    assert widget.hierarchy.voxel_size == (4, 0.5, 0.5)
    assert widget.hierarchy.patches.max() + 1 == 4 * 6 * 6  # a slice each
    assert "voxel_size=(4.0, 0.5, 0.5)" in widget.script
    table = kept(widget).features
    assert table["area"].sum() == 4 * 48 * 48


def test_time_is_counted_in_frames(widget):
    data = np.stack([halves()] * 3)
    add_image(widget, data, "movie", scale=(60, 0.5, 0.5), units=("s", "um", "um"))
    widget.axes = "TYX"
    widget.segment()
    widget.wait(30)
    widget.n_regions = 1
    table = measured(kept(widget))

    assert table["centroid_t"].tolist() == [1]
    assert table["area"].tolist() == [3 * 24 * 24]


def test_rows_are_those_of_their_labels(segmented):
    """napari selects the label of a row by its position, and the row of a label too."""
    segmented.n_regions = 6
    segmented.merge((2, 2), (2, 45))
    layer = kept(segmented)
    layer.paint((30, 30), 12)
    segmented.color_by("area", layer)

    table, here = layer.features, np.unique(layer.data)
    assert list(table["index"]) == list(range(here.max() + 1))
    for label in range(1, here.max() + 1):
        assert table["area_pixels"][label] == (layer.data == label).sum()
    absent = ~table["index"].isin(here) | (table["index"] == 0)
    assert (table["area"][absent] == 0).all()
    assert table["mean_1"][absent].isna().all()
    assert (table["class"][absent] == "").all()
