"""Classes from strokes, on small images of two textures or shades."""

import numpy as np
import pytest

from napari_aeseg.errors import InputError
from napari_aeseg.regions.cuts.cut import Cut
from napari_aeseg.regions.cuts.edits import Split
from napari_aeseg.regions.cuts.pixel_classifier import BrightnessFeatures
from napari_aeseg.regions.cuts.strokes import (
    probabilities,
    strokes_of_patches,
    uncertainty_of,
)


@pytest.fixture(scope="module")
def columns():
    """Dark and bright columns in turn, 16 pixels wide, with a little noise."""
    image = np.kron([[0, 1, 0, 1]], np.ones((32, 16)))
    return image + np.random.default_rng(0).normal(0, 0.05, image.shape)


@pytest.fixture(scope="module")
def tree(hierarchy_of, columns):
    return hierarchy_of(columns)


@pytest.fixture
def strokes():
    """One stroke of class 1 and of class 3 in the two columns on the left."""
    strokes = np.zeros((32, 64), int)
    strokes[10, 3:12], strokes[10, 19:28] = 1, 3
    return strokes


def test_all_that_looks_like_a_stroke_gets_its_class(tree, strokes):
    labels = tree.classes_from(strokes)
    assert labels.dtype == np.int32
    assert (labels == np.kron([[1, 3, 1, 3]], np.ones((32, 16)))).mean() > 0.98


def test_thin_lines_that_fill_no_patch_get_their_class(hierarchy_of, columns):
    image = columns.copy()
    image[:, [7, 39]] = 3  # a line of one pixel in patches of four
    strokes = np.zeros(image.shape, int)
    strokes[4:28, 7], strokes[10, 20:28] = 2, 1
    strokes[20, 0:5] = 1
    labels = hierarchy_of(image).classes_from(strokes)
    assert (labels[:, 39] == 2).mean() > 0.9
    assert (labels[:, 44:] == 1).mean() > 0.9


def test_marked_pixels_keep_their_class(tree, strokes):
    strokes[20, 40] = 3  # in a dark column
    assert tree.classes_from(strokes)[20, 40] == 3


def test_classes_learned_in_one_image_are_found_in_another(tree, hierarchy_of, columns, strokes):
    other = hierarchy_of(np.roll(columns, 16, axis=1))
    labels = other.classes(prototypes=tree.prototypes_from(strokes))
    assert (labels == np.kron([[3, 1, 3, 1]], np.ones((32, 16)))).mean() > 0.98


def test_strokes_in_several_images_count_together(tree, hierarchy_of, columns, strokes):
    other = hierarchy_of(np.roll(columns, 16, axis=1))
    dark, bright = np.where(strokes == 1, 1, 0), np.zeros_like(strokes)
    bright[10, 3:12] = 2
    both = other.prototypes_from(bright, others=tree.prototypes_from(dark))
    labels = tree.classes(prototypes=both)
    assert (labels == np.kron([[1, 2, 1, 2]], np.ones((32, 16)))).mean() > 0.98


def test_edits_are_made_on_classes_from_strokes(tree, strokes):
    learned = tree.prototypes_from(strokes)
    plain = tree.classes(prototypes=learned)
    split = Split(int(tree.patches[16, 8]))
    edited = Cut("classes", edits=(split,)).labels(tree, learned)
    assert np.array_equal(Cut("classes").labels(tree, learned), plain)
    assert len(np.unique(edited)) == 3
    patch_changed = tree.map_to_pixels(
        Cut("classes", edits=(split,)).of_patch(tree, learned)
        != Cut("classes").of_patch(tree, learned)
    )
    assert np.array_equal(edited != plain, patch_changed)


def test_one_class_covers_the_image(tree, strokes):
    assert np.unique(tree.classes_from(np.where(strokes == 3, 3, 0))).tolist() == [3]


def test_uncertainty_is_high_between_what_was_painted(hierarchy_of, columns, strokes):
    image = columns.copy()
    image[:, 48:] = 0.5  # a shade between both classes
    tree = hierarchy_of(image)
    uncertainty = tree.class_uncertainty(tree.prototypes_from(strokes))
    assert uncertainty.dtype == np.float32
    assert 0 <= uncertainty.min() <= uncertainty.max() <= 1
    assert uncertainty[:, 52:60].mean() > 2 * uncertainty[:, 20:28].mean()


def test_the_most_uncertain_place_is_between_what_was_painted(hierarchy_of, columns, strokes):
    image = columns.copy()
    image[:, 48:] = 0.5
    tree = hierarchy_of(image)
    row, column = tree.most_uncertain_place(tree.prototypes_from(strokes))
    assert 0 <= row < 32
    assert 44 <= column < 64


def test_strokes_at_another_scale_count_too(tree, hierarchy_of, columns, strokes):
    other = hierarchy_of(np.roll(columns, 16, axis=1)).reweighted(scale=4)
    alone = other.prototypes_from(strokes)
    both = other.prototypes_from(strokes, others=tree.prototypes_from(strokes))
    assert (alone.scale, both.scale) == (4, tree.descriptor.scale)
    assert len(both.examples.stroke_class) == 4


def test_a_cut_learns_classes_from_markers(tree, strokes):
    cut = Cut("markers", markers_are="classes")
    assert np.array_equal(cut.labels(tree, markers=strokes), tree.classes_from(strokes))
    assert Cut.from_record(cut.record(tree)) == cut
    with pytest.raises(InputError, match="markers_are = 'both'"):
        Cut("markers", markers_are="both")


def test_prototypes_without_strokes_have_no_uncertainty(tree):
    with pytest.raises(InputError, match="not learned from strokes"):
        tree.class_uncertainty(tree.prototypes(2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s * 0, "There is no marker"),
        (lambda s: s * 100, "class 300: give classes from 1 to 255"),
        (lambda s: -s, "from -3"),
        (lambda s: s[:-1], "the image has"),
        (lambda s: s / 2, "dtype float64"),
    ],
)
def test_wrong_strokes_are_refused(tree, strokes, change, words):
    with pytest.raises(InputError, match=words):
        tree.classes_from(change(strokes))


def test_names_and_colors_are_kept(tree, strokes):
    learned = tree.prototypes_from(strokes, names=("a", "b", "c"))
    assert learned.names == ("a", "b", "c")
    assert len(learned.centres) == 3
    with pytest.raises(InputError, match=r"3 class\(es\) but 1 name"):
        tree.prototypes_from(strokes, names=("a",))


def test_strokes_are_what_hangs_together_of_one_class():
    marked = np.array([1, 1, 0, 1, 2, 2])
    edges = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]])
    stroke, stroke_class = strokes_of_patches(marked, edges)
    assert stroke_class[stroke].tolist() == [1, 1, 1, 2, 2]
    assert stroke.tolist() == [0, 0, 1, 2, 2]


def test_features_of_strips_are_those_of_the_whole_image(monkeypatch):
    image = np.random.default_rng(0).random((90, 20)).astype(np.float16)
    whole = BrightnessFeatures(image, (0, 1))
    monkeypatch.setattr("napari_aeseg.regions.cuts.pixel_classifier._STRIP", 200)
    strips = BrightnessFeatures(image, (0, 1))
    assert len(strips.strips) == 9
    (all_rows,) = whole.strips
    parts = [strips.of_strip(rows, 0.5, 0.3) for rows in strips.strips]
    np.testing.assert_allclose(np.concatenate(parts), whole.of_strip(all_rows, 0.5, 0.3), atol=1e-4)


def test_features_do_not_reach_from_frame_to_frame():
    image = np.random.default_rng(0).random((3, 20, 20)).astype(np.float16)
    features = BrightnessFeatures(image, (1, 2))
    frame = BrightnessFeatures(image[1], (0, 1))
    mine = features.of_strip(features.strips[0], 0.5, 0.3)[1]
    np.testing.assert_allclose(mine, frame.of_strip(frame.strips[0], 0.5, 0.3), atol=1e-4)


def test_uncertainty_of_scores():
    np.testing.assert_allclose(uncertainty_of(np.array([[3.0, 3.0, -50.0]])), [1], atol=1e-6)
    np.testing.assert_allclose(uncertainty_of(np.array([[50.0, 0.0]])), [0], atol=1e-6)
    assert uncertainty_of(np.zeros((4, 1))).tolist() == [0] * 4
    np.testing.assert_allclose(probabilities(np.log([[1.0, 3.0]])), [[0.25, 0.75]])
