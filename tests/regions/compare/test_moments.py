import numpy as np
import pytest

from napari_aeseg.params import ComparisonParams
from napari_aeseg.regions.compare import moments as module
from napari_aeseg.regions.compare.descriptor import describe
from napari_aeseg.regions.compare.moments import MomentsCache
from napari_aeseg.regions.compare.trend import gradient_of, relative_centroid
from napari_aeseg.regions.compare.whitening import edge_differences


@pytest.fixture(scope="module")
def tree(hierarchy_of):
    """Noise of two strengths under light that falls off."""
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 64))
    image = rng.normal(0, np.where(x < 32, 0.1, 0.3), (3, 64, 64)) + y / 32
    return hierarchy_of(image, 4, levels=[0, 1, 2])


def test_positions_are_those_of_standardised_values_without_gradient(tree):
    found = MomentsCache(tree.statistics, tree.graph).at(1.0)
    mean, second = tree.statistics.mean, tree.statistics.second
    variance = np.maximum(second - mean**2, 0)
    raw = np.concatenate([mean, np.log(variance + 0.1 * variance.mean(axis=0))], axis=1)
    np.testing.assert_allclose(found.raw, raw, atol=1e-5)
    z = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    place, edges = relative_centroid(tree.statistics.centroid), tree.graph.edges
    slope = gradient_of(edge_differences(z, edges), edge_differences(place, edges), z, place)
    level = z - place @ slope
    assert np.abs(level - z).max() > 0.5  # there is a gradient, and it is taken out
    np.testing.assert_allclose(found.positions(np.eye(6)), level, atol=1e-3)
    few = found.positions(np.eye(2), np.array([True, False, True, False, False, False]))
    np.testing.assert_allclose(few, level[:, [0, 2]], atol=1e-3)


def test_a_sample_of_the_patches_tells_nearly_the_same(hierarchy_of, monkeypatch):
    image = np.random.default_rng(0).normal(0, 1, (2, 160, 160))
    tree = hierarchy_of(image, 4, levels=[0, 1])
    all_of_them = MomentsCache(tree.statistics, tree.graph).at(1.0)
    monkeypatch.setattr(module, "_ENOUGH_PATCHES", 300)
    some = MomentsCache(tree.statistics, tree.graph).at(1.0)
    np.testing.assert_allclose(some.spread, all_of_them.spread, rtol=0.15)
    assert some.positions(np.eye(4)).shape == (1600, 4)


def test_moments_of_a_few_scales_are_kept(tree, monkeypatch):
    cache = MomentsCache(tree.statistics, tree.graph)
    first = cache.at(1.0)
    two, three, four = (cache.at(float(s)) for s in (2, 3, 4))
    assert cache.at(1.0) is first
    assert cache.at(3.0) is three
    assert cache.at(4.0) is four
    assert cache.at(2.0) is not two


def test_what_was_known_before_changes_nothing(tree):
    cache = MomentsCache(tree.statistics, tree.graph)
    for balance, scale in ((0.2, 1), (0.8, 16), (0.5, "auto"), (0.2, 1), (0.8, 16), (0.2, 5)):
        comparison = ComparisonParams(balance=balance, scale=scale)
        known = describe(tree.statistics, tree.graph, comparison, cache=cache)
        fresh = describe(tree.statistics, tree.graph, comparison)
        assert np.array_equal(known.values, fresh.values)
        assert np.array_equal(known.appearance, fresh.appearance)


def test_another_balance_needs_no_new_moments(tree, monkeypatch):
    before = tree.reweighted(scale=16).prepare()
    monkeypatch.setattr(module, "LogMoments", None)  # none can be made
    after = before.reweighted(balance=0.9).prepare()
    assert not np.array_equal(after.regions(9), before.regions(9))
