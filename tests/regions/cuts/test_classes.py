import numpy as np
import pytest

from napari_aeseg.errors import InputError

# Three greys in six places: bright, dark, middle, then the same again.
GREYS = np.kron([[0.9, 0.1, 0.5], [0.1, 0.5, 0.9]], np.ones((24, 24)))
TRUTH = np.select([GREYS < 0.3, GREYS < 0.7], [1, 2], 3)


@pytest.fixture(scope="module")
def tree(hierarchy_of):
    image = GREYS + np.random.default_rng(0).normal(0, 0.01, GREYS.shape)
    return hierarchy_of(image, 4, scale=1)


def test_the_same_appearance_has_the_same_class_wherever_it_is(tree):
    labels = tree.classes(3)
    number = np.array([np.bincount(labels[k == TRUTH]).argmax() for k in (1, 2, 3)])
    assert np.mean(labels == number[TRUTH - 1]) > 0.97


@pytest.mark.parametrize("n_classes", range(1, 9))
def test_classes_are_as_many_as_asked_for(tree, n_classes):
    labels = tree.classes(n_classes)
    assert labels.dtype == np.int32
    assert labels.shape == GREYS.shape
    assert np.array_equal(np.unique(labels), np.arange(1, n_classes + 1))


def test_a_class_more_is_the_smaller_part_of_one_and_all_others_stay(hierarchy_of):
    tree = hierarchy_of(np.random.default_rng(0).random((60, 60)), 4)
    before = tree.classes(2)
    assert tree.table(before)["mean_1"].is_monotonic_increasing
    for n_classes in range(3, 12):
        after = tree.classes(n_classes)
        changed = before != after
        assert (after[changed] == n_classes).all()
        split = before[changed]
        assert (split == split[0]).all()
        assert changed.sum() <= (after == split[0]).sum()
        before = after


@pytest.mark.parametrize("side", [20, 80])  # with 25 and 400 patches: fewer and more than 300
def test_classes_are_unions_of_a_few_hundred_regions(hierarchy_of, side):
    tree = hierarchy_of(np.random.default_rng(0).random((side, side)), 4)
    base = tree.classes(min(300, tree.n_patches))
    for n_classes in (2, 5, 20):
        labels = tree.classes(n_classes)
        pairs = np.unique(np.stack([base.ravel(), labels.ravel()]), axis=1)
        assert len(pairs[0]) == base.max()  # no region is in two classes


def test_most_classes_are_the_distinct_regions(tree):
    assert tree.classes(tree.n_patches).max() == tree.n_patches


@pytest.mark.parametrize("n_classes", [0, -1, 10**6, 2.0, "3", True])
def test_number_of_classes_is_checked(tree, n_classes):
    with pytest.raises(InputError, match=rf"n_classes = {n_classes!r}: .* 1 to {tree.n_patches}"):
        tree.classes(n_classes)


@pytest.mark.parametrize("whitening", ["neighbours", "regions"])
def test_prototypes_give_the_same_ids_on_the_same_image(tree, whitening):
    tree = tree.reweighted(whitening=whitening)
    assert np.array_equal(tree.classes(3, prototypes=tree.prototypes(3)), tree.classes(3))


def test_what_varies_within_regions_divides_no_class_whitened_by_it(hierarchy_of):
    rng = np.random.default_rng(0)
    bricks = np.kron(rng.normal(0, 1, (24, 24)), np.ones((4, 4)))  # bright and dark, at random
    halves = np.where(np.arange(96) < 48, 0, 0.4)[:, np.newaxis]  # two stains
    image = np.stack([bricks, bricks + halves]) + rng.normal(0, 0.05, (2, 96, 96))
    tree = hierarchy_of(image, 4, scale=1)

    def difference_of_halves(classes):
        return abs(np.mean(classes[:48] == 1) - np.mean(classes[48:] == 1))

    assert difference_of_halves(tree.classes(2)) < 0.3
    assert difference_of_halves(tree.reweighted(whitening="regions").classes(2)) > 0.9


def test_prototypes_find_the_same_classes_in_another_image(tree, hierarchy_of):
    # Without the bright grey, the classes of this image alone would have other numbers.
    other = np.kron([[0.5, 0.1], [0.5, 0.5]], np.ones((24, 24)))
    other_tree = hierarchy_of(
        other + np.random.default_rng(1).normal(0, 0.01, other.shape), 4, scale=1
    )
    labels, here = other_tree.classes(prototypes=tree.prototypes(3)), tree.classes(3)
    dark, middle = (int(np.bincount(here[k == TRUTH]).argmax()) for k in (1, 2))
    assert np.mean(labels == np.where(other < 0.3, dark, middle)) > 0.97


def test_prototypes_of_other_features_are_refused(tree, hierarchy_of):
    other = hierarchy_of(np.random.default_rng(0).random((2, 24, 24)), 4)
    with pytest.raises(InputError, match="images of the same model, levels"):
        other.classes(prototypes=tree.prototypes(2))
