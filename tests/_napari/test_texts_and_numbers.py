"""Errors that nobody foresaw, wherever they come from; numbers and words that have to be true."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from qtpy.QtGui import QColor

from _napari.conftest import QUICK, add_image, halves, heard, measured, train_and_stop
from napari_aeseg import InputError
from napari_aeseg._napari.state import DockState
from napari_aeseg._napari.work import worker
from napari_aeseg.errors import DeviceError


def refuse(*_, **__):
    raise RuntimeError("it broke")


@pytest.fixture
def shown(monkeypatch):
    shown = []
    monkeypatch.setattr("napari_aeseg._napari.work.errors.show_error", shown.append)
    return shown


def rest(widget) -> None:
    dock = widget._dock
    assert dock.status.bar.isHidden()
    assert dock.status.stop_button.isHidden()
    assert dock.model.train_button.isEnabled()
    assert dock.segments.segment_button.isEnabled()


# Errors


def test_errors_of_buttons_are_reported_once(segmented, shown, monkeypatch):
    dock = segmented._dock
    segmented.mode = "classes"
    segmented.keep()
    segmented.wait(30)
    events = heard(segmented, "failed")
    for target, act in {
        "layers.kept_layers.KeptLayers._keep": dock.segments.keep_button.click,
        "corrections.ManualCorrections.fix_classes": dock.segments.classes.fix_box.click,
        "controller.script_of": dock.script_button.click,
        "controller.color_by": lambda: dock.color_box.textActivated.emit("label"),
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(f"napari_aeseg._napari.{target}", refuse)
            act()
            with pytest.raises(RuntimeError, match="it broke"):
                segmented.wait(30)

        assert len(events) == 1, target
        assert shown == ["RuntimeError: it broke"], target
        rest(segmented)
        events.clear()
        shown.clear()


def test_errors_of_the_preview_are_reported(segmented, shown, monkeypatch):
    before = segmented.preview.data
    with monkeypatch.context() as patch:
        patch.setattr(DockState, "layer_labels", refuse)
        segmented._dock.segments.regions.n_regions.slider.setValue(500)
        with pytest.raises(RuntimeError, match="it broke"):
            segmented.wait(10)

    assert shown == ["RuntimeError: it broke"]
    assert segmented.preview.data is before


def test_patches_that_could_not_be_compared_are_shown_as_they_are(segmented, monkeypatch):
    before = segmented.balance
    monkeypatch.setattr("napari_aeseg.regions.hierarchy.Hierarchy.compared_by", refuse)
    slider = segmented._dock.segments.comparison.balance
    slider.slider.setValue(900)
    assert slider.value == 0.9
    with pytest.raises(RuntimeError, match="it broke"):
        segmented.wait(20)

    assert segmented.balance == slider.value == before == segmented.hierarchy.comparison.balance


def test_of_two_images_one_that_cannot_be_measured_leaves_the_other_its_column(
    segmented, monkeypatch
):
    from napari_aeseg.autoencoder import model as inspect

    steps = inspect.error_steps

    def broken(model, read, device, stop=None):
        if read.name == "halves":
            raise RuntimeError("it broke")
        return (yield from steps(model, read, device, stop=stop))

    first = segmented.images[0]
    second = add_image(segmented, halves(seed=1), "second", choose=False)
    segmented.images = [first, second]
    segmented.segment()
    segmented.wait(30)
    monkeypatch.setattr(inspect, "error_steps", broken)
    one, other = segmented.keep()
    with pytest.raises(RuntimeError, match="it broke"):
        segmented.wait(30)

    assert "reconstruction_error" not in one.features
    assert "reconstruction_error" in other.features


def test_a_class_that_went_while_its_name_was_typed_is_left_alone(segmented):
    segmented.mode, segmented.n_classes = "classes", 8
    segmented.class_names = [*"abcdefgh"]
    segmented.n_classes = 3
    view = segmented._dock.segments.classes

    view.renamed.emit(8, "late")
    view.recolored.emit(8, QColor("red").name())

    assert segmented.class_names == ("a", "b", "c")
    segmented.n_classes = 8
    assert segmented.class_names[-1] == "h"


def test_regions_are_not_counted_as_objects_when_objects_cannot_be_found(segmented, monkeypatch):
    monkeypatch.setattr("napari_aeseg.regions.hierarchy.Hierarchy.objects", refuse)
    segmented.n_regions = 5
    segmented.mode = "objects"
    with pytest.raises(RuntimeError, match="it broke"):
        segmented.wait(30)
    segmented.viewer_model.layers.selection.clear()  # by which all is shown anew

    assert segmented._dock.segments.objects.number.text() == ""


# Keys, brushes and tools


def test_undo_on_a_painted_preview_takes_the_stroke_back(segmented):
    layer = segmented.preview
    assert layer.keymap
    layer.paint((10, 10), 9)

    assert dict(layer.keymap) == {}  # napari's own keys reach it
    assert layer.mouse_drag_callbacks == []
    segmented.n_regions = 3
    assert dict(layer.keymap) == {}
    assert segmented.preview.keymap


def test_a_tool_puts_the_brush_down_and_a_brush_the_tool(segmented):
    layer = segmented.preview
    layer.mode = "paint"
    segmented.tool = "merge"
    assert layer.mode == "pan_zoom"
    assert not layer.mouse_pan

    layer.mode = "paint"
    segmented.tool = None
    assert not layer.mouse_pan  # else strokes would move the canvas as well


# Words and numbers


def test_a_stopped_training_shows_its_notes(widget, monkeypatch):
    from napari_aeseg.autoencoder.trainer import Trainer

    step = Trainer.step

    def falling_back(trainer):
        step(trainer)
        if trainer.done == 2:
            trainer.note("cuda:0 ran out of memory: going on with batches of 1.")

    monkeypatch.setattr(Trainer, "step", falling_back)
    monkeypatch.setattr("napari_aeseg._napari.controller.show_warning", lambda _: None)
    train_and_stop(widget, 3, of=40)

    text = widget._dock.status.text.text()
    assert "going on with batches of 1" in text
    assert text.count("Stopped after 3") == 1


def test_a_training_without_memory_says_so_and_offers_resume(widget, monkeypatch):
    from napari_aeseg.autoencoder.trainer import Trainer

    step = Trainer.step

    def failing(trainer):
        if trainer.done == 2:
            raise DeviceError("There is not enough memory for the training.")
        step(trainer)

    monkeypatch.setattr(Trainer, "step", failing)
    monkeypatch.setattr("napari_aeseg._napari.controller.show_warning", lambda _: None)
    events = heard(widget)
    widget.training_params = QUICK
    widget.train()
    widget.wait(30)

    assert [name for name, _ in events] == ["trained"]
    text = widget._dock.status.text.text()
    assert "There is not enough memory for the training. The model is that of step 2." in text
    assert "press Resume" in text
    assert "Stopped after" not in text


def test_a_training_that_ended_before_stop_offers_no_resume(widget, monkeypatch):
    from napari_aeseg.autoencoder.trainer import Trainer

    step = Trainer.step

    def step_and_stop(trainer):
        step(trainer)
        if trainer.ended:
            widget._controller.queue.stop()

    monkeypatch.setattr(Trainer, "step", step_and_stop)
    widget.training_params = QUICK
    widget.train()
    widget.wait(30)

    assert not widget.model.unfinished
    assert "Resume" not in widget._dock.status.text.text()
    assert widget._dock.model.resume_button.isHidden()


def test_the_dock_shows_the_numbers_of_the_events_and_of_the_model(widget, monkeypatch):
    monkeypatch.setattr("napari_aeseg.autoencoder.training_loop._SECONDS_BETWEEN_EVENTS", 0)
    monkeypatch.setattr(worker, "_SECONDS_BETWEEN_EVENTS", 0)
    seen = []
    line = widget._dock.status.text
    widget.progressed.connect(lambda event: seen.append((event, line.text())))
    widget.training_params = QUICK.updated(steps=30)
    widget.train()
    widget.wait(30)

    trained = [(event, text) for event, text in seen if event.stage == "train"]
    assert len(trained) == 30
    for event, text in trained:
        if event.message:  # said by itself
            continue
        assert f"{event.done} of 30" in text
        assert f"loss {event.loss:.4f}" in text
        assert text.endswith(f"{event.device}, {event.precision}")
        assert (" left" in text) == (event.seconds_left is not None and event.done < 30)
    record, losses = widget.model.record, widget.model.losses
    assert losses == tuple(widget._dock.model.curve.losses)
    loss = sum(losses[-20:]) / 20
    expected = f"1 channel, 30 steps, loss {loss:.4f} (mean of the last 20), trained on"
    assert widget._dock.model.description.text().endswith(f"{expected} {record.device}.")


def kept(widget):
    (layer,) = widget.keep()
    widget.wait(30)
    return layer


@pytest.mark.parametrize(
    ("axes", "scale", "given"),
    [
        ("YX", (2, 0.5), [(("um", "um"), "micrometer", 1.0), (("um", "nm"), "nanometer", 1000.0),
                          (("um", "pixel"), "pixel", 1.0), (None, "pixel", 1.0)]),
        ("ZYX", (3, 500, 250), [(("um", "nm", "nm"), "nanometer", 3e3 * 500 * 250)]),
        ("TYX", (60, 2, 0.5), [(("s", "um", "um"), "micrometer", 1.0)]),
    ],
)  # fmt: skip
def test_lengths_in_tables_are_in_the_unit_that_they_say(
    widget, model, tmp_path, axes, scale, given
):
    data = halves() if axes == "YX" else np.stack([halves()] * 3)
    image = add_image(widget, data, "other", scale=scale)
    widget.axes, widget.model = axes, model
    widget.segment()
    widget.wait(30)
    widget.n_regions = 1
    for units, unit, area in given:
        image.units = units
        path = tmp_path / "kept.csv"
        widget.export_table(path, kept(widget))

        table = pd.read_csv(path)
        assert table["unit"].tolist() == [unit]
        assert table["area"].item() == pytest.approx(data.size * area)
        y, x = table["centroid_y"].item(), table["centroid_x"].item()
        thousand = 1000 if units == ("um", "nm") else 1
        assert (y, x) == pytest.approx((23.5 * scale[-2] * thousand, 23.5 * scale[-1]))


def test_a_layer_that_is_given_another_unit_is_measured_in_it(segmented, tmp_path):
    segmented.images[0].units = ("um", "um")
    layer = kept(segmented)
    layer.units = ("nm", "nm")
    path = tmp_path / "kept.csv"
    segmented.export_table(path, layer)

    table = pd.read_csv(path)
    assert set(table["unit"]) == {"nanometer"}
    assert table["area"].sum() == 48 * 48 * 2 * 3


def test_a_kept_layer_is_measured_as_it_lies_itself(segmented, tmp_path):
    segmented.n_regions = 1
    (layer,) = segmented.keep()  # its last column comes when the image has been given a scale
    segmented.images[0].scale = (20, 30)
    segmented.wait(30)

    assert np.array_equal(layer.scale, (20, 30))
    assert measured(layer)["area"].item() == 48 * 48 * 20 * 30


def test_a_layer_that_cannot_be_measured_is_not_exported_with_its_old_table(segmented, tmp_path):
    layer = kept(segmented)
    layer.data = np.ones((3, 3), int)
    path = tmp_path / "kept.csv"

    for _ in range(2):
        with pytest.raises(InputError, match="another shape"):
            segmented.export_table(path, layer)
    assert not path.exists()
