"""Models that save themselves while they are trained."""

from __future__ import annotations

import numpy as np
import pytest

import napari_aeseg as aeseg
from _napari.conftest import QUICK, heard, train_and_stop
from napari_aeseg._napari.manifest.settings import Settings
from napari_aeseg._napari.work import jobs


def files(folder):
    return sorted(folder.glob("*.aeseg.safetensors"))


def test_a_trained_model_is_in_a_file(widget, saved):
    widget.train()
    widget.wait(20)

    (path,) = files(saved)
    assert path.name.startswith("halves ")
    assert aeseg.load_model(path).fingerprint == widget.model.fingerprint


def test_every_training_has_a_file_of_its_own(widget, saved):
    for _ in range(2):
        widget.train()
        widget.wait(20)

    assert len(files(saved)) == 2


def test_a_stopped_training_is_in_a_file_that_can_be_gone_on_with(widget, saved, qtbot):
    widget.training_params = QUICK.updated(steps=1_000_000)
    widget.train()
    qtbot.waitUntil(lambda: bool(widget._dock.model.curve.losses), timeout=20_000)
    widget.stop()
    widget.wait(20)

    (path,) = files(saved)
    loaded = aeseg.load_model(path)
    assert loaded.unfinished
    assert loaded.record.steps == widget.model.record.steps
    assert loaded.fingerprint == widget.model.fingerprint


def test_the_model_so_far_is_saved_during_training(widget, saved, qtbot, monkeypatch):
    monkeypatch.setattr(jobs, "_SECONDS_BETWEEN_SAVES", 0.05)
    widget.training_params = QUICK.updated(steps=1_000_000)
    events = []
    widget.progressed.connect(events.append)
    widget.train()

    qtbot.waitUntil(lambda: bool(files(saved)), timeout=20_000)
    assert widget.busy
    so_far = aeseg.load_model(files(saved)[0])
    assert so_far.unfinished
    assert so_far.record.steps > 0
    widget.stop()
    widget.wait(20)

    assert aeseg.load_model(files(saved)[0]).record.steps == widget.model.record.steps
    # Models do not travel to the GUI thread.
    assert {getattr(event, "snapshot", None) for event in events} == {None}
    assert [path.suffix for path in saved.iterdir()] == [".safetensors"]


def test_a_folder_that_cannot_be_written_to_is_an_error_before_training(
    widget, tmp_path, monkeypatch
):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setattr(
        "napari_aeseg._napari.controller.read_settings",
        lambda: Settings(autosave_folder=str(blocked / "models")),
    )
    trained = []
    monkeypatch.setattr("napari_aeseg.api.train_steps", lambda *a, **k: trained.append(a))
    events = heard(widget)

    widget.train()
    with pytest.raises(aeseg.InputError, match=r"models.*Preferences"):
        widget.wait(20)

    assert trained == []
    assert [name for name, _ in events] == ["failed"]
    assert widget._dock.model.train_button.isEnabled()
    assert widget.model is None


def test_a_folder_without_permission_is_an_error_before_training(widget, tmp_path, monkeypatch):
    folder = tmp_path / "locked"
    folder.mkdir()
    monkeypatch.setattr(
        "napari_aeseg._napari.controller.read_settings",
        lambda: Settings(autosave_folder=str(folder)),
    )

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # whoever runs tests may be root
    trained = []
    monkeypatch.setattr("napari_aeseg.api.train_steps", lambda *a, **k: trained.append(a))

    widget.train()
    with pytest.raises(aeseg.InputError, match=r"locked.*Permission denied"):
        widget.wait(20)

    assert trained == []


def test_a_disk_that_fills_up_meanwhile_does_not_cost_the_model(widget, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_aeseg.autoencoder.model.Model.save", full)
    monkeypatch.setattr(jobs, "_SECONDS_BETWEEN_SAVES", 1e-6)
    warned = []
    monkeypatch.setattr("napari_aeseg._napari.controller.show_warning", warned.append)
    events = heard(widget)

    widget.train()
    widget.wait(20)

    assert [name for name, _ in events] == ["trained"]
    assert widget.model.record.steps == QUICK.steps
    assert warned
    assert len(warned) <= 2  # not every half minute
    assert all("No space left" in text for text in warned)


def test_nothing_is_saved_where_that_is_not_wanted(widget, saved, monkeypatch):
    monkeypatch.setattr(
        "napari_aeseg._napari.controller.read_settings",
        lambda: Settings(autosave=False, autosave_folder=str(saved)),
    )
    widget.train()
    widget.wait(20)

    assert widget.model is not None
    assert not saved.exists()


def test_a_training_that_is_gone_on_with_is_saved_like_any_other(widget, saved, qtbot):
    events = heard(widget, "stopped")
    train_and_stop(widget, 3, of=20)
    assert len(events) == 1

    assert not widget._dock.model.resume_button.isHidden()
    widget._dock.model.resume_button.click()
    assert widget.busy
    widget.wait(60)

    assert not widget.model.unfinished
    assert "Stopped after 3" not in widget._dock.status.text.text()  # which was said then
    assert widget._dock.model.resume_button.isHidden()
    last = max(files(saved), key=lambda path: path.stat().st_mtime)
    assert aeseg.load_model(last).record.steps == 20
    # As if it had never been stopped.
    image = widget.viewer_model.layers["halves"].data
    whole = aeseg.train(image, QUICK.updated(steps=20), device="cpu")
    assert whole.fingerprint == widget.model.fingerprint
    assert np.array_equal(whole.losses, widget.model.losses)
