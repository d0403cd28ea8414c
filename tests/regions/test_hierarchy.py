from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_aeseg.errors import InputError
from napari_aeseg.params import ComparisonParams


def pieces(labels: np.ndarray) -> int:
    """Number of connected pieces, each label by itself."""
    return sum(ndimage.label(labels == i)[1] for i in np.unique(labels))


@pytest.mark.parametrize("n_regions", [1, 2, 3, 17, 89, 90])
def test_regions_are_as_many_as_asked_for_and_connected(noisy, n_regions):
    labels = noisy.regions(n_regions=n_regions)
    assert labels.dtype == np.int32
    assert labels.shape == noisy.axes.space_shape == (36, 40)
    assert np.array_equal(np.unique(labels), np.arange(1, n_regions + 1))
    assert pieces(labels) == n_regions


@given(st.integers(1, 89))
def test_with_one_region_more_the_rest_stays(noisy, n_regions):
    before, after = noisy.regions(n_regions), noisy.regions(n_regions + 1)
    new = after == n_regions + 1
    assert new.any()
    assert np.array_equal(before[~new], after[~new])


def test_regions_are_unions_of_patches(noisy):
    labels = noisy.regions(10)
    pairs = np.unique(np.stack([noisy.patches.ravel(), labels.ravel()]), axis=1)
    assert pairs.shape[1] == noisy.n_patches


def test_threshold_0_is_every_patch_and_1_is_one_region(noisy):
    assert noisy.regions(threshold=0).max() == noisy.n_patches
    assert noisy.regions(threshold=1).max() == 1


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_leaves_more_regions(noisy, first, second):
    low, high = sorted([first, second])
    assert noisy.n_regions_at(low) >= noisy.n_regions_at(high)
    assert noisy.regions(threshold=low).max() == noisy.n_regions_at(low)


@given(st.integers(1, 90))
def test_threshold_at_a_number_gives_that_number(noisy, n_regions):
    threshold = noisy.threshold_at(n_regions)
    assert 0 <= threshold <= 1
    # Merges of equal cost happen together: at most as many as asked for.
    assert noisy.n_regions_at(threshold) <= n_regions
    if threshold > 1e-6:
        assert noisy.n_regions_at(threshold - 1e-6) >= n_regions


@pytest.mark.parametrize("n_regions", [0, -1, 91, 2.0, "2", True, None])
def test_number_of_regions_is_checked(noisy, n_regions):
    with pytest.raises(InputError, match="n_regions") as error:
        noisy.regions(n_regions)
    if n_regions is not None:
        assert f"{n_regions!r}: give a whole number from 1 to 90" in str(error.value)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_is_checked(noisy, threshold):
    with pytest.raises(InputError, match=f"threshold = {threshold!r}: .* from 0 to 1"):
        noisy.regions(threshold=threshold)


def test_number_and_threshold_together_are_refused(noisy):
    with pytest.raises(InputError, match="either n_regions or threshold"):
        noisy.regions(n_regions=3, threshold=0.5)


def test_numpy_numbers_are_numbers(noisy):
    assert noisy.regions(np.int64(5)).max() == 5
    assert noisy.regions(threshold=np.float32(0.25)).max() >= 1


def test_painting_is_a_look_up(noisy):
    values = np.random.default_rng(0).integers(0, 200, noisy.n_patches).astype(np.uint8)
    painted = noisy.map_to_pixels(values)
    assert painted.dtype == np.uint8
    assert np.array_equal(painted, values[noisy.patches])
    assert np.array_equal(noisy.map_to_pixels(noisy.region_of_patch(7)), noisy.regions(7))
    assert np.array_equal(noisy.map_to_pixels(noisy.class_of_patch(3)), noisy.classes(3))


def test_cuts_can_be_written_to_without_harm(noisy):
    for cut in (lambda: noisy.regions(5), lambda: noisy.regions(1), lambda: noisy.classes(3)):
        before = cut()
        cut()[:] = 0
        assert np.array_equal(cut(), before)


def test_reweighting_changes_how_the_same_patches_are_compared(noisy):
    changed = noisy.reweighted(balance=1, scale=16)
    assert (changed.comparison.balance, changed.comparison.scale) == (1, 16)
    assert changed.patches is noisy.patches
    assert changed.statistics is noisy.statistics
    assert not np.array_equal(changed.regions(12), noisy.regions(12))


def test_reweighting_leaves_the_first_hierarchy_alone(noisy):
    before = noisy.regions(12)
    noisy.reweighted(balance=0.9).regions(12)
    assert noisy.comparison == ComparisonParams()
    assert np.array_equal(noisy.regions(12), before)


def test_reweighting_to_the_same_gives_the_same(noisy):
    again = noisy.reweighted(balance=0.9).reweighted(balance=noisy.comparison.balance)
    assert np.array_equal(again.regions(12), noisy.regions(12))
    assert noisy.reweighted().params == noisy.params


def test_another_whitening_changes_classes_but_no_region(noisy):
    changed = noisy.reweighted(whitening="regions")
    assert changed.tree is noisy.tree  # nothing is computed again
    assert np.array_equal(changed.regions(12), noisy.regions(12))
    assert not np.array_equal(changed.classes(4), noisy.classes(4))
    again = changed.reweighted(whitening="neighbours", balance=0.9)
    assert np.array_equal(again.classes(4), noisy.reweighted(balance=0.9).classes(4))


@pytest.mark.parametrize(
    "change", [{"balance": 2}, {"scale": 0}, {"scale": "fine"}, {"whitening": "region"}]
)
def test_reweighting_checks_its_values(noisy, change):
    with pytest.raises(InputError, match=next(iter(change))):
        noisy.reweighted(**change)


def test_four_quadrants_of_different_brightness_are_suggested_to_be_four(hierarchy):
    # By brightness alone: with texture, it depends on a model of a few training steps.
    assert hierarchy.reweighted(balance=0).suggest_n_regions() == 4


@pytest.mark.parametrize("balance", [0, 0.5])
def test_four_regions_are_the_four_quadrants(hierarchy, quadrants, balance):
    labels = hierarchy.reweighted(balance=balance).regions(4)
    assert len({int(labels[y, x]) for y in (10, 53) for x in (10, 53)}) == 4
    for value in (0.1, 0.4, 0.7, 1.0):
        inside = np.abs(quadrants - value) < 0.1
        assert np.mean(labels[inside] == np.median(labels[inside])) > 0.95


@pytest.mark.parametrize("number", [2, 3, 5])
def test_clear_bands_are_suggested_one_each(hierarchy_of, number):
    bands = np.repeat(np.arange(number), 24) * np.ones((40, 1))
    image = bands + np.random.default_rng(0).normal(0, 0.02, bands.shape)
    assert hierarchy_of(image, 4, scale=1).suggest_n_regions() == number


@pytest.mark.parametrize("number", [2, 3, 5])
def test_clear_kinds_of_bands_are_suggested_one_class_each(hierarchy_of, number):
    bands = np.tile([*range(number), *reversed(range(number))], 2).repeat(8)
    noise = np.random.default_rng(0).normal(0, 0.01, (len(bands), 24))
    assert hierarchy_of(bands[:, np.newaxis] + noise, 4, scale=1).suggest_n_classes() == number


def test_constant_image_is_suggested_to_be_one(hierarchy_of):
    assert hierarchy_of(np.full((16, 16), 3.0), 4).suggest_n_classes() == 1
    assert hierarchy_of(np.full((16, 16), 3.0), 4).suggest_n_regions() == 1


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (4, 8)])
def test_one_or_two_patches_can_be_cut(hierarchy_of, shape):
    tree = hierarchy_of(np.arange(np.prod(shape)).reshape(shape), 4)
    assert tree.n_patches == max(1, shape[1] // 4)
    assert tree.regions(tree.suggest_n_regions()).shape == shape
    for number in range(1, tree.n_patches + 1):
        assert tree.regions(number).max() == tree.classes(number).max() == number
    assert tree.threshold_at(1) <= 1


def test_repr_says_what_it_is(noisy):
    assert "90 patches" in repr(noisy)
    assert "CYX" in repr(noisy)


@pytest.mark.parametrize("threshold", ["x", None, True, 1.01, -0.1, float("nan")])
def test_threshold_that_is_no_share_is_refused_by_name(hierarchy, threshold):
    with pytest.raises(InputError, match="threshold"):
        hierarchy.n_regions_at(threshold)


@pytest.fixture(scope="module")
def three_discs(hierarchy_of):
    """A hierarchy of two bright discs and a dark one on grey, and the discs: 1, 2 and 3."""
    y, x = np.indices((96, 96))
    truth = np.zeros((96, 96), int)
    for k, (row, column) in enumerate([(24, 24), (24, 72), (72, 48)], 1):
        truth[np.hypot(y - row, x - column) < 11] = k
    noise = np.random.default_rng(0).normal(0, 0.02, truth.shape)
    image = np.array([0.5, 0.9, 0.9, 0.1])[truth] + noise
    return hierarchy_of(image, 6, patches=None), truth


def test_objects_are_found_at_pixel_resolution(three_discs):
    tree, truth = three_discs
    labels = tree.objects()
    assert labels.dtype == np.int32
    assert np.array_equal(np.unique(labels), [0, 1, 2])
    assert np.mean((labels > 0) == np.isin(truth, [1, 2])) > 0.98


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("discs", [[1, 2], [3]])
def test_objects_of_a_class(three_discs, as_list, discs):
    tree, truth = three_discs
    class_id = int(np.bincount(tree.classes(3)[np.isin(truth, discs)]).argmax())
    labels = tree.objects([class_id] if as_list else class_id, n_classes=3)
    assert labels.max() == len(discs)
    assert np.mean((labels > 0) == np.isin(truth, discs)) > 0.95


@pytest.mark.parametrize("class_ids", [0, 4, [1, 9], [], True, ["a"]])
def test_classes_that_are_not_there_have_no_objects(three_discs, class_ids):
    with pytest.raises(InputError, match="class_ids"):
        three_discs[0].objects(class_ids, n_classes=3)


def test_objects_can_be_asked_to_be_large(three_discs):
    assert not three_discs[0].objects(min_size=2000).any()
    with pytest.raises(InputError, match="min_size"):
        three_discs[0].objects(min_size=0)


def test_prototypes_bring_their_scale(hierarchy_of):
    rng = np.random.default_rng(0)
    sides = np.repeat([0.2, 1.0], 40) * np.ones((80, 1))
    first, second = (
        hierarchy_of(rng.normal(0, 1, sides.shape) * flip, 4, levels=[1], scale=scale)
        for flip, scale in ((sides, 16), (sides[:, ::-1], 1))
    )
    classes = second.classes(prototypes=first.prototypes(2))
    expected = first.classes(2)[:, ::-1]
    assert np.mean(classes == expected) > 0.9


def test_merges_that_cost_nothing_have_a_threshold_too(hierarchy, monkeypatch):
    """The search for one went on for ever, at a scale at which all patches were alike."""
    monkeypatch.setattr("napari_aeseg.regions.tree.contrast._REGIONS", 1)  # no merge is made anew
    tree = hierarchy.tree
    free = replace(hierarchy, merges=(tree.children, np.zeros_like(tree.cost)))
    assert free.n_regions_at(free.threshold_at(5)) == 1
    assert 0 < free.threshold_at(5) < 1e-6
    assert free.threshold_at(free.n_patches) == 0
