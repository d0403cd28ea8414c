import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_aeseg.errors import StoppedError
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.tree import ward as merge_tree
from napari_aeseg.regions.tree.ward import merge_reciprocal_neighbours, ward_costs, ward_tree

SIDE = 48
PATCHES = np.arange(SIDE**2).reshape(SIDE, SIDE)
EDGES = region_graph(PATCHES).edges


def within(labels, positions, weight):
    """Weighted sum of squares within regions."""
    total = 0.0
    for label in np.unique(labels):
        x, w = positions[labels == label], weight[labels == label]
        total += (w * ((x - np.average(x, axis=0, weights=w)) ** 2).sum(axis=1)).sum()
    return total


def noise(rng, dimensions):
    return rng.normal(size=(SIDE**2, dimensions))


def blurred_textures(rng, dimensions):
    """Noise averaged over neighbours, around the means of a few large regions."""
    cells = rng.integers(0, 7, (4, 4)).repeat(12, 0).repeat(12, 1)
    means = rng.normal(0, 1, (7, dimensions))[cells]
    smooth = ndimage.gaussian_filter(rng.normal(size=means.shape), (1.5, 1.5, 0))
    return (means + 3 * smooth).reshape(-1, dimensions)


def things(rng, dimensions):
    """Discs of different contrast on a slope, with outliers."""
    y, x = np.indices((SIDE, SIDE))
    image = x / SIDE
    for centre in rng.integers(0, SIDE, (12, 2)):
        image = np.where(np.hypot(y - centre[0], x - centre[1]) < 5, rng.normal(0, 9), image)
    values = image.ravel()[:, np.newaxis] + rng.normal(0, 0.3, (SIDE**2, dimensions))
    values[rng.integers(0, SIDE**2, 40)] += rng.normal(0, 5, (40, dimensions))
    return values


@pytest.mark.parametrize("make", [noise, blurred_textures, things])
@pytest.mark.parametrize("seed", range(3))
def test_the_tree_is_nearly_as_good_as_the_exact_one(monkeypatch, make, seed):
    rng = np.random.default_rng(seed)
    positions = make(rng, 6)
    weight = rng.integers(20, 90, SIDE**2).astype(float)
    exact = ward_tree(EDGES, positions, weight)
    monkeypatch.setattr(merge_tree, "MOST_EXACT", 1000)
    monkeypatch.setattr(merge_tree, "LEFT_BY_ROUNDS", 400)
    fast = ward_tree(EDGES, positions, weight)
    for number in (10, 50, 200):
        least = within(exact.cut(number), positions, weight)
        assert within(fast.cut(number), positions, weight) <= 1.02 * least


@given(
    nodes=st.integers(2, 60),
    number=st.integers(1, 60),
    seed=st.integers(0, 1000),
    flat=st.booleans(),
)
def test_regions_left_are_as_many_as_asked_for_and_described_right(nodes, number, seed, flat):
    rng = np.random.default_rng(seed)
    number = min(number, nodes)
    chain = [(int(rng.integers(i)), i) for i in range(1, nodes)]
    extra = [tuple(sorted(p)) for p in rng.integers(0, nodes, (nodes, 2)).tolist() if p[0] != p[1]]
    edges = np.array(sorted({*chain, *extra})).reshape(-1, 2)
    x, w = rng.normal(size=(nodes, 2)) * (not flat), rng.integers(1, 9, nodes).astype(float)
    found = merge_reciprocal_neighbours(edges, x, w, number)
    assert len(found.node) == number
    assert len(found.children) == len(found.cost) == nodes - number
    below = [[i] for i in range(nodes)]
    cost = [0.0] * nodes
    for (a, b), paid in zip(found.children.tolist(), found.cost, strict=True):
        assert paid >= max(cost[a], cost[b])
        below.append(below[a] + below[b])
        cost.append(paid)
    region = np.full(nodes, -1)
    for i, node in enumerate(found.node):
        assert (region[below[node]] == -1).all()
        region[below[node]] = i
        assert found.height[i] == cost[node]
        assert found.weight[i] == w[below[node]].sum()
        mean = np.average(x[below[node]], axis=0, weights=w[below[node]])
        np.testing.assert_allclose(found.positions[i], mean, atol=1e-5)
    assert (region >= 0).all()
    ends = {tuple(sorted(p)) for p in region[edges].tolist() if p[0] != p[1]}
    assert sorted(tuple(sorted(p)) for p in found.edges.tolist()) == sorted(ends)


def test_costs_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(1, 99, 50).astype(float)
    a, b = rng.integers(0, 50, (2, 5000))
    plain = [
        w[i] * w[j] / (w[i] + w[j]) * ((x[i] - x[j]) ** 2).sum() for i, j in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ward_costs(a, b, x, w), plain, rtol=1e-5)


def test_a_flat_image_takes_few_rounds(counted_stop):
    stop = counted_stop()
    merge_reciprocal_neighbours(EDGES, np.zeros((SIDE**2, 2)), np.ones(SIDE**2), 10, stop)
    assert stop.looks < 60


def test_every_round_can_be_stopped(counted_stop):
    positions = noise(np.random.default_rng(0), 2)
    free = counted_stop()
    merge_reciprocal_neighbours(EDGES, positions, np.ones(SIDE**2), 100, free)
    assert free.looks > 3
    for at in range(1, free.looks + 1):
        with pytest.raises(StoppedError, match="tree"):
            merge_reciprocal_neighbours(EDGES, positions, np.ones(SIDE**2), 100, counted_stop(at))
