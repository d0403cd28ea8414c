from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from napari_aeseg.errors import InputError
from napari_aeseg.params import ComparisonParams
from napari_aeseg.regions.compare import descriptor as module
from napari_aeseg.regions.tree.ward import ward_tree


def describe(statistics, graph, balance=0.5, scale="auto"):
    return module.describe(statistics, graph, ComparisonParams(balance=balance, scale=scale))


HALVES = np.repeat([0, 1], 32) * np.ones((64, 1), int)  # left and right


@pytest.fixture(scope="module")
def two_cues(hierarchy_of):
    """Brightness (level 0) differs left from right, texture (level 1) top from bottom."""
    rng = np.random.default_rng(0)
    brightness = HALVES + rng.normal(0, 0.05, (64, 64))
    texture = HALVES.T + rng.normal(0, 0.05, (64, 64))
    return hierarchy_of(np.stack([brightness, texture]), 4, levels=[0, 1])


def halves(tree, **options):
    """Cut in two by the descriptor with these options: the label of each pixel, 0 or 1."""
    descriptor = describe(tree.statistics, tree.graph, **options)
    cut = ward_tree(tree.graph.edges, descriptor.values, tree.statistics.count).cut(2)
    labels = tree.map_to_pixels(cut) - 1
    return labels ^ labels[0, 0]


@pytest.mark.parametrize("scale", [1, 6, "auto"])
def test_balance_chooses_between_brightness_and_texture(two_cues, scale):
    assert np.mean(halves(two_cues, balance=0, scale=scale) == HALVES) > 0.85
    assert np.mean(halves(two_cues, balance=1, scale=scale) == HALVES.T) > 0.85


@pytest.mark.parametrize("balance", [0.2, 0.5, 0.8])
def test_a_little_of_either_is_heard(two_cues, balance):
    quarters = ward_tree(
        two_cues.graph.edges,
        describe(two_cues.statistics, two_cues.graph, balance).values,
        two_cues.statistics.count,
    ).cut(4)
    labels = two_cues.map_to_pixels(quarters)
    for rows in (slice(0, 24), slice(40, 64)):
        for columns in (slice(0, 24), slice(40, 64)):
            assert len(np.unique(labels[rows, columns])) == 1
    assert len(np.unique(labels)) == 4


def test_noise_of_equal_mean_is_told_apart_by_its_strength(hierarchy_of):
    # Same mean on both sides; only the energy differs.
    noise = np.random.default_rng(0).normal(0, 1, (64, 64)) * np.where(HALVES, 1.0, 0.2)
    tree = hierarchy_of(noise, 4, levels=[1])
    assert np.mean(halves(tree) == HALVES) > 0.95


@pytest.mark.parametrize("scale", [1, 16])
def test_units_of_a_feature_do_not_matter(hierarchy_of, scale):
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (3, 32, 32)) + HALVES[:32, 16:48]
    changed = image * np.array([1, 50, 0.02])[:, None, None] + np.array([0, 5, -1])[:, None, None]
    first, second = (
        describe(tree.statistics, tree.graph, 0.5, scale).values
        for tree in (hierarchy_of(a, 4, levels=[0, 1, 2]) for a in (image, changed))
    )
    # Borders are sharpened by yes or no: rounding may let a single patch change sides.
    assert np.isclose(pdist(second), pdist(first), rtol=0.02).mean() > 0.85


def test_feature_that_is_the_same_everywhere_says_nothing(hierarchy_of):
    image = np.random.default_rng(0).normal(0, 1, (32, 32))
    alone = hierarchy_of(image[np.newaxis], 4, levels=[1])
    beside = hierarchy_of(np.stack([image, np.full_like(image, 3)]), 4, levels=[1, 1])
    np.testing.assert_allclose(
        pdist(describe(beside.statistics, beside.graph, scale=1).values),
        pdist(describe(alone.statistics, alone.graph, scale=1).values),
        rtol=0.2,  # the estimate of the noise is shrunk over one more feature
    )


def test_scale_is_the_one_asked_for_and_the_larger_the_smoother(hierarchy_of):
    tree = hierarchy_of(np.random.default_rng(0).random((64, 64)), 4)
    steps = []
    for scale in (1, 6, 16, 100):
        descriptor = describe(tree.statistics, tree.graph, 0.5, scale)
        assert descriptor.scale == scale
        steps.append(np.abs(np.diff(descriptor.raw[:, 0])).mean())
    assert all(after < 0.6 * before for before, after in pairwise(steps))


def test_auto_chooses_a_scale(two_cues):
    descriptor = describe(two_cues.statistics, two_cues.graph)
    assert descriptor.scale >= 1
    asked = describe(two_cues.statistics, two_cues.graph, scale=descriptor.scale)
    assert np.array_equal(asked.values, descriptor.values)


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 1, 1), (1, 8, 4), (1, 30, 30)])
@pytest.mark.parametrize("scale", [1, 16, "auto"])
@pytest.mark.parametrize("balance", [0, 0.5, 1])
def test_constant_images_have_equal_patches(hierarchy_of, shape, scale, balance):
    tree = hierarchy_of(np.full(shape, 3.0), 4)
    values = describe(tree.statistics, tree.graph, balance, scale).values
    assert len(values) == tree.n_patches
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values - values[0], 0, atol=1e-6)


def test_statistics_are_not_written_to(hierarchy_of):
    tree = hierarchy_of(np.random.default_rng(0).random((2, 16, 16)), 4)
    for array in (tree.statistics.mean, tree.statistics.second, tree.statistics.count):
        array.flags.writeable = False
    describe(tree.statistics, tree.graph, 0.3, 16)


def test_brightness_alone_needs_the_image_among_the_levels(hierarchy_of):
    tree = hierarchy_of(np.random.default_rng(0).normal(0, 1, (1, 16, 16)), 4, levels=[1])
    with pytest.raises(InputError, match="level 0"):
        describe(tree.statistics, tree.graph, balance=0)


def test_auto_averages_textures(hierarchy_of):
    # Neighbouring patches of a texture are independent draws.
    noise = np.random.default_rng(0).normal(0, 1, (96, 96))
    truth = np.repeat([0.6, 1.0], 48) * np.ones((96, 1))
    tree = hierarchy_of(noise * truth, 3, levels=[1])
    assert describe(tree.statistics, tree.graph).scale == 16


def test_auto_does_not_average_clear_things(hierarchy_of):
    y, x = np.indices((96, 96))
    discs = (np.hypot(y % 24 - 12, x % 24 - 12) < 8).astype(float)
    tree = hierarchy_of(discs + np.random.default_rng(0).normal(0, 0.05, discs.shape), 3)
    assert describe(tree.statistics, tree.graph).scale == 1


def test_scales_in_between_differ(hierarchy_of):
    tree = hierarchy_of(np.random.default_rng(0).random((64, 64)), 4)
    rough = [
        np.abs(np.diff(describe(tree.statistics, tree.graph, 0.5, scale).raw[:, 0])).mean()
        for scale in (1, 2, 3, 4, 6)
    ]
    assert all(after < before for before, after in pairwise(rough))
