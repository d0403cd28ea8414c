from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_aeseg._napari.layers.adapter import snapshot
from napari_aeseg._napari.layers.colors import class_colormap, cyclic_colormap
from napari_aeseg._napari.layers.preview import Preview


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    viewer.add_layer(Image(np.zeros((4, 5)), name="cells", scale=(2, 3)))
    return viewer


class Shown(Preview):
    """A preview in napari's own colours, for tests that are not about colours."""

    def show(self, labels, axes, colors=None, place=False):
        return super().show(labels, axes, colors or cyclic_colormap(), place)


TOUCHED: list[tuple] = []


@pytest.fixture
def preview(viewer):
    TOUCHED.clear()
    return Shown(viewer, viewer.layers["cells"], lambda *touched: TOUCHED.append(touched))


def labels(value: int) -> np.ndarray:
    return np.full((4, 5), value, np.int32)


@pytest.fixture
def axes(viewer):
    return snapshot(viewer.layers["cells"]).axes


def test_it_follows_in_one_layer_on_the_image(viewer, preview, axes):
    first = preview.show(labels(1), axes)
    second = preview.show(labels(2), axes)

    assert first is second is preview.layer is viewer.layers["cells preview"]
    assert np.array_equal(second.data, labels(2))
    assert np.array_equal(second.scale, (2, 3))
    assert len(viewer.layers) == 2


def test_it_comes_back_after_it_was_removed(viewer, preview, axes):
    viewer.layers.remove(preview.show(labels(1), axes))
    assert preview.layer is None

    layer = preview.show(labels(2), axes)

    assert layer in viewer.layers
    assert len(viewer.layers) == 2


def test_a_layer_that_was_painted_is_the_users(viewer, preview, axes):
    painted = preview.show(labels(1), axes)
    painted.paint((1, 1), 7)
    drawn = painted.data.copy()

    fresh = preview.show(labels(2), axes)

    assert [layer for _, layer in TOUCHED] == [painted]
    assert fresh is not painted
    assert painted in viewer.layers
    assert np.array_equal(painted.data, drawn)
    painted.undo()
    assert np.array_equal(painted.data, labels(1))
    assert np.array_equal(fresh.data, labels(2))


def test_filling_counts_as_painting(preview, axes):
    filled = preview.show(labels(1), axes)
    filled.fill((1, 1), 5)

    assert preview.show(labels(2), axes) is not filled
    assert (filled.data == 5).all()


def test_a_layer_that_was_given_other_data_is_the_users(preview, axes):
    taken = preview.show(labels(1), axes)
    taken.data = labels(9)

    assert preview.show(labels(2), axes) is not taken
    assert (taken.data == 9).all()


def test_what_is_shown_is_not_written_to(preview, axes):
    shown = labels(1)
    shown.flags.writeable = False
    preview.show(shown, axes)

    preview.show(labels(2), axes)

    assert (shown == 1).all()


def test_a_renamed_layer_keeps_its_name(preview, axes):
    preview.show(labels(1), axes).name = "mine"

    assert preview.show(labels(2), axes).name == "mine"


def test_it_moves_with_the_image_when_asked(viewer, preview, axes):
    preview.show(labels(1), axes)
    viewer.layers["cells"].scale = (4, 4)

    assert np.array_equal(preview.show(labels(2), axes).scale, (2, 3))
    assert np.array_equal(preview.show(labels(2), axes, place=True).scale, (4, 4))


def test_labels_of_another_shape_take_a_new_layer(preview, axes):
    old = preview.show(labels(1), axes)

    new = preview.show(np.ones((3, 3), np.int32), axes)

    assert new is not old
    assert new.data.shape == (3, 3)


def test_colors_are_shown_and_those_of_the_user_stay_until_others_are_asked_for(preview, axes):
    colors = class_colormap(("#ff0000", "#00ff00"))
    layer = preview.show(labels(1), axes, colors)
    assert np.allclose(layer.get_color(1), (1, 0, 0, 1))
    assert np.allclose(layer.get_color(2), (0, 1, 0, 1))

    layer.colormap = mine = class_colormap(("#0000ff",))
    assert preview.show(labels(1), axes, colors).colormap == mine

    preview.show(labels(1), axes, cyclic_colormap())
    assert layer.colormap == cyclic_colormap()


def test_a_new_layer_has_the_colors_as_well(viewer, preview, axes):
    colors = class_colormap(("#ff0000",))
    viewer.layers.remove(preview.show(labels(1), axes, colors))

    assert np.allclose(preview.show(labels(1), axes, colors).get_color(1), (1, 0, 0, 1))
