"""Options that commands share."""

import argparse

import pytest

from napari_aeseg import (
    ComparisonParams,
    InputError,
    SegmentationParams,
    TrainingParams,
)
from napari_aeseg import api as pipeline
from napari_aeseg import batch as batch_job
from napari_aeseg.cli import main
from napari_aeseg.cli.options import image_paths

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
    ComparisonParams: {"balance": 0.75, "scale": 3.5, "whitening": "regions"},
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
def test_single_options_change_a_preset(params_of, name):
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


def test_auto_and_flags_reach_the_core(params_of):
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


@pytest.mark.parametrize("voxels", [("1", "0"), ("1", "a.tif"), ("-1", "1"), ("1", "inf")])
def test_voxel_sizes_must_be_positive_numbers(tmp_path, no_work, capsys, voxels):
    with pytest.raises(SystemExit):
        main(["segment", "a.tif", "--output", str(tmp_path / "out"), "--voxel-size", *voxels])
    assert "give numbers above 0" in capsys.readouterr().err


def test_help_has_plain_headings(capsys):
    with pytest.raises(SystemExit):
        main(["segment", "--help"])
    text = capsys.readouterr().out
    for heading in ("Segments:", "Results:", "Patches:", "Comparison:", "Large images:"):
        assert f"\n{heading}\n" in text
    assert "Params" not in text


def test_patterns_of_names_are_expanded_where_the_shell_leaves_them(tmp_path):
    """As on Windows."""
    for name in ("b.tif", "a.tif", "c.png", "[1].tif"):
        (tmp_path / name).touch()

    def found(*patterns):
        options = argparse.Namespace(images=[tmp_path / pattern for pattern in patterns])
        return [path.name for path in image_paths(options)]

    assert found("?.tif", "c.png") == ["a.tif", "b.tif", "c.png"]
    assert found("[1].tif") == ["[1].tif"]  # a name with brackets
    with pytest.raises(InputError, match=r"no file that fits .*\*\.lsm"):
        found("*.lsm")
