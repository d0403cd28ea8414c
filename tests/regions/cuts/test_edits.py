import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_aeseg.errors import InputError
from napari_aeseg.regions.cuts.edits import Merge, Split, edit_of, edited, edits_on
from napari_aeseg.regions.tree.ward import ward_tree

# A row of patches: 0 and 1 are alike, 2 and 3 are, 4 differs from all.
CHAIN = ward_tree(
    np.array([[0, 1], [1, 2], [2, 3], [3, 4]]),
    np.array([[0.0], [0.2], [5.0], [5.1], [50.0]]),
    np.array([1.0, 2.0, 1.0, 1.0, 2.0]),
)


def test_merging_takes_all_that_the_labels_have():
    assert edited([1, 1, 2, 2, 3], CHAIN, [Merge((1, 4))]).tolist() == [1, 1, 2, 2, 1]
    assert edited([4, 4, 2, 2, 3], CHAIN, [Merge((4, 2, 0))]).tolist() == [2, 2, 2, 2, 2]


def test_merging_what_is_one_label_changes_nothing():
    assert edited([1, 1, 2, 2, 3], CHAIN, [Merge((0, 1))]).tolist() == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("labels", "patch", "expected"),
    [
        ([1, 1, 1, 1, 1], 0, [1, 1, 1, 1, 2]),  # 4 differs most, and is the smaller part
        ([1, 1, 1, 1, 2], 3, [1, 1, 3, 3, 2]),
        ([1, 1, 2, 2, 3], 0, [4, 1, 2, 2, 3]),  # 0 has fewer pixels than 1
        ([7, 1, 1, 7, 1], 0, [7, 1, 1, 8, 1]),  # not neighbours in the tree
        ([7, 1, 1, 1, 7], 4, [8, 1, 1, 1, 7]),
    ],
)
def test_splitting_undoes_the_last_merge_of_a_label(labels, patch, expected):
    assert edited(labels, CHAIN, [Split(patch)]).tolist() == expected


@given(st.integers(1, 89), st.integers(0, 89))
def test_splitting_a_region_gives_the_two_it_was_merged_from(noisy, n_regions, patch):
    labels = noisy.region_of_patch(n_regions)
    if (labels == labels[patch]).sum() == 1:
        assert np.array_equal(edited(labels, noisy.tree, [Split(patch)]), labels)
        return
    found = edited(labels, noisy.tree, [Split(patch)])
    # Finer cuts, until the region falls apart, say how.
    finer = next(
        cut
        for cut in map(noisy.region_of_patch, range(n_regions + 1, 91))
        if len(np.unique(cut[labels == labels[patch]])) == 2
    )
    own = labels == labels[patch]
    assert np.array_equal(found[~own], labels[~own])
    assert set(np.unique(found[own])) == {labels[patch], n_regions + 1}
    assert len(np.unique(np.stack([found[own], finer[own]]), axis=1).T) == 2
    pixels = noisy.statistics.count
    assert pixels[found == n_regions + 1].sum() <= pixels[found == labels[patch]].sum()


@given(st.integers(1, 30), st.lists(st.integers(0, 89), min_size=2, max_size=5, unique=True))
def test_edits_leave_other_labels_alone(noisy, n_regions, patches):
    labels = noisy.region_of_patch(n_regions)
    found = edited(labels, noisy.tree, [Merge(tuple(patches))])
    touched = np.isin(labels, labels[patches])
    assert np.array_equal(found[~touched], labels[~touched])
    assert (found[touched] == labels[patches].min()).all()


def test_edits_are_applied_in_order():
    labels = np.ones(5, np.int32)
    first, second = Split(0), Merge((3, 4))
    assert edited(labels, CHAIN, [first, second]).tolist() == [1, 1, 1, 1, 1]
    assert edited(labels, CHAIN, [second, first]).tolist() == [1, 1, 1, 1, 2]
    assert labels.tolist() == [1, 1, 1, 1, 1]


def test_a_split_after_a_merge_makes_a_label_of_its_own():
    found = edited([1, 1, 2, 2, 3], CHAIN, [Merge((0, 4)), Split(2)])
    assert found.tolist() == [1, 1, 2, 3, 1]
    assert found.dtype == np.int32


def test_splitting_again_and_again_ends_at_single_patches():
    labels = np.ones(5, np.int32)
    for _ in range(2):
        labels = edited(labels, CHAIN, [Split(0)])
    assert labels.tolist() == [1, 1, 3, 3, 2]
    labels = edited(labels, CHAIN, [Split(0)])
    # A single patch cannot be split: on a cut that is too fine, the edit is passed over.
    assert np.array_equal(edited(labels, CHAIN, [Split(0)]), labels)


@pytest.mark.parametrize("edit", [Merge((0, 5)), Split(5)])
def test_patches_of_another_image_are_refused(edit):
    with pytest.raises(InputError, match="Patch 5: this image has patches 0 to 4"):
        edited(np.ones(5, np.int32), CHAIN, [edit])


@pytest.mark.parametrize("patches", [(), (3,), (3, 3), (1, -1), (1, 2.5), (True, 2), ("a", "b")])
def test_a_merge_needs_two_patches(patches):
    with pytest.raises(InputError, match="patch"):
        Merge(patches)


@pytest.mark.parametrize("patch", [-1, 2.5, True, "a", None])
def test_a_split_needs_a_patch(patch):
    with pytest.raises(InputError, match=r"patch = .*0 or more"):
        Split(patch)


@pytest.mark.parametrize("edit", [Merge((3, 8, 2)), Split(4), Merge(tuple(np.arange(2)))])
def test_edits_survive_a_file(edit):
    assert edit_of(json.loads(json.dumps(edit.record))) == edit


@pytest.mark.parametrize(
    "record", [{}, {"melt": 3}, None, {"merge": 3}, {"split": [1]}, {"merge": [1]}]
)
def test_other_records_are_refused(record):
    with pytest.raises(InputError, match=r"edit|patch"):
        edit_of(record)


def test_a_part_is_split_off_at_the_same_border_in_every_cut_and_tree():
    split = Split(0, part=(3, 4))
    assert edited([1, 1, 1, 1, 1], CHAIN, [split]).tolist() == [1, 1, 1, 2, 2]
    assert edited([1, 1, 1, 1, 2], CHAIN, [split]).tolist() == [1, 1, 1, 3, 2]
    # What is apart already stays as it is.
    assert edited([1, 1, 1, 2, 2], CHAIN, [split]).tolist() == [1, 1, 1, 2, 2]
    assert edited([2, 2, 2, 1, 1], CHAIN, [Split(4, part=(3, 4))]).tolist() == [2, 2, 2, 1, 1]
    assert edit_of(json.loads(json.dumps(split.record))) == split


def test_edits_are_carried_over_to_other_patches():
    made_on = np.repeat(np.arange(6), 4)  # six patches of four pixels
    coarse, fine = np.repeat([0, 1, 2], 8), np.arange(24) // 2
    edits = [Merge((0, 5)), Merge((2, 3)), Split(0, part=(4, 5)), Split(1)]

    moved, lost = edits_on(coarse, edits, made_on)
    assert moved == [Merge((0, 2)), Split(0, part=(2,)), Split(0)]
    assert lost == [Merge((2, 3))]
    moved, lost = edits_on(fine, edits, made_on)
    assert moved[2] == Split(0, part=(8, 9, 10, 11))
    assert len(moved) == 4
    assert lost == []
