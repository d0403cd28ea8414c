import numpy as np
import pytest
from scipy import ndimage

from napari_aeseg.regions.compare.auto_scale import auto_scale, colour_map
from napari_aeseg.regions.compare.moments import MomentsCache


def scale_of(hierarchy):
    cache = MomentsCache(hierarchy.statistics, hierarchy.graph)
    return auto_scale(hierarchy.statistics.level, cache)


def halves(rng, left, right):
    """Noise, 64 x 64, of another strength in each half."""
    noise = rng.normal(0, 1, (64, 64))
    noise[:, :32] *= left
    noise[:, 32:] *= right
    return noise


def test_halves_of_other_brightness_need_no_averaging(hierarchy_of):
    rng = np.random.default_rng(0)
    bright = np.kron([[0.0, 1.0]], np.ones((64, 32))) + rng.normal(0, 0.3, (64, 64))
    assert scale_of(hierarchy_of(np.stack([bright, bright]), levels=[0, 1])) == 1


def test_halves_of_other_texture_are_averaged(hierarchy_of):
    rng = np.random.default_rng(0)
    texture = halves(rng, 0.1, 1)
    # Brightness says nothing; the deeper feature is stronger in one half.
    feature = ndimage.gaussian_filter(np.abs(texture), 2)
    image = np.stack([rng.normal(0, 1, texture.shape), feature])
    assert scale_of(hierarchy_of(image, levels=[0, 1])) == 16


def test_textures_in_parts_smaller_than_the_average_are_not_averaged(hierarchy_of):
    rng = np.random.default_rng(0)
    strength = np.kron(rng.random((11, 11)) < 0.5, np.ones((12, 12)))[:128, :128]  # spots
    noise = rng.normal(0, 1, strength.shape)
    feature = ndimage.gaussian_filter(np.abs(noise * (0.1 + strength)), 2)
    image = np.stack([rng.normal(0, 1, strength.shape), feature])
    assert scale_of(hierarchy_of(image, levels=[0, 1])) == 1
    halves = np.kron([[0, 1]], np.ones((128, 64)))
    image[1] = ndimage.gaussian_filter(np.abs(noise * (0.1 + halves)), 2)
    assert scale_of(hierarchy_of(image, levels=[0, 1])) == 16


def test_without_brightness_among_the_features_patches_are_averaged(hierarchy_of):
    rng = np.random.default_rng(0)
    feature = ndimage.gaussian_filter(np.abs(halves(rng, 0.1, 1)), 2)
    assert scale_of(hierarchy_of(feature[np.newaxis], levels=[1])) == 16


@pytest.mark.parametrize("shape", [(8, 8), (16, 24)])
def test_a_few_patches_are_not_averaged(hierarchy_of, shape):
    noise = np.random.default_rng(0).normal(size=shape)
    assert scale_of(hierarchy_of(noise)) == 1


def test_colours_keep_their_proportions_and_have_unit_noise(hierarchy_of):
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (2, 64, 64))
    image[1] *= 3
    tree = hierarchy_of(image)
    moments = MomentsCache(tree.statistics, tree.graph).at(1.0)
    colours = moments.positions(colour_map(moments, tree.statistics.level))
    assert colours[:, 1].std() / colours[:, 0].std() == pytest.approx(3, rel=0.1)
    means = tree.statistics.mean - tree.statistics.mean.mean(axis=0)
    np.testing.assert_allclose(colours / colours.std(), means / means.std(), atol=1e-4)


def test_a_channel_that_is_the_same_everywhere_is_left_out(hierarchy_of):
    image = np.random.default_rng(0).normal(0, 1, (2, 64, 64))
    image[0] = 5
    tree = hierarchy_of(image)
    moments = MomentsCache(tree.statistics, tree.graph).at(1.0)
    assert colour_map(moments, tree.statistics.level).shape[1] == 1
