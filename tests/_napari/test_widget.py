"""The dock widget as a script drives it, on a viewer without a window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from napari.layers import Image
from qtpy.QtCore import Qt

import napari_aeseg as aeseg
from _napari.conftest import QUICK, add_image, discs, halves, heard, measured
from napari_aeseg import ComparisonParams, InputError, ModelFileError
from napari_aeseg.progress import Progress


def buttons(widget) -> dict[str, bool]:
    """Which buttons are enabled."""
    dock = widget._dock
    return {
        "train": dock.model.train_button.isEnabled(),
        "load": dock.model.load_button.isEnabled(),
        "save": dock.model.save_button.isEnabled(),
        "segment": dock.segments.segment_button.isEnabled(),
        "keep": dock.segments.keep_button.isEnabled(),
        "stop": not dock.status.stop_button.isHidden(),
    }


# Images


def test_the_only_image_is_chosen_and_its_axes_are_shown(widget):
    assert widget.images == [widget.viewer_model.layers["halves"]]
    assert widget.axes is None
    assert widget.axes_text == "48 x 48 pixels (YX, inferred from the shape), pixels of 2 x 3"


def test_axes_can_be_changed(widget):
    widget.viewer_model.add_layer(Image(np.zeros((3, 20, 30)), name="stack"))
    widget.images = [widget.viewer_model.layers["stack"]]
    assert "3 channels" in widget.axes_text

    widget.axes = "ZYX"

    assert widget.axes_text == "3 slices, 20 x 30 pixels (ZYX, as given)"
    widget.axes = "YX"
    assert "does not fit" in widget.axes_text


def test_the_list_follows_the_layers(widget):
    viewer = widget.viewer_model
    first = viewer.layers["halves"]
    viewer.add_layer(Image(np.zeros((9, 9)), name="other"))
    viewer.add_labels(np.zeros((9, 9), int))
    rows = widget._dock.images.list
    assert [rows.item(i).text() for i in range(rows.count())] == ["halves", "other"]
    assert widget.images == [viewer.layers["other"]]  # the one in sight
    widget.images = [first]

    first.name = "renamed"
    widget.reset_choices()
    viewer.layers.move(0, 3)
    widget.reset_choices()

    assert [rows.item(i).text() for i in range(rows.count())] == ["other", "renamed"]
    assert widget.images == [first]

    viewer.layers.remove(first)

    assert widget.images == [viewer.layers["other"]]


def test_a_layer_of_another_viewer_is_refused(widget):
    with pytest.raises(InputError, match="not an Image layer of this viewer"):
        widget.images = [Image(np.zeros((9, 9)))]


def test_without_an_image_nothing_can_be_pressed(widget):
    widget.viewer_model.layers.clear()

    assert widget.images == []
    assert "Open an image" in widget.axes_text
    enabled = buttons(widget)
    assert enabled.pop("load")
    assert not any(enabled.values())


# Training and segmenting


def test_train(widget):
    events = heard(widget)

    widget.train()
    assert widget.busy
    assert buttons(widget)["stop"]
    widget.wait(20)

    assert not widget.busy
    assert events == [("trained", widget.model)]
    assert widget.model.record.images[0]["name"] == "halves"
    assert buttons(widget) == {
        "train": True, "load": True, "save": True, "segment": True, "keep": False, "stop": False,
    }  # fmt: skip
    assert "Trained on halves" in widget._dock.model.description.text()
    assert len(widget._dock.model.curve.losses) == QUICK.steps


def test_segment_uses_the_base_model_where_there_is_none(widget):
    events = heard(widget)

    widget.segment()
    widget.wait(30)

    assert [name for name, _ in events] == ["segmented"]
    assert widget.model.fingerprint == aeseg.load_model("base").fingerprint
    assert widget._dock.model.description.text().startswith("Base model")
    assert events[0][1] is widget.hierarchy
    assert widget.preview is widget.viewer_model.layers["halves preview"]
    assert widget.preview.data.max() == widget.n_regions == widget.hierarchy.suggest_n_regions()
    assert np.array_equal(widget.preview.scale, (2, 3))


def test_segmenting_with_another_model_says_how_alike_the_classes_are(widget, model):
    widget.mode = "classes"
    for other, says_so in ((aeseg.load_model("base"), False), (model, True), (model, False)):
        widget.model = other
        widget.segment()
        widget.wait(30)
        text = "% of the pixels have the same class as with the model before."
        assert (text in widget._state.message) is says_so


def test_several_images_train_one_model_and_are_segmented_each(widget):
    viewer = widget.viewer_model
    viewer.add_layer(Image(np.stack([halves(), halves()]), name="two", axis_labels=("c", "y", "x")))
    viewer.add_layer(Image(halves(40, seed=1), name="more"))
    widget.images = [viewer.layers["halves"], viewer.layers["more"]]
    events = heard(widget)

    widget.train()
    widget.wait(30)
    widget.segment()
    widget.wait(30)

    assert [name for name, _ in events] == ["trained", "segmented", "segmented"]
    assert len(widget.model.record.images) == 2
    assert set(widget.hierarchies) == set(widget.images)
    widget.n_regions = 5
    assert [layer.data.max() for layer in widget.previews.values()] == [5, 5]
    widget.mode, widget.n_classes = "classes", 2
    first, second = widget.previews.values()
    # The bright half is the same class in both.
    assert first.data[5, 45] == second.data[5, 37] != first.data[5, 5] == second.data[5, 3]


def test_images_may_have_their_axes_in_different_order(widget):
    viewer = widget.viewer_model
    pair = np.stack([halves(), halves(seed=1)])
    viewer.add_layer(Image(pair, name="first", axis_labels=("c", "y", "x")))
    viewer.add_layer(Image(np.moveaxis(pair, 0, -1), name="last", axis_labels=("y", "x", "c")))
    widget.images = [viewer.layers["first"], viewer.layers["last"]]

    widget.train()
    widget.wait(20)

    assert [image["axes"] for image in widget.model.record.images] == ["CYX", "YXC"]


def test_stop_keeps_the_model_so_far(widget, qtbot):
    widget.training_params = QUICK.updated(steps=1_000_000)
    events = heard(widget)
    widget.train()
    qtbot.waitUntil(lambda: bool(widget._dock.model.curve.losses), timeout=20_000)

    widget.stop()
    widget.wait(5)

    assert [name for name, _ in events] == ["trained", "stopped"]
    assert 0 < widget.model.record.steps < 1_000_000
    assert "The model so far is kept" in events[1][1]
    widget.segment()
    widget.wait(20)
    assert widget.preview is not None


def test_a_second_job_is_refused_with_words(widget, qtbot):
    widget.training_params = QUICK.updated(steps=1_000_000)
    events = heard(widget)
    widget.train()

    widget.segment()

    assert [name for name, _ in events] == ["failed"]
    assert "Still busy with halves" in str(events[0][1])
    assert widget.busy
    widget.stop()


# Failures


def test_a_bad_image_fails_with_its_text_and_everything_can_be_pressed_again(widget):
    bad = halves()
    bad[3, 4] = np.nan
    widget.viewer_model.add_layer(Image(bad, name="holes", contrast_limits=(0, 1)))
    widget.images = [widget.viewer_model.layers["holes"]]
    events = heard(widget)

    widget.train()
    with pytest.raises(InputError, match="holes has 1 NaN"):
        widget.wait(20)

    assert [name for name, _ in events] == ["failed"]
    assert "holes has 1 NaN" in widget._dock.status.text.text()
    assert buttons(widget) == {
        "train": True, "load": True, "save": False, "segment": True, "keep": False, "stop": False,
    }  # fmt: skip
    widget.wait(1)  # an error is raised once


def test_errors_that_napari_workers_would_swallow_are_reported(widget, monkeypatch):
    for error in RuntimeError("sizes differ"), torch.OutOfMemoryError("CUDA out of memory"):

        def broken(*_, error=error, **__):
            yield from ()
            raise error

        monkeypatch.setattr("napari_aeseg.api.train_steps", broken)
        events = heard(widget, "failed")
        widget.train()
        with pytest.raises(Exception, match=str(error)):
            widget.wait(20)

        assert len(events) == 1
        assert buttons(widget)["train"]


def test_one_bad_image_does_not_keep_the_others_from_being_segmented(widget, model):
    bad = halves()
    bad[:] = np.inf
    viewer = widget.viewer_model
    viewer.layers.insert(0, Image(bad, name="holes", contrast_limits=(0, 1)))
    widget.images = list(viewer.layers)
    widget.model = model
    events = heard(widget)

    widget.segment()
    with pytest.raises(InputError, match="holes"):
        widget.wait(20)

    assert [name for name, _ in events] == ["failed", "segmented"]
    assert list(widget.hierarchies) == [viewer.layers["halves"]]


def test_nothing_chosen_fails_with_words_that_napari_shows(widget, monkeypatch):
    shown = []
    monkeypatch.setattr("napari_aeseg._napari.work.errors.show_error", shown.append)
    widget.images = []
    events = heard(widget)

    widget._dock.model.train_button.setEnabled(True)
    widget._dock.model.train_button.click()
    widget.segment()

    assert [name for name, _ in events] == ["failed", "failed"]
    assert len(shown) == 2
    for text in (shown[0], str(events[0][1])):
        assert "No image is chosen" in text


def test_a_model_for_other_channels_fails_with_words(widget, model):
    viewer = widget.viewer_model
    viewer.add_layer(Image(np.zeros((48, 48, 3), np.uint8), rgb=True, name="photo"))
    widget.images = [viewer.layers["photo"]]
    widget.model = model

    widget.segment()

    with pytest.raises(InputError, match="photo has 3 channel"):
        widget.wait(20)


def test_a_fallback_is_a_warning_and_the_work_goes_on(widget, monkeypatch, model):
    def falling_back(*args, **kwargs):
        yield Progress("train", 1, 3, "cpu", message="cuda ran out of memory: going on with cpu.")
        return model

    monkeypatch.setattr("napari_aeseg.api.train_steps", falling_back)
    warned, events = [], []
    monkeypatch.setattr("napari_aeseg._napari.controller.show_warning", warned.append)
    widget.progressed.connect(events.append)

    widget.train()
    widget.wait(20)

    assert warned == ["cuda ran out of memory: going on with cpu."]
    assert [event.device for event in events] == ["cpu"]
    assert widget.model is model


# Model files


def test_save_and_load(widget, model, tmp_path):
    path = tmp_path / "cells.aeseg.safetensors"
    widget.model = model
    widget.save_model(path)
    widget.model = None

    widget.load_model(path)

    assert widget.model.fingerprint == model.fingerprint
    assert "Loaded cells.aeseg.safetensors" in widget._dock.model.description.text()


def test_loading_a_damaged_or_missing_file_raises(widget, tmp_path):
    path = tmp_path / "cells.aeseg.safetensors"
    path.write_bytes(b"nonsense")
    events = heard(widget)

    with pytest.raises(ModelFileError):
        widget.load_model(path)
    with pytest.raises(FileNotFoundError):
        widget.load_model(tmp_path / "nowhere")

    assert [name for name, _ in events] == ["failed", "failed"]
    assert widget.model is None
    assert buttons(widget)["load"]


def test_saving_without_a_model_asks_to_train_or_load_one(widget, tmp_path):
    with pytest.raises(InputError, match="train or load one first"):
        widget.save_model(tmp_path / "x")


# Tuning


def test_the_preview_follows_the_properties_and_comes_again_when_it_was_removed(segmented):
    segmented.n_regions = 6
    assert segmented.preview.data.max() == 6
    assert np.array_equal(segmented.preview.data, segmented.hierarchy.regions(6, refine=False))

    segmented.threshold = 1.0
    assert segmented.preview.data.max() == segmented.n_regions == 1

    segmented.mode = "classes"
    segmented.n_classes = 2
    assert np.array_equal(segmented.preview.data, segmented.hierarchy.classes(2, refine=False))

    segmented.mode = "regions"
    segmented.n_regions = None
    assert segmented.preview.data.max() == segmented.hierarchy.suggest_n_regions()

    segmented.viewer_model.layers.remove(segmented.preview)
    assert segmented.preview is None
    segmented.n_regions = 3
    assert segmented.preview.data.max() == 3


def test_the_preview_follows_the_slider_and_the_newest_wins(segmented, qtbot):
    slider = segmented._dock.segments.regions.n_regions.slider
    shown = []
    segmented.preview.events.set_data.connect(lambda: shown.append(segmented.preview.data.max()))

    for position in (300, 600, 900):
        slider.setValue(position)

    qtbot.waitUntil(lambda: segmented.preview.data.max() == segmented.n_regions > 9, timeout=2000)
    assert len(set(shown)) == 1


def test_the_suggestion_is_marked_and_can_be_taken(segmented):
    view = segmented._dock.segments.regions
    suggested = segmented.hierarchy.suggest_n_regions()
    segmented.n_regions = 9

    assert view.suggest_button.text() == f"Suggested: {suggested}"
    assert view.n_regions.slider.mark == view.n_regions._position(suggested)
    view.suggest_button.click()
    segmented.wait(5)

    assert segmented.n_regions == segmented.preview.data.max() == suggested


def test_a_number_chosen_before_segmenting_is_used(widget, model):
    widget.model = model
    widget.n_regions = 4
    widget.segment()
    widget.wait(20)

    assert widget.preview.data.max() == 4


def test_a_refused_value_changes_nothing(segmented):
    shown = segmented.preview.data
    for name, value in [
        ("n_regions", 0), ("n_regions", 10**6), ("threshold", 2), ("n_classes", 0), ("mode", "x"),
        ("min_size", 0), ("max_size", 0), ("diameter", 0), ("polarity", "x"), ("sensitivity", 2),
        ("exclude_borders", 1), ("class_ids", ()), ("balance", 2), ("scale", -1),
    ]:  # fmt: skip
        before = getattr(segmented, name)
        with pytest.raises(InputError, match=name):
            setattr(segmented, name, value)
        assert getattr(segmented, name) == before
        assert segmented.preview.data is shown


def test_balance_and_scale_act_without_encoding_again(segmented):
    patches, view = segmented.hierarchy.patches, segmented._dock.segments

    segmented.balance, segmented.scale = 1.0, 30
    segmented.wait(20)

    assert segmented.hierarchy.comparison == ComparisonParams(balance=1.0, scale=30)
    assert segmented.hierarchy.patches is patches
    assert segmented.preview.data.max() == segmented.n_regions

    view.comparison.balance.number.setValue(0.2)
    view.comparison.scale.number.setValue(50)
    segmented.wait(20)

    assert segmented.hierarchy.comparison == ComparisonParams(balance=0.2, scale=50)
    assert segmented.comparison == segmented.hierarchy.comparison


def test_forms_reach_the_next_job(widget):
    widget._dock.model.form.controls["steps"].value = 2
    widget._dock.segments.form.controls["patch_size"].value = 12
    widget.train()
    widget.wait(20)
    widget.segment()
    widget.wait(20)

    assert widget.model.record.steps == 2
    assert widget.hierarchy.params.patch_size == 12


def test_keep(segmented):
    segmented.n_regions = 3
    (kept,) = segmented.keep()
    segmented.n_regions = 5

    assert kept.name == "halves regions 3"
    assert kept.data.max() == 3
    assert list(measured(kept)["index"]) == [1, 2, 3]
    assert kept.features["area_pixels"].sum() == 48 * 48
    assert kept.features["area"].sum() == 48 * 48 * 2 * 3  # the image's scale
    assert kept.metadata["napari-aeseg"]["model"] == segmented.model.fingerprint
    assert np.array_equal(kept.scale, (2, 3))
    layers = [layer.name for layer in segmented.viewer_model.layers]
    assert layers == ["halves", "halves regions 3", "halves preview"]
    assert segmented.viewer_model.layers.selection.active is segmented.preview


def test_keep_before_segmenting_asks_to_segment(widget):
    with pytest.raises(InputError, match="segment an image first"):
        widget.keep()


def test_objects_are_found_and_kept(segmented):
    add_image(segmented, discs(), "discs")
    segmented.segment()
    segmented.wait(20)
    tree = segmented.hierarchy

    segmented.mode = "objects"
    segmented.wait(60)
    assert np.array_equal(segmented.preview.data, tree.objects())
    assert segmented.preview.data.max() == 5
    shown = segmented.preview.data
    segmented.balance = 0.3  # does not change objects
    segmented.wait(60)
    assert np.array_equal(segmented.preview.data, shown)
    segmented.min_size = 100
    segmented.wait(60)
    assert np.array_equal(segmented.preview.data, tree.objects(min_size=100))
    assert segmented.preview.data.max() == 3
    (kept,) = segmented.keep()
    assert kept.name.endswith("objects 100")
    assert kept.data.dtype == np.int32
    assert not np.shares_memory(kept.data, segmented.preview.data)
    assert kept.metadata["napari-aeseg"]["min_size"] == 100
    assert len(measured(kept)) == 3
    segmented.mode = "classes"
    assert segmented.preview.data.max() == segmented.n_classes


def test_where_there_is_no_object_nothing_is_kept(segmented):
    segmented.mode = "objects"
    segmented.min_size = 4000  # more than the image has
    segmented.wait(60)
    assert not segmented.preview.data.any()

    with pytest.raises(InputError, match="nothing to keep of halves: no pixel has a label"):
        segmented.keep()

    assert len(segmented.viewer_model.layers) == 2


def test_a_painted_preview_is_left_to_the_user(segmented):
    painted = segmented.preview
    painted.paint((5, 5), 77)
    drawn = painted.data.copy()

    segmented.n_regions = 7

    assert segmented.preview is not painted
    assert segmented.preview.data.max() == 7
    assert np.array_equal(painted.data, drawn)


# Layers that go meanwhile


def test_removing_the_image_while_it_is_segmented(widget, model):
    widget.model = model
    events = heard(widget)
    widget.segment()

    widget.viewer_model.layers.clear()
    widget.wait(20)

    assert [name for name, _ in events] == ["segmented"]
    assert widget.hierarchies == {}
    assert len(widget.viewer_model.layers) == 0


def test_removing_the_image_gives_its_hierarchy_up(segmented):
    segmented.viewer_model.layers.remove("halves")

    assert segmented.hierarchies == {}
    assert segmented._controller.state.results == {}
    assert "halves preview" in segmented.viewer_model.layers
    assert not buttons(segmented)["keep"]


# Devices and imports


def test_devices_are_looked_up_when_the_list_is_opened(widget, qtbot):
    box = widget._dock.model.device_box
    box.opened.emit()
    qtbot.waitUntil(lambda: not widget._controller.devices.busy, timeout=10_000)

    shown = [box.itemText(i) for i in range(box.count())]

    from napari_aeseg.autoencoder.device import available_devices

    assert set(shown) == {"auto", *available_devices()}


def test_a_device_that_does_not_exist_is_an_error(widget):
    widget.device = "cuda:7"
    assert widget.device == "cuda:7"

    widget.train()

    with pytest.raises(aeseg.DeviceError, match="cuda:7"):
        widget.wait(20)


def test_waiting_has_an_end(widget):
    widget.training_params = QUICK.updated(steps=1_000_000)
    widget.train()

    with pytest.raises(TimeoutError):
        widget.wait(0.1)

    widget.stop()


def test_a_click_on_a_name_shows_that_image_and_its_preview_only(segmented, qtbot):
    first = segmented.images[0]
    second = add_image(segmented, halves(seed=1), "second", choose=False)
    segmented.apply_to_all()
    segmented.wait(20)
    rows = segmented._dock.images.list

    rows.itemClicked.emit(rows.item(0))
    assert (first.visible, second.visible) == (True, False)
    assert [p.visible for p in segmented.previews.values()] == [True, False]
    segmented.n_regions = 5
    assert [p.visible for p in segmented.previews.values()] == [True, False]
    segmented.show_only(second)
    assert (first.visible, second.visible) == (False, True)
    assert segmented.viewer_model.layers.selection.active is segmented.previews[second]

    # A click on the box checks it only.
    rows.item(0).setCheckState(Qt.CheckState.Unchecked)
    rows.itemClicked.emit(rows.item(0))
    assert second.visible
    assert segmented.images == [second]


def test_the_next_image_is_shown_with_its_preview_and_checked(segmented):
    first, preview = segmented.images[0], segmented.preview
    second = segmented.viewer_model.add_layer(Image(halves(40, seed=1), name="second"))
    assert segmented.images == [second]  # it lies on top
    segmented.segment()
    segmented.wait(20)
    names = [layer.name for layer in segmented.viewer_model.layers]
    assert names == ["halves", "halves preview", "second", "second preview"]

    segmented.show_next()
    assert (segmented.images, segmented.preview) == ([first], preview)
    seen = [layer.name for layer in segmented.viewer_model.layers if layer.visible]
    assert seen == ["halves", "halves preview"]
    assert segmented.viewer_model.layers.selection.active is preview

    segmented.images = [first, second]
    segmented.show_next(-1)  # of several, all stay checked
    assert len(segmented.images) == 2
    assert segmented._state.first_image is second


def test_names_stay_on_their_classes_when_patches_are_compared_anew(segmented):
    segmented.mode, segmented.n_classes = "classes", 2
    segmented.class_names = ("dark", "bright")
    segmented.class_colors = ("#111111", "#eeeeee")
    place = (5, 5)
    for balance in (0.0, 1.0, 0.5):
        segmented.balance = balance
        segmented.wait(20)
        label = int(segmented.preview.data[place])
        assert segmented.class_names[label - 1] == "dark"
        assert segmented.class_colors[label - 1] == "#111111"


def test_undo_brings_back_edits_that_do_not_fit_other_patches(segmented):
    segmented.n_regions = segmented.hierarchy.n_patches
    segmented.merge((1, 1), (1, 9))
    before = segmented.preview.data
    segmented.segmentation_params = segmented.segmentation_params.updated(patch_size=24)
    segmented.segment()
    segmented.wait(20)
    assert "Undo" in segmented._dock.status.text.text()

    segmented._dock.segments.tools.undo_button.click()
    segmented.wait(20)
    assert np.array_equal(segmented.preview.data, before)
