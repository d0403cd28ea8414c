import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_aeseg.regions.patches.statistics import channel_means, geometry, region_means

PATCHES = np.array([[0, 0, 1], [2, 0, 1], [2, 2, 2]])


def test_counts_and_centroids_by_hand():
    count, centroid = geometry(PATCHES)
    assert count.tolist() == [3, 2, 4]
    np.testing.assert_allclose(centroid, [[1 / 3, 2 / 3], [0.5, 2], [1.75, 0.75]])


def test_channel_means_by_hand():
    pixels = np.stack([np.arange(9).reshape(3, 3), np.full((3, 3), 7)])
    means = channel_means(PATCHES, pixels, geometry(PATCHES)[0])
    np.testing.assert_allclose(means, [[5 / 3, 7], [3.5, 7], [(3 + 6 + 7 + 8) / 4, 7]])


@given(seed=st.integers(0, 100), ndim=st.integers(1, 3))
def test_any_number_of_dimensions(seed, ndim):
    rng = np.random.default_rng(seed)
    patches = np.unique(rng.integers(0, 6, (4, 5, 6)[:ndim]), return_inverse=True)[1]
    patches = patches.reshape((4, 5, 6)[:ndim])
    pixels = rng.integers(0, 60000, (2, *patches.shape)).astype(np.uint16)
    count, centroid = geometry(patches)
    means = channel_means(patches, pixels, count)
    for i in range(patches.max() + 1):
        assert count[i] == (patches == i).sum()
        np.testing.assert_allclose(centroid[i], np.argwhere(patches == i).mean(axis=0))
        np.testing.assert_allclose(means[i], pixels[:, patches == i].mean(axis=1))


def test_large_sums_are_exact():
    image = np.full((1, 2000, 2000), 65535, np.uint16)
    patches = np.zeros((2000, 2000), np.int32)
    assert channel_means(patches, image, geometry(patches)[0]) == 65535


def test_region_means_are_weighted_and_zero_for_empty_regions():
    means = region_means(
        np.array([[1.0], [4.0], [7.0]]), np.array([0, 0, 2]), np.array([2, 1, 1.0])
    )
    assert means.tolist() == [[2.0], [0.0], [7.0]]
