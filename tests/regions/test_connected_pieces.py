from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_aeseg.regions.connected_pieces import connected_as_before, connected_pieces


def by_pixel(pieces, shape):
    return np.repeat(pieces.piece, pieces.length).reshape(shape)


@pytest.mark.parametrize("shape", [(7,), (9, 8), (5, 6, 7), (3, 4, 5, 6)])
def test_pieces_are_the_connected_components_of_each_label(shape):
    labels = np.random.default_rng(0).integers(0, 3, shape)
    piece = by_pixel(connected_pieces(labels), shape)
    for label in range(3):
        expected, number = ndimage.label(labels == label)
        found = piece[labels == label]
        assert len(np.unique(found)) == number
        pairs = np.unique(np.stack([found, expected[labels == label]]), axis=1)
        assert pairs.shape[1] == number


def test_pixels_of_chosen_pieces_are_all_their_pixels():
    labels = np.random.default_rng(1).integers(0, 2, (6, 7))
    pieces = connected_pieces(labels)
    chosen = np.arange(pieces.number) % 2 == 0
    expected = np.flatnonzero(chosen[by_pixel(pieces, labels.shape)])
    assert np.array_equal(pieces.pixels(chosen), expected)


def test_what_broke_a_label_is_undone_and_other_changes_stay():
    old = np.ones((9, 30), int)
    old[:, 20:] = 2
    new = old.copy()
    new[:, 10] = 2  # cuts label 1 in two
    new[:3, 20] = 1  # a change that breaks nothing
    found = connected_as_before(new, old, connected_pieces(old), (2, 2))
    assert (found[:, :20] == 1).all()
    assert (found[:3, 20] == 1).all()


def test_a_label_that_vanished_comes_back_and_strange_pieces_go():
    old = np.ones((9, 9), int)
    old[4, 4] = 2
    old[:, 8] = 3
    new = np.where(old == 2, 1, old)
    new[0, 0] = 3  # far from its label
    assert np.array_equal(connected_as_before(new, old, connected_pieces(old), (1, 1)), old)


@pytest.mark.parametrize("seed", range(20))
def test_connected_labels_stay_connected_whatever_changed(seed):
    rng = np.random.default_rng(seed)
    old = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((5, 5), int))
    new = np.where(rng.random(old.shape) < 0.3, rng.integers(1, 17, old.shape), old)
    found = connected_as_before(new, old, connected_pieces(old), (3, 3))
    assert all(ndimage.label(found == label)[1] == 1 for label in range(1, 17))
