"""Several images one after the other: what is said of each, and what may happen in between."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from _napari.conftest import QUICK, add_image, halves, heard
from napari_aeseg import InputError
from napari_aeseg._napari.work import jobs


@pytest.fixture
def two(widget, model):
    """The widget with a model and two images chosen."""
    widget.model = model
    first = widget.images[0]
    second = add_image(widget, halves(seed=1), "second", choose=False)
    widget.images = [first, second]
    return widget


def said(widget) -> str:
    return widget._dock.status.text.text()


def test_notes_of_the_first_image_are_shown_at_the_end(two, monkeypatch):
    from napari_aeseg import api as pipeline

    steps = pipeline.hierarchy_steps

    def falling_back(image, model, params, axes, device, stop, name, **_):
        hierarchy = yield from steps(image, model, params, axes, device, stop, name)
        if name != "halves":
            return hierarchy
        return replace(hierarchy, notes=("cuda:0 ran out of memory: going on with the CPU.",))

    monkeypatch.setattr("napari_aeseg.api.hierarchy_steps", falling_back)
    two.segment()
    two.wait(30)

    note, found = said(two).split("\n")
    assert note == "halves: cuda:0 ran out of memory: going on with the CPU."
    assert found.startswith("2 images segmented, ")


def test_discarded_edits_of_the_first_image_are_reported_at_the_end(two):
    two.segment()
    two.wait(30)
    two.n_regions = two.hierarchy.n_patches
    two.merge((1, 1), (1, 9), image=two.images[0])
    two.segmentation_params = two.segmentation_params.updated(patch_size=24)
    two.segment()
    two.wait(30)

    assert said(two).startswith("halves: Merges or splits by hand do not fit")


def test_errors_of_one_image_are_shown_at_the_end(two):
    bad = np.full((48, 48), np.nan, np.float32)
    holes = add_image(two, bad, "holes", choose=False, contrast_limits=(0, 1))
    two.viewer_model.layers.move(two.viewer_model.layers.index(holes), 0)
    two.reset_choices()
    two.images = list(two.viewer_model.layers)
    two.segment()
    with pytest.raises(InputError, match="holes"):
        two.wait(30)

    assert len(two.hierarchies) == 2
    assert "holes" in said(two)


def test_taking_the_model_away_does_not_end_the_running_tasks(two):
    model = two.model
    two.segmented.connect(lambda _: setattr(two, "model", None))
    events = heard(two, "segmented", "failed")
    two.segment()
    two.wait(30)

    assert [name for name, _ in events] == ["segmented", "segmented"]
    assert len(two.hierarchies) == 2
    assert all(r.model is model for r in two._controller.state.results.values())


def test_a_script_that_fails_when_it_hears_of_an_image_does_not_end_the_work(two):
    def fail(_):
        raise ZeroDivisionError("mine")

    two.segmented.connect(fail)
    events = heard(two, "failed")
    two.segment()
    with pytest.raises(ZeroDivisionError, match="mine"):
        two.wait(30)

    assert len(two.hierarchies) == 2
    assert len(events) == 2
    assert two._dock.status.bar.isHidden()
    assert two._dock.segments.segment_button.isEnabled()


def test_stopping_before_the_base_model_is_loaded_is_reported(widget, monkeypatch):
    def loading(path):
        def work(stop):
            yield from ()
            stop.wait(20)
            return model

        return work

    from napari_aeseg import load_model

    model = load_model("base")
    monkeypatch.setattr(jobs, "loading", loading)
    events = heard(widget)
    widget.segment()
    widget.stop()
    widget.wait(20)

    assert [name for name, _ in events] == ["stopped"]
    assert said(widget) == "Stopped before the first image was segmented."


def test_what_is_refused_while_busy_changes_nothing(two, tmp_path):
    two.images = two.images[:1]
    two.mode = "classes"
    two.training_params = QUICK.updated(steps=100_000)
    two.segment()
    two.wait(30)
    two.train()
    chosen = two.images

    two.apply_to_all()
    two.segment_folder(tmp_path)

    assert two.images == chosen
    assert not two.classes_fixed
    two.stop()
    with pytest.raises(InputError, match="Still busy"):
        two.wait(30)
