"""Whatever image is given: right labels or a clear error, and nothing written to it."""

import random_images
from hypothesis import given, settings

MODEL = random_images.any_model()


@given(random_images.cases())
@settings(max_examples=14)
def test_every_image_gives_right_labels_or_a_clear_error(case):
    random_images.try_image(case, MODEL)
