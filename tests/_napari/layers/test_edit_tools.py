"""Merging and splitting with the mouse, by events as napari sends them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.utils import interactions
from napari.utils._proxies import ReadOnlyWrapper

from _napari.conftest import halves
from napari_aeseg import InputError
from napari_aeseg._napari.layers.edit_tools import EditTools
from napari_aeseg._napari.state import DockState

SCALE = np.array((2.0, 3.0))


def drag(layer, *places, button=1):
    """Press on the first place (pixels), move over the others, release on the last."""

    def event(kind, place):
        position = np.multiply(place, SCALE)
        return ReadOnlyWrapper(
            SimpleNamespace(button=button, type=kind, position=position, is_dragging=True)
        )

    interactions.mouse_press_callbacks(layer, event("mouse_press", places[0]))
    for place in places[1:]:
        interactions.mouse_move_callbacks(layer, event("mouse_move", place))
    interactions.mouse_release_callbacks(layer, event("mouse_release", places[-1]))
    assert layer._mouse_drag_gen == {}


@pytest.fixture
def tools():
    """Tools on a preview of two regions, 1 on the left and 2 on the right, and what they send."""
    viewer = ViewerModel()
    image = viewer.add_layer(Image(np.zeros((4, 6)), name="cells", scale=SCALE))
    labels = np.ones((4, 6), int)
    labels[:, 3:] = 2
    layer = viewer.add_layer(Labels(labels, name="preview", scale=SCALE))
    result = SimpleNamespace(hierarchy=None)
    state = DockState(images=(image,), results={image: result}, previews={image: layer})
    tools = EditTools(viewer, state)
    sent = []
    tools.used.connect(lambda *values: sent.append(values))
    state.events.message.connect(lambda text: "Now click" in text and sent.append(("waiting",)))
    return SimpleNamespace(
        tools=tools, state=state, viewer=viewer, image=image, layer=layer, sent=sent
    )


def test_without_a_tool_clicks_are_left_to_napari(tools):
    drag(tools.layer, (1, 1), (1, 4))

    assert tools.sent == []
    assert tools.layer.mouse_pan


def test_dragging_from_one_region_to_another_merges_them(tools):
    tools.state.tool = "merge"

    drag(tools.layer, (1, 1), (2, 2), (3, 5))

    assert tools.sent == [("merge", tools.image, ((1, 1), (3, 5)))]
    assert not tools.layer.mouse_pan  # the canvas must not move with the drag


def test_two_clicks_merge_as_well(tools):
    tools.state.tool = "merge"

    drag(tools.layer, (1, 1))
    assert tools.sent == [("waiting",)]
    drag(tools.layer, (2, 5))

    assert tools.sent[1:] == [("merge", tools.image, ((1, 1), (2, 5)))]
    drag(tools.layer, (0, 0))
    assert tools.sent[2:] == [("waiting",)]  # a new pair begins


def test_taking_a_tool_anew_forgets_the_first_click(tools):
    tools.state.tool = "merge"
    drag(tools.layer, (1, 1))
    tools.state.tool = None
    tools.state.tool = "merge"
    drag(tools.layer, (2, 5))

    assert tools.sent == [("waiting",), ("waiting",)]


def test_a_click_splits(tools):
    tools.state.tool = "split"
    drag(tools.layer, (2, 4))

    assert tools.sent == [("split", tools.image, ((2, 4),))]


@pytest.mark.parametrize("tool", ["merge", "split"])
def test_clicks_outside_and_other_buttons_do_nothing(tools, tool):
    tools.state.tool = tool

    drag(tools.layer, (-3, 1))
    drag(tools.layer, (1, 6))
    drag(tools.layer, (1, 1), (1, 4), button=2)

    assert tools.sent == []


def test_a_drag_that_ends_outside_is_no_merge(tools):
    tools.state.tool = "merge"

    drag(tools.layer, (1, 1), (1, 9))

    assert [name for name, *_ in tools.sent] == ["waiting"]


def test_taking_a_tool_makes_the_preview_the_active_layer_and_laying_it_down_pans_again(tools):
    tools.viewer.layers.selection.active = tools.image
    tools.state.tool = "split"
    assert tools.viewer.layers.selection.active is tools.layer

    tools.state.tool = None

    assert tools.layer.mouse_pan


def test_a_new_preview_takes_over_from_the_old_one(tools):
    new = tools.viewer.add_layer(Labels(tools.layer.data, name="new", scale=SCALE))
    tools.state.tool = "split"
    tools.state.previews = {tools.image: new}

    drag(tools.layer, (1, 1))
    assert tools.sent == []
    assert not new.mouse_pan
    drag(new, (1, 1))
    assert tools.sent == [("split", tools.image, ((1, 1),))]


@pytest.mark.parametrize("tool", ["add", "delete", "larger", "smaller"])
def test_a_click_uses_a_tool_for_objects(tools, tool):
    tools.state.change_cut(mode="objects")
    tools.state.tool = tool
    drag(tools.layer, (2, 4))

    assert tools.sent == [(tool, tools.image, ((2, 4),))]


def test_a_drag_inside_an_object_splits_it_between_its_ends(tools):
    tools.layer.data = np.ones((20, 20), int)
    tools.state.tool = "split"
    drag(tools.layer, (2, 2), (12, 14))
    tools.state.change_cut(mode="objects")
    tools.state.tool = "split"
    drag(tools.layer, (2, 2), (12, 14))
    drag(tools.layer, (2, 2), (3, 3))  # a click is seldom quite still

    a_click = ("split", tools.image, ((2, 2),))
    between = ("split", tools.image, ((2, 2), (12, 14)))
    assert tools.sent == [a_click, between, a_click]


def test_keys_take_a_larger_or_smaller_object_at_the_pointer(tools):
    keys = {str(key): action for key, action in tools.layer.keymap.items()}
    tools.viewer.cursor.position = tuple(np.multiply((1, 4), SCALE))
    keys["Shift+Up"](tools.layer)
    assert tools.sent == []  # there are no objects
    tools.state.change_cut(mode="objects")
    keys["Shift+Up"](tools.layer)
    keys["Shift+Down"](tools.layer)

    assert [sent[0] for sent in tools.sent] == ["larger", "smaller"]
    assert tools.sent[0][1:] == (tools.image, ((1, 4),))


# On the preview of the dock


@pytest.fixture
def cut(segmented):
    segmented.n_regions = 6
    return segmented


def two_regions(widget) -> tuple[tuple[int, int], tuple[int, int]]:
    """A place in region 1 and one in region 2."""
    data = widget.preview.data
    return tuple(tuple(int(i) for i in np.argwhere(data == label)[0]) for label in (1, 2))


def test_merging_and_splitting_on_the_preview(cut):
    tools = cut._dock.segments.tools
    one, two = two_regions(cut)
    tools.buttons["merge"].click()
    assert cut.tool == "merge"

    drag(cut.preview, one, two)
    cut.wait(5)
    assert cut.preview.data[one] == cut.preview.data[two]
    assert len(np.unique(cut.preview.data)) == 5
    assert tools.undo_button.text() == "Undo (1)"
    layer = cut.preview
    assert len(layer._undo_history) == len(layer._redo_history) == 0  # a click is no painting

    tools.buttons["split"].click()
    assert cut.tool == "split"
    assert not tools.buttons["merge"].isChecked()
    drag(cut.preview, one)
    cut.wait(5)
    assert len(np.unique(cut.preview.data)) == 6

    tools.buttons["split"].click()
    assert cut.tool is None
    drag(cut.preview, one)
    cut.wait(5)
    assert len(np.unique(cut.preview.data)) == 6
    assert cut.preview is layer
    with pytest.raises(InputError, match="tool = 'cut'"):
        cut.tool = "cut"
    assert cut.tool is None


def test_a_click_that_cannot_split_is_an_error_and_changes_nothing(cut, monkeypatch):
    shown = []
    monkeypatch.setattr("napari_aeseg._napari.work.errors.show_error", shown.append)
    before = cut.preview.data
    cut.n_regions = cut.hierarchy.n_patches
    cut.tool = "split"
    drag(cut.preview, (5, 5))
    cut.n_regions = 6

    assert len(shown) == 1
    assert "single patch" in shown[0]
    assert np.array_equal(cut.preview.data, before)


def test_keys_on_the_preview_undo_and_redo(cut):
    one, two = two_regions(cut)
    cut.merge(one, two)
    cut.wait(5)
    merged = cut.preview.data
    keys = {str(key): action for key, action in cut.preview.keymap.items()}

    keys["Ctrl+Z"](cut.preview)
    cut.wait(5)
    assert len(np.unique(cut.preview.data)) == 6
    keys["Ctrl+Shift+Z"](cut.preview)
    cut.wait(5)

    assert np.array_equal(cut.preview.data, merged)
    other = Labels(halves().astype(int))
    assert "Ctrl+Z" not in {str(key) for key in other.keymap}


def test_the_tool_stays_chosen_when_the_preview_is_made_anew(cut):
    cut.tool = "split"
    cut.viewer_model.layers.remove(cut.preview)
    cut.n_regions = 5

    drag(cut.preview, (5, 5))
    cut.wait(5)

    assert len(np.unique(cut.preview.data)) == 6


def test_the_first_region_is_white_until_the_second_is_clicked(tools):
    colors = tools.layer.colormap
    tools.state.tool = "merge"

    drag(tools.layer, (1, 1))
    assert np.allclose(tools.layer.get_color(1), 1)
    assert np.allclose(tools.layer.get_color(2), colors.map(2))
    drag(tools.layer, (1, 4))

    assert tools.layer.colormap is colors
    assert tools.sent[-1][0] == "merge"


@pytest.mark.parametrize("tool", ["merge", "split"])
def test_escape_puts_the_tool_down(tools, tool):
    colors = tools.layer.colormap
    tools.state.tool = tool
    drag(tools.layer, (1, 1))

    (press,) = [call for key, call in tools.layer.keymap.items() if str(key) == "Escape"]
    press(tools.layer)

    assert tools.state.tool is None
    assert tools.layer.colormap is colors
    assert tools.layer.mouse_pan


def test_the_tool_is_put_down_in_another_mode(tools):
    tools.state.tool = "split"

    tools.state.change_cut(n_regions=4)
    assert tools.state.tool == "split"
    tools.state.change_cut(mode="markers")

    assert tools.state.tool is None
