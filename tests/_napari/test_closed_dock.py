"""A dock that was closed hears no more of layers, and one opened after it hears all."""

from __future__ import annotations

import numpy as np
import pytest

from _napari.conftest import QUICK, halves, heard, join_workers, measured
from napari_aeseg._napari.widget import AESegWidget
from napari_aeseg._napari.work.worker import JobRunner


@pytest.fixture
def reopen(segmented, qtbot):
    """Return a function that closes the widget and opens a new one on the same viewer."""
    opened = []

    def reopen() -> AESegWidget:
        segmented._controller.close()
        again = AESegWidget(segmented.viewer_model)
        qtbot.addWidget(again.native)
        opened.append(again)
        return again

    yield reopen
    for again in opened:
        again._controller.close()
    join_workers(qtbot)


def painted(widget):
    """The strokes layer, with a first stroke."""
    widget.mode = "markers"
    layer = widget.paint()
    layer.paint((10, 10), 1)
    widget.wait(10)
    return layer


def test_strokes_do_not_move_the_preview_of_a_dock_that_is_closed(segmented, qtbot):
    layer = painted(segmented)
    before = segmented.preview.data
    preview = segmented.preview
    segmented._controller.close()

    layer.paint((40, 40), 2)
    qtbot.wait(60)

    assert preview.data is before


def test_strokes_reach_the_dock_that_was_opened_again(segmented, reopen):
    layer = painted(segmented)
    again = reopen()
    shown = again.preview

    layer.paint((40, 40), 2)
    again.wait(10)

    assert again.preview is shown
    assert set(np.unique(shown.data)) == {1, 2}


def test_a_preview_that_is_painted_after_reopening_is_reported_in_the_new_dock(segmented, reopen):
    again = reopen()
    layer, text = again.preview, segmented._dock.status.text.text()

    layer.paint((10, 10), 9)

    assert layer.name == "halves painted"
    assert "edited preview was saved as" in again._dock.status.text.text()
    assert segmented._dock.status.text.text() == text
    again.n_regions = 3
    assert again.preview is not layer
    assert layer.data[10, 10] == 9


def test_a_preview_that_is_painted_while_no_dock_is_open_is_the_users(segmented, reopen):
    layer = segmented.preview
    segmented._controller.close()
    layer.paint((10, 10), 9)

    again = reopen()
    again.n_regions = 3

    assert again.preview is not layer
    assert layer.data[10, 10] == 9


def test_closing_puts_the_tool_down_and_leaves_clicks_and_keys_to_napari(segmented):
    layer = segmented.preview
    segmented.tool = "merge"
    assert layer.mouse_drag_callbacks
    assert layer.keymap
    assert not layer.mouse_pan

    segmented._controller.close()

    assert layer.mouse_drag_callbacks == []
    assert dict(layer.keymap) == {}
    assert layer.mouse_pan


def test_after_reopening_there_is_one_listener_to_clicks(segmented, reopen):
    segmented.tool = "split"
    again = reopen()

    assert len(again.preview.mouse_drag_callbacks) == 1


def test_a_closed_dock_follows_layers_no_more(segmented, monkeypatch):
    viewer, image = segmented.viewer_model, segmented.images[0]
    drawn, updated = [], []
    segmented._controller.close()
    monkeypatch.setattr(type(segmented._dock.images), "draw_list", lambda *_: drawn.append(1))
    monkeypatch.setattr(
        type(segmented._controller), "_update_columns", lambda *_: updated.append(1)
    )

    viewer.layers.selection.active = image  # which would change the columns of its table
    image.scale = (4, 4)
    image.data = halves(40)
    viewer.layers.remove(image)  # napari tells closed docks as well

    assert drawn == updated == []


def test_a_kept_layer_that_is_painted_after_reopening_is_measured_again(
    segmented, reopen, tmp_path
):
    segmented.n_regions = 3
    (layer,) = segmented.keep()
    segmented.wait(20)
    again = reopen()

    layer.paint((10, 10), 9)
    again.export_table(tmp_path / "kept.csv", layer)

    assert 9 in list(measured(layer)["index"])


def test_closing_before_the_first_step_promises_no_file(segmented, reopen, monkeypatch):
    def waiting(*_, stop, **__):
        yield from ()
        stop.wait(20)
        raise AssertionError("nobody hears of it")

    monkeypatch.setattr("napari_aeseg.api.train_steps", waiting)
    segmented.training_params = QUICK
    segmented.train()

    again = reopen()

    assert again._dock.status.text.text() == ""


def test_closing_twice_is_once(segmented, monkeypatch):
    segmented._controller.close()
    left = []
    monkeypatch.setattr(JobRunner, "abandon", lambda *_: left.append(1))

    segmented._controller.close()

    assert left == []


def test_work_of_a_closed_dock_emits_no_signals(segmented, qtbot):
    events = heard(segmented)
    segmented.segment()
    segmented._controller.close()
    join_workers(qtbot)

    assert events == []


def test_an_image_that_was_given_another_shape_while_no_dock_was_open_has_no_segmentation(
    segmented, reopen
):
    image, preview = segmented.images[0], segmented.preview
    segmented._controller.close()
    image.data = np.zeros((30, 40))

    again = reopen()

    assert again.previews == {}
    assert not preview.visible
    assert "another shape" in again._dock.status.text.text()


def test_an_image_that_changed_while_no_dock_was_open_is_reported(segmented, reopen):
    image, preview = segmented.images[0], segmented.preview
    segmented._controller.close()
    image.data = np.ascontiguousarray(image.data[::-1])

    again = reopen()

    assert again.preview is preview
    assert "changed after it was segmented" in again._dock.status.text.text()
