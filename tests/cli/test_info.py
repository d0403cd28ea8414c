"""`napari-aeseg info`."""

import json
import shutil

from napari_aeseg import (
    load_model,
)


def test_info_describes_a_model(run, grey_model):
    done = run("info", grey_model)
    assert done.code == 0
    for words in ("channels 1", "levels 2", "3 steps", "grey.png", "(48, 40) YX", "seed 0", "loss"):
        assert words in done.out


def test_info_describes_a_model_of_any_name(run, grey_model, tmp_path):
    path = shutil.copy(grey_model, tmp_path / "my.model")
    assert run("info", path).out == run("info", grey_model).out


def test_info_describes_an_image(run, files):
    done = run("info", files / "grey.png")
    assert done.code == 0, done.err
    assert "pixels (YX" in done.out
    assert "as a whole" in done.out


def test_info_as_json_is_the_header(run, grey_model):
    header = json.loads(run("info", grey_model, "--json").out)
    assert header["architecture"]["width"] == 4
    assert header["training"]["losses"] == list(load_model(grey_model).losses)


def test_info_describes_a_hierarchy(run, tree_file, grey_model):
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
