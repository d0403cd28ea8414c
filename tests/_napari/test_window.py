"""The dock in a real napari window, found by napari as it finds any plugin."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer
from vispy.app.canvas import MouseEvent

from _napari.conftest import QUICK, halves, join_workers, measured
from napari_aeseg import ModelFileError

pytestmark = pytest.mark.viewer


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch, qtbot):
    # Setting anything of napari from another thread raises.
    monkeypatch.setenv("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")
    yield make_napari_viewer()
    join_workers(qtbot)


def open_dock(viewer):
    """Open the dock as a user's script does."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    widget.training_params = QUICK
    widget.device = "cpu"
    return widget


def drag(viewer, *places) -> None:
    """Press the mouse on the first place of the world, release it on the last."""
    canvas = viewer.window._qt_viewer.canvas
    kinds = ["mouse_press", *["mouse_move"] * (len(places) - 1), "mouse_release"]
    for kind, place in zip(kinds, [*places, places[-1]], strict=True):
        event = MouseEvent(
            kind, pos=canvas_position(canvas, place), button=1, buttons=[1], modifiers=()
        )
        if kind == "mouse_move":
            event._press_event = MouseEvent("mouse_press", pos=(0, 0), button=1)
        getattr(canvas._scene_canvas.events, kind)(event)


def canvas_position(canvas, place) -> tuple[int, int]:
    """Where a place of the world is drawn on the canvas."""
    transform = canvas.view.scene.transform
    x, y, *_ = transform.map((place[1], place[0], 0, 1))
    return round(x), round(y)


def test_from_the_image_to_labels_that_are_kept(viewer):
    from napari._app_model import get_app_model

    commands = {
        getattr(item, "command", None) and item.command.id
        for item in get_app_model().menus.get_menu("napari/layers/segment")
    }
    assert "napari-aeseg.widget" in commands
    affine = np.array([[1.2, 0.1, 3], [0.2, 0.9, 4], [0, 0, 1]])
    placed = {
        "scale": (2, 3),
        "translate": (5, 6),
        "rotate": 30,
        "shear": [0.2],
        "affine": affine,
        "units": ("um", "um"),
        "axis_labels": ("y", "x"),
    }
    image = viewer.add_image(halves(), name="cells", **placed)
    widget = open_dock(viewer)
    assert widget.images == [image]

    widget.train()
    widget.wait(20)
    widget.segment()
    widget.wait(20)

    assert widget.preview is viewer.layers["cells preview"]
    for name in placed:
        if name == "affine":
            assert np.allclose(widget.preview.affine.affine_matrix, image.affine.affine_matrix)
        elif name in ("units", "axis_labels"):
            assert getattr(widget.preview, name) == getattr(image, name)
        else:
            assert np.allclose(getattr(widget.preview, name), getattr(image, name))
    widget._dock.segments.regions.n_regions.slider.setValue(700)
    widget.wait(5)
    assert widget.preview.data.max() == widget.n_regions > 2
    widget._dock.segments.modes.buttons["classes"].click()
    widget.wait(5)
    assert widget.preview.data.max() == widget.n_classes == 3
    widget._dock.segments.keep_button.click()
    assert viewer.layers["cells classes 3"].data.max() == 3

    # Narrow enough for a laptop.
    assert widget.native.minimumSizeHint().width() <= 330

    # Layers that come, go and are renamed reach the list without any help.
    image.name = "renamed"
    viewer.add_image(halves(), name="second")
    assert [layer.name for layer in widget.images] == ["second"]  # the one in sight
    viewer.layers.remove(widget.images[0])
    assert [layer.name for layer in widget.images] == ["renamed"]


def test_keys_on_the_preview_and_the_features_table(viewer, model, tmp_path, qtbot):
    viewer.window.show()
    viewer.add_image(halves(), name="cells")
    widget = open_dock(viewer)
    widget.model = model
    widget.segment()
    widget.wait(20)
    widget.n_regions = 6
    widget.wait(5)  # until borders follow the pixels
    data = widget.preview.data
    # Inside of two regions: at a border, pixels may change when the regions beside it do.
    one, two = (
        tuple(np.median(np.argwhere(data == label), axis=0).astype(int)) for label in (1, 2)
    )

    # A drag over the canvas, as the mouse does it.
    widget._dock.segments.tools.buttons["merge"].click()
    assert viewer.layers.selection.active is widget.preview
    drag(viewer, one, two)
    widget.wait(5)
    assert widget.preview.data[one] == widget.preview.data[two]
    merged = widget.preview.data
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    widget.wait(5)
    assert np.array_equal(widget.preview.data, data)
    both = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    qtbot.keyClick(canvas, Qt.Key.Key_Z, both)
    widget.wait(5)
    assert np.array_equal(widget.preview.data, merged)
    assert len(widget.preview._undo_history) == 0

    (kept,) = widget.keep()
    widget.wait(20)
    viewer.layers.selection.active = kept
    widget._dock.table_button.click()
    assert any("table" in name.lower() for name in viewer.window.dock_widgets)
    viewer.layers.save(str(tmp_path / "cells.csv"), selected=True, plugin="napari-aeseg")
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 1 + len(measured(kept))

    # Strokes, undone with napari's own key.
    widget.mode = "markers"
    strokes = widget.paint()
    strokes.selected_label = 4
    drag(viewer, (5, 5), (5, 12))
    widget.wait(5)
    assert (widget.preview.data == 4).all()
    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    widget.wait(5)
    assert not strokes.data.any()
    assert not widget.preview.data.any()


def test_a_model_file_opens_in_the_dock(viewer, model, tmp_path):
    path = tmp_path / "cells.aeseg.safetensors"
    model.save(path)

    assert viewer.open(path, plugin="napari-aeseg") == []

    widget = viewer.window.dock_widgets["AE Segment (napari-aeseg)"]
    assert widget.model.fingerprint == model.fingerprint
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelFileError):
        viewer.open(path, plugin="napari-aeseg")
    assert widget.model.fingerprint == model.fingerprint


def test_closing_the_dock_while_it_trains_ends_the_training(viewer, qtbot):
    viewer.open_sample("napari-aeseg", "coins")
    dock, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    widget.training_params = QUICK.updated(steps=1_000_000)
    widget.train()
    job = widget._controller.queue._runner._job
    events = []
    widget.trained.connect(events.append)

    dock.destroyOnClose()
    join_workers(qtbot)

    assert job.stop.is_set()
    assert events == []
    # What layers do is no concern of it any more.
    updated = []
    widget._controller._update_columns = lambda: updated.append(1)
    viewer.layers.selection.clear()
    viewer.layers.selection.add(viewer.layers["coins"])
    viewer.layers["coins"].scale = (2, 2)
    viewer.add_image(halves(), name="more")
    viewer.layers.remove("more")
    assert updated == []
    # And it can be opened again.
    _, again = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    assert again is not widget
    assert again.images == [viewer.layers["coins"]]


def test_the_window_stays_responsive_while_training(viewer, model):
    viewer.window.show()
    viewer.add_image(halves(512), name="large")
    widget = open_dock(viewer)
    widget.training_params = QUICK.updated(steps=1_000_000, width=16, batch_size=8, crop_size=64)
    ticks = []
    timer = QTimer()

    def tick():
        # In seconds of this process: what others do on a shared machine is no pause of ours.
        ticks.append(time.process_time())
        if len(ticks) == 120:
            widget.stop()

    timer.timeout.connect(tick)
    timer.start(10)

    widget.train()
    widget.wait(30)
    timer.stop()

    assert widget.model.record.steps > 0
    gaps = np.diff(ticks)
    # Far above what is seen, far below what is felt as frozen.
    assert np.percentile(gaps, 98) < 0.25
    assert np.median(gaps) < 0.05


CLOSE_AT_WORK = """
import napari, numpy, time
from qtpy.QtCore import Qt, QTimer
from vispy.app.canvas import MouseEvent
from napari_aeseg._napari.work import jobs, worker
from napari_aeseg.progress import Progress

worker.import_core = lambda: None  # torch would take longer than all the rest

def training(*_):
    def work(stop):
        while not stop.wait(0.01):
            yield Progress("train", 1, 2)
        return None
    return work

jobs.training = training
viewer = napari.Viewer()
viewer.add_image(numpy.random.default_rng(0).random((64, 64)), name="noise")
_, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
closed = []

def close():
    widget._controller.devices.find()
    viewer.close()

def look(event):
    if not closed:
        closed.append(time.process_time())
        QTimer.singleShot(0, close)

widget.progressed.connect(look)
QTimer.singleShot(0, widget.train)
napari.run()
print("ended after", time.process_time() - closed[0])
"""


def test_closing_the_window_at_work_ends_the_process():
    """Work that was about to begin in that moment began afterwards, and Python was aborted."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSE_AT_WORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert float(done.stdout.split()[-1]) < 3
