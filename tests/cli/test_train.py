"""`napari-aeseg train`."""

import signal

import imageio.v3 as imageio
import pytest
import tifffile

from cli.conftest import QUICK, interrupt, names_in
from napari_aeseg import (
    load_model,
)
from napari_aeseg.autoencoder.model import Model


@pytest.mark.parametrize(
    ("name", "channels", "axes"),
    [("grey.png", 1, "YX"), ("rgb.tif", 3, "YXC"), ("two.ome.tif", 2, "CYX")],
)
def test_train_writes_a_model_of_the_image(run, files, tmp_path, name, channels, axes):
    path = tmp_path / "new" / "tissue.aeseg.safetensors"
    done = run("train", files / name, "--output", path, *QUICK)
    assert done.code == 0
    assert "trained 3 steps" in done.out
    assert str(path) in done.out
    model = load_model(path)
    assert model.architecture.channels == channels
    assert model.record.steps == 3
    assert model.record.images == ({"name": name, "shape": _shape(files / name), "axes": axes},)


def _shape(path):
    image = imageio.imread(path) if path.suffix == ".png" else tifffile.imread(path)
    return list(image.shape)


def test_train_takes_several_images_and_adds_the_suffix(run, files, tmp_path):
    images = [files / "grey.png", files / "grey.png"]
    assert run("train", *images, "--output", tmp_path / "both", *QUICK).code == 0
    assert names_in(tmp_path) == ["both.aeseg.safetensors"]
    assert len(load_model(tmp_path / "both.aeseg.safetensors").record.images) == 2


def test_train_starts_from_the_weights_of_a_model(run, files, grey_model, tmp_path):
    path = tmp_path / "further.aeseg.safetensors"
    options = [*QUICK, "--levels=1", "--init", grey_model]
    assert run("train", files / "grey.png", "--output", path, *options).code == 0
    assert load_model(path).architecture == load_model(grey_model).architecture


@pytest.fixture
def every_step(monkeypatch):
    """Let every step of a training be an event."""
    monkeypatch.setattr("napari_aeseg.autoencoder.training_loop._SECONDS_BETWEEN_EVENTS", 0)


def test_interrupted_training_leaves_a_model_that_can_be_resumed(
    run, files, grey_model, tmp_path, unfinished
):
    assert unfinished.done.code == 130
    assert "the model so far is kept" in unfinished.done.err
    assert f"Resume it with --resume {unfinished.path}" in unfinished.done.out
    assert load_model(unfinished.path).record.steps == 2
    assert "2 steps in" in (said := run("info", unfinished.path).out)
    assert "unfinished: can be resumed" in said
    path = tmp_path / "whole.aeseg.safetensors"
    resume = ["--resume", unfinished.path, "--device=cpu"]
    assert run("train", files / "grey.png", "--output", path, *resume).code == 0
    assert load_model(path).fingerprint == load_model(grey_model).fingerprint
    assert load_model(path).losses == load_model(grey_model).losses


@pytest.fixture
def own_handler():
    """A handler of SIGINT for the test: processes in the background may begin without one."""

    def handler(*_):
        raise AssertionError("the handler from before the training was called")

    before = signal.signal(signal.SIGINT, handler)
    yield handler
    signal.signal(signal.SIGINT, before)


def test_handler_of_interruptions_is_put_back(own_handler, unfinished):
    assert unfinished.done.code == 130
    assert signal.getsignal(signal.SIGINT) is own_handler


def test_a_second_interruption_discards_the_model(run, files, tmp_path, at_step):
    at_step(2, lambda: (interrupt(), interrupt()))
    done = run("train", files / "grey.png", "--output", tmp_path / "m", *QUICK)
    assert done.code == 130
    assert names_in(tmp_path) == []


def test_autosave_leaves_a_model_after_a_crash(run, files, tmp_path, at_step, every_step):
    def broken():
        raise OSError("the power is gone")

    at_step(3, broken)
    path = tmp_path / "m.aeseg.safetensors"
    done = run("train", files / "grey.png", "--output", path, "--autosave=0", *QUICK)
    assert done.code == 1
    assert load_model(path).unfinished
    assert load_model(path).record.steps == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps=50"], "differing: steps = 50, not 3. Leave"),
        (["--preset=balanced"], "differing: levels = 3, not 2, width = 16, not 4"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_resume_refuses_other_parameters(run, files, tmp_path, unfinished, options, words):
    resume = ["--resume", unfinished.path, "--device=cpu"]
    done = run("train", files / "grey.png", "--output", tmp_path / "m", *resume, *options)
    assert done.code == 1
    assert words in done.err


def test_resume_takes_the_same_parameters(run, files, tmp_path, unfinished):
    resume = ["--resume", unfinished.path, *QUICK]
    assert run("train", files / "grey.png", "--output", tmp_path / "m", *resume).code == 0


def test_finished_model_is_not_resumed(run, files, grey_model, tmp_path):
    done = run("train", files / "grey.png", "--output", tmp_path / "m", "--resume", grey_model)
    assert done.code == 1
    assert "nothing to resume" in done.err


def test_progress_goes_to_stderr(run, files, tmp_path):
    done = run("train", files / "grey.png", "--output", tmp_path / "m", *QUICK)
    assert "train (cpu)" in done.err
    assert "loss=" in done.err
    assert len(done.out.splitlines()) == 2


def test_train_takes_the_images_of_a_folder(run, three, tmp_path):
    (three / "b.tif").unlink()
    assert run("train", three, "--output", tmp_path / "m", *QUICK).code == 0
    record = load_model(tmp_path / "m.aeseg.safetensors").record
    assert [image["name"] for image in record.images] == ["a.png", "c.png"]


def test_train_refuses_to_overwrite_before_any_work(run, files, tmp_path, no_work):
    path = tmp_path / "old.aeseg.safetensors"
    path.write_bytes(b"precious")
    for name in ("old.aeseg.safetensors", "old"):
        done = run("train", files / "grey.png", "--output", tmp_path / name, *QUICK)
        assert done.code == 1
        assert str(path) in done.err
        assert "--overwrite" in done.err
    assert path.read_bytes() == b"precious"


def test_the_error_about_an_unfinished_model_offers_to_resume(run, files, unfinished):
    done = run("train", files / "grey.png", f"--output={unfinished.path}", *QUICK)
    assert done.code == 1
    assert f"--resume {unfinished.path} --overwrite to resume it" in done.err


def test_a_trained_model_that_cannot_be_saved_goes_to_a_temporary_folder(
    run, files, tmp_path, monkeypatch, quick_training
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    save = Model.save

    def full(self, path):
        if "full" in path.parts:
            raise OSError(28, "No space left on device", str(path))
        save(self, path)

    monkeypatch.setattr(Model, "save", full)
    for command in ("train", "segment"):
        done = run(command, files / "grey.png", f"--output={tmp_path / 'full' / 'm'}")
        assert done.code == 1
        assert "No space left on device" in done.err
        (path,) = tmp_path.glob("aeseg-model-*/*.safetensors")
        assert f"it is in {path}" in done.err
        assert load_model(path).record.steps > 0
        path.unlink()
