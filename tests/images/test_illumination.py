import numpy as np
import pytest

from napari_aeseg import TrainingParams, build_hierarchy, train
from napari_aeseg.images.illumination import illumination
from napari_aeseg.images.intensity import read_image

SHAPE = (160, 128)
ALONG = np.linspace(-1, 1, SHAPE[0])[:, np.newaxis], np.linspace(-1, 1, SHAPE[1])
LIGHT = np.exp(-0.8 * ALONG[0] + 0.4 * ALONG[1])
TEXTURE = np.random.default_rng(0).random(SHAPE) + 0.2


def tiles():
    """Bright and dark things on a texture."""
    y, x = np.indices(SHAPE)
    return TEXTURE * np.where((y // 64 + x // 64) % 2, 1.0, 0.7)


@pytest.mark.parametrize("image", [TEXTURE, tiles()], ids=["texture", "things"])
def test_gradient_of_illumination_is_measured(image):
    found = illumination((image * LIGHT)[np.newaxis])
    assert found.dtype == np.float32
    assert np.abs(np.log(found / LIGHT)).max() < 0.25


@pytest.mark.parametrize(
    "image",
    [
        TEXTURE,
        tiles(),
        np.where(ALONG[0] > 0, 1.0, 0.2) * TEXTURE,  # two things, no gradient
        TEXTURE + 2 * ALONG[0] + 3,  # brighter, but not of more contrast
        (TEXTURE * LIGHT)[:80],  # too small to tell
        TEXTURE * LIGHT - 0.2,  # negative: where there is no light is not known
        np.ones(SHAPE),
        np.zeros(SHAPE),
    ],
    ids=["texture", "things", "step", "added", "small", "negative", "constant", "zero"],
)
def test_structures_are_not_taken_for_illumination(image):
    assert illumination(image[np.newaxis]) is None
    assert read_image(image, "YX").light is None


def test_correction_of_illumination_is_in_the_notes():
    params = TrainingParams(steps=1, width=2)
    for image, told in ((TEXTURE * LIGHT, True), (TEXTURE, False)):
        tree = build_hierarchy(image, train(image, params, device="cpu"), device="cpu")
        assert any("illumination was corrected" in note for note in tree.notes) == told


def test_illumination_of_stacks_is_not_corrected():
    assert illumination(np.stack([TEXTURE * LIGHT] * 4)[np.newaxis]) is None


def test_all_channels_are_divided_by_the_same_light():
    image = np.stack([TEXTURE, 2 * TEXTURE[::-1]]) * LIGHT
    before = image.copy()
    read = read_image(image, "CYX")
    plain = read_image(image, "CYX", flatten_illumination=False)
    assert np.array_equal(image, before)
    assert plain.light is None
    low, high = (np.reshape(v, (2, 1, 1)) for v in (read.intensity.low, read.intensity.high))
    inside = (read.pixels > 0.1) & (read.pixels < 0.9)
    again = (low + read.pixels * (high - low)) * read.light
    np.testing.assert_allclose(again[inside], image[inside], rtol=1e-4)


def test_illumination_is_not_corrected_with_a_given_range():
    image = TEXTURE * LIGHT
    assert read_image(image, "YX", read_image(image, "YX").intensity).light is None
