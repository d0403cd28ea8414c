import numpy as np
import pytest

from napari_aeseg.params import ComparisonParams
from napari_aeseg.regions.compare.moments import FeatureCalibration, MomentsCache
from napari_aeseg.regions.patches.coarsening import PatchCoarsening
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.statistics import PatchStatistics, geometry

SIDE = 40


def patches_of(seed=0):
    """Patches of 4 x 4 pixels in two textures that differ in one feature's energy alone."""
    rng = np.random.default_rng(seed)
    patches = np.kron(np.arange(SIDE**2).reshape(SIDE, SIDE), np.ones((4, 4), int)).astype(np.int32)
    count, centroid = geometry(patches)
    half = np.arange(SIDE**2) % SIDE >= SIDE // 2
    mean = rng.normal(0, 1, (SIDE**2, 6)).astype(np.float32)
    variance = np.exp(rng.normal(0, 0.7, mean.shape)) * np.where(half, 3, 1)[:, np.newaxis]
    level = np.array([0, 0, 1, 1, 2, 2])
    second = (mean**2 + variance).astype(np.float32)
    return PatchStatistics(count, mean, second, level, centroid, mean[:, :1]), region_graph(patches)


@pytest.fixture(scope="module")
def textures():
    return patches_of()


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_what_is_compared_is_the_mean_of_what_it_was(textures, scale):
    statistics, graph = textures
    coarsening = PatchCoarsening.estimate([textures], 200.0, ComparisonParams(scale=scale))
    region, joined = coarsening.coarsened(statistics, graph)
    assert region.max() + 1 == len(joined.count) <= SIDE**2 * 16 / 200
    assert joined.count.sum() == statistics.count.sum()
    before = MomentsCache(statistics, graph).at(scale).raw
    larger = region_graph(region.astype(np.int32)[np.arange(SIDE**2).reshape(SIDE, SIDE)])
    after = MomentsCache(joined, larger, calibration=coarsening.calibration).at(7.0).raw
    for k in (0, 5, len(joined.count) - 1):
        np.testing.assert_allclose(after[k], before[region == k].mean(axis=0), atol=2e-3)


def test_noise_is_that_of_the_patches_before(textures):
    statistics, graph = textures
    coarsening = PatchCoarsening.estimate([textures], 200.0, ComparisonParams(scale=16.0))
    region, joined = coarsening.coarsened(statistics, graph)
    larger = region_graph(region.astype(np.int32)[np.arange(SIDE**2).reshape(SIDE, SIDE)])
    cache = MomentsCache(joined, larger, calibration=coarsening.calibration)
    fine = MomentsCache(statistics, graph).at(16.0)
    for scale in (1.0, 16.0):
        np.testing.assert_allclose(
            cache.at(scale).full_noise.inverse_deviation, fine.full_noise.inverse_deviation
        )
        assert cache.at(scale).unit == fine.unit


def test_textures_stay_apart_when_patches_are_joined(textures):
    statistics, graph = textures
    region, _ = PatchCoarsening.estimate(
        [textures], 2000.0, ComparisonParams(scale=16.0)
    ).coarsened(statistics, graph)
    half = np.arange(SIDE**2) % SIDE >= SIDE // 2
    share = np.bincount(region, half) / np.bincount(region)
    mixed = np.minimum(share, 1 - share) * np.bincount(region)
    assert mixed.sum() / len(region) < 0.05


def test_what_is_known_survives_as_numbers_and_arrays(textures):
    known = PatchCoarsening.estimate([textures], 200.0, ComparisonParams()).calibration
    again = FeatureCalibration.of_parts(known.numbers(), known.arrays())
    assert again.numbers() == known.numbers()
    for name, values in known.arrays().items():
        assert np.array_equal(again.arrays()[name], values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", 0.5),
        ("scale", float("nan")),
        ("unit", 0.0),
        ("contrast", -1.0),
        ("contrast", np.inf),
    ],
)
def test_numbers_that_cannot_be_are_refused(textures, name, value):
    known = PatchCoarsening.estimate([textures], 200.0, ComparisonParams()).calibration
    with pytest.raises(ValueError, match=name):
        FeatureCalibration.of_parts({**known.numbers(), name: value}, known.arrays())


def test_noise_that_cannot_be_is_refused(textures):
    known = PatchCoarsening.estimate([textures], 200.0, ComparisonParams()).calibration
    for name in ("floor", "gain", "local_noise/inverse_deviation"):
        arrays = {**known.arrays(), name: -known.arrays()[name]}
        with pytest.raises(ValueError, match="above 0"):
            FeatureCalibration.of_parts(known.numbers(), arrays)


def test_blocks_with_few_patches_keep_them_all(textures):
    statistics, graph = textures
    coarsening = PatchCoarsening.estimate([textures], 1.0, ComparisonParams())
    region, joined = coarsening.coarsened(statistics, graph)
    assert np.array_equal(region, np.arange(SIDE**2))
    assert np.array_equal(joined.count, statistics.count)
