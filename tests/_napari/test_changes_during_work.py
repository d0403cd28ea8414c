"""The user changes layers, the dock or the work itself in the middle of a segmentation.

Nothing of the user is lost, nothing stale is shown, errors are reported once, and the dock can be
used as before.
"""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtWidgets import QProgressBar, QWidget

from _napari.conftest import halves, join_workers
from napari_aeseg import AesegError, api
from napari_aeseg._napari.widget import AESegWidget
from napari_aeseg._napari.work.worker import wait_until

BROKEN = "it broke in the middle"


class Scene:
    """A segmented image, a kept layer and one of the user's, while the image is segmented again."""

    def __init__(self, widget, monkeypatch, qtbot):
        self.widget, self.qtbot = widget, qtbot
        self.viewer = widget.viewer_model
        self.image = next(iter(widget.previews))
        self.mine = Labels(np.eye(48, dtype=int), name="mine")
        self.viewer.add_layer(self.mine)
        (self.kept,) = widget.keep()
        widget.wait(20)
        self.expected = {
            layer: np.array(layer.data) for layer in (self.image, self.mine, self.kept)
        }
        self.removed, self.failed, self.error, self.is_closed = [], [], None, False
        self.reached, self.released = Event(), Event()
        widget.failed.connect(self.failed.append)
        graph = api.region_graph

        def held(*arguments):
            self.reached.set()
            self.released.wait(60)
            if self.error is not None:
                raise self.error
            return graph(*arguments)

        monkeypatch.setattr(api, "region_graph", held)

    def give(self, data):
        self.image.data = data
        self.expected[self.image] = data.copy()

    def remove(self, *layers):
        for layer in layers:
            self.viewer.layers.remove(layer)
            self.expected.pop(layer, None)
            self.removed.append(layer)

    def paint(self, layer):
        layer.paint((5, 5), 40000)
        self.expected[layer] = np.array(layer.data)


def close(widget):
    """Close a dock as napari does: its widget loses its parent."""
    parent = QWidget()
    widget.native.setParent(parent)
    widget.native.setParent(None)
    parent.deleteLater()


def work_fails(scene):
    scene.error = RuntimeError(BROKEN)


def work_is_stopped(scene):
    scene.widget.stop()


def image_is_removed(scene):
    scene.remove(scene.image)


def all_layers_are_removed(scene):
    scene.remove(*scene.viewer.layers)


def image_is_renamed(scene):
    scene.image.name = "renamed"


def image_is_edited_in_place(scene):
    scene.image.data[:4] += 1
    scene.image.refresh()
    scene.expected[scene.image] = scene.image.data.copy()


def image_gets_other_pixels(scene):
    scene.give((100 * halves(seed=3)).clip(0, 255).astype(np.uint8))


def image_gets_another_shape(scene):
    scene.give(halves(60))


def image_becomes_a_stack(scene):
    scene.give(np.stack([halves()] * 3))


def image_gets_another_scale(scene):
    scene.image.scale = (4, 4)


def second_dock_is_opened(scene):
    other = AESegWidget(scene.viewer)
    scene.qtbot.addWidget(other.native)
    other.model = scene.widget.model
    other.images = [scene.image]
    close(other)


def other_work_is_begun(scene):
    for begin in (scene.widget.train, scene.widget.segment, scene.widget.apply_to_all):
        begin()
        assert "busy" in str(scene.failed[-1])
    assert len(scene.failed) == 3


def dock_is_closed(scene):
    close(scene.widget)
    scene.is_closed = True


def preview_and_kept_layer_are_removed(scene):
    scene.remove(scene.widget.preview, scene.kept)


def preview_is_painted(scene):
    scene.paint(scene.widget.preview)


def preview_is_renamed(scene):
    scene.widget.preview.name = "other"


def kept_layer_is_painted(scene):
    scene.paint(scene.kept)


def controls_are_moved(scene):
    widget = scene.widget
    widget.n_regions = 5
    widget.mode, widget.balance = "classes", 0.2
    widget.mode, widget.balance = "regions", 0.6


def strokes_are_painted(scene):
    scene.widget.mode = "markers"
    scene.widget.paint().paint((20, 20), 2)


def model_is_taken_away(scene):
    scene.widget.model = None


def layers_are_reordered(scene):
    scene.viewer.layers.reverse()
    scene.viewer.layers.selection = {scene.mine}


def all_is_renamed_moved_and_painted(scene):
    """What leaves all layers where they are."""
    for change in (
        *(image_is_renamed, image_gets_another_scale, preview_is_renamed, preview_is_painted),
        *(kept_layer_is_painted, controls_are_moved, layers_are_reordered),
    ):
        change(scene)


CHANGES = [
    *(work_fails, work_is_stopped, image_is_removed, all_layers_are_removed),
    *(image_is_edited_in_place, image_gets_other_pixels, image_gets_another_shape),
    *(image_becomes_a_stack, second_dock_is_opened, other_work_is_begun, dock_is_closed),
    *(preview_and_kept_layer_are_removed, strokes_are_painted, model_is_taken_away),
    all_is_renamed_moved_and_painted,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_during_a_segmentation_lose_nothing(segmented, monkeypatch, qtbot, change):
    scene = Scene(segmented, monkeypatch, qtbot)
    segmented.segment()
    assert wait_until(scene.reached.is_set, 20)
    try:
        change(scene)
    finally:
        scene.released.set()
    if not scene.is_closed:
        assert wait_until(lambda: not segmented.busy, 20)
    join_workers(qtbot)

    for layer, data in scene.expected.items():
        assert layer in scene.viewer.layers
        assert np.array_equal(layer.data, data)
    assert not set(scene.removed) & set(scene.viewer.layers)
    if scene.is_closed:
        return
    for image, preview in segmented.previews.items():
        assert image in scene.viewer.layers
        assert preview.data.shape == image.data.shape
        assert preview not in scene.expected  # what was painted is the user's
    assert not any(bar.isVisible() for bar in segmented.native.findChildren(QProgressBar))
    if change is work_fails:
        (error,) = scene.failed
        assert BROKEN in str(error)
    assert all(isinstance(error, AesegError) or BROKEN in str(error) for error in scene.failed)
    if segmented.images and segmented.model is not None and change is not image_becomes_a_stack:
        scene.error = None
        segmented.segment()
        segmented.wait(20)
        assert set(segmented.previews) == set(segmented.images)
