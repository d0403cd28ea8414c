"""What the user steers by hand: merged and split regions, strokes, classes with names."""

from __future__ import annotations

import numpy as np
import pytest

import napari_aeseg as aeseg
from _napari.conftest import QUICK, add_image, discs, halves
from napari_aeseg import InputError, Merge, Split


@pytest.fixture
def cut(segmented):
    segmented.n_regions = 6
    return segmented


def place_of(widget, label: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(widget.preview.data == label)[0])


def merge(widget, *labels: int) -> list[tuple[int, ...]]:
    places = [place_of(widget, label) for label in labels]
    widget.merge(*places)
    widget.wait(5)
    return places


def number(widget) -> int:
    return len(np.unique(widget.preview.data))


# Edits


def test_merge_split_undo_redo(cut):
    start = cut.preview.data
    merge(cut, 1, 2, 5)
    merged = cut.preview.data
    assert number(cut) == 4
    assert set(np.unique(merged)) == {1, 3, 4, 6}

    cut.split(place_of(cut, 1))
    cut.wait(5)
    assert number(cut) == 5

    assert cut.undo()
    cut.wait(5)
    assert np.array_equal(cut.preview.data, merged)
    assert cut.undo()
    cut.wait(5)
    assert np.array_equal(cut.preview.data, start)
    assert not cut.undo()
    assert cut.redo()
    assert cut.redo()
    cut.wait(5)
    assert number(cut) == 5
    assert not cut.redo()


def test_what_is_shown_is_the_edited_cut_of_the_core(cut):
    places = merge(cut, 1, 2)
    cut.split(place_of(cut, 3))
    cut.wait(5)
    patches = cut.hierarchy.patches
    edits = (Merge(tuple(int(patches[p]) for p in places)), Split(int(patches[place_of(cut, 3)])))

    expected = aeseg.Cut(n_regions=6, refine=False, edits=edits).labels(cut.hierarchy)

    assert np.array_equal(cut.preview.data, expected)


def test_buttons_undo_and_redo_until_there_is_a_new_edit(cut):
    tools = cut._dock.segments.tools
    assert not tools.undo_button.isEnabled()
    merge(cut, 1, 2)

    tools.undo_button.click()
    cut.wait(5)
    assert number(cut) == 6
    assert not tools.undo_button.isEnabled()
    tools.redo_button.click()
    cut.wait(5)

    assert number(cut) == 5
    assert not tools.redo_button.isEnabled()
    cut.undo()
    merge(cut, 3, 4)
    assert not cut.redo()


def test_edits_survive_what_leaves_the_patches_as_they_are(cut):
    one, two = merge(cut, 1, 2)
    cut.mode = "classes"
    assert np.array_equal(cut.preview.data, cut.hierarchy.classes(3, refine=False))
    cut.mode = "regions"
    assert cut.preview.data[one] == cut.preview.data[two]
    for n in (9, 3, 6):
        cut.n_regions = n
        assert cut.preview.data[one] == cut.preview.data[two]
    cut._dock.segments.regions.n_regions.slider.setValue(500)
    cut.wait(5)
    assert cut.preview.data[one] == cut.preview.data[two]
    cut.undo()
    cut.n_regions = 6
    assert cut.preview.data[one] != cut.preview.data[two]
    cut.redo()
    cut.balance = 0.9
    cut.wait(20)
    assert cut.preview.data[one] == cut.preview.data[two]

    cut.segmentation_params = cut.segmentation_params.updated(levels=(1,))
    cut.segment()
    cut.wait(20)

    assert cut.hierarchy.params.levels == (1,)
    assert cut.preview.data[one] == cut.preview.data[two]
    assert "were discarded" not in cut._dock.status.text.text()
    assert cut.undo()


def split_in_two(widget) -> tuple[np.ndarray, np.ndarray]:
    """Split the region of a corner; return the pixels of both parts."""
    before = widget.preview.data == widget.preview.data[0, 0]
    widget.split((0, 0))
    widget.wait(5)
    labels = widget.preview.data
    one, two = np.unique(labels[before])
    return before & (labels == one), before & (labels == two)


def test_a_split_stays_where_it_is_when_patches_are_compared_in_another_way(cut):
    cut.n_regions = 1
    one, two = split_in_two(cut)
    cut.balance, cut.scale = 1.0, 8
    cut.wait(20)

    assert [len(np.unique(cut.preview.data[part])) for part in (one, two)] == [1, 1]
    assert number(cut) == 2


def test_edits_follow_to_another_model_and_to_other_patches(cut):
    cut.n_regions = 1
    one, two = split_in_two(cut)
    cut.training_params = cut.training_params.updated(seed=7)
    cut.train()
    cut.wait(30)
    cut.segmentation_params = cut.segmentation_params.updated(patch_size=4)
    cut.segment()
    cut.wait(20)

    labels = cut.preview.data
    assert number(cut) == 2
    assert np.mean(labels[one] == np.bincount(labels[one]).argmax()) > 0.95
    assert np.bincount(labels[one]).argmax() != np.bincount(labels[two]).argmax()
    assert cut.undo()


def test_edits_without_a_meaning_in_the_new_patches_are_dropped_with_a_word_and_a_way_back(cut):
    cut.segmentation_params = cut.segmentation_params.updated(patch_size=6)
    cut.segment()
    cut.wait(20)
    assert "the new patches" not in cut._dock.status.text.text()  # there are no edits

    before = cut.hierarchy
    cut.n_regions = before.n_patches
    cut.merge((1, 1), (1, 9))
    cut.segmentation_params = cut.segmentation_params.updated(patch_size=24)
    cut.segment()
    cut.wait(20)

    assert "do not fit the new patches" in cut._dock.status.text.text()
    assert cut.undo()  # the way back
    assert cut.hierarchy is before


def test_each_image_has_edits_of_its_own(cut):
    first = cut.images[0]
    second = add_image(cut, halves(seed=1), "second", choose=False)
    cut.images = [first, second]
    cut.segment()
    cut.wait(20)
    before = cut.previews[first].data
    data = cut.previews[second].data
    places = [tuple(int(i) for i in np.argwhere(data == label)[0]) for label in (1, 2)]

    cut.merge(*places, image=second)
    cut.wait(5)

    assert np.array_equal(cut.previews[first].data, before)
    assert len(np.unique(cut.previews[second].data)) == 5
    assert not cut.undo(first)
    # Without an image named, the one in sight is meant, and the controls are about it.
    assert cut.viewer_model.layers.selection.active is cut.previews[first]
    undo, in_preview = cut._dock.segments.tools.undo_button, cut._dock.segments.regions.n_in_preview
    assert (undo.text(), in_preview.text()) == ("Undo", "")
    cut.viewer_model.layers.selection.active = cut.previews[second]
    assert (undo.text(), in_preview.text()) == ("Undo (1)", "5 shown")
    assert cut.undo()


def test_impossible_edits_are_refused_and_change_nothing(cut):
    for act, words in [
        (lambda: cut.merge((0, 0), (0, 0)), "in the same region"),
        (lambda: cut.merge((0, 0), (99, 0)), r"place = \(99, 0\)"),
        (lambda: cut.split((0,)), r"place = \(0,\)"),
        (lambda: (setattr(cut, "mode", "classes"), cut.split((0, 0))), "choose the mode Regions"),
    ]:
        with pytest.raises(InputError, match=words):
            act()
        assert not cut.undo()


def test_corrections_before_segmenting_ask_to_segment(widget):
    for act in (lambda: widget.merge((0, 0), (1, 1)), lambda: widget.split((0, 0)), widget.paint,
                widget.undo, widget.redo):  # fmt: skip
        with pytest.raises(InputError, match=r"[Ss]egment"):
            act()


def test_edits_are_kept_with_the_layer(cut):
    merge(cut, 1, 2)
    (kept,) = cut.keep()
    cut.wait(20)

    assert kept.name == "halves regions 5 edited"
    record = aeseg.Cut.from_record(kept.metadata["napari-aeseg"])
    assert np.array_equal(record.labels(cut.hierarchy), kept.data)


# Locked regions, and examples


def test_a_locked_region_keeps_its_pixels_until_it_is_unlocked(cut):
    place, pixels = place_of(cut, 1), cut.preview.data == 1
    cut.lock(place)
    label = cut.preview.data[place]
    merge(cut, 2, 3)
    assert cut._dock.segments.regions.n_in_preview.text() == f"{number(cut)} shown"
    for change in ({"n_regions": 2}, {"n_regions": 20}, {"refine": True}, {"balance": 0.9}):
        for name, value in change.items():
            setattr(cut, name, value)
        cut.wait(10)
        assert np.array_equal(cut.preview.data == label, pixels)

    with pytest.raises(InputError, match="locked"):
        cut.split(place)
    assert np.array_equal(cut.keep()[0].data == label, pixels)
    cut.n_regions = 2
    cut.lock(place)
    cut.wait(10)
    assert not np.array_equal(cut.preview.data == cut.preview.data[place], pixels)


def test_one_example_shows_what_is_similar_and_clicks_correct_it(cut):
    everything = cut.preview.data
    dark, bright = (10, 5), (10, 40)  # of the two halves
    cut.similarity = 0.5
    cut.find_similar(dark)
    shown = cut.preview.data > 0
    assert shown[:, :20].mean() > 0.9
    assert shown[:, 28:].mean() < 0.1

    cut.find_similar(bright)  # one that is missing
    assert (cut.preview.data[:, 28:] > 0).mean() > 0.9
    cut.find_similar(bright)  # taken back
    other = next(p for p in [(40, 5), (25, 15), (5, 20)] if everything[p] != everything[dark])
    cut.find_similar(other)  # one that is shown and not meant
    assert cut.preview.data[dark] == everything[dark]
    assert cut.preview.data[other] == 0
    cut.similarity = 1
    assert set(np.unique(cut.preview.data)) == {0, everything[dark]}
    cut.forget_examples()
    assert np.array_equal(cut.preview.data, everything)


# Strokes


@pytest.fixture
def strokes(segmented):
    segmented.mode = "markers"
    return segmented, segmented.paint()


def stroke(layer, label: int, row: int, columns: range) -> None:
    layer.selected_label = label
    for column in columns:
        layer.paint((row, column), label)


def test_strokes_grow_into_segments_while_they_are_painted_and_until_they_are_erased(strokes):
    widget, layer = strokes
    assert not widget.preview.data.any()
    stroke(layer, 1, 10, range(3, 12))
    stroke(layer, 2, 30, range(36, 44))
    widget.wait(5)

    expected = widget.hierarchy.from_markers(layer.data, refine=False)
    assert np.array_equal(widget.preview.data, expected)
    assert set(np.unique(widget.preview.data)) == {1, 2}
    assert widget.preview.data[40, 5] == 1
    assert widget.preview.data[5, 40] == 2
    layer.data = np.zeros_like(layer.data)
    widget.wait(5)
    assert not widget.preview.data.any()


def test_undoing_a_stroke_in_napari_is_followed(strokes):
    widget, layer = strokes
    stroke(layer, 1, 10, range(3, 12))
    widget.wait(5)
    one = widget.preview.data
    with layer.block_history():  # a stroke is one step, as with the mouse
        stroke(layer, 2, 30, range(36, 44))
    widget.wait(5)
    assert widget.preview.data.max() == 2

    layer.undo()
    widget.wait(5)
    assert np.array_equal(widget.preview.data, one)
    layer.redo()
    widget.wait(5)

    assert widget.preview.data.max() == 2


def test_the_strokes_layer_is_made_once_with_the_brush_chosen(strokes):
    widget, layer = strokes
    viewer = widget.viewer_model
    viewer.layers.selection.active = widget.preview

    assert widget.paint() is layer
    widget._dock.segments.markers.button.click()

    assert [one.name for one in viewer.layers].count("halves strokes") == 1
    assert viewer.layers.selection.active is layer
    assert layer.mode == "paint"
    assert np.array_equal(layer.scale, (2, 3))
    assert layer.data.shape == (48, 48)


def test_removing_the_strokes_layer_shows_nothing_and_a_new_one_can_be_made(strokes):
    widget, layer = strokes
    stroke(layer, 1, 10, range(3, 12))
    widget.wait(5)
    assert widget.preview.data.any()

    widget.viewer_model.layers.remove(layer)
    widget.wait(5)
    assert not widget.preview.data.any()

    new = widget.paint()
    assert new is not layer
    stroke(new, 3, 10, range(3, 12))
    widget.wait(5)
    assert widget.preview.data.max() == 3


def test_strokes_survive_segmenting_anew(strokes):
    widget, layer = strokes
    stroke(layer, 1, 10, range(3, 12))
    widget.segmentation_params = widget.segmentation_params.updated(patch_size=6)
    widget.segment()
    widget.wait(20)

    assert widget.paint() is layer
    assert np.array_equal(
        widget.preview.data, widget.hierarchy.from_markers(layer.data, refine=False)
    )


def test_strokes_are_seen_and_change_labels_while_they_steer_only(strokes):
    widget, layer = strokes
    assert layer.visible

    widget.mode = "regions"
    shown = widget.preview.data
    stroke(layer, 1, 10, range(3, 12))
    widget.wait(5)
    assert np.array_equal(widget.preview.data, shown)
    assert not layer.visible
    layer.visible = True  # what the user shows stays
    widget.n_regions = 5
    assert layer.visible
    widget.mode = "classes"
    assert not layer.visible
    widget.mode = "markers"
    assert layer.visible


def test_strokes_of_another_shape_are_an_error(strokes, monkeypatch):
    widget, layer = strokes
    told = []
    monkeypatch.setattr("napari_aeseg._napari.work.errors.show_error", told.append)
    layer.data = np.ones((3, 3), np.uint8)
    with pytest.raises(InputError, match="shape"):
        widget.wait(5)

    assert len(told) == 1


# Classes


@pytest.fixture
def classes(segmented):
    segmented.mode = "classes"
    segmented.n_classes = 2
    return segmented


def test_classes_have_names_and_colors_from_the_start_and_by_the_list(classes, monkeypatch):
    from qtpy.QtGui import QColor

    assert classes.class_names == ("class 1", "class 2")
    assert classes.class_colors == ("#e69f00", "#56b4e9")
    rows = classes._dock.segments.classes.rows
    shown = [row.name.placeholderText() for row in rows if not row.isHidden()]  # in grey
    assert shown == ["class 1", "class 2"]

    row = rows[1]
    row.name.setText("gland")
    row.name.editingFinished.emit()
    dialog = "napari_aeseg._napari.views.classes.QColorDialog.getColor"
    monkeypatch.setattr(dialog, lambda *_: QColor("#102030"))
    row.swatch.click()
    classes.wait(5)
    assert classes.class_names == ("class 1", "gland")
    assert classes.class_colors[1] == "#102030"
    assert np.allclose(classes.preview.get_color(2), np.array([0x10, 0x20, 0x30, 255]) / 255)
    assert "#102030" in row.swatch.styleSheet()
    monkeypatch.setattr(dialog, lambda *_: QColor())
    row.swatch.click()  # and thinks better of it
    assert classes.class_colors[1] == "#102030"


def test_names_and_colors_by_property(classes):
    classes.class_names = ("dark", "bright")
    classes.class_colors = ("#112233", "#445566")
    classes.wait(5)

    rows = classes._dock.segments.classes.rows
    assert [row.name.text() for row in rows[:2]] == ["dark", "bright"]
    assert np.allclose(classes.preview.get_color(1), np.array([0x11, 0x22, 0x33, 255]) / 255)
    assert np.allclose(classes.preview.get_color(2), np.array([0x44, 0x55, 0x66, 255]) / 255)
    classes.n_classes = 3
    assert classes.class_names == ("dark", "bright", "class 3")

    for name, value in [  # which do not fit
        ("class_names", ("one",)),
        ("class_names", ("a", 2, "c")),
        ("class_colors", ("#112233",)),
        ("class_colors", ("#112233", "#445566", "red")),
    ]:
        before = getattr(classes, name)
        with pytest.raises(InputError, match=name):
            setattr(classes, name, value)
        assert getattr(classes, name) == before


def test_fixed_classes_are_kept_with_the_model_and_its_file(classes, tmp_path):
    classes.class_names = ("dark", "bright")
    classes.classes_fixed = True
    shown = classes.preview.data
    path = tmp_path / "kinds.aeseg.safetensors"
    classes.save_model(path)

    assert classes.model.prototypes.names == ("dark", "bright")
    assert not classes._dock.segments.classes.n_classes.isEnabled()
    classes.model = None
    assert not classes.classes_fixed
    classes.load_model(path)
    classes.mode = "classes"
    classes.wait(5)

    assert classes.classes_fixed
    assert classes._dock.segments.classes.fix_box.isChecked()
    assert classes.class_names == ("dark", "bright")
    assert classes.class_colors == ("#e69f00", "#56b4e9")
    assert np.array_equal(classes.preview.data, shown)


def test_fixed_classes_have_the_same_ids_in_a_second_image(classes):
    fix = classes._dock.segments.classes.fix_box
    fix.click()
    assert classes.classes_fixed
    bright = classes.preview.data[5, 45]
    # All of it is bright: on its own it would be divided into two classes.
    flat = np.ones((48, 48), np.float32)
    flat[:2] = 0
    flat += np.random.default_rng(1).normal(0, 0.05, flat.shape).astype(np.float32)
    image = add_image(classes, flat, "flat")
    classes.segment()
    classes.wait(20)

    labels = classes.previews[image].data
    assert np.array_equal(
        labels, classes.hierarchy.classes(2, classes.model.prototypes, refine=False)
    )
    assert (labels[10:] == bright).mean() > 0.9
    fix.click()
    classes.wait(5)
    assert not classes.classes_fixed
    assert classes.model.prototypes is None
    assert np.array_equal(classes.previews[image].data, classes.hierarchy.classes(2, refine=False))


def test_fixed_classes_follow_names_and_colors_but_not_n_classes(classes):
    classes.classes_fixed = True
    shown = classes.preview.data
    classes.n_classes = 5
    assert np.array_equal(classes.preview.data, shown)
    assert classes.class_names == ("class 1", "class 2")
    classes.class_names = ("dark", "bright")
    classes.class_colors = ("#112233", "#445566")
    assert classes.model.prototypes.names == ("dark", "bright")
    assert classes.model.prototypes.colors == ("#112233", "#445566")

    classes.classes_fixed = False
    classes.wait(5)

    assert classes.preview.data.max() == 5


def test_fixing_classes_before_segmenting_asks_to_press_segment(widget):
    with pytest.raises(InputError, match="press Segment first"):
        widget.classes_fixed = True
    assert not widget.classes_fixed


def test_objects_made_of_classes(segmented):
    add_image(segmented, discs(), "discs")
    segmented.segment()
    segmented.wait(20)
    view = segmented._dock.segments
    segmented.mode, segmented.n_classes = "objects", 2
    assert view.classes.isHidden()
    view.objects.detect_by.setCurrentIndex(1)
    view.objects.detect_by.activated.emit(1)
    segmented.wait(30)
    # At first the class that stands out.
    assert segmented.class_ids == (2,)
    assert not view.classes.isHidden()
    assert [row.box.isChecked() for row in view.classes.rows[:2]] == [False, True]

    view.classes.rows[0].box.click()
    segmented.wait(30)
    assert segmented.class_ids == (1, 2)
    view.classes.rows[0].box.click()
    segmented.wait(30)

    assert segmented.class_ids == (2,)
    expected = segmented.hierarchy.objects(class_ids=(2,), n_classes=2)
    assert expected.max() > 1
    assert np.array_equal(segmented.preview.data, expected)
    assert view.objects.number.text().startswith(f"{expected.max()} objects, diameter ")
    segmented.min_size = 4000
    segmented.wait(30)
    assert "No objects stand out" in view.objects.number.text()


def test_classes_that_do_not_exist_are_an_error(segmented):
    segmented.mode, segmented.n_classes = "objects", 2
    segmented.class_ids = (7,)
    with pytest.raises(InputError, match="7"):
        segmented.wait(20)
    segmented.class_ids = None
    segmented.wait(20)


def test_classes_of_another_model_do_not_reach_images_that_it_did_not_segment(classes):
    other = aeseg.train(halves(), QUICK.updated(seed=9), device="cpu")
    other.prototypes = aeseg.build_hierarchy(halves(), other, device="cpu").prototypes(4)
    classes.model = other
    assert classes.classes_fixed

    classes.n_classes = 3
    assert np.array_equal(classes.preview.data, classes.hierarchy.classes(3, refine=False))
    classes.segment()
    classes.wait(20)

    expected = classes.hierarchy.classes(prototypes=other.prototypes, refine=False)
    assert np.array_equal(classes.preview.data, expected)


def test_volumes_are_corrected_and_painted_on_as_images_are(widget):
    add_image(widget, np.stack([halves()] * 3), "volume", axis_labels=("z", "y", "x"))
    widget.train()
    widget.wait(20)
    widget.segment()
    widget.wait(30)
    widget.n_regions = 5
    merge(widget, 1, 2)
    assert number(widget) == 4
    widget.mode = "markers"
    layer = widget.paint()
    assert layer.data.shape == (3, 48, 48)
    data = np.zeros((3, 48, 48), np.uint8)
    data[0, 5, 3:9], data[2, 30, 40:44] = 1, 2
    layer.data = data
    widget.wait(5)

    assert np.array_equal(widget.preview.data, widget.hierarchy.from_markers(data, refine=False))
