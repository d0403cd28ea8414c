import dataclasses

import numpy as np
import pytest

from napari_aeseg import InputError, Prototypes
from napari_aeseg.prototypes import StrokeExamples

GOOD = {"centres": np.ones((2, 3)), "whitening": np.ones((3, 2)), "scale": 4.0}


def test_prototypes_with_names_and_colors():
    kinds = Prototypes(**GOOD, names=("gland", "stroma"), colors=("#ff0000", "#00FF7f"))
    assert kinds.names == ("gland", "stroma")
    assert kinds.colors == ("#ff0000", "#00FF7f")
    with pytest.raises(dataclasses.FrozenInstanceError):
        kinds.scale = 2.0


def test_nobody_has_to_name_them():
    assert Prototypes(**GOOD).names == Prototypes(**GOOD).colors == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"centres": np.ones(3)}, "centres are not a 2D array of float64"),
        ({"centres": np.ones((2, 3), np.float32)}, "centres are not a 2D array of float64"),
        ({"whitening": [[1.0, 2.0]]}, "whitening are not a 2D array of float64"),
        ({"centres": np.ones((0, 3))}, r"shape \(0, 3\) are empty"),
        ({"centres": np.full((2, 3), np.nan)}, "centres have NaN"),
        ({"whitening": np.full((3, 2), np.inf)}, "whitening have NaN"),
        ({"whitening": np.ones((2, 3))}, "do not fit each other"),
        ({"scale": 0.5}, "scale = 0.5: give a number of 1 or more"),
        ({"scale": float("nan")}, "scale = nan"),
        ({"scale": "auto"}, "scale = 'auto': give a number"),
        ({"scale": True}, "scale = True: give a number"),
        ({"names": ("gland",)}, r"2 class\(es\) but 1 name\(s\)"),
        ({"names": "ab"}, "names = 'ab': give a tuple"),
        ({"names": ("gland", 3)}, "give a tuple of texts"),
        ({"colors": ("#ff0000",) * 3}, r"2 class\(es\) but 3 color\(s\)"),
        ({"colors": ("#ff0000", "red")}, "'red' is not written as '#rrggbb'"),
        ({"colors": ("#ff0000", "#ff00001")}, "'#ff00001' is not written"),
        ({"colors": ("#ff0000", "#ff0000\n")}, "is not written"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_does_not_fit_is_refused_by_name(change, words):
    with pytest.raises(InputError, match=words):
        Prototypes(**GOOD | change)


EXAMPLES = {
    "stroke_class": np.array([1.0, 2.0]),
    "fine": np.ones((2, 3)),
    "coarse": np.array([[1.0, 1, 1], [3, 3, 3]]),
    "fine_whitening": np.ones((3, 2)),
    "scatter": np.ones(2),
    "pixel_class": np.array([1.0, 2.0]),
    "pixels": np.ones((2, 9)),
    "brightness": np.ones(2),
    "pixel_mean": np.ones(9),
    "pixel_covariance": np.eye(9),
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fine": np.ones((2, 3), np.float32)}, "fine is not an array of float64"),
        ({"coarse": np.ones((2, 4))}, r"coarse of shape \(2, 4\) does not fit"),
        ({"pixels": np.ones((2, 8))}, r"pixels of shape \(2, 8\) does not fit"),
        ({"pixel_mean": np.full(9, np.nan)}, "pixel_mean has NaN"),
        ({"scatter": np.zeros(2)}, "not above 0"),
        ({"brightness": np.zeros(2)}, "not above 0"),
        ({"pixel_covariance": -np.eye(9)}, "not above 0"),
    ],
)
def test_examples_that_do_not_fit_are_refused_by_name(change, words):
    with pytest.raises(InputError, match=words):
        StrokeExamples(**EXAMPLES | change)


def test_examples_are_of_the_classes():
    with pytest.raises(InputError, match="not of classes 1 to 2"):
        Prototypes(
            **GOOD, examples=StrokeExamples(**EXAMPLES | {"stroke_class": np.array([1.0, 3.0])})
        )


def test_strokes_of_two_images_are_joined():
    one = Prototypes(**GOOD, examples=StrokeExamples(**EXAMPLES))
    both = one.with_strokes_of(one)
    assert both.examples.stroke_class.tolist() == [1, 2, 1, 2]
    assert both.centres.tolist() == [[1, 1, 1], [3, 3, 3]]
    with pytest.raises(InputError, match="not learned from strokes"):
        one.with_strokes_of(Prototypes(**GOOD))
    with pytest.raises(InputError, match="another model or scale"):
        one.with_strokes_of(dataclasses.replace(one, scale=8.0))
