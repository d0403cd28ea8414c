"""The preview's segmentation for all open images, and for all files of a folder."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import napari_aeseg as aeseg
from _napari.conftest import add_image, discs, halves, heard
from napari_aeseg import InputError


@pytest.fixture
def folder(tmp_path):
    """A folder of three images, one of which is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", halves(seed=1))
    tifffile.imwrite(folder / "b.tif", halves(40, seed=2))
    (folder / "c.tif").write_bytes(b"none")
    return folder


def labels_in(folder) -> dict[str, np.ndarray]:
    return {path.stem[0]: tifffile.imread(path) for path in sorted(folder.glob("*_labels.tif"))}


def test_a_folder_is_segmented_like_the_preview(segmented, folder):
    segmented.n_regions = 5
    segmented.segmentation_params = aeseg.SegmentationParams(patch_size=6)
    events = heard(segmented)

    segmented.segment_folder(folder)
    assert segmented.busy
    segmented.wait(30)

    ((name, report),) = events
    assert name == "batch_done"
    assert report.summary == "3 files: 2 done, 1 failed"
    found = labels_in(folder / "segments")
    for stem, image in (("a", halves(seed=1)), ("b", halves(40, seed=2))):
        tree = aeseg.build_hierarchy(
            image, segmented.model, segmented.segmentation_params, device="cpu"
        )
        assert np.array_equal(found[stem], tree.regions(5, refine=False))
    assert segmented._dock.folder.report.text() == str(report)
    assert report.summary in segmented._dock.status.text.text()


def test_axes_of_the_open_image_are_not_those_of_other_files(segmented, folder):
    segmented.axes = "CYX"
    events = heard(segmented, "batch_done")

    segmented.segment_folder(folder)
    segmented.wait(30)

    assert [f.status for f in events[0][1].files] == ["done", "done", "failed"]


def test_by_the_button(segmented, folder, tmp_path, monkeypatch):
    view = segmented._dock.folder
    answers = [str(folder), str(tmp_path / "out")]
    monkeypatch.setattr(
        "napari_aeseg._napari.views.folder.QFileDialog.getExistingDirectory",
        lambda *_: answers.pop(0),
    )
    view.folder.button.click()
    view.output.button.click()
    assert view.folder.line.text() == str(folder)
    events = heard(segmented, "batch_done")

    view.button.click()
    assert not view.button.isEnabled()
    segmented.wait(30)
    assert [f.status for f in events[0][1].files] == ["done", "done", "failed"]
    assert set(labels_in(tmp_path / "out")) == {"a", "b"}

    view.button.click()  # what is there is left out unless asked otherwise
    segmented.wait(30)
    assert [f.status for f in events[1][1].files] == ["skipped", "skipped", "failed"]
    view.existing.setCurrentIndex(view.existing.findData("replace"))
    segmented.n_regions = 3
    view.button.click()
    segmented.wait(30)
    assert labels_in(tmp_path / "out")["a"].max() == 3
    view.existing.setCurrentIndex(view.existing.findData("refuse"))
    view.button.click()
    with pytest.raises(InputError, match="exist already"):
        segmented.wait(30)
    assert view.button.isEnabled()


def test_without_a_folder_the_button_asks_for_one(segmented, monkeypatch):
    shown = []
    monkeypatch.setattr("napari_aeseg._napari.work.errors.show_error", shown.append)

    segmented._dock.folder.button.click()

    assert len(shown) == 1
    assert "No folder is chosen" in shown[0]
    assert not segmented.busy


def test_a_folder_that_does_not_exist_is_an_error(segmented, tmp_path):
    segmented.segment_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no folder"):
        segmented.wait(1)


def test_without_a_model_the_base_model_is_used(widget, folder):
    (folder / "b.tif").unlink()
    widget.n_regions = 4
    events = heard(widget, "batch_done", "failed")
    widget.segment_folder(folder)
    widget.wait(60)

    assert [name for name, _ in events] == ["batch_done"]
    tree = aeseg.build_hierarchy(halves(seed=1), "base", device="cpu")
    assert np.array_equal(labels_in(folder / "segments")["a"], tree.regions(4, refine=False))


@pytest.mark.parametrize("mode", ["classes", "objects"])
def test_classes_mean_the_same_in_all_files(segmented, folder, mode):
    segmented.n_classes, segmented.mode = 2, mode
    segmented.class_ids = (2,)
    segmented.wait(30)

    segmented.segment_folder(folder)
    segmented.wait(60)

    tree = aeseg.build_hierarchy(halves(seed=1), segmented.model, device="cpu")
    cut = aeseg.Cut(mode, n_classes=2, class_ids=(2,))
    expected = cut.labels(tree, prototypes=segmented.hierarchy.prototypes(2))
    assert np.array_equal(labels_in(folder / "segments")["a"], expected)


def test_strokes_belong_to_one_image(segmented, folder):
    segmented.mode, segmented.markers_are = "markers", "segments"
    segmented.segment_folder(folder)
    with pytest.raises(InputError, match="belong to one image"):
        segmented.wait(30)
    assert segmented._dock.folder.button.isEnabled()


def test_stop_keeps_the_files_that_are_done(segmented, folder):
    events = heard(segmented)

    def look(event):
        if event.stage == "file" and event.done == 2:
            segmented.stop()

    segmented.progressed.connect(look)
    segmented.segment_folder(folder)
    segmented.wait(30)

    assert sorted(name for name, _ in events) == ["batch_done", "stopped"]
    report = dict(events)["batch_done"]
    assert report.files[0].status == "done"
    assert report.files[2].status == "stopped"
    assert "a" in labels_in(folder / "segments")
    assert segmented._dock.folder.button.isEnabled()


def test_all_open_images_are_segmented_like_the_current_one(segmented):
    segmented.n_regions = 4
    second = add_image(segmented, halves(40, seed=1), "second", choose=False)
    third = add_image(segmented, discs(), "third", choose=False)
    button = segmented._dock.segments.apply_button
    assert button.isEnabled()
    events = heard(segmented)

    button.click()
    segmented.wait(30)

    assert [name for name, _ in events] == ["segmented"] * 3
    assert set(segmented.images) == set(segmented.previews) >= {second, third}
    assert [layer.data.max() for layer in segmented.previews.values()] == [4, 4, 4]
    assert {tree.model_fingerprint for tree in segmented.hierarchies.values()} == {
        segmented.model.fingerprint
    }
    assert not button.isEnabled()  # there are no others


def test_all_open_images_have_the_same_classes(segmented):
    segmented.mode, segmented.n_classes = "classes", 2
    second = add_image(segmented, discs(), "second", choose=False)

    segmented.apply_to_all()
    segmented.wait(30)

    tree, first = segmented.hierarchies[second], segmented.hierarchy
    expected = tree.classes(prototypes=first.prototypes(2), refine=False)
    assert np.array_equal(segmented.previews[second].data, expected)


def test_applying_before_segmenting_is_an_error(widget):
    widget.mode = "classes"
    add_image(widget, halves(), "second", choose=False)
    widget.apply_to_all()
    with pytest.raises(InputError, match="segment"):
        widget.wait(1)
    assert not widget._dock.segments.apply_button.isEnabled()
    assert len(widget.images) == 1


def test_classes_of_another_model_are_not_looked_for_in_files(segmented, folder):
    segmented.mode = "classes"
    segmented.train()
    segmented.wait(20)

    segmented.segment_folder(folder)

    with pytest.raises(InputError, match="segmented with another model"):
        segmented.wait(20)
    assert segmented.model.prototypes is None
