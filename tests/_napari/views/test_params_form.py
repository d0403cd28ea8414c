from __future__ import annotations

import pytest

from napari_aeseg import InputError, SegmentationParams, TrainingParams
from napari_aeseg._napari.views.params_form import ParamsForm, as_shown, as_value

STAGES = [TrainingParams, SegmentationParams]


@pytest.fixture(params=STAGES, ids=lambda stage: stage.__name__)
def form(request, qtbot):
    form = ParamsForm(request.param())
    qtbot.addWidget(form)
    return form


def test_a_form_starts_with_the_defaults(form):
    assert form.value == type(form.value)()


def test_every_control_shows_its_default(form):
    # Not what the form remembers: what a user reads. A bare spin box shows 0.004 as 0.00.
    fields = type(form.value).model_fields
    shown = {name: as_value(fields[name], c.value) for name, c in form.controls.items()}

    assert type(form.value)(**shown) == type(form.value)()


def test_every_field_has_a_control_that_explains_itself(form):
    assert list(form.controls) == list(type(form.value).model_fields)
    for name, info in type(form.value).model_fields.items():
        assert form.controls[name].label == info.title
        assert form.controls[name].native.toolTip() == info.description


OTHER = {
    "levels": {TrainingParams: 2, SegmentationParams: "0, 2"},
    "width": 8,
    "convolutions": 1,
    "decoder": "unpooling",
    "dimensions": "3D",
    "crop_size": 96,
    "batch_size": 4,
    "steps": 20,
    "learning_rate": 0.00123,
    "weight_decay": 0.00002,
    "noise": 0.25,
    "augment": False,
    "normalisation": "training",
    "seed": 2**31 - 1,
    "patches": "grid",
    "patch_size": 12,
    "source": "decoder",
    "balance": 0.25,
    "scale": "20",
    "tile_size": 256,
}


def test_every_control_reaches_its_parameter(form, qtbot):
    stage = type(form.value)
    for name, control in form.controls.items():
        other = OTHER[name][stage] if isinstance(OTHER[name], dict) else OTHER[name]
        expected = stage().updated(**{name: as_value(stage.model_fields[name], other)})
        form.value = stage()

        with qtbot.waitSignal(form.changed) as heard:
            control.value = other

        assert form.value == expected != stage()
        assert heard.args == [expected]


def test_what_a_control_cannot_show_is_not_lost(qtbot):
    form = ParamsForm(TrainingParams(learning_rate=0.00123456))
    qtbot.addWidget(form)

    form.controls["steps"].value = 7

    assert form.value == TrainingParams(learning_rate=0.00123456, steps=7)


def test_setting_the_value_is_silent_and_shown(qtbot):
    form = ParamsForm(SegmentationParams())
    qtbot.addWidget(form)

    with qtbot.assertNotEmitted(form.changed):
        form.value = SegmentationParams(levels=(1, 3), patches="grid")

    assert form.controls["levels"].value == "1, 3"
    assert form.controls["patches"].value == "grid"


def test_numbers_are_rounded_to_their_multiple(qtbot):
    form = ParamsForm(TrainingParams())
    qtbot.addWidget(form)

    form.controls["crop_size"].value = 70

    assert form.value.crop_size == form.controls["crop_size"].value == 72


@pytest.mark.parametrize("text", ["0, x", "1, 1", "-1", ","])
def test_text_that_does_not_fit_is_marked_and_not_taken(qtbot, text):
    form = ParamsForm(SegmentationParams(levels=(1,)))
    qtbot.addWidget(form)
    control = form.controls["levels"]

    control.value = text

    assert form.value.levels == (1,)
    assert "SegmentationParams.levels" in control.native.toolTip()
    assert "border" in control.native.styleSheet()
    assert form.errors == {"levels": control.native.toolTip()}
    with pytest.raises(InputError, match=f"^Levels used: '{text}' does not fit"):
        form.check()

    control.value = "all"

    assert form.value.levels is None
    assert "border" not in control.native.styleSheet()
    assert form.errors == {}
    form.check()


def test_setting_the_value_clears_invalid_entries(qtbot):
    form = ParamsForm(SegmentationParams())
    qtbot.addWidget(form)
    form.controls["levels"].value = "9, banana"
    assert list(form.errors) == ["levels"]

    form.value = SegmentationParams()

    form.check()


def test_shown_text():
    assert as_shown(None) == "all"
    assert as_shown((0, 3)) == "0, 3"
    assert as_shown(0.5) == 0.5
