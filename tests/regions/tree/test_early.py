import numpy as np
import pytest
from scipy import ndimage

from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.tree.ward import SharedMerges, merge_reciprocal_neighbours

SIDE = 48
PATCHES = np.arange(SIDE**2).reshape(SIDE, SIDE)
EDGES = region_graph(PATCHES).edges


def noise(rng, dimensions):
    return rng.normal(size=(SIDE**2, dimensions))


def test_early_merges_are_those_of_the_tree_they_come_from():
    rng = np.random.default_rng(0)
    positions, weight = (
        ndimage.gaussian_filter(noise(rng, 5), (3, 0)),
        rng.integers(20, 90, SIDE**2).astype(float),
    )
    whole = merge_reciprocal_neighbours(EDGES, positions, weight, 300)
    early = SharedMerges.found(EDGES, positions, weight, 800)
    begun = merge_reciprocal_neighbours(EDGES, positions, weight, 300, early=early)
    assert len(np.unique(early.region)) == 800
    same = sum(len(first) for first, _ in early.pairs[:-1])  # the last round is cut short
    np.testing.assert_array_equal(begun.children[:same], whole.children[:same])
    np.testing.assert_allclose(begun.cost[:same], whole.cost[:same], rtol=1e-5)
    assert begun.cost.sum() == pytest.approx(whole.cost.sum(), rel=0.02)


def test_early_merges_are_used_again_and_again():
    rng = np.random.default_rng(1)
    positions, weight = noise(rng, 3), np.ones(SIDE**2)
    early = SharedMerges.found(EDGES, positions, weight, 900)
    first = merge_reciprocal_neighbours(EDGES, positions, weight, 100, early=early)
    second = merge_reciprocal_neighbours(EDGES, positions, weight, 100, early=early)
    np.testing.assert_array_equal(first.children, second.children)


def test_early_merges_across_a_border_are_undone():
    rng = np.random.default_rng(2)
    weight = np.ones(SIDE**2)
    early = SharedMerges.found(EDGES, noise(rng, 3), weight, 600)
    part = (PATCHES % SIDE >= 17).ravel().astype(int)
    across = [len(np.unique(part[early.region == r])) > 1 for r in range(600)]
    assert any(across)
    kept = early.within(part)
    positions = part[:, np.newaxis] * 50.0 + rng.normal(size=(SIDE**2, 1))
    labels = merge_reciprocal_neighbours(EDGES, positions, weight, 2, early=kept)
    assert sorted(labels.weight.tolist()) == [17 * SIDE, 31 * SIDE]
    whole = np.flatnonzero(~np.array(across))
    np.testing.assert_array_equal(
        kept.region[early.region == whole[0]] == kept.region[early.region == whole[0]][0], True
    )
    alone = np.isin(early.region, np.flatnonzero(across))
    assert len(np.unique(kept.region[alone])) == alone.sum()
