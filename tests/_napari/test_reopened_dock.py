"""A dock that is closed and opened again on the same viewer."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel

from _napari.conftest import QUICK, halves, join_workers
from napari_aeseg._napari.widget import AESegWidget


@pytest.fixture
def reopened(widget, model, qtbot):
    """Return a function that closes the widget and opens a new one on the same viewer."""
    opened = []

    def reopen() -> AESegWidget:
        (opened or [widget])[-1]._controller.close()
        again = AESegWidget(widget.viewer_model)
        qtbot.addWidget(again.native)
        opened.append(again)
        return again

    widget.model = model
    yield reopen
    for again in opened:
        again._controller.close()
    join_workers(qtbot)


def test_a_reopened_dock_has_the_state_of_the_closed_one(widget, reopened):
    widget.segment()
    widget.wait(20)
    widget.n_regions = 9
    widget.merge((2, 2), (40, 40))
    widget.balance = 0.3
    widget.wait(20)
    layer, shown = widget.preview, widget.preview.data.copy()

    again = reopened()

    assert again.model is widget.model
    assert again.training_params == QUICK
    assert (again.n_regions, again.balance, again.device) == (9, 0.3, "cpu")
    assert again.images == widget.images
    assert again.preview is layer
    assert np.array_equal(again.preview.data, shown)
    assert again.undo()
    again.wait(20)
    assert again.preview is layer
    assert not np.array_equal(again.preview.data, shown)
    # And clicks on the layer reach the new dock.
    again.tool = "merge"
    assert not layer.mouse_pan


def test_classes_that_were_kept_are_still_there(widget, reopened):
    widget.segment()
    widget.wait(20)
    widget.mode = "classes"
    widget.n_classes = 2
    widget.classes_fixed = True
    widget.class_names = ["dark", "bright"]

    again = reopened()

    assert again.classes_fixed
    assert again.class_names == ("dark", "bright")
    assert again.mode == "classes"


def test_what_was_removed_meanwhile_is_forgotten(widget, reopened):
    widget.segment()
    widget.wait(20)
    widget._controller.close()
    widget.viewer_model.layers.clear()

    again = reopened()

    assert again.hierarchies == {}
    assert again.model is widget.model


def test_another_viewer_starts_anew(widget, reopened, qtbot):
    reopened()
    other = AESegWidget(ViewerModel())
    qtbot.addWidget(other.native)

    assert other.model is None
    other._controller.close()


def test_what_is_dragged_on_the_preview_reaches_the_new_dock_only(widget, reopened):
    widget.segment()
    widget.wait(20)
    layer = widget.preview
    widget.tool = "merge"
    for _ in range(3):
        reopened()
    assert len(layer.mouse_drag_callbacks) == 1
    assert layer.mouse_pan  # though a tool was in hand when the first dock was closed


def test_a_closed_dock_gives_the_preview_its_mouse_and_keys_back(widget):
    widget.segment()
    widget.wait(20)
    layer = widget.preview
    own = dict(layer.keymap)
    assert own
    widget.tool = "split"

    widget._controller.close()

    assert layer.mouse_pan
    assert layer.mouse_drag_callbacks == []
    assert not set(own) & set(layer.keymap)


def test_strokes_steer_the_new_dock_too(widget, reopened):
    widget.segment()
    widget.wait(20)
    widget.mode = "markers"
    strokes = widget.paint()

    again = reopened()
    strokes.data = np.where(np.arange(48) < 24, 1, 2) * np.ones((48, 1), np.uint8)
    again.wait(20)

    assert set(np.unique(again.preview.data)) == {1, 2}


def test_a_preview_that_is_painted_on_is_adopted_by_the_new_dock_too(widget, reopened):
    widget.segment()
    widget.wait(20)
    layer = widget.preview

    again = reopened()
    layer.paint((5, 5), 1)

    assert layer.name == "halves painted"
    assert again.preview is not layer


def test_a_closed_dock_holds_no_hierarchies_of_kept_layers(widget, reopened):
    widget.segment()
    widget.wait(20)
    (kept,) = widget.keep()
    widget.wait(20)
    state = widget._controller.state
    assert kept in state.kept

    reopened()

    assert state.kept == state.results == {}


def used_and_closed(model, qtbot) -> list[weakref.ref]:
    """Open a viewer and the dock, segment, close the dock; what ought to be gone afterwards."""
    viewer = ViewerModel()
    image = viewer.add_image(halves())
    widget = AESegWidget(viewer)
    widget.model = model
    widget.segment()
    widget.wait(20)
    widget._controller.close()
    widget.native.deleteLater()
    join_workers(qtbot)
    return [weakref.ref(viewer), weakref.ref(image)]


def test_nothing_is_kept_of_a_viewer_that_is_gone(model, qtbot):
    gone = used_and_closed(model, qtbot)
    qtbot.wait(20)
    gc.collect()

    assert [ref() for ref in gone] == [None, None]


def test_a_training_that_closing_stopped_can_be_gone_on_with(widget, reopened, saved, qtbot):
    widget.training_params = QUICK.updated(steps=100_000)
    widget.train()
    qtbot.waitUntil(lambda: len(widget._dock.model.curve.losses) > 3, timeout=20_000)

    again = reopened()
    join_workers(qtbot)

    (path,) = saved.glob("*.aeseg.safetensors")
    assert str(path) in again._dock.status.text.text()
    again.load_model(path)
    assert again.model.unfinished
    assert again.model.record.steps > 3
