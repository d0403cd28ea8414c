import numpy as np

from napari_aeseg.regions.compare.whitening import (
    NoiseModel,
    edge_differences,
    noise_variance,
    quietest,
    whitening_within_regions,
)
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.statistics import region_means

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


def test_within_regions_variation_is_equal_in_all_directions():
    values = noisy()
    region = PATCHES.ravel() // 100
    white = values @ whitening_within_regions(values, region, np.ones(1600))
    within = white - white.reshape(16, 100, 3).mean(axis=1)[region]
    np.testing.assert_allclose(np.cov(within.T, bias=True), np.eye(3), atol=0.03)


def test_what_varies_within_regions_counts_less_than_what_differs_between_them():
    y, x = np.divmod(PATCHES.ravel(), 40)
    wave = 5 * np.sin(x)  # all of it is in every region
    values = np.stack([wave, np.where(y < 20, 0, 1.0)], axis=1) + 0.1 * noisy()[:, :2]
    region = y // 10

    def contrast(values):
        within = values - region_means(values, region, np.ones(1600))[region]
        halves = values[y >= 20].mean(axis=0) - values[y < 20].mean(axis=0)
        return np.linalg.norm(halves) / np.sqrt((within**2).sum(axis=1).mean())

    white = values @ whitening_within_regions(values, region, np.ones(1600))
    assert contrast(white) > 10 * contrast(values)


def test_patches_that_are_like_their_regions_stay_as_they_are():
    values = np.repeat([[1.0, 2.0], [5.0, 0.0]], 3, axis=0)
    white = whitening_within_regions(values, np.repeat([0, 1], 3), np.ones(6))
    assert np.array_equal(white, np.eye(2))


def test_sizes_of_patches_count():
    values = np.random.default_rng(1).normal(size=(30, 2)) @ MIX[:2, :2]
    region, weight = np.arange(30) % 3, np.random.default_rng(2).integers(1, 4, 30)
    again = np.repeat(np.arange(30), weight)
    np.testing.assert_allclose(
        whitening_within_regions(values, region, weight),
        whitening_within_regions(values[again], region[again], np.ones(len(again))),
    )
