import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_aeseg.errors import InputError
from napari_aeseg.regions.tree.merge_tree import SMALLEST_THRESHOLD
from napari_aeseg.regions.tree.ward import ward_tree


def random_tree(seed: int, leaves: int):
    """Merge tree of random values on a random tree with a few more edges."""
    rng = np.random.default_rng(seed)
    edges = {(int(rng.integers(i)), i) for i in range(1, leaves)}
    edges |= {
        (min(e), max(e)) for e in rng.integers(0, leaves, (leaves, 2)).tolist() if e[0] != e[1]
    }
    # Rounded, so that some merges cost the same.
    values = rng.random((leaves, 2)).round(1)
    return ward_tree(
        np.array(sorted(edges), np.int64).reshape(-1, 2), values, rng.random(leaves) + 0.1
    )


def leaves_of(tree) -> list[set[int]]:
    """The patches of each merge, by hand."""
    inside = [{i} for i in range(tree.leaves)]
    for a, b in tree.children.tolist():
        inside.append(inside[a] | inside[b])
    return inside[tree.leaves :]


@given(seed=st.integers(0, 500), leaves=st.integers(2, 24))
def test_the_joining_merge_is_the_first_that_holds_both(seed, leaves):
    tree = random_tree(seed, leaves)
    merges = leaves_of(tree)
    pairs = np.array([(a, b) for a in range(leaves) for b in range(leaves) if a != b])
    expected = [next(i for i, m in enumerate(merges) if {*pair} <= m) for pair in pairs.tolist()]
    assert tree.merges_joining(pairs).tolist() == expected


@given(seed=st.integers(0, 500), leaves=st.integers(1, 24), labels=st.integers(1, 4))
def test_the_leaving_merge_is_the_first_with_a_part_inside_and_one_outside(seed, leaves, labels):
    tree = random_tree(seed, leaves)
    row = np.random.default_rng(seed).integers(0, labels, leaves)
    first = tree.merges_leaving(row, labels)
    for label in range(labels):
        own = set(np.flatnonzero(row == label).tolist())
        mixed = [i for i, m in enumerate(leaves_of(tree)) if m & own and m - own]
        assert first[label] == (min(mixed) if mixed else leaves - 1)


@given(seed=st.integers(0, 500), leaves=st.integers(1, 24))
def test_every_merge_closes_one_gap(seed, leaves):
    assert sorted(random_tree(seed, leaves).gap_merges) == list(range(leaves - 1))


@given(threshold=st.floats(0.001, 1))
def test_borders_above_a_threshold_are_those_of_its_regions(noisy, threshold):
    strength = noisy.border_strength()
    assert strength.dtype == np.float32
    assert strength.shape == noisy.patches.shape
    assert 0 <= strength.min() <= strength.max() < 1
    labels = noisy.regions(threshold=threshold)
    border = np.zeros(labels.shape, bool)
    border[1:] |= labels[1:] != labels[:-1]
    border[:-1] |= labels[1:] != labels[:-1]
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    assert np.array_equal(strength >= threshold, border)


def test_both_sides_of_a_border_are_marked(hierarchy_of):
    tree = hierarchy_of(np.repeat([[0.0, 1.0]], 4, axis=0).repeat(4, axis=1), 4)
    assert (tree.border_strength()[:, 3:5] == np.float32(tree.threshold_at(1))).all()
    assert not tree.border_strength()[:, [0, 1, 2, 5, 6, 7]].any()


@pytest.mark.parametrize("n_regions", [None, 1, 2, 11, 60])
def test_regions_last_until_their_merge_height(noisy, n_regions):
    labels = None if n_regions is None else noisy.regions(n_regions)
    height = noisy.merge_height(labels)
    assert height.dtype == np.float32
    own = noisy.patches if labels is None else labels
    for label in np.unique(own)[::7]:
        inside = own == label
        found = height[inside][0]
        assert (height[inside] == found).all()
        # Patches that are exactly alike merge at any threshold above 0.
        above = max(min(found * 1.001, 1), SMALLEST_THRESHOLD)
        before, after = (noisy.regions(threshold=t) for t in (found * 0.999, above))
        # Whole before, that is, with nothing of what is outside; mixed after.
        assert not np.isin(before[~inside], before[inside]).any()
        assert np.isin(after[~inside], after[inside]).any() == (n_regions != 1)


def test_what_is_everywhere_never_merges_and_no_label_has_no_height(noisy):
    assert (noisy.merge_height(noisy.regions(1)) == 1).all()
    labels = np.where(noisy.regions(2) == 1, 5, 0)
    height = noisy.merge_height(labels)
    assert (height[labels == 0] == 0).all()
    np.testing.assert_allclose(height[labels == 5], noisy.threshold_at(1), rtol=1e-6)


def test_labels_that_do_not_fit_have_no_height(noisy):
    with pytest.raises(InputError, match="shape"):
        noisy.merge_height(np.zeros((2, 2), int))


def test_one_patch_alone(hierarchy_of):
    tree = hierarchy_of(np.ones((3, 3)), 4)
    assert not tree.border_strength().any()
    assert (tree.merge_height() == 1).all()


def test_large_parts_that_differ_little_are_cut_apart_before_small_ones_that_differ_much():
    # A row: two textures of 48 and 50, far from them a wall of two bricks of 3.
    position = np.repeat([0.0, 1.0, 1000.0, 1008.0], [48, 50, 3, 3])[:, np.newaxis]
    edges = np.stack([np.arange(103), np.arange(1, 104)], axis=1)
    ward = ward_tree(edges, position, np.ones(104))
    assert sorted(np.bincount(ward.cut(3))[1:]) == [3, 3, 98]
    assert sorted(np.bincount(ward.ordered_by_area().cut(3))[1:]) == [6, 48, 50]


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_sorting_by_area_keeps_the_regions_of_the_tree(seed, number):
    rng = np.random.default_rng(seed)
    edges = np.stack([np.arange(number - 1), np.arange(1, number)], axis=1)
    ward = ward_tree(edges, rng.normal(size=(number, 2)), rng.integers(1, 9, number).astype(float))
    sorted_by_area = ward.ordered_by_area()

    def regions(tree):
        order, start, length = tree.leaf_order
        return {frozenset(order[s : s + n].tolist()) for s, n in zip(start, length, strict=True)}

    assert regions(ward) == regions(sorted_by_area)
    # Merges join what exists already.
    assert (sorted_by_area.children.max(axis=1) < number + np.arange(number - 1)).all()
    assert (np.diff(sorted_by_area.cost) >= 0).all()
