import numpy as np
import pytest
from scipy import ndimage

from napari_aeseg.samples import SAMPLES, textures, textures_truth

SHAPES = {
    "tissue": (512, 512, 3),
    "retina": (1411, 1411, 3),
    "coins": (303, 384),
    "textures": (384, 384),
}


def test_samples_are_those_of_the_demo():
    assert set(SAMPLES) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_samples_have_contrast(name):
    image = SAMPLES[name]()
    assert image.shape == SHAPES[name]
    assert image.dtype == np.uint8
    assert image.std() > 10


@pytest.mark.parametrize("seed", range(4))
def test_textures_have_equal_brightness(seed):
    image, truth = textures(seed).astype(float), textures_truth(seed)
    means = [image[truth == i].mean() for i in (1, 2, 3)]
    spreads = [image[truth == i].std() for i in (1, 2, 3)]
    assert np.ptp(means) < 0.3 * min(spreads)
    assert np.ptp(spreads) < 0.25 * max(spreads)


@pytest.mark.parametrize("seed", range(4))
def test_touching_parts_of_the_mosaic_have_different_textures(seed):
    truth = textures_truth(seed)
    parts = sum(ndimage.label(truth == i)[1] for i in (1, 2, 3))
    assert set(np.unique(truth)) == {1, 2, 3}
    assert parts == 7


def test_another_seed_gives_another_mosaic():
    assert np.array_equal(textures(3), textures(3))
    assert not np.array_equal(textures(0), textures(1))
