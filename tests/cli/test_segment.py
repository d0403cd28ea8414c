"""`napari-aeseg segment` of images."""

import csv
from dataclasses import replace

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from cli.conftest import QUICK, SMALL, interrupt, labels_in, names_in
from napari_aeseg import (
    SegmentationParams,
    TrainingParams,
    batch,
    build_hierarchy,
    load_model,
)
from napari_aeseg import api as pipeline
from napari_aeseg import batch as batch_job


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
    done = run("segment", files / name, "--output", tmp_path, "--regions=4", "--pieces", *SMALL)
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


def test_a_file_that_fails_does_not_stop_the_others(run, three, tmp_path, grey_model):
    out = tmp_path / "out"
    done = run("segment", three, "--model", grey_model, "--output", out, "--regions=3", *SMALL)
    assert done.code == 1
    assert labels_in(out) == ["a_labels.tif", "c_labels.tif"]
    assert done.out.splitlines()[-1] == "3 files: 2 done, 1 failed"
    assert "napari-aeseg: b.tif is damaged or no image" in done.err


def test_an_error_of_all_files_is_printed_once(run, three, tmp_path, grey_model):
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


def test_training_first_leaves_out_files_that_cannot_be_read(run, three, tmp_path, quick_training):
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


def test_skip_existing_continues_with_the_remaining_files(run, three, tmp_path, quick_training):
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


def test_classes_are_learned_from_strokes_and_kept(run, halves, tmp_path):
    strokes = np.zeros((48, 48), np.uint8)
    strokes[10, 4:16], strokes[30, 30:42] = 1, 2
    tifffile.imwrite(tmp_path / "strokes.tif", strokes)
    kept = tmp_path / "kept.aeseg.safetensors"
    options = ["--model=base", *SMALL, f"--classes-from={tmp_path / 'strokes.tif'}"]
    output = ["--output", tmp_path / "all", f"--keep-classes={kept}"]
    assert run("segment", halves, *output, *options).code == 0
    model, params = load_model(kept), SegmentationParams(patch_size=4)
    one, two = (
        build_hierarchy(tifffile.imread(halves / name), model, params, device="cpu")
        for name in ("one.tif", "two.tif")
    )
    learned = one.prototypes_from(strokes)
    for name, tree in (("one", one), ("two", two)):
        labels = tifffile.imread(tmp_path / "all" / f"{name}_labels.tif")
        assert np.array_equal(labels, tree.classes(prototypes=learned))
        assert np.array_equal(labels, tree.classes(prototypes=model.prototypes))
    done = run("segment", halves, "--output", tmp_path / "again", *options[:-1], output[-1])
    assert "add --classes-from" in done.err
    done = run("segment", halves, *output, *options)
    assert done.code == 1
    assert "kept.aeseg.safetensors" in done.err


def test_strokes_need_an_image_each(run, halves, tmp_path):
    tifffile.imwrite(tmp_path / "strokes.tif", np.ones((48, 48), np.uint8))
    strokes = [f"--classes-from={tmp_path / 'strokes.tif'}"] * 2
    done = run("segment", halves / "one.tif", "--model=base", "--output", tmp_path / "x", *strokes)
    assert done.code == 1
    assert "strokes of 2 images, but 1 files" in done.err


def test_classes_stored_in_the_model_are_used(run, files, grey_model, tmp_path, stripes):
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


def test_min_size_limits_objects(run, files, grey_model, tmp_path, stripes):
    options = ["--objects", "--min-size=30", "--model", grey_model, "--output", tmp_path, *SMALL]
    assert run("segment", files / "grey.png", *options).code == 0
    labels = tifffile.imread(tmp_path / "grey_labels.tif")
    tree = build_hierarchy(
        stripes, load_model(grey_model), SegmentationParams(patch_size=4), device="cpu"
    )
    assert np.array_equal(labels, tree.objects(min_size=30))
    assert not np.array_equal(labels, tree.objects(min_size=10_000))


def test_no_objects_are_told(run, files, grey_model, tmp_path):
    options = ["--objects", "--diameter=9000", "--model", grey_model, "--output", tmp_path, *SMALL]
    done = run("segment", files / "grey.png", *options)
    assert "0 labels" in done.out
    assert "No objects of about 9000 pixels stand out. Give another diameter" in done.out


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


@pytest.mark.parametrize(
    "name", ["grey_labels.tif", "grey_overlay.png", "grey_table.csv", "grey_alternatives.png"]
)
def test_segment_refuses_to_overwrite_before_any_work(
    run, files, tmp_path, grey_model, no_work, name
):
    (tmp_path / name).write_bytes(b"precious")
    command = ["segment", files / "grey.png", "--model", grey_model, "--output", tmp_path]
    done = run(*command, "--table", "--alternatives", *SMALL)
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


def test_too_few_voxel_sizes_are_refused_before_a_training(run, tmp_path, no_work):
    tifffile.imwrite(tmp_path / "a.tif", np.eye(32, dtype=np.uint8))
    done = run("segment", tmp_path / "a.tif", "--output", tmp_path / "out", "--voxel-size", 2)
    assert done.code == 1
    assert "voxel_size = [2.0]: give one number above 0" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("cut", "caption"),
    [
        (["--classes=2"], "--classes 2 --balance 0.3 --scale auto"),
        (["--regions=5", "--balance=0.3"], "--regions 5 --balance 0.3 --scale auto"),
        (["--threshold=1"], "--regions 1 --balance 0.3 --scale auto"),
    ],
)
def test_alternatives_are_written_with_the_options_that_give_them(
    run, files, grey_model, tmp_path, monkeypatch, cut, caption
):
    drawn = []

    def sheet(pictures, captions, draw=batch_job.contact_sheet):
        drawn.append((pictures, captions))
        return draw(pictures, captions)

    monkeypatch.setattr(batch_job, "contact_sheet", sheet)
    given = ["segment", files / "grey.png", "--model", grey_model, *SMALL]
    out = tmp_path / "out"
    done = run(*given, "--output", out, *cut, "--alternatives", 3)
    assert done.code == 0, done.err
    assert "grey_alternatives.png" in done.out
    assert imageio.imread(out / "grey_alternatives.png").ndim == 3
    ((pictures, captions),) = drawn
    assert captions[0] == caption
    assert len(captions) == len(set(captions)) <= 3
    for number, options in enumerate(captions):  # the labels on the sheet are those they give
        again = tmp_path / str(number)
        assert run(*given, "--output", again, *options.split(), "--alternatives", 1).code == 0
        assert np.array_equal(drawn[-1][0][0], pictures[number])
    labels = [tifffile.imread(f / "grey_labels.tif") for f in (out, tmp_path / "0")]
    assert np.array_equal(*labels)


def test_alternatives_need_no_number(run, files, grey_model, tmp_path):
    options = ["--model", grey_model, "--output", tmp_path / "out", "--alternatives", *SMALL]
    assert run("segment", files / "grey.png", *options).code == 0
    assert "grey_alternatives.png" in names_in(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--objects", "--alternatives"], "Objects have no alternatives"),
        (["--alternatives", "0"], "alternatives = 0: give a whole number of 1 or more"),
    ],
)
def test_alternatives_that_cannot_be_are_refused_before_any_work(
    run, files, grey_model, tmp_path, no_work, options, words
):
    command = ["segment", files / "grey.png", "--model", grey_model, "--output", tmp_path / "out"]
    done = run(*command, *options)
    assert done.code == 1
    assert words in done.err
