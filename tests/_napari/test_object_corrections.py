"""Objects that the user deletes, adds, merges, splits, and takes larger or smaller."""

from __future__ import annotations

import numpy as np
import pytest

import napari_aeseg as aeseg
from _napari.conftest import add_image, discs
from napari_aeseg import DeleteObject, InputError, TakeObject

LARGE, SMALL, GROUND = (14, 14), (40, 40), (30, 60)


@pytest.fixture
def objects(widget, model):
    """The widget with five objects: discs on dark ground."""
    add_image(widget, discs(), "discs")
    widget.model = model
    widget.segment()
    widget.mode = "objects"
    widget.wait(20)
    assert number(widget) == 5
    return widget


def number(widget) -> int:
    widget.wait(20)
    labels = widget.preview.data
    return len(np.unique(labels[labels > 0]))


def text(widget) -> str:
    return widget._dock.segments.objects.number.text()


def test_sizes_that_auto_took_are_shown_in_grey_and_a_change_begins_there(objects):
    panel = objects._dock.segments.objects
    smallest = np.bincount(objects.preview.data.ravel())[1:].min()
    assert panel.sizes["min_size"].value == smallest
    assert not panel.sizes["min_size"].isEnabled()
    assert objects.min_size is None

    panel.auto["min_size"].click()
    assert number(objects) == 5
    assert objects.min_size == smallest


def test_corrections_are_undone_and_done_again_one_by_one(objects):
    before = objects.preview.data.copy()
    objects.delete(LARGE)
    assert number(objects) == 4
    assert text(objects).startswith("4 objects")
    objects.add(LARGE)
    assert number(objects) == 5
    objects.merge((40, 40), (54, 54))
    assert number(objects) == 4
    objects.split((40, 40), (54, 54))
    assert number(objects) == 5

    for count in (4, 5, 4, 5):
        assert objects.undo()
        assert number(objects) == count
    assert np.array_equal(objects.preview.data, before)
    assert not objects.undo()
    assert objects.redo()
    assert number(objects) == 4


def test_what_is_shown_and_kept_is_the_edited_cut_of_the_core(objects):
    objects.delete(LARGE)
    number(objects)
    kept = objects.keep()[0]
    assert np.array_equal(kept.data, objects.preview.data)
    assert f"edits=(aeseg.DeleteObject(place={LARGE}),)" in objects.script
    objects.add(LARGE)
    number(objects)
    edits = (DeleteObject(LARGE), TakeObject(LARGE))
    expected = aeseg.Cut("objects", edits=edits).labels(objects.hierarchy)
    assert np.array_equal(objects.preview.data, expected)


def test_corrections_survive_controls_and_other_modes(objects):
    objects.delete(LARGE)
    objects.sensitivity = 0.7
    assert number(objects) > 0
    assert objects.preview.data[LARGE] == 0

    objects.mode = "regions"
    assert not objects.undo()  # there is none of regions
    objects.mode = "objects"
    assert number(objects) > 0
    assert objects.preview.data[LARGE] == 0
    assert objects.undo()
    assert number(objects) > 0
    assert objects.preview.data[LARGE] > 0


def test_impossible_corrections_are_refused(objects):
    for act, words in (
        (lambda: objects.delete(GROUND), "no object at this place"),
        (lambda: objects.add(LARGE), "already"),
        (lambda: objects.merge(LARGE, LARGE), "the same object"),
        (lambda: objects.larger((99, 0)), "give a pixel"),
        (lambda: objects.add(GROUND), "Nothing stands out"),
    ):
        with pytest.raises(InputError, match=words):
            act()
    assert not objects.undo()
    objects.mode = "classes"
    with pytest.raises(InputError, match="mode Objects"):
        objects.delete(LARGE)


def test_the_buttons_choose_tools_and_undo(objects):
    tools = objects._dock.segments.tools
    tools.buttons["delete"].click()
    assert objects.tool == "delete"
    objects.delete(LARGE)
    assert tools.undo_button.text() == "Undo (1)"
    tools.undo_button.click()
    assert objects._dock.status.text.text().endswith(" objects.")
    assert number(objects) == 5
    objects.mode = "regions"
    assert objects.tool is None
    assert tools.buttons["delete"].isHidden()
