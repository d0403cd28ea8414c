import numpy as np
import pytest

from napari_aeseg.regions.compare.trend import gradient_of, relative_centroid
from napari_aeseg.regions.compare.whitening import edge_differences
from napari_aeseg.regions.patches.graph import region_graph

SIDE = 16
PATCHES = np.arange(SIDE**2).reshape(SIDE, SIDE)
EDGES = region_graph(PATCHES).edges
PLACE = np.indices((SIDE, SIDE)).reshape(2, -1).T.astype(float)
NOISE = np.random.default_rng(0).normal(0, 0.1, (SIDE**2, 3))


def detrended(values, edges, centroid):
    place = relative_centroid(centroid)
    steps = edge_differences(place, edges)
    return values - place @ gradient_of(edge_differences(values, edges), steps, values, place)


def halves(axis):
    return np.repeat(PLACE[:, axis : axis + 1] >= SIDE // 2, 3, axis=1).astype(float)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_gradient_is_removed_and_the_regions_under_it_stay(axis):
    regions = halves(axis) + NOISE
    lit = regions + PLACE[:, :1] * [0.2, -0.1, 0] + PLACE[:, 1:] * [0.1, 0.3, 0]
    found = detrended(lit, EDGES, PLACE)
    left = (found - found.mean(axis=0)) - (regions - regions.mean(axis=0))
    assert np.abs(left).max() < 0.35  # of a step of 1, and of gradients of up to 4.5


@pytest.mark.parametrize("axis", [0, 1])
def test_a_border_is_not_taken_for_a_gradient(axis):
    regions = halves(axis) + NOISE
    found = detrended(regions, EDGES, PLACE)
    assert np.abs(found - regions).max() < 0.2


def test_too_few_patches_are_left_alone():
    values = np.arange(16.0)[:, np.newaxis]
    patches = np.arange(16).reshape(4, 4)
    place = np.indices((4, 4)).reshape(2, -1).T.astype(float)
    assert np.array_equal(detrended(values, region_graph(patches).edges, place), values)


def test_constant_features_stay_as_they_are():
    values = np.zeros((SIDE**2, 2))
    assert np.array_equal(detrended(values, EDGES, PLACE), values)
