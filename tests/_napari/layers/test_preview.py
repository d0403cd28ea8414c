"""The preview layers: they follow the state, and leave to the user what the user changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from _napari.conftest import halves
from napari_aeseg import Cut
from napari_aeseg._napari.layers.colors import class_colormap, cyclic_colormap
from napari_aeseg._napari.layers.image_input import image_input
from napari_aeseg._napari.layers.preview import PreviewLayers
from napari_aeseg._napari.state import ClassStyle, DockState, Result


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    viewer.add_layer(Image(halves(), name="cells", scale=(2, 3)))
    return viewer


@pytest.fixture
def state(viewer, hierarchy):
    image = viewer.layers["cells"]
    return DockState(images=(image,), results={image: Result(hierarchy, None, image_input(image))})


@pytest.fixture
def previews(viewer, state, qtbot):
    previews = PreviewLayers(viewer, state, lambda *_: None, print, lambda *_: None)
    yield previews
    previews.close()


@pytest.fixture
def painted(previews):
    """The layers that the user has made theirs."""
    layers = []
    previews.painted.connect(lambda image, layer: layers.append(layer))
    return layers


@pytest.fixture
def show(state, previews):
    """Return a function that shows so many regions, and returns the layer."""

    def show(n_regions: int, **changes):
        state.cut = Cut(n_regions=n_regions, refine=False, **changes)
        previews.update(state.images, state.cut)
        return previews.layer_of(state.images[0])

    return show


def test_it_follows_in_one_layer_on_the_image(viewer, hierarchy, show):
    first = show(3)
    second = show(5)

    assert first is second is viewer.layers["cells preview"]
    assert np.array_equal(second.data, hierarchy.regions(5, refine=False))
    assert np.array_equal(second.scale, (2, 3))
    assert len(viewer.layers) == 2


def test_changes_of_the_state_are_shown_in_a_moment_and_the_newest_wins(state, show, qtbot):
    layer = show(3)
    for n_regions in (4, 5, 6):
        state.change_cut(n_regions=n_regions)
    assert layer.data.max() == 3

    qtbot.waitUntil(lambda: layer.data.max() == 6, timeout=2000)


def test_a_hidden_preview_is_shown_when_a_control_is_changed(state, show):
    layer = show(3)
    layer.visible = False
    state.change_cut(n_regions=4)

    assert layer.visible


def test_a_new_preview_of_a_hidden_image_leaves_the_selection(viewer, state, show):
    (image,) = state.images
    image.visible = False
    for selected in (set(), {image}):
        viewer.layers.selection = selected
        viewer.layers.remove(show(3))
        viewer.layers.selection = selected
        layer = show(4)
        assert not layer.visible
        assert viewer.layers.selection == selected


def test_it_comes_back_after_it_was_removed(viewer, previews, state, show):
    viewer.layers.remove(show(3))
    assert previews.layer_of(state.images[0]) is None

    layer = show(4)

    assert layer in viewer.layers
    assert len(viewer.layers) == 2


def test_a_layer_that_was_painted_is_the_users(viewer, hierarchy, show, painted):
    layer = show(3)
    layer.paint((1, 1), 7)
    drawn = layer.data.copy()

    fresh = show(4)

    assert painted == [layer]
    assert fresh is not layer
    assert layer in viewer.layers
    assert np.array_equal(layer.data, drawn)
    layer.undo()
    assert np.array_equal(layer.data, hierarchy.regions(3, refine=False))
    assert np.array_equal(fresh.data, hierarchy.regions(4, refine=False))


def test_filling_counts_as_painting(show):
    filled = show(1)
    filled.fill((1, 1), 5)

    assert show(2) is not filled
    assert (filled.data == 5).all()


def test_a_layer_that_was_given_other_data_is_the_users(show):
    taken = show(3)
    taken.data = np.full((48, 48), 9)

    assert show(4) is not taken
    assert (taken.data == 9).all()


def test_labels_that_are_shown_are_not_written_to(show):
    layer = show(3)
    labels, before = layer.data, layer.data.copy()
    show(4)

    assert np.array_equal(labels, before)


def test_a_renamed_layer_keeps_its_name(show):
    show(3).name = "mine"

    assert show(4).name == "mine"


def test_labels_of_another_shape_take_a_new_layer(viewer, state, show, model):
    import napari_aeseg as aeseg

    old, image = show(3), viewer.layers["cells"]
    state.change_result(image, hierarchy=aeseg.build_hierarchy(halves(40), model, device="cpu"))
    new = show(3)

    assert new is not old
    assert new.data.shape == (40, 40)


def test_class_colors_are_shown_and_a_colormap_of_the_user_stays(state, show):
    state.classes = ClassStyle(colors=("#ff0000", "#00ff00"))
    layer = show(3, mode="classes")
    assert np.allclose(layer.get_color(1), (1, 0, 0, 1))
    assert np.allclose(layer.get_color(2), (0, 1, 0, 1))

    layer.colormap = mine = class_colormap(("#0000ff",))
    assert show(4, mode="classes").colormap == mine

    show(4)
    assert layer.colormap == cyclic_colormap()


def test_a_new_layer_has_the_class_colors_as_well(viewer, state, show):
    state.classes = replace(state.classes, colors=("#ff0000",))
    viewer.layers.remove(show(3, mode="classes"))

    assert np.allclose(show(3, mode="classes").get_color(1), (1, 0, 0, 1))


def test_it_is_filled_or_has_outlines_or_is_hidden(state, show):
    layer = show(3)
    (press,) = [call for key, call in layer.keymap.items() if str(key) == "O"]

    press(layer)
    assert (layer.contour, layer.opacity, layer.visible) == (2, 1, True)
    press(layer)
    assert not layer.visible
    press(layer)
    assert (layer.contour, layer.opacity, layer.visible) == (0, 0.5, True)
    state.display = "off"
    assert show(4).visible  # whoever changes a control wants to see what it does
    assert state.display == "fill"


def test_the_status_bar_tells_name_area_and_share(segmented, qtbot):
    segmented.mode, segmented.n_classes = "classes", 2
    segmented.class_names = ("dark", "bright")
    layer = segmented.preview
    qtbot.waitUntil(lambda: "class" in layer.features, timeout=5000)
    qtbot.wait(250)

    said = layer.get_status((2.0, 3.0), world=True)["value"]
    label = int(layer.data[1, 1])
    assert segmented.class_names[label - 1] in said
    assert layer.features["share"][label] == "50 %"
    assert layer.features.iloc[label, 1] == (layer.data == label).sum() * 6
