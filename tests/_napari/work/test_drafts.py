"""Work by hand saves itself, and is brought back when the image is opened again."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from _napari.conftest import halves, join_workers
from napari_aeseg import InputError, Merge
from napari_aeseg._napari.drafts import draft_of, read_draft, write_draft
from napari_aeseg._napari.state import FIRST_CUT
from napari_aeseg._napari.work import drafts


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(drafts, "_MILLISECONDS", 20)


@pytest.fixture
def worked_on(segmented, saved, model):
    """A dock with some work by hand, whose model is in a file."""
    model.save(saved.with_name("model.aeseg.safetensors"))
    segmented.load_model(saved.with_name("model.aeseg.safetensors"))
    segmented.segment()
    segmented.wait(20)
    segmented.n_regions = np.int64(8)  # as scripts get it from labels
    segmented.merge((4, 4), (4, 40))
    segmented.lock((40, 40))
    segmented.class_names = ("dark", "bright", "other")
    strokes = segmented.paint()
    strokes.data[10:12, 10:20] = 2
    strokes.data = strokes.data
    return segmented


def files(saved):
    return sorted((saved / "drafts").glob("*.npz"))


@pytest.fixture
def another(qtbot):
    """Open a dock of another napari on an image."""
    from napari_aeseg._napari.widget import AESegWidget

    widgets = []

    def open_dock(data):
        viewer = ViewerModel()
        viewer.add_layer(Image(data, name="again"))
        widget = AESegWidget(viewer)
        widget.viewer_model, widget.device = viewer, "cpu"
        qtbot.addWidget(widget.native)
        widgets.append(widget)
        return widget

    yield open_dock
    for widget in widgets:
        widget._controller.close()
    join_workers(qtbot)


def test_the_work_comes_back_as_it_was(worked_on, saved, another, qtbot):
    expected = worked_on.preview.data
    keeper = worked_on._controller.drafts
    qtbot.waitUntil(lambda: not (keeper._delay.is_waiting or keeper.busy), timeout=10_000)
    (file,) = files(saved)

    assert not another(halves(seed=7)).drafts
    # A slider that was moved on another day does not hide it.
    tuned = replace(read_draft(file), cut=FIRST_CUT, strokes=None, locked=None, patches=None)
    write_draft(tuned, file.with_name(file.name.replace("draft", "later.draft")))
    widget = another(halves())
    assert list(widget.drafts.values()) == [file]
    # Work with another model is not segmented with this one, and stays on offer.
    other = file.with_name("other 2020-01-01 10.00.00.draft.npz")
    write_draft(replace(read_draft(file), model_path="base"), other)
    os.utime(other, (0, 0))
    layer = widget.viewer_model.add_image(halves(seed=7), name="other")
    widget._state.drafts = {layer: other, **widget.drafts}
    button = widget._dock.status.bring_button
    assert button.text().startswith("Bring back work of ")
    button.click()
    widget.wait(30)

    assert np.array_equal(widget.preview.data, expected)
    assert widget.model.fingerprint == worked_on.model.fingerprint
    assert (widget.cut, widget.class_names[0]) == (worked_on.cut, "dark")
    strokes = widget._state.first_result.markers
    assert np.array_equal(strokes.data, worked_on._state.first_result.markers.data)
    assert widget.undo()
    assert list(widget.drafts.values()) == [other]


def test_the_newest_files_are_kept_and_damaged_ones_refused(
    segmented, saved, another, qtbot, monkeypatch
):
    monkeypatch.setattr(drafts, "_MOST_FILES", 2)
    folder = saved / "drafts"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        (folder / f"{number}.draft.npz").write_bytes(b"PK damaged")
    segmented.n_regions = 5
    qtbot.waitUntil(lambda: len(files(saved)) == 2, timeout=10_000)
    segmented._controller.close()

    (ours,) = [path for path in files(saved) if path.stat().st_size > 20]
    ours.write_bytes(b"PK damaged")
    widget = another(halves())
    with pytest.raises(InputError, match="damaged"):
        widget._controller.bring_back()


def test_what_is_due_is_saved_when_the_dock_is_closed_and_nothing_without_work(
    widget, model, saved
):
    widget.refine = True
    widget.model = model
    widget.segment()
    widget.wait(20)
    widget._controller.drafts._save()
    assert not files(saved)

    widget._controller.drafts._delay.setInterval(1_000_000)
    widget.n_regions = 3
    widget._controller.close()
    assert len(files(saved)) == 1


def test_work_that_another_window_removed_is_not_offered(worked_on, saved, another, qtbot):
    keeper = worked_on._controller.drafts
    qtbot.waitUntil(lambda: not (keeper._delay.is_waiting or keeper.busy), timeout=10_000)
    widget = another(halves())
    (file,) = widget.drafts.values()
    file.unlink()
    widget._state.busy = "training"
    widget._state.busy = ""
    assert widget._dock.status.offer.isHidden()
    with pytest.raises(InputError, match="no earlier work"):
        widget._controller.bring_back()


def test_of_too_many_files_those_without_work_by_hand_go_first(segmented, tmp_path):
    tuned = draft_of(segmented._state, segmented._state.first_image)
    edited = replace(tuned, cut=replace(tuned.cut, edits=(Merge((0, 1)),)))  # of an image in blocks
    painted = replace(tuned, strokes=np.ones((2, 2), np.uint8))
    paths = [tmp_path / f"{name}.draft.npz" for name in "abcd"]
    for path, draft in zip(paths, (edited, painted, tuned, tuned), strict=True):
        write_draft(draft, path)
    drafts._write({}, [*paths, tmp_path / "gone.draft.npz"], 3)
    assert sorted(tmp_path.glob("*.npz")) == paths[:2]  # beside what is saved by itself
