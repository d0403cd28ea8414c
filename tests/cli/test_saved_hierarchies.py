"""`napari-aeseg segment` of saved hierarchies."""

import shutil

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from cli.conftest import SMALL
from napari_aeseg import (
    InputError,
    SegmentationParams,
    batch,
    build_hierarchy,
    load_hierarchy,
    load_model,
)


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


def test_the_comparison_of_a_saved_hierarchy_can_be_changed(run, tree_file, tmp_path, no_work):
    options = ["--balance=1", "--regions=4", "--save-hierarchy"]
    assert run("segment", tree_file, "--output", tmp_path, *options).code == 0
    tree = load_hierarchy(tree_file)
    labels = tifffile.imread(tmp_path / "grey_labels.tif")
    assert np.array_equal(labels, tree.reweighted(balance=1.0).regions(4))
    again = load_hierarchy(tmp_path / "grey.aeseg.zarr")
    assert again.comparison == tree.comparison.updated(balance=1.0)


@pytest.mark.parametrize("changes", [[], ["--whitening=neighbours"]])
def test_options_of_its_alternatives_change_the_whitening_it_was_saved_with(
    run, tree_file, tmp_path, monkeypatch, changes
):
    drawn = []

    def sheet(pictures, captions, draw=batch.contact_sheet):
        drawn.append((pictures, captions))
        return draw(pictures, captions)

    monkeypatch.setattr(batch, "contact_sheet", sheet)
    saved = tmp_path / "grey.aeseg.zarr"
    load_hierarchy(tree_file).reweighted(whitening="regions").save(saved)
    given = ["segment", saved, "--output", tmp_path / "out", "--overwrite"]
    assert run(*given, "--classes=3", "--alternatives", *changes).code == 0
    ((pictures, captions),) = drawn
    assert any("neighbours" in caption for caption in captions)
    for picture, options in zip(pictures, captions, strict=True):
        assert run(*given, *options.split(), "--alternatives", 1).code == 0
        assert np.array_equal(drawn[-1][0][0], picture)


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


def test_a_hierarchy_is_never_read_and_written_at_once(run, tree_file):
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


def test_a_damaged_hierarchy_does_not_stop_the_others(run, tree_file, tmp_path):
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
