import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from napari_aeseg.errors import StoppedError
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.tree import ward
from napari_aeseg.regions.tree.ward import (
    SharedMerges,
    merge_reciprocal_neighbours,
    ward_costs,
    ward_tree,
    ward_tree_of_all,
)


@pytest.fixture(params=["higra", "plain"])
def engine(request, monkeypatch):
    """Both ways to merge: higra, and plain Python for machines without it."""
    if request.param == "plain":
        monkeypatch.setattr(ward, "HAS_HIGRA", False)
    elif not ward.HAS_HIGRA:
        pytest.skip("there are no wheels of higra for this machine")


@pytest.fixture(params=["exact", "plain", "rounds"])
def any_way(request, monkeypatch):
    """Every way to a tree, that of large graphs too: rounds first, then the exact order."""
    if request.param == "plain":
        monkeypatch.setattr(ward, "HAS_HIGRA", False)
    if request.param == "rounds":
        monkeypatch.setattr(ward, "MAX_EXACT_NODES", 3)
        monkeypatch.setattr(ward, "REGIONS_AFTER_ROUNDS", 2)


@st.composite
def graphs(draw, most=14):
    """A connected graph with positions and weights: edges, (P, D), (P,)."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    leaves = draw(st.integers(2, most))
    chain = [(int(rng.integers(i)), i) for i in range(1, leaves)]
    pairs = [(i, j) for j in range(leaves) for i in range(j)]
    extra = [p for p in pairs if rng.random() < draw(st.sampled_from([0, 0.2, 1]))]
    edges = np.array(sorted({*chain, *extra}))
    positions = rng.normal(size=(leaves, draw(st.integers(1, 3))))
    return edges, positions, rng.integers(1, 30, leaves).astype(float)


def merge_by_force(edges, positions, weight):
    """Ward's merges with every pair looked at every time: costs and the partition after each."""
    members = [{i} for i in range(len(positions))]
    height = [0.0] * len(members)
    costs, partitions = [], []

    def touch(one, other):
        return any((a in one and b in other) or (a in other and b in one) for a, b in edges)

    def pair_cost(one, other):
        both = [sorted(one), sorted(other)]
        first, second = (weight[m].sum() for m in both)
        x, y = (np.average(positions[m], axis=0, weights=weight[m]) for m in both)
        return first * second / (first + second) * ((x - y) ** 2).sum()

    while len(members) > 1:
        pairs = [(i, j) for i in range(len(members)) for j in range(i)]
        pair_costs = {
            (i, j): pair_cost(members[i], members[j])
            for i, j in pairs
            if touch(members[i], members[j])
        }
        i, j = min(pair_costs, key=pair_costs.get)
        costs.append(max(pair_costs[i, j], height[i], height[j]))
        members[j] |= members.pop(i)
        height.pop(i)
        height[j] = costs[-1]
        partitions.append({frozenset(m) for m in members})
    return np.array(costs), partitions


def parts(labels):
    return {frozenset(np.flatnonzero(labels == i).tolist()) for i in np.unique(labels)}


@given(graphs(most=9))
def test_merges_are_those_of_a_search_over_all_pairs(engine, graph):
    tree = ward_tree(*graph)
    costs, partitions = merge_by_force(*graph)
    np.testing.assert_allclose(tree.cost, np.sort(costs), rtol=1e-9, atol=1e-12)
    if (np.diff(costs) > 1e-9).all():  # no merge had to wait for its parts: the order is plain
        for number, partition in enumerate(partitions, 1):
            assert parts(tree.cut(len(graph[1]) - number)) == partition


@given(graphs(most=40))
def test_higra_and_plain_python_agree(graph):
    if not ward.HAS_HIGRA:
        pytest.skip("there are no wheels of higra for this machine")
    both = []
    for merge in (ward._ward_higra, ward._ward_heap):
        both.append(ward._sorted_tree(*merge(*graph), graph[2]))
    first, second = both
    np.testing.assert_allclose(first.cost, second.cost, rtol=1e-9, atol=1e-12)
    gaps = np.flatnonzero(np.diff(first.cost) > 1e-9 * first.cost[-1])
    for merges in gaps + 1:  # between two costs the cut is the same whatever the order of ties
        number = first.leaves - merges
        assert parts(first.cut(number)) == parts(second.cut(number))


@given(graphs(most=30))
def test_all_pairs_are_a_graph_in_which_all_touch(graph):
    _, positions, weight = graph
    pairs = np.stack(np.triu_indices(len(weight), 1), axis=1)
    expected, found = ward_tree(pairs, positions, weight), ward_tree_of_all(positions, weight)
    np.testing.assert_allclose(found.cost, expected.cost, rtol=1e-9, atol=1e-12)
    assert (np.diff(found.cost) >= 0).all()
    for number in range(1, len(weight) + 1):
        assert parts(found.cut(number)) == parts(expected.cut(number))


@given(graphs())
def test_cost_never_decreases_and_children_come_first(any_way, graph):
    tree = ward_tree(*graph)
    assert (np.diff(tree.cost) >= 0).all()
    assert tree.cost[0] >= 0
    assert (tree.children < np.arange(tree.leaves, 2 * tree.leaves - 1)[:, np.newaxis]).all()
    assert sorted(tree.children.ravel().tolist()) == list(range(2 * tree.leaves - 2))


@given(graphs())
def test_size_is_the_weight_of_all_leaves_below(any_way, graph):
    tree = ward_tree(*graph)
    assert tree.size[: tree.leaves].tolist() == graph[2].tolist()
    for merge, (a, b) in enumerate(tree.children):
        assert tree.size[tree.leaves + merge] == pytest.approx(tree.size[a] + tree.size[b])
    assert tree.size[-1] == pytest.approx(graph[2].sum())


@given(graphs())
def test_cut_has_exactly_the_labels_asked_for(any_way, graph):
    tree = ward_tree(*graph)
    for number in range(1, tree.leaves + 1):
        labels = tree.cut(number)
        assert labels.dtype == np.int32
        assert np.array_equal(np.unique(labels), np.arange(1, number + 1))


@given(graphs())
def test_every_region_is_connected(any_way, graph):
    edges = graph[0]
    tree = ward_tree(*graph)
    for number in range(1, tree.leaves + 1):
        labels = tree.cut(number)
        inside = edges[labels[edges[:, 0]] == labels[edges[:, 1]]]
        links = sparse.coo_array(
            (np.ones(len(inside)), (inside[:, 0], inside[:, 1])), shape=(tree.leaves, tree.leaves)
        )
        assert connected_components(links, directed=False)[0] == number


@given(graphs())
def test_one_region_more_gives_only_the_part_split_off_a_new_label(any_way, graph):
    tree = ward_tree(*graph)
    for number in range(1, tree.leaves):
        before, after = tree.cut(number), tree.cut(number + 1)
        new = after == number + 1
        assert np.array_equal(before[~new], after[~new])
        assert len(np.unique(before[new])) == 1
        # The larger part keeps the label.
        split = before == before[new][0]
        assert graph[2][new].sum() <= graph[2][split & ~new].sum() + 1e-9


@given(graphs())
def test_leaves_of_every_node_are_a_run(any_way, graph):
    tree = ward_tree(*graph)
    order, start, length = tree.leaf_order
    below = [{i} for i in range(tree.leaves)]
    for a, b in tree.children.tolist():
        below.append(below[a] | below[b])
    for leaves, first, number in zip(below, start, length, strict=True):
        assert set(order[first : first + number].tolist()) == leaves
        assert len(leaves) == number


@given(graphs(), st.floats(0, 100))
def test_regions_left_below_a_cost(any_way, graph, cost):
    tree = ward_tree(*graph)
    for limit in (cost, *tree.cost):  # a merge that costs as much as the limit is not below it
        assert tree.count_below(limit) == tree.leaves - (tree.cost < limit).sum()


def test_a_single_node_is_a_tree(any_way):
    tree = ward_tree(np.empty((0, 2), int), np.array([[3.0]]), np.ones(1))
    assert tree.leaves == 1
    assert tree.cut(1).tolist() == [1]
    assert tree.count_below(5) == 1


def test_neighbours_merge_before_likes_that_do_not_touch(engine):
    positions = np.array([[0.0], [1.0], [0.0]])
    tree = ward_tree(np.array([[0, 1], [1, 2]]), positions, np.ones(3))
    assert tree.cut(2)[0] != tree.cut(2)[2]


def test_weight_makes_merging_costlier(engine):
    edges = np.array([[0, 1], [1, 2], [2, 3]])
    positions = np.array([[0.0], [1.0], [10.0], [11.5]])
    assert ward_tree(edges, positions, np.ones(4)).cut(3).tolist() == [1, 1, 2, 3]
    heavy = ward_tree(edges, positions, np.array([50.0, 50, 1, 1]))
    assert parts(heavy.cut(3)) == {frozenset({0}), frozenset({1}), frozenset({2, 3})}


def test_equal_positions_cost_nothing(any_way):
    tree = ward_tree(np.array([[0, 1], [1, 2]]), np.zeros((3, 2)), np.ones(3))
    assert tree.cost.tolist() == [0, 0]
    assert np.unique(tree.cut(3)).tolist() == [1, 2, 3]


def test_input_is_not_written_to(any_way):
    edges, positions, weight = np.array([[0, 1]]), np.array([[0.0], [1.0]]), np.ones(2)
    for array in (edges, positions, weight):
        array.flags.writeable = False
    ward_tree(edges, positions, weight).cut(2)


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
    monkeypatch.setattr(ward, "MAX_EXACT_NODES", 1000)
    monkeypatch.setattr(ward, "REGIONS_AFTER_ROUNDS", 400)
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
    for (a, b), merge_cost in zip(found.children.tolist(), found.cost, strict=True):
        assert merge_cost >= max(cost[a], cost[b])
        below.append(below[a] + below[b])
        cost.append(merge_cost)
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


def test_shared_merges_are_those_of_the_tree_they_come_from():
    rng = np.random.default_rng(0)
    positions, weight = (
        ndimage.gaussian_filter(noise(rng, 5), (3, 0)),
        rng.integers(20, 90, SIDE**2).astype(float),
    )
    whole = merge_reciprocal_neighbours(EDGES, positions, weight, 300)
    shared = SharedMerges.down_to(EDGES, positions, weight, 800)
    begun = merge_reciprocal_neighbours(EDGES, positions, weight, 300, shared=shared)
    assert len(np.unique(shared.region)) == 800
    same = sum(len(first) for first, _ in shared.rounds[:-1])  # the last round is cut short
    np.testing.assert_array_equal(begun.children[:same], whole.children[:same])
    np.testing.assert_allclose(begun.cost[:same], whole.cost[:same], rtol=1e-5)
    assert begun.cost.sum() == pytest.approx(whole.cost.sum(), rel=0.02)


def test_shared_merges_are_used_again_and_again():
    rng = np.random.default_rng(1)
    positions, weight = noise(rng, 3), np.ones(SIDE**2)
    shared = SharedMerges.down_to(EDGES, positions, weight, 900)
    first = merge_reciprocal_neighbours(EDGES, positions, weight, 100, shared=shared)
    second = merge_reciprocal_neighbours(EDGES, positions, weight, 100, shared=shared)
    np.testing.assert_array_equal(first.children, second.children)


def test_shared_merges_across_a_border_are_undone():
    rng = np.random.default_rng(2)
    weight = np.ones(SIDE**2)
    shared = SharedMerges.down_to(EDGES, noise(rng, 3), weight, 600)
    part = (PATCHES % SIDE >= 17).ravel().astype(int)
    across = [len(np.unique(part[shared.region == r])) > 1 for r in range(600)]
    assert any(across)
    kept = shared.within(part)
    positions = part[:, np.newaxis] * 50.0 + rng.normal(size=(SIDE**2, 1))
    labels = merge_reciprocal_neighbours(EDGES, positions, weight, 2, shared=kept)
    assert sorted(labels.weight.tolist()) == [17 * SIDE, 31 * SIDE]
    whole = np.flatnonzero(~np.array(across))
    np.testing.assert_array_equal(
        kept.region[shared.region == whole[0]] == kept.region[shared.region == whole[0]][0], True
    )
    alone = np.isin(shared.region, np.flatnonzero(across))
    assert len(np.unique(kept.region[alone])) == alone.sum()
