"""What holds for every cut of every hierarchy, of images of all axes, in any weighting."""

import numpy as np
import pytest
import random_images
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import napari_aeseg as aeseg

MODEL = random_images.any_model()
SHAPES = {"YX": (31, 37), "CYX": (2, 24, 33), "ZYX": (7, 18, 21), "TYX": (4, 19, 23), "XY": (40, 1)}


@st.composite
def trees(draw):
    """A hierarchy of smooth noise, compared in any way."""
    axes = draw(st.sampled_from(sorted(SHAPES)))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    noise = rng.random(SHAPES[axes])
    params = aeseg.SegmentationParams(
        patch_size=draw(st.integers(2, 6)), patches=draw(st.sampled_from(["watershed", "grid"]))
    )
    image = ndimage.gaussian_filter(noise, draw(st.sampled_from([0, 1.5])))
    tree = aeseg.build_hierarchy(image, MODEL, params, axes, "cpu")
    scale = draw(st.sampled_from([1.0, 4.0, "auto"]))
    return tree.reweighted(balance=draw(st.floats(0, 1)), scale=scale)


def is_union(coarse, fine):
    """Whether each label of a fine segmentation lies within one label of a coarse one."""
    pairs = np.unique(np.stack([coarse.ravel(), fine.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(fine))


@given(trees(), st.data())
@settings(max_examples=15)
def test_cuts_are_connected_and_nested_and_label_every_pixel(tree, data):
    numbers = st.integers(1, tree.n_patches)
    few, many = sorted([data.draw(numbers), data.draw(numbers)])
    coarse, fine = tree.regions(few, refine=False), tree.regions(many, refine=False)
    assert np.array_equal(np.unique(fine), np.arange(1, many + 1))
    assert is_union(coarse, fine)
    for labels in (coarse, tree.regions(few)):
        assert all(ndimage.label(labels == k)[1] == 1 for k in range(1, few + 1))
    # The first labels stay where they are: only what is split off gets a new one.
    assert set(np.unique(fine[fine <= few])) == set(range(1, few + 1))
    assert np.array_equal(fine[fine <= few], coarse[fine <= few])


@given(trees(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=15)
def test_a_higher_threshold_joins_and_never_parts(tree, one, other):
    low, high = sorted([one, other])
    fine, coarse = (tree.regions(threshold=t, refine=False) for t in (low, high))
    assert coarse.max() <= fine.max()
    assert is_union(coarse, fine)
    assert tree.n_regions_at(tree.threshold_at(int(fine.max()))) <= fine.max()


@given(trees(), st.data())
@settings(max_examples=15)
def test_classes_are_unions_of_regions_and_of_more_classes(tree, data):
    numbers = st.integers(1, tree.max_classes)
    few, many = sorted([data.draw(numbers), data.draw(numbers)])
    coarse, fine = tree.classes(few, refine=False), tree.classes(many, refine=False)
    assert np.array_equal(np.unique(coarse), np.arange(1, few + 1))
    assert is_union(coarse, fine)
    assert is_union(fine, tree.classes(tree.max_classes, refine=False))
    assert is_union(fine, tree.patches + 1)


@pytest.mark.parametrize("axes", sorted(SHAPES))
def test_no_cut_changes_another(axes):
    image = np.random.default_rng(0).random(SHAPES[axes])
    tree = aeseg.build_hierarchy(image, MODEL, random_images.PARAMS, axes, "cpu")
    cuts = (lambda t: t.regions(3), lambda t: t.classes(2), lambda t: t.objects())
    alone = [cut(tree.reweighted()) for cut in cuts]
    for cut in cuts[::-1]:
        cut(tree)[:] = 7
    tree.reweighted(balance=1).regions(5)
    assert all(np.array_equal(cut(tree), known) for cut, known in zip(cuts, alone, strict=True))
