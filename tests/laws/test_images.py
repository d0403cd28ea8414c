"""Whatever image is given: right labels or a clear error, and nothing written to it."""

import numpy as np
import pytest
import random_images
from hypothesis import given, settings

MODEL = random_images.any_model()


@given(random_images.cases())
@settings(max_examples=14)
def test_every_image_gives_right_labels_or_a_clear_error(case):
    random_images.try_image(case, MODEL)


@pytest.mark.parametrize("number", range(len(random_images.WORK)))
def test_every_kind_of_work_takes_a_plain_image(number):
    pixels = random_images.made((40, 36), "u1", "noise", 1.0, np.random.default_rng(0))
    case = random_images.Case(pixels, "YX", "plain", True, 2 * number)
    assert random_images.try_image(case, MODEL) == {"labelled": 2}
