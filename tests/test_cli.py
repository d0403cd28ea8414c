import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from napari_aeseg import (
    ComparisonParams,
    InputError,
    SegmentationParams,
    TrainingParams,
    batch,
    build_hierarchy,
    load_hierarchy,
    load_model,
)
from napari_aeseg import api as pipeline
from napari_aeseg import batch as batch_job
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.cli import demo, main

# A training that takes a blink, as options.
QUICK = ["--levels=2", "--width=4", "--convolutions=1", "--crop-size=16", "--batch-size=4"]
QUICK += ["--steps=3", "--device=cpu"]
SMALL = ["--patch-size=4", "--device=cpu"]


@pytest.fixture(scope="module")
def files(tmp_path_factory, stripes):
    """Image files: grey, RGB, and one with two channels."""
    folder = tmp_path_factory.mktemp("images")
    rgb = np.stack([stripes, stripes[::-1], stripes[:, ::-1]], axis=-1)
    two = np.stack([stripes, stripes[::-1]]).astype(np.uint16)
    imageio.imwrite(folder / "grey.png", stripes)
    tifffile.imwrite(folder / "rgb.tif", rgb, photometric="rgb")
    tifffile.imwrite(folder / "two.ome.tif", two, metadata={"axes": "CYX"})
    (folder / "broken.tif").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def grey_model(tmp_path_factory, files):
    path = tmp_path_factory.mktemp("models") / "grey.aeseg.safetensors"
    assert main(["train", str(files / "grey.png"), f"--output={path}", *QUICK]) == 0
    return path


@pytest.fixture
def run(capsys):
    """Return a function that runs a command line: exit code, stdout, stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=said.out, err=said.err)

    return run


@pytest.fixture
def quick_training(monkeypatch, tiny_params):
    """Let every training take a blink, whatever is asked for; the list of what was."""
    train_steps, asked = pipeline.train_steps, []

    def quick(images, params, *arguments, **options):
        asked.append(params)
        return train_steps(images, tiny_params, *arguments, **options)

    monkeypatch.setattr(pipeline, "train_steps", quick)
    return asked


@pytest.fixture
def no_work(monkeypatch):
    """Fail the test when anything is trained or encoded."""

    def work(*_, **__):
        raise AssertionError("work was begun")

    monkeypatch.setattr(pipeline, "train_steps", work)
    monkeypatch.setattr(batch_job, "hierarchy_steps", work)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# -- train


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


def test_train_goes_on_from_a_model(run, files, grey_model, tmp_path):
    path = tmp_path / "further.aeseg.safetensors"
    options = [*QUICK, "--levels=1", "--init", grey_model]
    assert run("train", files / "grey.png", "--output", path, *options).code == 0
    assert load_model(path).architecture == load_model(grey_model).architecture


@pytest.fixture
def every_step(monkeypatch):
    """Let every step of a training be an event."""
    monkeypatch.setattr("napari_aeseg.autoencoder.training._SECONDS_BETWEEN_EVENTS", 0)


@pytest.fixture
def at_step(monkeypatch):
    """Return a function that lets something happen in a step of the training."""

    def at_step(number, happens):
        from napari_aeseg.autoencoder import trainer

        step, taken = trainer._step, []

        def step_and_more(*arguments):
            taken.append(1)
            if len(taken) == number:
                happens()
            return step(*arguments)

        monkeypatch.setattr(trainer, "_step", step_and_more)

    return at_step


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def unfinished(run, files, tmp_path, at_step):
    """A model whose training was interrupted in the second of three steps."""
    path = tmp_path / "half.aeseg.safetensors"
    at_step(2, interrupt)
    done = run("train", files / "grey.png", "--output", path, *QUICK)
    return SimpleNamespace(path=path, done=done)


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


def test_handler_of_interruptions_is_put_back(run, unfinished):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interruption_gives_the_model_up(run, files, tmp_path, at_step):
    at_step(2, lambda: (interrupt(), interrupt()))
    done = run("train", files / "grey.png", "--output", tmp_path / "m", *QUICK)
    assert done.code == 130
    assert names_in(tmp_path) == []


def test_autosave_leaves_a_model_whatever_happens(run, files, tmp_path, at_step, every_step):
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


# -- segment


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (["--regions=5"], lambda tree: tree.regions(5)),
        (["--classes=2"], lambda tree: tree.classes(2)),
        (["--threshold=0.3"], lambda tree: tree.regions(threshold=0.3)),
        (["--objects"], lambda tree: tree.objects()),
        ([], lambda tree: tree.regions(tree.suggest_n_regions())),
    ],
    ids=["regions", "classes", "threshold", "objects", "suggested"],
)
def test_segment_writes_what_the_api_returns(
    run, files, grey_model, tmp_path, stripes, cut, expected
):
    done = run(
        "segment", files / "grey.png", "--model", grey_model, "--output", tmp_path, *cut, *SMALL
    )
    assert done.code == 0, done.err
    tree = pipeline.build_hierarchy(
        stripes, grey_model, SegmentationParams(patch_size=4), device="cpu"
    )
    labels = tifffile.imread(tmp_path / "grey_labels.tif")
    assert np.array_equal(labels, expected(tree))
    assert names_in(tmp_path) == ["grey_labels.tif", "grey_overlay.png"]
    assert imageio.imread(tmp_path / "grey_overlay.png").shape == (*stripes.shape, 3)
    assert f"{labels.max()} label" in done.out
    assert "YX, inferred" in done.out or "YX, as given" in done.out


@pytest.mark.parametrize(("name", "stem"), [("rgb.tif", "rgb"), ("two.ome.tif", "two.ome")])
def test_segment_without_a_model_trains_and_keeps_one(
    run, files, tmp_path, stripes, quick_training, name, stem
):
    done = run("segment", files / name, "--output", tmp_path, "--regions=4", "--table", *SMALL)
    assert done.code == 0, done.err
    assert names_in(tmp_path) == sorted(
        ["model.aeseg.safetensors"]
        + [f"{stem}_{what}" for what in ("labels.tif", "overlay.png", "table.csv")]
    )
    assert quick_training == [TrainingParams()]
    labels = tifffile.imread(tmp_path / f"{stem}_labels.tif")
    assert labels.shape == stripes.shape
    with (tmp_path / f"{stem}_table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["1", "2", "3", "4"]
    assert sum(int(row["area"]) for row in rows) == labels.size
    channels = load_model(tmp_path / "model.aeseg.safetensors").architecture.channels
    assert f"mean_{channels}" in rows[0]
    assert f"mean_{channels + 1}" not in rows[0]


def test_segment_takes_several_images(run, files, tmp_path, stripes, grey_model):
    imageio.imwrite(tmp_path / "other.png", stripes[:20])
    out = tmp_path / "out"
    images = [files / "grey.png", tmp_path / "other.png"]
    assert run("segment", *images, "--model", grey_model, "--output", out, *SMALL).code == 0
    assert tifffile.imread(out / "grey_labels.tif").shape == stripes.shape
    assert tifffile.imread(out / "other_labels.tif").shape == (20, 40)


def test_axes_win_over_those_of_the_file(run, files, tmp_path, grey_model):
    options = ["--axes=ZYX", "--regions=3", "--model", grey_model, *SMALL]
    done = run("segment", files / "two.ome.tif", "--output", tmp_path, *options)
    assert done.code == 0, done.err
    assert "2 slices" in done.out
    assert tifffile.imread(tmp_path / "two.ome_labels.tif").shape == (2, 48, 40)
    assert names_in(tmp_path) == ["two.ome_labels.tif"]  # no overlay of a stack


# -- many files


@pytest.fixture
def three(tmp_path, stripes):
    """A folder of three grey images, the second of them damaged."""
    folder = tmp_path / "scans"
    folder.mkdir()
    imageio.imwrite(folder / "a.png", stripes)
    (folder / "b.tif").write_bytes(b"no image")
    imageio.imwrite(folder / "c.png", stripes[:, ::-1])
    return folder


def labels_in(folder):
    return [name for name in names_in(folder) if name.endswith("_labels.tif")]


def test_bad_file_does_not_keep_the_others_of_a_folder_from_it(run, three, tmp_path, grey_model):
    out = tmp_path / "out"
    done = run("segment", three, "--model", grey_model, "--output", out, "--regions=3", *SMALL)
    assert done.code == 1
    assert labels_in(out) == ["a_labels.tif", "c_labels.tif"]
    assert done.out.splitlines()[-1] == "3 files: 2 done, 1 failed"
    assert "napari-aeseg: b.tif is damaged or no image" in done.err


def test_what_is_wrong_for_every_file_is_said_once(run, three, tmp_path, grey_model):
    command = ["segment", three, "--model", grey_model, "--output", tmp_path / "out"]
    for option, words in (("--device=cuda:99", "'cuda:99'"), ("--levels=9", "[9] are not in")):
        done = run(*command, option)
        assert done.code == 1
        assert words in done.err
        assert len(done.err.splitlines()) == 1
        assert not (tmp_path / "out").exists()


def test_failure_names_the_file(run, three, tmp_path, grey_model, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(batch_job, "write_label_image", full)
    out = tmp_path / "out"
    done = run("segment", three / "a.png", "--model", grey_model, "--output", out, *SMALL)
    assert done.code == 1
    assert "napari-aeseg: a.png: no space left on device" in done.err
    assert labels_in(out) == []


def test_training_first_does_without_a_bad_file(run, three, tmp_path, quick_training):
    out = tmp_path / "out"
    done = run("segment", three, "--output", out, "--regions=3", *SMALL)
    assert done.code == 1
    assert done.out.startswith("no --model: training on 3 images first (--model base needs no")
    record = load_model(out / "model.aeseg.safetensors").record
    assert [image["name"] for image in record.images] == ["a.png", "c.png"]
    assert labels_in(out) == ["a_labels.tif", "c_labels.tif"]


def test_images_are_read_one_at_a_time(run, three, tmp_path, grey_model, monkeypatch):
    happened = []

    def noted(name, before):
        def function(*arguments, **options):
            happened.append(name)
            return before(*arguments, **options)

        return function

    for module, name in ((batch, "open_file"), (batch_job, "write_label_image")):
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    files = [three / "a.png", three / "c.png"]
    run("segment", *files, "--model", grey_model, "--output", tmp_path / "out", *SMALL)
    assert happened == ["open_file", "write_label_image"] * 2


def test_skipping_goes_on_with_what_is_left(run, three, tmp_path, quick_training):
    out = tmp_path / "out"
    command = ["segment", three, "--output", out, "--regions=3", *SMALL]
    run(*command)
    imageio.imwrite(three / "b.tif", imageio.imread(three / "a.png"))
    before = {name: (out / name).stat().st_mtime_ns for name in names_in(out)}
    done = run(*command, "--skip-existing")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "3 files: 1 done, 2 skipped"
    assert "a.png: skipped" in done.out
    assert labels_in(out) == ["a_labels.tif", "b_labels.tif", "c_labels.tif"]
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert len(quick_training) == 1


@pytest.fixture
def halves(tmp_path):
    """Two images of a smooth and a striped half; beside the second one, a bright ground."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "halves"
    folder.mkdir()
    one = rng.normal(60, 3, (48, 48))
    one[:, 24:] += 60
    other = rng.normal(120, 3, (48, 48))
    other[:, 24:] += 60
    other[:, :8] = rng.normal(60, 3, (48, 8))
    for name, image in (("one.tif", one), ("two.tif", other)):
        tifffile.imwrite(folder / name, image.astype(np.uint8))
    return folder


def test_classes_are_those_of_the_first_image(run, halves, tmp_path):
    options = ["--classes=2", "--model=base", *SMALL]
    assert run("segment", halves, "--output", tmp_path / "all", *options).code == 0
    model, params = load_model("base"), SegmentationParams(patch_size=4)
    trees = [
        build_hierarchy(tifffile.imread(halves / name), model, params, device="cpu")
        for name in ("one.tif", "two.tif")
    ]
    expected = trees[1].classes(prototypes=trees[0].prototypes(2))
    assert not np.array_equal(expected, trees[1].classes(2))
    for name, labels in (("one", trees[0].classes(2)), ("two", expected)):
        assert np.array_equal(tifffile.imread(tmp_path / "all" / f"{name}_labels.tif"), labels)
    # Those of the first image, also when it was done before.
    (tmp_path / "all" / "two_labels.tif").unlink()
    again = ["segment", halves, "--output", tmp_path / "all", *options, "--skip-existing"]
    assert run(*again).code == 0
    assert np.array_equal(tifffile.imread(tmp_path / "all" / "two_labels.tif"), expected)
    # Not when that is lost; it is said.
    (tmp_path / "all" / "two_labels.tif").unlink()
    (halves / "one.tif").write_bytes(b"lost")
    done = run(*again)
    assert done.code == 0
    assert "The classes of one.tif are not available: one.tif is damaged or no image" in done.err
    own = tifffile.imread(tmp_path / "all" / "two_labels.tif")
    assert np.array_equal(own, trees[1].classes(2))


def test_classes_that_the_model_keeps_come_first(run, files, grey_model, tmp_path, stripes):
    model = load_model(grey_model)
    tree = build_hierarchy(stripes, model, SegmentationParams(patch_size=4), device="cpu")
    model.prototypes = replace(tree.prototypes(2), names=("smooth", "striped"))
    model.save(tmp_path / "kept.aeseg.safetensors")
    flipped = tmp_path / "flipped.png"
    imageio.imwrite(flipped, stripes[::-1, ::-1])
    options = ["--model", tmp_path / "kept.aeseg.safetensors", "--output", tmp_path, *SMALL]
    done = run("segment", flipped, *options, "--classes=3")
    assert done.code == 1
    assert "the model has 2 classes (smooth, striped). Give --classes 2" in done.err
    assert run("segment", flipped, *options, "--classes=2").code == 0
    other = build_hierarchy(
        imageio.imread(flipped), model, SegmentationParams(patch_size=4), device="cpu"
    )
    expected = other.classes(prototypes=model.prototypes)
    assert np.array_equal(tifffile.imread(tmp_path / "flipped_labels.tif"), expected)


def test_smallest_object_can_be_chosen(run, files, grey_model, tmp_path, stripes):
    options = ["--objects", "--min-size=30", "--model", grey_model, "--output", tmp_path, *SMALL]
    assert run("segment", files / "grey.png", *options).code == 0
    labels = tifffile.imread(tmp_path / "grey_labels.tif")
    tree = build_hierarchy(
        stripes, load_model(grey_model), SegmentationParams(patch_size=4), device="cpu"
    )
    assert np.array_equal(labels, tree.objects(min_size=30))
    assert not np.array_equal(labels, tree.objects(min_size=1))


def test_interrupted_run_keeps_images_that_are_done(run, three, tmp_path, grey_model, monkeypatch):
    def interrupted(*arguments, write=batch_job.write_label_image):
        interrupt()
        write(*arguments)

    monkeypatch.setattr(batch_job, "write_label_image", interrupted)
    out = tmp_path / "out"
    done = run("segment", three, "--model", grey_model, "--output", out, *SMALL)
    assert done.code == 130
    assert "finished images are kept" in done.err
    assert labels_in(out) == ["a_labels.tif"]
    assert done.out.splitlines()[-1] == "3 files: 1 done, 2 stopped"


def test_train_takes_the_images_of_a_folder(run, three, tmp_path):
    (three / "b.tif").unlink()
    assert run("train", three, "--output", tmp_path / "m", *QUICK).code == 0
    record = load_model(tmp_path / "m.aeseg.safetensors").record
    assert [image["name"] for image in record.images] == ["a.png", "c.png"]


# -- nothing is lost


def test_train_refuses_to_overwrite_before_any_work(run, files, tmp_path, no_work):
    path = tmp_path / "old.aeseg.safetensors"
    path.write_bytes(b"precious")
    for name in ("old.aeseg.safetensors", "old"):
        done = run("train", files / "grey.png", "--output", tmp_path / name, *QUICK)
        assert done.code == 1
        assert str(path) in done.err
        assert "--overwrite" in done.err
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["grey_labels.tif", "grey_overlay.png", "grey_table.csv"])
def test_segment_refuses_to_overwrite_before_any_work(
    run, files, tmp_path, grey_model, no_work, name
):
    (tmp_path / name).write_bytes(b"precious")
    command = ["segment", files / "grey.png", "--model", grey_model, "--output", tmp_path]
    done = run(*command, "--table", *SMALL)
    assert done.code == 1
    assert name in done.err
    assert "--overwrite" in done.err
    assert (tmp_path / name).read_bytes() == b"precious"
    assert names_in(tmp_path) == [name]


def test_segment_refuses_to_overwrite_the_model_it_would_train(run, files, tmp_path, no_work):
    (tmp_path / "model.aeseg.safetensors").write_bytes(b"precious")
    done = run("segment", files / "grey.png", "--output", tmp_path, *SMALL)
    assert done.code == 1
    assert "model.aeseg.safetensors" in done.err


def test_overwrite_overwrites(run, files, tmp_path, grey_model):
    command = ["segment", files / "grey.png", "--model", grey_model, "--output", tmp_path, *SMALL]
    assert run(*command, "--regions=5").code == 0
    assert run(*command, "--regions=3", "--overwrite").code == 0
    assert tifffile.imread(tmp_path / "grey_labels.tif").max() == 3
    path = tmp_path / "m.aeseg.safetensors"
    for extra in ([], ["--overwrite"]):
        assert run("train", files / "grey.png", "--output", path, *QUICK, *extra).code == 0


def test_images_whose_results_would_collide_are_refused(run, files, tmp_path, grey_model, no_work):
    imageio.imwrite(tmp_path / "grey.tif", np.zeros((9, 10), np.uint8))
    images = [files / "grey.png", tmp_path / "grey.tif"]
    done = run("segment", *images, "--model", grey_model, "--output", tmp_path / "out", *SMALL)
    assert done.code == 1
    assert "called grey: their results would collide" in done.err
    assert not (tmp_path / "out").exists()


# -- errors: one line, exit code 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "{files}/lost.png", "--output={tmp}/m"], "no image file"),
        (["train", "{files}/broken.tif", "--output={tmp}/m"], "broken.tif is damaged or no image"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--axes=YXC"], "'YXC'"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--steps=0"], "TrainingParams.steps"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--width=wide"], "TrainingParams.width"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--device=cuda:99"], "'cuda:99'"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--init={files}/grey.png"], "grey.png"),
        (
            ["train", "{files}/grey.png", "{files}/rgb.tif", "--output={tmp}/m", *QUICK],
            "grey.png: shape (48, 40), uint8, 1 channel (YX)",
        ),
        (["segment", "{files}/grey.png", "--output={tmp}", "--model={tmp}/lost"], "no model file"),
        (
            ["segment", "{files}/rgb.tif", "--output={tmp}", "--model={model}", "--device=cpu"],
            "rgb.tif has 3 channel",
        ),
        (
            ["segment", "{files}/grey.png", "--output={tmp}", "--model={model}", "--min-size=9"],
            "--min-size 9 is for objects",
        ),
        (["segment", "{tmp}", "--output={tmp}", "--model={model}"], "no image (.tif"),
        (["segment", "{files}/broken.tif", "--output={tmp}"], "broken.tif is damaged or no image"),
        (
            ["segment", "{files}/grey.png", "--output={tmp}", "--model={model}", "--scale=low"],
            "ComparisonParams.scale",
        ),
        (
            ["segment", "{files}/grey.png", "--output={tmp}", "--model={model}", "--levels=0,9"],
            "[9] are not in this model",
        ),
        (
            ["segment", "{files}/grey.png", "--output={model}", "--model={model}"],
            "grey.aeseg",
        ),
        (["info", "{files}/lost"], "There is no file"),
        (["info", "{files}/lost.zarr"], "There is no file"),
        (["info", "{files}/lost.safetensors"], "There is no model file"),
        (["info", "{files}"], "is a folder, not a model"),
        (["train", "{files}/grey.png", "--output={files}/grey.png/m"], "grey.png is no folder"),
        (
            ["segment", "{files}/grey.png", "--output={model}/a.zarr", "--model={model}"],
            "is no folder",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_error_is_said_in_words(run, files, grey_model, tmp_path, arguments, words):
    places = {"files": files, "model": grey_model, "tmp": tmp_path}
    done = run(*(a.format(**places) for a in arguments))
    assert done.code == 1
    last = done.err[done.err.index("napari-aeseg: ") :]
    assert words in last
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("*labels*"))
    assert not list(tmp_path.glob("m*"))


def test_error_of_the_real_command_has_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "napari_aeseg.cli", "info", tmp_path / "lost"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("napari-aeseg: There is no file")
    assert len(done.stderr.splitlines()) == 1


def test_interruption_is_not_an_error(run, files, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "train_steps", interrupt)
    done = run("train", files / "grey.png", "--output", tmp_path / "m", *QUICK)
    assert done.code == 130
    assert "interrupted" in done.err
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["train"],
        ["train", "a.png"],
        ["train", "a.png", "--output=m", "--step=3", "--colour=red"],
        ["train", "a.png", "--output=m", "--preset=quick"],
        ["train", "a.png", "--output=m", "--init=m", "--resume=m"],
        ["segment", "a.png", "--output=o", "--regions=3", "--classes=2"],
        ["segment", "a.png", "--output=o", "--objects", "--classes=2"],
        ["segment", "a.png", "--output=o", "--regions=three"],
        ["segment", "a.png", "--output=o", "--regions=0"],
        ["segment", "a.png", "--output=o", "--classes=-1"],
        ["segment", "a.png", "--output=o", "--objects", "--min-size=0"],
        ["segment", "a.png", "--output=o", "--threshold=2"],
        ["segment", "a.png", "--output=o", "--threshold=nan"],
        ["segment", "a.png", "--output=o", "--threshold=half"],
        ["segment", "a.png", "--output=o", "--overwrite", "--skip-existing"],
        ["segment", "a.png", "--output=o", "--levels=1,x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_shown(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: napari-aeseg" in capsys.readouterr().err


# -- every parameter is an option

OTHER = {
    TrainingParams: {
        "levels": 2,
        "width": 5,
        "convolutions": 3,
        "decoder": "unpooling",
        "dimensions": "3D",
        "crop_size": 32,
        "batch_size": 7,
        "steps": 9,
        "learning_rate": 0.01,
        "weight_decay": 0.5,
        "noise": 0.2,
        "augment": False,
        "normalisation": "training",
        "seed": 11,
    },
    SegmentationParams: {
        "patches": "grid",
        "patch_size": 9,
        "source": "decoder",
        "levels": (0, 2),
        "tile_size": 64,
    },
    ComparisonParams: {"balance": 0.75, "scale": 3.5},
}
OPTIONS = [(kind, name) for kind in OTHER for name in kind.model_fields]


def as_option(name, value):
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return option if value else f"--no-{name}"
    return f"{option}={','.join(map(str, value)) if isinstance(value, tuple) else value}"


@pytest.fixture
def params_of(run, files, grey_model, tmp_path, monkeypatch):
    """Return a function that gives the params with which the work would begin."""
    seen = []

    def caught(*arguments, **options):
        seen.extend(p for p in (*arguments, *options.values()) if isinstance(p, tuple(OTHER)))
        raise InputError("seen")

    monkeypatch.setattr(pipeline, "train_steps", caught)
    monkeypatch.setattr(batch_job, "hierarchy_steps", caught)

    def params_of(kind, *options):
        command = "train" if kind is TrainingParams else "segment"
        model = [] if kind is TrainingParams else ["--model", grey_model]
        run(command, files / "grey.png", "--output", tmp_path / "o", *model, *options)
        (params,) = [params for params in seen if isinstance(params, kind)]
        seen.clear()
        return params

    return params_of


@pytest.mark.parametrize("name", ["fast", "balanced", "thorough"])
def test_preset_is_what_single_options_change(params_of, name):
    preset = TrainingParams.preset(name)
    assert params_of(TrainingParams, f"--preset={name}") == preset
    assert params_of(TrainingParams, f"--preset={name}", "--steps=7") == preset.updated(steps=7)


@pytest.mark.parametrize(("kind", "name"), OPTIONS)
def test_every_parameter_is_an_option_that_reaches_the_core(params_of, kind, name):
    value = OTHER[kind][name]
    assert value != kind.model_fields[name].default
    assert params_of(kind, as_option(name, value)) == kind(**{name: value})


@pytest.mark.parametrize("kind", OTHER)
def test_without_options_the_defaults_hold(params_of, kind):
    assert params_of(kind) == kind()


def test_words_and_numbers_reach_the_core(params_of):
    assert params_of(ComparisonParams, "--scale=auto").scale == "auto"
    assert params_of(TrainingParams, "--augment").augment is True


@pytest.mark.parametrize("kind", OTHER)
def test_help_explains_every_parameter(capsys, kind):
    with pytest.raises(SystemExit) as end:
        main(["train" if kind is TrainingParams else "segment", "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in kind.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert " ".join(field.description.split())[:30] in text
        assert f"(default: {field.default})" in text


# -- info


def test_info_tells_what_a_model_is(run, grey_model):
    done = run("info", grey_model)
    assert done.code == 0
    for words in ("channels 1", "levels 2", "3 steps", "grey.png", "(48, 40) YX", "seed 0", "loss"):
        assert words in done.out


def test_info_tells_what_a_model_of_another_name_is(run, grey_model, tmp_path):
    path = shutil.copy(grey_model, tmp_path / "my.model")
    assert run("info", path).out == run("info", grey_model).out


def test_a_training_that_was_killed_is_said_to_be_resumable(run, files, unfinished):
    done = run("train", files / "grey.png", f"--output={unfinished.path}", *QUICK)
    assert done.code == 1
    assert f"--resume {unfinished.path} --overwrite to resume it" in done.err


def test_info_tells_what_a_picture_is(run, files):
    done = run("info", files / "grey.png")
    assert done.code == 0, done.err
    assert "pixels (YX" in done.out
    assert "as a whole" in done.out


def test_a_model_that_cannot_be_written_after_hours_is_not_lost(
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


def test_info_as_json_is_the_header(run, grey_model):
    header = json.loads(run("info", grey_model, "--json").out)
    assert header["architecture"]["width"] == 4
    assert header["training"]["losses"] == list(load_model(grey_model).losses)


# -- demo


@pytest.fixture
def tiny_samples(monkeypatch, stripes, quick_training):
    from napari_aeseg.samples import SAMPLES

    rgb = np.stack([stripes] * 3, axis=-1)
    for name in SAMPLES:
        image = np.tile(rgb, (2, 2, 1)) if SAMPLES[name]().ndim == 3 else np.tile(stripes, (2, 2))
        monkeypatch.setitem(SAMPLES, name, lambda image=image: image)
    return list(SAMPLES)


def assert_demo_is_complete(folder, samples):
    for name in samples:
        labels = tifffile.imread(folder / f"{name}_labels.tif")
        assert labels.shape == (96, 80)
        assert labels.max() > 1
        assert imageio.imread(folder / f"{name}_overlay.png").shape == (96, 80, 3)
        assert load_model(folder / f"{name}.aeseg.safetensors").record.images[0]["name"] == name
    assert len(names_in(folder)) == 3 * len(samples)


def test_demo_writes_labels_overlay_and_model_of_each_sample(run, tmp_path, tiny_samples):
    done = run("demo", "--output", tmp_path / "demo", "--no-window", "--device=cpu")
    assert done.code == 0, done.err
    assert_demo_is_complete(tmp_path / "demo", tiny_samples)
    for name in tiny_samples:
        assert f"{name}: " in done.out
    assert "on cpu" in done.out
    assert str(tmp_path / "demo") in done.out
    # Again: the demo's results may be replaced.
    assert run("demo", "--output", tmp_path / "demo", "--no-window", "--device=cpu").code == 0


def test_demo_without_a_display_says_so(run, tmp_path, tiny_samples, monkeypatch):
    monkeypatch.setattr(demo, "_has_display", lambda: False)
    done = run("demo", "--output", tmp_path / "demo", "--device=cpu")
    assert done.code == 0
    assert "no display" in done.out
    assert_demo_is_complete(tmp_path / "demo", tiny_samples)


def test_demo_with_a_display_shows_the_results(run, tmp_path, tiny_samples, monkeypatch):
    shown = []
    window = SimpleNamespace(show=lambda folder, names: shown.append((folder, names)))
    monkeypatch.setitem(sys.modules, "napari_aeseg._napari.manifest.demo_window", window)
    monkeypatch.setattr(demo, "_has_display", lambda: True)
    assert run("demo", "--output", tmp_path / "demo", "--device=cpu").code == 0
    assert shown == [(tmp_path / "demo", tiny_samples)]


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there is always a display")
@pytest.mark.parametrize("variable", [None, "DISPLAY", "WAYLAND_DISPLAY"])
def test_display_is_what_the_environment_says(monkeypatch, variable):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, ":0")
    assert demo._has_display() is (variable is not None)


def test_voxel_size_of_volumes(run, tmp_path):
    volume = np.random.default_rng(0).random((6, 24, 24)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack")
    command = ["segment", tmp_path / "a.tif", "--model", "base", "--device", "cpu", "--axes", "ZYX"]
    command += ["--regions", 3, "--table", "--output", tmp_path / "out"]
    done = run(*command, "--voxel-size", 4, 0.5, 0.5)
    assert done.code == 0, done.err
    assert "voxels of 4 x 0.5 x 0.5" in done.out
    tree = pipeline.build_hierarchy(
        volume, "base", axes="ZYX", device="cpu", voxel_size=(4, 0.5, 0.5)
    )
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "a_labels.tif"), tree.regions(3))


@pytest.mark.parametrize("voxels", [("1", "0"), ("1", "a.tif"), ("-1", "1"), ("1", "inf")])
def test_voxel_sizes_that_are_none_are_refused(tmp_path, no_work, capsys, voxels):
    with pytest.raises(SystemExit):
        main(["segment", "a.tif", "--output", str(tmp_path / "out"), "--voxel-size", *voxels])
    assert "give numbers above 0" in capsys.readouterr().err


def test_too_few_voxel_sizes_are_refused_before_a_training(run, tmp_path, no_work):
    tifffile.imwrite(tmp_path / "a.tif", np.eye(32, dtype=np.uint8))
    done = run("segment", tmp_path / "a.tif", "--output", tmp_path / "out", "--voxel-size", 2)
    assert done.code == 1
    assert "voxel_size = [2.0]: give one number above 0" in done.err
    assert not (tmp_path / "out").exists()


# Saved hierarchies


@pytest.fixture(scope="module")
def tree_file(tmp_path_factory, files, grey_model):
    """A hierarchy that `segment` wrote, and its labels of five regions."""
    folder = tmp_path_factory.mktemp("trees")
    given = ["segment", files / "grey.png", "--model", grey_model, "--output", folder]
    given += ["--save-hierarchy", "--table", "--regions", "5", *SMALL]
    assert main([str(a) for a in given]) == 0
    return folder / "grey.aeseg.zarr"


def test_segment_saves_the_hierarchy_that_the_api_builds(tree_file, stripes, grey_model):
    params = SegmentationParams(patch_size=4)
    expected = build_hierarchy(stripes, load_model(grey_model), params, device="cpu")
    saved = load_hierarchy(tree_file)
    assert np.array_equal(saved.classes(2), expected.classes(2))
    assert np.array_equal(saved.patches, expected.patches)
    assert sorted(p.name for p in tree_file.parent.iterdir()) == [
        "grey.aeseg.zarr",
        "grey_labels.tif",
        "grey_overlay.png",
        "grey_table.csv",
    ]


@pytest.mark.parametrize("options", [["--regions=5"], ["--classes=2"], ["--objects"], []])
def test_saved_hierarchy_is_cut_without_model_or_image(run, tree_file, tmp_path, no_work, options):
    done = run("segment", tree_file, "--output", tmp_path / "out", "--table", *options)

    assert done.code == 0, done.err
    tree = load_hierarchy(tree_file)
    expected = {
        ("--regions=5",): lambda: tree.regions(5),
        ("--classes=2",): lambda: tree.classes(2),
        ("--objects",): tree.objects,
        (): lambda: tree.regions(tree.suggest_n_regions()),
    }
    labels = tifffile.imread(tmp_path / "out" / "grey_labels.tif")
    assert np.array_equal(labels, expected[tuple(options)]())
    assert imageio.imread(tmp_path / "out" / "grey_overlay.png").shape == (48, 40, 3)
    assert "no --model" not in done.out


def test_weights_of_a_saved_hierarchy_can_be_changed(run, tree_file, tmp_path, no_work):
    options = ["--balance=1", "--regions=4", "--save-hierarchy"]
    assert run("segment", tree_file, "--output", tmp_path, *options).code == 0
    tree = load_hierarchy(tree_file)
    labels = tifffile.imread(tmp_path / "grey_labels.tif")
    assert np.array_equal(labels, tree.reweighted(balance=1.0).regions(4))
    again = load_hierarchy(tmp_path / "grey.aeseg.zarr")
    assert again.comparison == tree.comparison.updated(balance=1.0)


def test_other_parameters_of_a_saved_hierarchy_are_refused(run, tree_file, tmp_path):
    done = run("segment", tree_file, "--output", tmp_path, "--patch-size=9")
    assert done.code == 1
    assert "patch_size = 9: this hierarchy was saved with 4" in done.err
    assert run("segment", tree_file, "--output", tmp_path, "--patch-size=4").code == 0


def test_saved_hierarchies_and_images_go_together(run, tree_file, files, tmp_path, grey_model):
    tifffile.imwrite(tmp_path / "more.tif", np.flip(imageio.imread(files / "grey.png")))
    done = run(
        *("segment", tree_file, tmp_path / "more.tif", "--model", grey_model),
        *("--output", tmp_path / "out", "--classes=2", *SMALL),
    )
    assert done.code == 0, done.err
    prototypes = load_hierarchy(tree_file).prototypes(2)
    flipped = tifffile.imread(tmp_path / "more.tif")
    params = SegmentationParams(patch_size=4)
    other = build_hierarchy(flipped, load_model(grey_model), params, device="cpu")
    labels = tifffile.imread(tmp_path / "out" / "more_labels.tif")
    assert np.array_equal(labels, other.classes(prototypes=prototypes))


def test_another_model_than_that_of_the_hierarchy_is_refused(run, tree_file, tmp_path):
    done = run("segment", tree_file, "--model", "base", "--output", tmp_path)
    assert done.code == 1
    assert "grey.aeseg.zarr was made with another model. Leave the model out" in done.err


def test_hierarchy_is_not_read_and_written_at_once(run, tree_file):
    options = ["--overwrite", "--save-hierarchy"]
    done = run("segment", tree_file, "--output", tree_file.parent, *options)
    assert done.code == 1
    assert "would be read and written" in done.err


def test_saved_hierarchies_count_as_results(run, tree_file, files, grey_model, no_work):
    for name in ("grey_labels.tif", "grey_overlay.png", "grey_table.csv"):
        (tree_file.parent / name).unlink(missing_ok=True)
    given = ("segment", files / "grey.png", "--model", grey_model, "--save-hierarchy")
    done = run(*given, "--output", tree_file.parent)
    assert done.code == 1
    assert "grey.aeseg.zarr exists already" in done.err


def test_damaged_hierarchy_does_not_keep_the_others_from_it(run, tree_file, tmp_path):
    damaged = tmp_path / "damaged.aeseg.zarr"
    shutil.copytree(tree_file, damaged)
    (damaged / "brightness" / "c" / "0" / "0").unlink()
    done = run("segment", damaged, tree_file, "--output", tmp_path / "out")
    assert done.code == 1
    assert "damaged.aeseg.zarr is damaged: brightness cannot be read" in done.err
    assert "2 files: 1 done, 1 failed" in done.out
    assert run("info", damaged).code == 1


def test_images_need_a_model_in_a_batch(files, tmp_path):
    with pytest.raises(InputError, match="only saved hierarchies can be cut without one"):
        batch.segment_files([files / "grey.png"], tmp_path, None)


def test_info_tells_what_a_hierarchy_is(run, tree_file, grey_model):
    done = run("info", tree_file)
    assert done.code == 0
    for words in ("48 x 40 pixels", "patches     ", "patch_size 4", "built"):
        assert words in done.out
    assert load_model(grey_model).fingerprint in done.out
    header = json.loads(run("info", tree_file, "--json").out)
    assert header["format_version"] == 1
    assert header["params"]["patch_size"] == 4
    missing = run("info", tree_file.with_name("lost.aeseg.zarr"))
    assert missing.code == 1
    assert "There is no hierarchy" in missing.err
