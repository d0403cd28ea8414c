"""Markers on hierarchies of noise, against the rules written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_aeseg.errors import InputError
from napari_aeseg.regions.cuts.markers import marked_patches, pure_pieces, spread

SHAPE = (36, 40)


def strokes(seed: int, ids: int = 3, number: int = 5) -> np.ndarray:
    """A few short strokes of random ids, all of 1 .. ids among them."""
    rng = np.random.default_rng(seed)
    markers = np.zeros(SHAPE, np.int64)
    for k in range(max(number, ids)):
        y, x = rng.integers(SHAPE[0]), rng.integers(SHAPE[1])
        markers[y, x : x + rng.integers(1, 9)] = k % ids + 1
    return markers


def members(tree) -> list[frozenset[int]]:
    """The patches of every node."""
    inside = [frozenset([i]) for i in range(tree.leaves)]
    for a, b in tree.children.tolist():
        inside.append(inside[a] | inside[b])
    return inside


def spread_by_hand(marked, tree, edges, positions, weight) -> np.ndarray:
    """The rules written out: maximal pure nodes, then always the most alike pair of neighbours."""
    label_of = marked.tolist()
    pure = [n for n in members(tree) if len({label_of[p] for p in n} - {0}) <= 1]
    pieces = [n for n in pure if not any(n < other for other in pure)]
    label = [max(label_of[p] for p in piece) for piece in pieces]
    centre = [np.average(positions[sorted(n)], axis=0, weights=weight[sorted(n)]) for n in pieces]
    touching = {frozenset(e) for e in edges.tolist()}

    def touch(a, b):
        return any(frozenset([p, q]) in touching for p in pieces[a] for q in pieces[b])

    while not all(label):
        prices = [
            (float(((centre[a] - centre[b]) ** 2).sum()), b, a)
            for a in range(len(pieces))
            for b in range(len(pieces))
            if label[a] and not label[b] and touch(a, b)
        ]
        _, taken, giver = min(prices)
        label[taken] = label[giver]
    found = np.zeros(len(marked), np.int32)
    for piece, own in zip(pieces, label, strict=True):
        found[sorted(piece)] = own
    return found


@given(seed=st.integers(0, 1000), ids=st.integers(1, 5))
def test_labels_are_those_of_the_rules(noisy, seed, ids):
    marked = marked_patches(strokes(seed, ids), noisy.patches, noisy.n_patches)[0]
    given_ = (marked, noisy.tree, noisy.graph.edges, noisy.descriptor.values, noisy._compared.size)
    assert np.array_equal(spread(*given_), spread_by_hand(*given_))


@given(seed=st.integers(0, 1000), ids=st.integers(1, 5))
def test_marked_pixels_keep_their_marker_and_every_pixel_has_one(noisy, seed, ids):
    markers = strokes(seed, ids)
    labels = noisy.from_markers(markers)
    assert labels.dtype == np.int32
    assert np.array_equal(labels[markers > 0], markers[markers > 0])
    assert set(np.unique(labels)) == set(np.unique(markers)) - {0}


@given(seed=st.integers(0, 1000))
def test_other_names_for_the_markers_change_the_names_only(noisy, seed):
    markers = strokes(seed, 4)
    names = np.random.default_rng(seed).permutation([7, 1, 2**31 - 1, 500])
    renamed = np.append(0, names)[markers]
    expected = names[noisy.from_markers(markers) - 1]
    assert np.array_equal(noisy.from_markers(renamed), expected)


@given(seed=st.integers(0, 1000), ids=st.integers(2, 5))
def test_pieces_without_a_mark_touch_their_label(noisy, seed, ids):
    marked = marked_patches(strokes(seed, ids), noisy.patches, noisy.n_patches)[0]
    of_patch = noisy.marker_of_patch(strokes(seed, ids))
    piece, label = pure_pieces(marked, noisy.tree)
    ends = np.concatenate([noisy.graph.edges, noisy.graph.edges[:, ::-1]])
    for k in np.flatnonzero(label == 0):
        own = of_patch[piece == k]
        assert (own == own[0]).all()
        beside = ends[(piece[ends[:, 0]] == k) & (piece[ends[:, 1]] != k), 1]
        assert own[0] in of_patch[beside]


def test_one_marker_takes_everything(noisy):
    markers = np.zeros(SHAPE, int)
    markers[3, 4] = 6
    assert (noisy.from_markers(markers) == 6).all()


def test_two_markers_find_the_border(hierarchy_of):
    image = np.zeros((32, 32))
    image[:, 20:] = 1
    image += np.random.default_rng(0).normal(0, 0.05, image.shape)
    markers = np.zeros(image.shape, int)
    markers[30, 2:5], markers[1, 28] = 3, 1
    labels = hierarchy_of(image, 4).from_markers(markers)
    assert np.array_equal(labels, np.where(np.arange(32) < 20, 3, 1) * np.ones((32, 1), int))


def test_a_patch_with_several_markers_goes_to_the_one_with_most_pixels(noisy):
    markers = np.zeros(SHAPE, int)
    markers[0, :2], markers[1, :3] = 5, 2  # patch 0 is 4 x 4 pixels
    markers[20, 20] = 9
    assert noisy.marker_of_patch(markers)[0] == 2
    labels = noisy.from_markers(markers)
    assert np.array_equal(labels == 5, markers == 5)  # its pixels, and nothing else
    assert (labels[2:4, :4] == 2).all()


def test_of_equally_many_pixels_the_first_counts():
    markers = np.array([[0, 9, 4, 0], [4, 9, 0, 0]])
    assert marked_patches(markers, np.zeros((2, 4), int), 1)[0].tolist() == [9]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, ">i4", np.uint64])
def test_any_whole_dtype_will_do_and_nothing_is_written_to(noisy, dtype):
    markers = np.zeros(SHAPE, dtype)
    markers[5, 5] = 1
    markers.flags.writeable = False
    assert (noisy.from_markers(markers) == 1).all()


@pytest.mark.parametrize(
    ("markers", "hint"),
    [
        (np.zeros(SHAPE, int), "no marker"),
        (np.zeros((40, 36), int), r"\(40, 36\).*\(36, 40\)"),
        (np.full(SHAPE, -1), "from -1 to -1.*0 for unmarked"),
        (np.full(SHAPE, 2**31), "to 2147483648"),
        (np.ones(SHAPE), "float64.*whole numbers"),
        (np.full(SHAPE, "a"), "whole numbers"),
        (None, "shape"),
        ([[1, 2], [3]], "different shapes"),
    ],
    ids=["none", "shape", "negative", "large", "float", "text", "nothing", "ragged"],
)
def test_other_markers_are_refused(noisy, markers, hint):
    for cut in (noisy.from_markers, noisy.marker_of_patch):
        with pytest.raises(InputError, match=hint):
            cut(markers)


def test_a_single_patch(hierarchy_of):
    tree = hierarchy_of(np.ones((3, 3)), 4)
    markers = np.diag([0, 7, 4])
    assert np.array_equal(tree.from_markers(markers), np.where(markers == 4, 4, 7))
