"""Segments that look like an example."""

import numpy as np
import pytest

from napari_aeseg.errors import InputError


@pytest.fixture(scope="module")
def columns():
    """Columns of three shades, 16 pixels wide, with a little noise; the labels of the columns."""
    image = np.kron([[0, 1, 0, 1, 0.4]], np.ones((32, 16)))
    labels = np.kron([[1, 2, 3, 7, 5]], np.ones((32, 16), int))
    return image + np.random.default_rng(0).normal(0, 0.05, image.shape), labels


@pytest.fixture(scope="module")
def tree(hierarchy_of, columns):
    return hierarchy_of(columns[0])


def test_segments_like_the_example_are_found(tree, columns):
    similar = tree.similar_to(columns[1], [2])
    assert np.array_equal(similar, np.where(np.isin(columns[1], [2, 7]), columns[1], 0))


def test_a_lower_similarity_finds_more(tree, columns):
    assert (tree.similar_to(columns[1], [2], 0) == columns[1]).all()
    assert np.unique(tree.similar_to(columns[1], [2], 1)).tolist() == [0, 2]
    ids, alike = tree.similarity_to(columns[1], [2])
    assert ids.tolist() == [1, 2, 3, 5, 7]
    assert alike[1] == 1
    assert alike[4] > alike[3] > max(alike[0], alike[2])  # bright, grey, dark


def test_more_examples_find_more(tree, columns):
    assert np.unique(tree.similar_to(columns[1], [2, 5])).tolist() == [0, 2, 5, 7]


def test_counterexamples_take_away_what_is_nearer_to_them(tree, columns):
    assert np.unique(tree.similar_to(columns[1], [2], 0, other_ids=[5])).tolist() == [0, 2, 7]


def test_labels_need_not_be_unions_of_patches(tree, columns):
    labels = columns[1].copy()
    labels[:, 14:18] = 0
    assert np.unique(tree.similar_to(labels, [2])).tolist() == [0, 2, 7]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), "example_ids is empty"),
        (([4],), "There is no label 4"),
        (([2], 0.5, [0]), "There is no label 0"),
        (([2], 1.5), "similarity = 1.5"),
        (([2], True), "similarity = True"),
    ],
)
def test_wrong_values_are_refused(tree, columns, arguments, words):
    with pytest.raises(InputError, match=words):
        tree.similar_to(columns[1], *arguments)
