from __future__ import annotations

import numpy as np
import pytest

from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.tree.contrast import merged_by_contrast
from napari_aeseg.regions.tree.ward import ward_tree


def tree_of(values, stop=None):
    """The tree of an image whose pixels are the patches, shape (Y, X) or (Y, X, D)."""
    graph = region_graph(np.arange(values.shape[0] * values.shape[1]).reshape(values.shape[:2]))
    positions = values.reshape(graph.number, -1)
    ward = ward_tree(graph.edges, positions, np.ones(graph.number))
    return merged_by_contrast(ward, graph.edges, graph.border, positions, stop), graph


def test_small_things_that_stand_out_stay_before_a_gradient_is_cut():
    x = np.indices((40, 60))[1]
    values = x / 6.0  # 10 from left to right, in small steps
    values[10:13, 20:23] += 4
    values[25:28, 40:43] += 4
    tree, _ = tree_of(values)

    labels = tree.cut(3).reshape(values.shape)

    ground = labels[0, 0]
    assert (labels != ground).sum() == 18
    assert labels[11, 21] != labels[26, 41]
    assert (labels[10:13, 20:23] != ground).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (20, 30), (40, 40)])
@pytest.mark.parametrize("flat", [False, True])
def test_cuts_are_exact_nested_and_connected(shape, flat):
    values = np.zeros(shape) if flat else np.random.default_rng(0).normal(size=(*shape, 3))
    tree, graph = tree_of(values)
    assert (np.diff(tree.cost) >= 0).all()
    coarse = tree.cut(1)
    for number in range(2, min(graph.number, 300) + 1, 7):
        fine = tree.cut(number)
        assert len(np.unique(fine)) == number
        pairs = np.unique(np.stack([coarse, fine]), axis=1)
        assert pairs.shape[1] == number  # each fine part lies in one coarse part
        inside = fine[graph.edges[:, 0]] == fine[graph.edges[:, 1]]
        parts = number_of_parts(graph.number, graph.edges[inside])
        assert parts == number
        coarse = fine


def number_of_parts(number, edges):
    """The number of connected parts."""
    from scipy import sparse

    links = sparse.coo_array((np.ones(len(edges)), tuple(edges.T)), (number, number))
    return sparse.csgraph.connected_components(links, directed=False)[0]
