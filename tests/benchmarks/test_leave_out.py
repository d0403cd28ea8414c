from __future__ import annotations

import json

import numpy as np
import pytest
from skimage.io import imsave

import leave_out
from napari_aeseg.regions.compare import auto_scale

#: The image has 64 patches: with 1 it shows textures, with 99 none.
CONSTANT = "napari_aeseg.regions.compare.auto_scale._FEWEST_PATCHES"


def test_a_value_that_suits_one_group_only_is_not_held_up_by_the_others() -> None:
    values = {"1": {"a": 0.9, "b": 0.4, "c": 0.4}, "2": {"a": 0.2, "b": 0.6, "c": 0.6}}
    choice = leave_out.choose(values)
    assert choice.fitted == "1"
    assert choice.fitted_mean == pytest.approx(0.5667, abs=1e-4)
    assert choice.left_out["a"] == ("2", 0.2)
    assert choice.left_out_mean < choice.fitted_mean


def test_equally_good_values_leave_the_first() -> None:
    assert leave_out.choose({"x": {"a": 0.5, "b": 0.5}, "y": {"a": 0.5, "b": 0.5}}).fitted == "x"


def test_score_of_a_group_is_the_mean_of_its_sets_at_their_best_cuts() -> None:
    images = {
        "one": {"a": {"x": [0.1, 0.5]}, "b": {"x": [0.9, 0.7]}},
        "two": {"c": {"x": [0.2]}},
        "three": {"d": {"x": [0.8]}},
    }
    found = leave_out.of_groups(images, ["x"], {"one": "like", "two": "like", "three": "other"})
    assert found["x"] == pytest.approx({"like": (0.6 + 0.2) / 2, "other": 0.8})


@pytest.fixture
def arguments(tmp_path) -> list[str]:
    """Values 1 and 99 of a constant, on two subjects of one image each."""
    truth = np.repeat([[1, 2]], 64, axis=0).repeat(32, axis=1).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 20, truth.shape)
    image = (100 + noise * truth).clip(0, 255).astype(np.uint8)
    for name in ("superalloy_sem", "texture_brodatz"):
        for folder, array in (("images", image), ("labels", truth)):
            path = tmp_path / name / folder / "a.tif"
            path.parent.mkdir(parents=True)
            imsave(path, array, check_contrast=False)
    data = ["--data", str(tmp_path), "--sets", "superalloy_sem", "texture_brodatz"]
    return [CONSTANT, "1", "99", *data, "--json", str(tmp_path / "out.json")]


def test_only_what_was_not_measured_before_is_measured(arguments, capsys, monkeypatch) -> None:
    hierarchy, measured = leave_out.Ours.hierarchy, []

    def counted(self, image):
        measured.append(auto_scale._FEWEST_PATCHES)
        return hierarchy(self, image)

    usual = auto_scale._FEWEST_PATCHES
    monkeypatch.setattr(leave_out.Ours, "hierarchy", counted)
    leave_out.main(arguments)
    assert measured == [1, 99, 1, 99]
    assert usual == auto_scale._FEWEST_PATCHES
    table = capsys.readouterr().out
    leave_out.main(arguments)
    assert len(measured) == 4
    assert capsys.readouterr().out == table
    with pytest.raises(SystemExit, match="not of"):
        leave_out.main([*arguments, "--longest", "32"])


def test_encoding_once_gives_the_same_scores(arguments, tmp_path, monkeypatch) -> None:
    hierarchy, measured = leave_out.Ours.hierarchy, []

    def counted(self, image):
        measured.append(image)
        return hierarchy(self, image)

    monkeypatch.setattr(leave_out.Ours, "hierarchy", counted)
    leave_out.main(arguments)
    again = tmp_path / "once.json"
    leave_out.main([*arguments[:-1], str(again), "--encode-once"])
    assert len(measured) == 4 + 2
    results = [json.loads(path.read_text())["images"] for path in (tmp_path / "out.json", again)]
    assert results[0] == results[1]
    values = results[0]["texture_brodatz"]["a"]
    assert values["1"] != values["99"]  # what was computed with one value is not used for another


def test_one_subject_is_not_enough(arguments, capsys) -> None:
    with pytest.raises(SystemExit):
        leave_out.main([*arguments[:6], *arguments[7:]])
    assert "Give sets of two subjects" in capsys.readouterr().err
