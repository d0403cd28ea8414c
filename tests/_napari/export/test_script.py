"""The script that makes the current result again: run, it gives the preview bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import npe2
import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QApplication

import napari_aeseg as aeseg
from _napari.conftest import QUICK, add_image, discs, halves, train_and_stop
from napari_aeseg import InputError
from napari_aeseg._napari.manifest.settings import Settings

# Runs scripts one after the other, so that torch, which takes seconds, is imported once.
RUNNER = """
import os, runpy, sys, traceback
for line in sys.stdin:
    os.chdir(os.path.dirname(line.strip()))
    try:
        runpy.run_path(line.strip(), run_name="__main__")
        assert not {"napari", "qtpy"} & set(sys.modules), "it needs no window"
        assert "torch._dynamo" not in sys.modules, "it takes a second to import"
        print("done", flush=True)
    except BaseException:
        print(repr(traceback.format_exc()), flush=True)
"""


@pytest.fixture(scope="module")
def runner():
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture
def run(runner, tmp_path):
    """Return a function that runs a script in another process, and gives what it wrote by name."""

    def run_script(text: str) -> dict[str, np.ndarray]:
        folder = tmp_path / f"run {len(list(tmp_path.glob('run *')))}"
        folder.mkdir()
        (folder / "script.py").write_text(text)
        print(folder / "script.py", file=runner.stdin, flush=True)
        answer = runner.stdout.readline().strip()
        assert answer == "done", answer
        return {path.name: tifffile.imread(path) for path in sorted(folder.glob("*.tif"))}

    return run_script


def assert_same(widget, written: dict[str, np.ndarray]) -> None:
    assert len(written) == len(widget.previews)
    for image, preview in widget.previews.items():
        assert np.array_equal(written[f"{image.name}_labels.tif"], preview.data)
    assert widget.preview.data.any()


def segment(widget):
    widget.segment()
    widget.wait(30)


# What is shown


def objects(widget) -> None:
    add_image(widget, discs(), "discs")
    segment(widget)
    widget.mode = "objects"
    widget.wait(60)


def objects_of_classes(widget) -> None:
    widget.n_classes, widget.class_ids = 2, (2,)
    widget.wait(60)


def fixed_classes(widget) -> None:
    widget.mode, widget.n_classes = "classes", 2
    widget.classes_fixed = True
    widget.n_classes = 5


def objects_of_fixed_classes(widget) -> None:
    objects(widget)
    objects_of_classes(widget)


def strokes(widget) -> None:
    widget.mode = "markers"
    layer = widget.paint()
    data = np.zeros((48, 48), np.uint8)
    data[5:8, 3:9] = 1
    data[30:33, 40:44] = 7
    layer.data = data
    widget.wait(5)


def edits(widget) -> None:
    widget.n_regions = 6
    data = widget.preview.data
    widget.merge(*(tuple(np.argwhere(data == label)[0]) for label in (1, 2, 4)))
    widget.split(tuple(np.argwhere(data == 3)[0]))


def locked_and_similar(widget) -> None:
    widget.n_regions = 6
    widget.lock((2, 2))
    widget.n_regions = 9
    widget.find_similar((40, 40))


def weights(widget) -> None:
    widget.balance, widget.scale = 0.8, 20.0
    widget.wait(20)
    widget.n_regions = 9


def several(widget) -> None:
    first = widget.images[0]
    second = add_image(widget, halves(40, seed=3), "second", choose=False)
    widget.images = [first, second]
    widget.mode = "classes"
    segment(widget)


CHOICES = {
    "regions": lambda w: setattr(w, "n_regions", 7),
    "threshold": lambda w: setattr(w, "threshold", 0.3),
    "classes": lambda w: setattr(w, "mode", "classes"),
    "too many classes": lambda w: (setattr(w, "n_classes", 30), setattr(w, "mode", "classes")),
    "weights": weights,
    "locked and similar": locked_and_similar,
    "edits": edits,
    "strokes": strokes,
    "fixed classes": fixed_classes,
    "objects": objects,
    "objects of classes": objects_of_classes,
    "objects of fixed classes": objects_of_fixed_classes,
    "several images": several,
}


@pytest.mark.parametrize(
    "together",
    [
        ("regions", "threshold", "classes", "too many classes"),
        ("locked and similar",),
        ("edits",),
        ("strokes",),
        ("weights", "objects", "objects of classes"),
        ("fixed classes", "objects of fixed classes"),
        ("several images",),
    ],
    ids=", ".join,
)
def test_what_is_shown_is_made_again(segmented, run, together):
    """One dock for what does not depend on what was shown before."""
    for choice in together:
        CHOICES[choice](segmented)

        assert_same(segmented, run(segmented.script))


def test_patches_of_other_kinds(segmented, run):
    segmented.segmentation_params = aeseg.SegmentationParams(
        patches="grid", patch_size=6, source="decoder", levels=(0, 1)
    )
    segment(segmented)

    assert_same(segmented, run(segmented.script))


# Where images come from


@pytest.fixture
def quick(widget, monkeypatch):
    """A widget without images, with napari's plugins as in a window."""
    npe2.PluginManager.instance().discover()
    widget.viewer_model.layers.clear()
    return widget


def test_a_sample_image(quick, run, model, saved):
    quick.viewer_model.open_sample("napari-aeseg", "coins")
    quick.model = model
    segment(quick)

    script = quick.script

    assert "SAMPLES['coins']()" in script
    assert not list(saved.glob("*.npy"))
    assert_same(quick, run(script))


@pytest.mark.parametrize("axes", ["YX", "CYX", "YXC"])
def test_an_image_file(quick, run, tmp_path, saved, axes):
    shape = {"YX": halves(), "CYX": np.stack([halves(), halves(seed=1)])}
    image = shape.get(axes, np.repeat(halves()[..., None], 3, -1) * 200)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, image.clip(0, 255).astype(np.uint8) if axes == "YXC" else image,
                     photometric="rgb" if axes == "YXC" else "minisblack")  # fmt: skip
    quick.viewer_model.open(path, plugin="napari", channel_axis=None)
    quick.axes = None if axes == "YXC" else axes
    quick.train()
    quick.wait(30)
    segment(quick)

    script = quick.script

    assert f"read_file({str(path)!r})" in script
    assert not list(saved.glob("*.npy"))
    assert_same(quick, run(script))


def test_an_image_in_memory_and_a_model_of_a_script_are_saved(segmented, run, saved):
    script = segmented.script

    (path,) = saved.glob("*.npy")
    assert f"np.load({str(path)!r})" in script
    assert np.array_equal(np.load(path), segmented.images[0].data)
    assert list(saved.glob("model *.aeseg.safetensors"))
    assert_same(segmented, run(script))


def test_an_image_that_was_changed_after_it_was_opened_is_saved(quick, run, tmp_path, model):
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, halves())
    (layer,) = quick.viewer_model.open(path, plugin="napari")
    layer.data = halves(seed=5)
    quick.model = model
    segment(quick)

    script = quick.script

    assert "np.load" in script
    assert_same(quick, run(script))


def test_a_lazy_image_without_a_file_is_refused_with_words(segmented):
    import dask.array

    add_image(segmented, dask.array.from_array(halves()), "lazy")
    segment(segmented)

    with pytest.raises(InputError, match=r"lazy is not in memory.*save it as TIFF"):
        _ = segmented.script


def test_names_that_are_alike_as_files_do_not_collide(segmented, run):
    first = add_image(segmented, halves(seed=1), "a/b", choose=False)
    second = add_image(segmented, halves(seed=2), "a_b", choose=False)
    segmented.images = [first, second]
    segment(segmented)

    written = run(segmented.script)

    shown = [preview.data for preview in segmented.previews.values()]
    assert list(written) == ["a_b 2_labels.tif", "a_b_labels.tif"]
    assert np.array_equal(written["a_b_labels.tif"], shown[0])
    assert np.array_equal(written["a_b 2_labels.tif"], shown[1])


# Where the model comes from


def test_the_base_model(widget, run):
    segment(widget)

    script = widget.script

    assert "model = aeseg.load_model('base')" in script
    assert_same(widget, run(script))


def test_a_model_that_was_loaded_or_saved_where_its_file_is_gone(
    widget, run, model, tmp_path, saved
):
    path = tmp_path / "cells.aeseg.safetensors"
    model.save(path)
    widget.load_model(path)
    segment(widget)

    script = widget.script

    assert f"aeseg.load_model({str(path)!r})" in script
    assert_same(widget, run(script))
    assert not list(saved.glob("model *"))
    path.unlink()

    assert_same(widget, run(widget.script))
    assert list(saved.glob("model *"))


@pytest.mark.parametrize("start", ["new", "base", "current"])
def test_a_model_that_was_trained_is_trained_again(widget, run, start):
    if start == "current":
        widget.train()
        widget.wait(30)
        widget.training_params = QUICK.updated(seed=4)
    if start == "base":  # keeps its network
        widget.training_params = aeseg.TrainingParams(steps=2, batch_size=1)
    widget.start_from = start
    widget.train()
    widget.wait(60)
    segment(widget)

    script = widget.script

    assert script.count("aeseg.train(") == (2 if start == "current" else 1)
    assert_same(widget, run(script))


def test_what_a_training_started_from_may_be_overwritten(widget, run, model, tmp_path):
    path = tmp_path / "cells.aeseg.safetensors"
    model.save(path)
    widget.load_model(path)
    widget.start_from = "current"
    widget.train()
    widget.wait(30)
    widget.save_model(path)
    segment(widget)

    assert_same(widget, run(widget.script))


def test_a_training_that_was_stopped_is_loaded_from_where_it_saved_itself(widget, run, saved):
    train_and_stop(widget)
    segment(widget)

    script = widget.script

    (path,) = saved.glob("*.aeseg.safetensors")
    assert f"aeseg.load_model({str(path)!r})" in script
    assert_same(widget, run(script))


def test_a_training_that_was_stopped_and_not_saved_is_saved(widget, run, monkeypatch, saved):
    monkeypatch.setattr(
        "napari_aeseg._napari.controller.read_settings", lambda: Settings(autosave=False)
    )
    train_and_stop(widget)
    segment(widget)
    assert not saved.exists()

    assert_same(widget, run(widget.script))


def test_a_resumed_training_is_one_training_in_the_script(widget, run):
    train_and_stop(widget)
    widget.resume()
    widget.wait(30)
    segment(widget)

    script = widget.script

    assert "aeseg.train(" in script
    assert_same(widget, run(script))


def test_a_training_of_another_session_that_was_gone_on_with_is_loaded(widget, run, tmp_path):
    train_and_stop(widget)
    path = tmp_path / "half.aeseg.safetensors"
    widget.save_model(path)
    widget.load_model(path)
    widget.resume()
    widget.wait(30)
    segment(widget)

    script = widget.script

    assert "aeseg.train(" not in script  # nobody knows which weights it began with
    assert_same(widget, run(script))


# Asking for it


def test_the_button_copies_it(segmented):
    segmented._dock.script_button.click()

    copied = QApplication.clipboard().text()
    assert copied.startswith('"""Made by AE Segment')
    assert "build_hierarchy" in copied
    assert "on the clipboard" in segmented._dock.status.text.text()


def test_what_was_opened_is_opened_again(segmented, run, tmp_path):
    path = tmp_path / "halves.aeseg.zarr"
    segmented.save_hierarchy(path)
    segmented.open_hierarchy(path)
    for choice in ("regions", "edits", "weights", "strokes", "fixed classes"):
        CHOICES[choice](segmented)

        script = segmented.script

        assert f"aeseg.load_hierarchy({str(path)!r})" in script
        assert ("model = " in script) is (choice == "fixed classes")
        assert "build_hierarchy" not in script
        assert_same(segmented, run(script))


def test_opened_and_segmented_images_are_in_one_script(segmented, run, tmp_path, model):
    path = tmp_path / "halves.aeseg.zarr"
    segmented.save_hierarchy(path)
    first = segmented.images[0]
    second = add_image(segmented, halves(40, seed=3), "second")
    segment(segmented)
    segmented.open_hierarchy(path)
    segmented.images = [first, second]
    segmented.mode = "classes"

    assert_same(segmented, run(segmented.script))


def test_without_a_result_there_is_no_script(widget):
    with pytest.raises(InputError, match="segment an image first"):
        _ = widget.script


def test_without_strokes_there_is_no_script(segmented):
    segmented.mode = "markers"
    with pytest.raises(InputError, match="halves has no strokes"):
        _ = segmented.script


def test_images_of_different_models_are_refused(segmented):
    first = segmented.images[0]
    second = add_image(segmented, halves(seed=1), "second")
    segmented.train()
    segmented.wait(20)
    segment(segmented)
    segmented.images = [first, second]

    with pytest.raises(InputError, match="different models"):
        _ = segmented.script


def test_a_folder_that_cannot_be_written_to_is_an_error(segmented, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    folder = Path(tmp_path, "file", "models")
    monkeypatch.setattr(
        "napari_aeseg._napari.controller.read_settings",
        lambda: Settings(autosave_folder=str(folder)),
    )
    with pytest.raises(InputError, match="Nothing can be saved in"):
        _ = segmented.script


def test_script_starts_from_the_same_segments(segmented, tmp_path, monkeypatch):
    image = segmented.images[0].data
    segments = np.zeros(image.shape, int)
    segments[10:30, 20:50] = 7
    widget = segmented
    layer = widget.viewer_model.add_labels(segments, name="cells")
    widget.starting_segments = layer
    assert "out of date" in widget._dock.segments.segment_button.text()
    widget.segment()
    widget.wait(20)
    (patch,) = np.unique(widget.hierarchy.patches[segments == 7])
    assert np.array_equal(widget.hierarchy.patches == patch, segments == 7)
    layer.data = segments * 0  # the script has them as they were
    assert "labels=np.load(" in widget.script
    widget.viewer_model.layers.remove(layer)
    assert widget.starting_segments is None
    with pytest.raises(InputError, match="no Labels layer"):
        widget.starting_segments = widget.preview
