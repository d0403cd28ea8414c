"""Whatever fails at whatever stage: it is told once, and everything can be pressed again."""

from __future__ import annotations

import pytest
import tifffile

from _napari.conftest import add_image, halves, heard
from napari_aeseg import InputError
from napari_aeseg._napari.work.job_queue import Task
from napari_aeseg._napari.work.worker import JobRunner


def broken(*_, **__):
    """A stage of the core that fails in the way that workers swallow."""
    yield from ()
    raise RuntimeError("it broke")


def refuse(*_, **__):
    raise RuntimeError("it broke")


def batch(widget) -> None:
    widget.segment_folder(widget.folder)


STAGES = {
    "train": ("napari_aeseg.api.train_steps", broken, lambda w: w.train()),
    "segment": ("napari_aeseg.api.hierarchy_steps", broken, lambda w: w.segment()),
    "look": ("napari_aeseg.regions.hierarchy.Hierarchy.feature_colors", refuse,
             lambda w: w.look("features")),
    "batch": ("napari_aeseg.batch.Batch.steps", broken, batch),
    "objects": ("napari_aeseg.regions.hierarchy.Hierarchy.objects", refuse,
                lambda w: setattr(w, "mode", "objects")),
    "comparing": ("napari_aeseg.regions.hierarchy.Hierarchy.compared_by", refuse,
                    lambda w: setattr(w, "balance", 0.9)),
    "taking a segmentation": ("napari_aeseg._napari.state.DockState.add_result", refuse,
                              lambda w: w.segment()),
    "taking features": ("napari_aeseg._napari.layers.diagnostics.DiagnosticLayers._show", refuse,
                        lambda w: w.look("features")),
    "taking a model": ("napari_aeseg._napari.controller.TrainingParams", refuse,
                       lambda w: w.train()),
    "measuring": ("napari_aeseg.autoencoder.model.error_steps", broken, lambda w: w.keep()),
}  # fmt: skip


def enabled(widget) -> dict[str, bool]:
    dock = widget._dock
    return {
        "train": dock.model.train_button.isEnabled(),
        "load": dock.model.load_button.isEnabled(),
        "segment": dock.segments.segment_button.isEnabled(),
        "keep": dock.segments.keep_button.isEnabled(),
        "look": dock.diagnostics.isEnabled(),
        "batch": dock.folder.button.isEnabled(),
        "no stop": dock.status.stop_button.isHidden(),
    }


def test_an_error_is_reported_once_and_all_buttons_work_again(segmented, tmp_path, monkeypatch):
    segmented.folder = tmp_path / "images"
    segmented.folder.mkdir()
    tifffile.imwrite(segmented.folder / "a.tif", halves())
    shown = []
    monkeypatch.setattr("napari_aeseg._napari.work.errors.show_error", shown.append)
    events = heard(segmented)
    for stage, (target, wrong, act) in STAGES.items():
        before = segmented.preview.data
        with monkeypatch.context() as patch:
            patch.setattr(target, wrong)
            act(segmented)
            with pytest.raises(RuntimeError, match="it broke"):
                segmented.wait(30)

        assert [name for name, _ in events] == ["failed"], stage
        assert shown == ["RuntimeError: it broke"], stage
        assert "it broke" in segmented._dock.status.text.text()
        assert all(enabled(segmented).values()), stage
        assert segmented.preview.data is before, stage
        segmented.wait(1)  # an error is raised once

        segmented.mode = "regions"
        segmented.segment()
        segmented.wait(30)
        number = segmented.n_regions = 3 + int(segmented.preview.data.max()) % 2
        assert segmented.preview.data.max() == number
        events.clear()
        shown.clear()


def test_loading_that_fails_enables_everything_again(segmented, tmp_path):
    with pytest.raises(FileNotFoundError):
        segmented.load_model(tmp_path / "nowhere")

    assert all(enabled(segmented).values())
    assert segmented.model is not None


def test_while_a_task_runs_no_other_begins(segmented, tmp_path):
    def waiting(stop):
        yield from ()
        stop.wait(20)

    segmented.folder = tmp_path
    tifffile.imwrite(tmp_path / "a.tif", halves())
    task = Task("something", "Waiting", waiting, lambda *_: [])
    segmented._controller.queue.run([task])
    assert not any(list(enabled(segmented).values())[:3])
    events = heard(segmented)
    for stage in ("train", "segment", "look", "batch"):
        STAGES[stage][2](segmented)

        (event,) = events
        assert event[0] == "failed", stage
        assert "Still busy with something" in str(event[1])
        events.clear()
    segmented.stop()
    with pytest.raises(InputError, match="Still busy"):
        segmented.wait(20)
    assert all(enabled(segmented).values())


def test_stopping_while_segmenting_keeps_the_images_that_are_done(segmented):
    first = segmented.images[0]
    second = add_image(segmented, halves(seed=1), "second", choose=False)
    segmented.images = [first, second]
    before = segmented.hierarchy
    events = heard(segmented)
    segmented.segmented.connect(lambda _: segmented.stop())

    segmented.segment()
    segmented.wait(30)

    # Stop is heard when the first image is done and the second has begun.
    assert [name for name, _ in events] == ["segmented", "stopped"]
    assert segmented.hierarchies[first] is not before
    assert all(enabled(segmented).values())


def test_closing_the_dock_leaves_nothing_running(segmented, monkeypatch):
    left = []
    monkeypatch.setattr(JobRunner, "abandon", lambda self: left.append(self))
    controller = segmented._controller
    controller.close()

    parts = [part for part in vars(controller).values() if hasattr(part, "_runner")]
    assert {controller.queue, controller.finder, controller.refiner} <= set(parts)
    assert set(left) == {part._runner for part in parts}
