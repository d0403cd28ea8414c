import numpy as np

from napari_aeseg.regions.compare.whitening import (
    NoiseModel,
    edge_differences,
    noise_variance,
    quietest,
)
from napari_aeseg.regions.patches.graph import region_graph

PATCHES = np.arange(1600).reshape(40, 40)
EDGES = region_graph(PATCHES).edges
HALVES = (PATCHES % 40 >= 20).ravel()
MIX = np.array([[1.0, 0.9, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 1.5]])


def whitening(values, edges, tolerance, weight):
    return NoiseModel.of(edge_differences(values, edges), values).map(tolerance, weight)


def noisy(difference=0.0):
    noise = np.random.default_rng(0).normal(0, 1, (1600, 3)) @ MIX
    return noise / noise.std(axis=0) + HALVES[:, np.newaxis] * np.array([0, difference, 0])


def test_noise_is_equal_in_all_directions():
    values = noisy()
    white = values @ whitening(values, EDGES, 0.0, np.ones(3))
    spread = np.linalg.svd(white - white.mean(axis=0), compute_uv=False)
    assert spread.max() / spread.min() < 1.4


def test_a_border_does_not_count_as_noise():
    assert np.allclose(
        noise_variance(quietest(edge_differences(noisy(50.0), EDGES))),
        noise_variance(quietest(edge_differences(noisy(), EDGES))),
        rtol=0.15,
    )


def test_the_direction_of_the_difference_comes_first():
    values = noisy(3.0)
    white = values @ whitening(values, EDGES, 0.0, np.ones(3))
    assert abs(np.corrcoef(white[:, 0], HALVES)[0, 1]) > 0.9


def test_much_tolerance_leaves_features_divided_by_their_noise():
    values = noisy()
    difference = quietest(edge_differences(values, EDGES))
    white = whitening(values, EDGES, 1e6, np.ones(3))
    own = values / np.sqrt(noise_variance(difference))
    distance = [np.linalg.norm(x[:200] - x[200:400], axis=1) for x in (values @ white * 1e3, own)]
    np.testing.assert_allclose(distance[0], distance[1], rtol=1e-3)


def test_a_feature_without_weight_does_not_count():
    values = noisy()
    changed = values.copy()
    moved = whitening(values, EDGES, 0.5, np.array([1.0, 1.0, 0.0]))
    changed[:, 2] += 7
    np.testing.assert_allclose(np.ptp((changed - values) @ moved, axis=0), 0, atol=1e-9)


def test_without_edges_nothing_breaks():
    white = whitening(np.ones((1, 2)), np.empty((0, 2), int), 1.0, np.ones(2))
    assert np.isfinite(white).all()
