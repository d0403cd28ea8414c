import pytest

from napari_aeseg import (
    BlockParams,
    ComparisonParams,
    InputError,
    SegmentationParams,
    TrainingParams,
)
from napari_aeseg.params import PRESETS

KINDS = [TrainingParams, SegmentationParams, ComparisonParams, BlockParams]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (TrainingParams, "levels", 0),
        (TrainingParams, "width", 1),
        (TrainingParams, "decoder", "linear"),
        (TrainingParams, "crop_size", 20),  # no multiple of 8
        (TrainingParams, "batch_size", 0),
        (TrainingParams, "steps", 1.5),
        (TrainingParams, "learning_rate", 0),
        (TrainingParams, "learning_rate", float("nan")),
        (TrainingParams, "noise", -0.1),
        (TrainingParams, "normalisation", "local"),
        (TrainingParams, "seed", -1),
        (SegmentationParams, "patches", "slic"),
        (SegmentationParams, "patch_size", 1),
        (SegmentationParams, "source", "code"),
        (SegmentationParams, "levels", ()),
        (SegmentationParams, "levels", (1, 1)),
        (SegmentationParams, "levels", (-1,)),
        (ComparisonParams, "balance", 1.1),
        (ComparisonParams, "scale", 0.5),
        (ComparisonParams, "scale", float("nan")),
        (ComparisonParams, "scale", "fine"),
        (SegmentationParams, "tile_size", 100),  # no multiple of 8
    ],
)
def test_error_names_the_parameter_and_the_value(kind, name, value):
    with pytest.raises(InputError) as error:
        kind(**{name: value})
    assert f"{kind.__name__}.{name}" in str(error.value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_parameter_is_refused_with_the_known_ones(kind):
    with pytest.raises(InputError, match=r"'step'.*It has: ") as error:
        kind(step=3)
    assert all(name in str(error.value) for name in kind.model_fields)


def test_every_wrong_value_is_reported():
    with pytest.raises(InputError) as error:
        TrainingParams(levels=0, width=0)
    assert "levels" in str(error.value)
    assert "width" in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_params_do_not_change(kind):
    params = kind()
    with pytest.raises(ValueError, match="frozen"):
        setattr(params, next(iter(kind.model_fields)), 3)


def test_but_returns_a_checked_copy():
    params = TrainingParams(steps=7)
    assert params.updated(width=4) == TrainingParams(steps=7, width=4)
    assert params == TrainingParams(steps=7)
    with pytest.raises(InputError, match="width"):
        params.updated(width=0)


@pytest.mark.parametrize("kind", KINDS)
def test_survives_json(kind):
    params = kind()
    assert kind.model_validate_json(params.model_dump_json()) == params


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_explained(kind):
    for name, field in kind.model_fields.items():
        assert field.title, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_the_defaults_with_some_changes(name):
    params = TrainingParams.preset(name)
    changes = PRESETS[name].changes
    assert params == TrainingParams().updated(**changes)
    default = TrainingParams()
    assert all(getattr(params, k) != getattr(default, k) for k in changes)


def test_presets_are_explained_and_ordered_by_the_work_they_are():
    assert list(PRESETS) == ["fast", "balanced", "thorough"]
    assert TrainingParams.preset("balanced") == TrainingParams()
    work = [p.steps * p.batch_size for p in map(TrainingParams.preset, PRESETS)]
    assert work == sorted(work)
    for preset in PRESETS.values():
        assert preset.title
        assert preset.description.endswith(".")
    with pytest.raises(TypeError):
        PRESETS["fast"] = PRESETS["balanced"]


def test_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"no preset 'quick'. Choose one of: fast, balanced, tho"):
        TrainingParams.preset("quick")
