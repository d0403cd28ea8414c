import numpy as np
import pytest

from napari_aeseg.regions.measure import feature_colors
from napari_aeseg.regions.patches.statistics import PatchStatistics


def statistics(mean, level=None, count=None):
    mean = np.asarray(mean, np.float32)
    count = np.ones(len(mean)) if count is None else np.asarray(count, float)
    level = np.ones(mean.shape[1], int) if level is None else np.asarray(level)
    return PatchStatistics(count, mean, mean**2, level, np.zeros((len(mean), 2)), mean)


def test_the_first_component_is_red_and_runs_from_0_to_255():
    ramp = np.linspace(-3, 5, 301)
    colors = feature_colors(statistics(np.stack([ramp, 2 * ramp + 1], axis=1)))
    assert colors.dtype == np.uint8
    assert colors.shape == (301, 3)
    assert (np.diff(colors[:, 0].astype(int)) >= 0).all()
    assert (colors[0, 0], colors[150, 0], colors[-1, 0]) == (0, 128, 255)
    assert not colors[:, 1:].any()  # there is nothing else to show


def test_features_count_alike_whatever_their_units():
    mean = np.random.default_rng(0).random((200, 5))
    scaled = mean * [1, 1000, 0.01, 5, 1] + [0, 7, 0, -2, 100]
    difference = feature_colors(statistics(mean)) - feature_colors(statistics(scaled)).astype(int)
    assert np.abs(difference).max() <= 1


def test_the_image_itself_is_left_out_where_there_are_features():
    rng = np.random.default_rng(0)
    mean = rng.random((100, 4))
    other = np.column_stack([rng.random(100), mean[:, 1:]])
    first, second = (feature_colors(statistics(m, [0, 1, 1, 2])) for m in (mean, other))
    assert np.array_equal(first, second)
    assert feature_colors(statistics(mean, [0, 0, 0, 0])).any()


@pytest.mark.parametrize("value", [0, 0.1, 1e6])
def test_what_is_the_same_everywhere_is_black(value):
    assert not feature_colors(statistics(np.full((9, 3), value))).any()
    assert not feature_colors(statistics(np.full((1, 3), value))).any()


def test_patches_count_by_their_pixels():
    mean = np.random.default_rng(0).random((50, 4))
    count = np.random.default_rng(1).integers(1, 4, 50)
    weighed = feature_colors(statistics(mean, count=count))
    repeated = feature_colors(statistics(np.repeat(mean, count, axis=0)))
    ends = np.cumsum(count) - 1
    # The percentiles are of patches: the directions are alike, the scaling nearly so.
    for k in range(3):
        assert np.corrcoef(weighed[:, k], repeated[ends, k])[0, 1] > 0.99


def test_colors_are_painted(hierarchy):
    painted = hierarchy.feature_colors()
    assert painted.dtype == np.uint8
    assert painted.shape == (64, 64, 3)
    assert np.array_equal(painted, feature_colors(hierarchy.statistics)[hierarchy.patches])
    assert np.array_equal(painted, hierarchy.reweighted(balance=1).feature_colors())
