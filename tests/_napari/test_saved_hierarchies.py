"""Hierarchies saved from the dock and opened in it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtWidgets import QFileDialog, QMessageBox

import napari_aeseg as aeseg
from _napari.conftest import QUICK, add_image, halves, heard, measured
from napari_aeseg import HierarchyFileError, InputError, load_hierarchy
from napari_aeseg._napari.views.dock import FolderDialog
from napari_aeseg.images.napari_layers import labels_in


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tissue.aeseg.zarr"


@pytest.fixture
def saved(path, hierarchy):
    """The hierarchy of the image that the widget has, as another day left it."""
    hierarchy.reweighted(balance=0.8).save(path)
    return path


def names(widget):
    return [layer.name for layer in widget.viewer_model.layers]


def test_the_saved_hierarchy_is_the_tuned_one(segmented, path):
    segmented.balance = 0.9
    segmented.wait(20)
    segmented.save_hierarchy(path)

    loaded = load_hierarchy(path)
    assert loaded.params == segmented.hierarchy.params
    assert loaded.comparison == segmented.hierarchy.comparison
    assert np.array_equal(
        loaded.regions(7, refine=False), segmented.hierarchy.regions(7, refine=False)
    )
    assert segmented._dock.status.text.text() == f"Saved as {path.name}."


def test_a_session_has_the_work_by_hand_as_well(segmented, path):
    segmented.n_regions = 7
    segmented.merge((4, 4), (4, 40))
    segmented.paint().data[3:5, 3:9] = 1
    segmented.class_names = ("dark", "bright", "other")
    shown = segmented.preview.data
    segmented.save_hierarchy(path)
    segmented.mode = "classes"
    segmented.reset_choices()
    segmented._state.drop_results(segmented.images)

    segmented.open_hierarchy(path)

    assert np.array_equal(segmented.preview.data, shown)
    assert segmented.class_names == ("dark", "bright", "other")
    assert segmented.undo()
    assert segmented._state.first_result.markers.data.any()


def test_opened_on_its_image_it_goes_on_without_segmenting(widget, saved, model, monkeypatch):
    monkeypatch.setattr("napari_aeseg.api.hierarchy_steps", None)  # would fail
    widget.model = model
    events = heard(widget)
    widget.open_hierarchy(saved)

    assert names(widget) == ["halves", "halves preview"]
    assert [name for name, _ in events] == ["segmented"]
    assert widget.segmentation_params == load_hierarchy(saved).params
    assert widget.comparison == load_hierarchy(saved).comparison
    assert widget.balance == 0.8
    widget.n_regions = 5
    assert np.array_equal(widget.preview.data, load_hierarchy(saved).regions(5, refine=False))
    assert np.array_equal(widget.preview.scale, widget.images[0].scale)
    (kept,) = widget.keep()
    widget.wait(20)
    assert "reconstruction_error" in kept.features  # the image and its model are here
    widget.balance = 0.2
    widget.wait(20)
    assert widget.hierarchy.comparison.balance == 0.2


def test_of_several_images_it_finds_its_own(widget, saved):
    add_image(widget, halves(seed=1), "another of the same shape")
    add_image(widget, halves(side=32), "small")
    widget.open_hierarchy(saved)

    assert [image.name for image in widget.images] == ["halves"]
    assert list(widget.previews) == widget.images


def test_without_its_image_the_brightness_is_shown(widget, saved, model):
    widget.viewer_model.layers.clear()
    widget.model = model
    widget.open_hierarchy(saved)

    assert names(widget) == ["tissue brightness", "tissue brightness preview"]
    assert "Its image is not open" in widget._dock.status.text.text()
    tree = load_hierarchy(saved)
    assert np.array_equal(widget.images[0].data, tree.brightness.astype(np.float32))
    widget.mode = "classes"
    assert np.array_equal(widget.preview.data, tree.classes(3, refine=False))
    (kept,) = widget.keep()
    widget.wait(20)
    assert "reconstruction_error" not in kept.features  # of the brightness it would mean nothing
    with pytest.raises(
        InputError, match=r"comes from a saved segmentation\. Open the original image"
    ):
        widget.look("reconstruction error")
        widget.wait(20)
    widget.look("features")
    widget.wait(20)

    widget.open_hierarchy(saved)  # once more: nothing is doubled
    assert names(widget).count("tissue brightness") == 1


def test_classes_of_a_model_apply_to_opened_hierarchies(widget, saved, model):
    widget.model = model
    widget.open_hierarchy(saved)
    widget.mode = "classes"
    widget.n_classes = 2
    widget.classes_fixed = True
    assert len(model.prototypes.centres) == 2


def test_a_model_that_is_loaded_later_is_known(widget, saved, model):
    widget.open_hierarchy(saved)
    assert widget.model is None
    with pytest.raises(InputError, match=r"comes from a saved segmentation\. Load its model"):
        widget.look("reconstruction")
        widget.wait(20)

    widget.model = model
    widget.look("reconstruction")
    widget.wait(20)

    assert "halves reconstruction" in names(widget)


def test_another_model_is_not_taken_for_its_own(widget, saved):
    widget.model = aeseg.train(halves(), QUICK.updated(seed=9), device="cpu")
    widget.open_hierarchy(saved)
    widget.mode = "classes"
    with pytest.raises(InputError, match="another model"):
        widget.classes_fixed = True


@pytest.mark.parametrize(
    ("axes", "kind"), [("CYX", {}), ("YXC", {}), ("YXC", {"rgb": True}), ("ZYX", {})]
)
def test_images_of_all_kinds(widget, path, axes, kind):
    widget.viewer_model.layers.clear()
    shape = {"C": 3, "Z": 5, "Y": 24, "X": 20}
    rng = np.random.default_rng(0)
    data = rng.integers(0, 255, [shape[a] for a in axes], np.uint8)
    tree = aeseg.build_hierarchy(data, "base", aeseg.SegmentationParams(patch_size=4), axes)
    tree.save(path)
    if kind:  # with an alpha channel, which is no part of the image
        data = np.concatenate([data, np.full((24, 20, 1), 255, np.uint8)], axis=-1)
    layer = Image(data, name="it", **kind)
    layer.scale = (2.0, 0.5, 0.5)[-layer.ndim :]
    for name in ("tissue brightness", "it"):
        widget.viewer_model.layers.clear()
        if name == "it":
            widget.viewer_model.add_layer(layer)
        widget.open_hierarchy(path)
        widget.n_regions = 4

        assert widget.images[0].name == name
        found = labels_in(widget.preview.data, tree.axes)
        assert np.array_equal(found, tree.regions(4, refine=False))
        (kept,) = widget.keep()
        assert len(measured(kept)) == 4
    kept_axes = slice(1 if axes[0] == "C" else 0, None)
    size = 3 if axes == "YXC" and not layer.rgb else 1  # one step for all channels
    assert np.array_equal(widget.preview.scale[:2], layer.scale[kept_axes][:2])
    assert widget.preview.scale[-1] == size * layer.scale[-1]


def test_edits_and_strokes_stay_when_the_same_is_opened_again(segmented, path):
    segmented.save_hierarchy(path)
    segmented.n_regions = 6
    data = segmented.preview.data
    segmented.merge(*(tuple(np.argwhere(data == label)[0]) for label in (1, 2)))
    before = segmented.preview.data.copy()

    segmented.open_hierarchy(path)
    segmented.wait(20)

    assert np.array_equal(segmented.preview.data, before)


def test_a_damaged_folder_is_an_error_and_changes_nothing(segmented, saved, tmp_path):
    damaged = tmp_path / "damaged.aeseg.zarr"
    shutil.copytree(saved, damaged)
    (damaged / "patches" / "c" / "0" / "0").unlink()
    before, hierarchy = names(segmented), segmented.hierarchy
    for wrong, error in ((damaged, HierarchyFileError), (tmp_path, HierarchyFileError),
                         (tmp_path / "lost.aeseg.zarr", FileNotFoundError)):  # fmt: skip
        with pytest.raises(error):
            segmented.open_hierarchy(wrong)
    assert names(segmented) == before
    assert segmented.hierarchy is hierarchy


def test_saving_that_is_not_possible_is_an_error(widget, segmented, tmp_path):
    (tmp_path / "mine.aeseg.zarr").mkdir()
    with pytest.raises(InputError, match="is not replaced"):
        segmented.save_hierarchy(tmp_path / "mine.aeseg.zarr")
    other = add_image(widget, halves(side=32), "small")
    with pytest.raises(InputError, match="No chosen image is segmented yet"):
        widget.save_hierarchy(tmp_path / "a.aeseg.zarr")
    with pytest.raises(InputError, match="small is not segmented yet"):
        widget.save_hierarchy(tmp_path / "a.aeseg.zarr", other)


def test_saving_and_opening_wait_for_other_tasks(widget, saved):
    widget.training_params = QUICK.updated(steps=1_000_000)
    widget.train()
    with pytest.raises(InputError, match="Still busy"):
        widget.open_hierarchy(saved)
    assert not widget._dock.segments.open_button.isEnabled()


def test_a_session_is_saved_again_under_its_name(segmented, tmp_path, monkeypatch):
    """Qt's dialog entered the folder and stayed open."""
    segmented.images[0].name, segmented._dock._last_folder = "a", str(tmp_path)
    monkeypatch.setattr(FolderDialog, "exec_", lambda self: self.accept() or self.result())
    asked, path = [], tmp_path / "a.aeseg.zarr"
    for answer in (None, QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes):
        monkeypatch.setattr(
            QMessageBox, "question", lambda *a, answer=answer: asked.append(a[-1]) or answer
        )
        before = path.stat().st_ino if path.exists() else None
        segmented._dock.segments.save_button.click()
        segmented.wait(20)
        is_replaced = path.stat().st_ino != before
        assert is_replaced == (answer != QMessageBox.StandardButton.No)
    assert asked == ["a.aeseg.zarr exists already. Do you want to replace it?"] * 2


def test_the_dialog_gives_the_ending_and_thinking_better_of_it_does_nothing(
    segmented, tmp_path, monkeypatch
):
    for typed in ("a", "b.zarr", "c.aeseg.zarr"):
        monkeypatch.setattr(FolderDialog, "ask", lambda *_, t=typed: (f"{tmp_path}/{t}", ""))
        segmented._dock.segments.save_button.click()
        segmented.wait(20)
        path = tmp_path / f"{typed[0]}.aeseg.zarr"
        assert load_hierarchy(path).n_patches == segmented.hierarchy.n_patches
    monkeypatch.setattr(FolderDialog, "ask", lambda *_: ("", ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    before = segmented.hierarchy
    segmented._dock.segments.save_button.click()
    segmented._dock.segments.open_button.click()
    segmented.wait(20)
    assert segmented.hierarchy is before
