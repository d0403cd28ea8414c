"""Laws of the smallest region and the smallest piece of a class."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_aeseg.regions.cuts.minimum_size import (
    without_small_pieces,
    without_small_pieces_of_pixels,
    without_small_regions,
)
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.tree.ward import ward_tree


def patches_and_tree(seed, shape=(9, 11)):
    """Patches of 1 to 9 pixels in a row each, and a merge tree of them."""
    rng = np.random.default_rng(seed)
    patches = np.arange(np.prod(shape)).reshape(shape)
    patches = np.repeat(patches, rng.integers(1, 4, shape[0]), axis=0)
    patches = np.repeat(patches, rng.integers(1, 4, shape[1]), axis=1)
    graph, pixels = region_graph(patches), np.bincount(patches.ravel())
    return patches, graph, pixels, ward_tree(graph.edges, rng.normal(size=(len(pixels), 2)), pixels)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_size", [2, 7, 40, 10_000])
def test_regions_are_large_connected_nested_and_as_many_as_asked_for(seed, min_size):
    patches, graph, pixels, tree = patches_and_tree(seed)
    leaf, large = without_small_regions(tree, graph, pixels, min_size)
    assert np.array_equal(np.unique(leaf), np.arange(large.leaves))
    before = np.zeros(patches.shape, int)
    for number in range(1, large.leaves + 1):
        labels = large.cut(number)[leaf][patches]
        sizes = np.bincount(labels.ravel())[1:]
        assert len(sizes) == number
        assert sizes.min() >= min(min_size, patches.size)
        assert all(ndimage.label(labels == k)[1] == 1 for k in range(1, number + 1))
        assert ((labels == before) | (labels == number)).all()
        before = labels


def test_a_smallest_size_below_all_patches_changes_nothing():
    _, graph, pixels, tree = patches_and_tree(0)
    leaf, large = without_small_regions(tree, graph, pixels, 1)
    assert large is tree
    assert np.array_equal(leaf, np.arange(tree.leaves))


def test_costly_merges_of_large_parts_stay():
    # Two halves, each with an odd patch at its end that is split off first.
    values = np.array([30, 0, 0, 0, 5, 5, 5, -30.0])[:, np.newaxis]
    graph, pixels = region_graph(np.arange(8)[np.newaxis]), np.ones(8)
    tree = ward_tree(graph.edges, values, pixels)
    assert np.bincount(tree.cut(2)).min() <= 1
    leaf, large = without_small_regions(tree, graph, pixels, min_size=2)
    assert np.unique(large.cut(2)[leaf][:4]).size == np.unique(large.cut(2)[leaf][4:]).size == 1
    assert large.cut(2)[leaf][0] != large.cut(2)[leaf][-1]


@pytest.mark.parametrize("seed", range(4))
def test_no_small_piece_of_a_class_is_left_and_large_ones_stay(seed):
    labels = np.random.default_rng(seed).integers(1, 4, (24, 30))
    labels[:6, :9], labels[-6:, -9:] = 1, 2
    found = without_small_pieces_of_pixels(labels, 12)
    for label in np.unique(found):
        pieces, number = ndimage.label(found == label)
        assert min(np.bincount(pieces.ravel())[1:]) >= 12, (label, number)
    assert (found[:6, :9] == 1).all()
    assert (found[-6:, -9:] == 2).all()


def test_a_piece_takes_the_label_of_its_longest_border():
    labels = np.array([[1, 1, 1, 1], [1, 3, 3, 2], [2, 2, 2, 2], [2, 2, 2, 2]])
    graph = region_graph(np.arange(16).reshape(4, 4))
    found = without_small_pieces(labels.ravel(), graph, np.ones(16), 3)
    assert found.reshape(4, 4)[1].tolist() == [1, 2, 2, 2]
