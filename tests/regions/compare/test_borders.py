import numpy as np
import pytest

from napari_aeseg.regions.compare.borders import refine_boundaries
from napari_aeseg.regions.patches.graph import averaged, averaging_matrix, region_graph
from napari_aeseg.regions.patches.statistics import region_means
from napari_aeseg.regions.tree.ward import ward_tree

SIDE = 24
PATCHES = np.arange(SIDE**2).reshape(SIDE, SIDE)
GRAPH = region_graph(PATCHES)
WEIGHT = np.ones(SIDE**2)


@pytest.mark.parametrize("seed", range(3))
def test_borders_come_nearer_to_where_they_are(seed):
    y, x = np.indices((SIDE, SIDE))
    truth = ((y // 8 + x // 8) % 2).ravel()
    # A texture of single patches: equal mean, told apart by what single patches look like
    own = np.random.default_rng(seed).normal(0, 1, (SIDE**2, 2)) + 2.5 * truth[:, np.newaxis]
    blurred = averaged(averaging_matrix(GRAPH, WEIGHT, own.dtype), own, 3)
    wrong = []
    for positions in (blurred, refine_boundaries(blurred, own, GRAPH.edges, WEIGHT)[0]):
        labels = ward_tree(GRAPH.edges, positions, WEIGHT).cut(9) - 1
        most = np.round(region_means(truth[:, np.newaxis].astype(float), labels, WEIGHT)).ravel()
        wrong.append(np.mean(most[labels] != truth))
    assert wrong[1] < 0.7 * wrong[0]


def test_the_inside_of_regions_is_left_alone():
    own = np.repeat([0.0, 8.0], SIDE**2 // 2)[:, np.newaxis] * np.ones((1, 2))
    blurred = averaged(averaging_matrix(GRAPH, WEIGHT, own.dtype), own, 3)
    sharp, _ = refine_boundaries(blurred, own, GRAPH.edges, WEIGHT)
    inside = np.abs(np.arange(SIDE**2) // SIDE - (SIDE - 1) / 2) > 5
    assert np.abs(sharp[inside] - blurred[inside]).max() < 0.5


@pytest.mark.parametrize("number", [1, 2, 5])
def test_few_patches_are_no_trouble(number):
    graph = region_graph(np.arange(number)[np.newaxis])
    positions = np.arange(number, dtype=float)[:, np.newaxis]
    assert refine_boundaries(positions, positions, graph.edges, np.ones(number))[0].shape == (
        number,
        1,
    )
