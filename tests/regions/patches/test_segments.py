"""Existing segments as patches."""

import dask.array as da
import numpy as np
import pytest
import zarr
from scipy import ndimage
from skimage.measure import label

import napari_aeseg as aeseg
from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import read_axes
from napari_aeseg.regions.patches.segments import checked_segments, patches_with_segments

RNG = np.random.default_rng(0)
IMAGE = RNG.random((40, 48)).astype(np.float32)
SEGMENTS = np.zeros((40, 48), np.int32)
SEGMENTS[3:20, 5:20], SEGMENTS[3:20, 20:41], SEGMENTS[28:38, 4:9] = 9, 4, 2**30


def test_a_segment_is_one_patch_and_the_rest_is_cut_as_before():
    patches = np.kron(np.arange(20).reshape(4, 5), np.ones((10, 10), int))[:, :48]
    found = patches_with_segments(patches, SEGMENTS)
    assert found.dtype == np.int32
    assert np.array_equal(np.unique(found), np.arange(found.max() + 1))
    for value in (9, 4, 2**30):
        (patch,) = np.unique(found[value == SEGMENTS])
        assert np.array_equal(found == patch, value == SEGMENTS)
    whole = ndimage.minimum(SEGMENTS == 0, patches, range(20)).astype(bool)
    for patch in np.flatnonzero(whole):  # those that no segment touches
        assert (patches[found == found[patches == patch][0]] == patch).sum() >= 80


def test_segments_leave_no_slivers_of_patches():
    patches = np.kron(np.arange(20).reshape(4, 5), np.ones((10, 10), int))[:, :48]
    segments = np.where(np.pad([[1]], ((19, 20), (23, 24))) > 0, 3, SEGMENTS)  # in a patch
    segments[38:], segments[39, :2] = 8, 0  # a corner that nothing else touches
    found = patches_with_segments(patches, segments)
    sizes = np.bincount(found.ravel())
    small = np.flatnonzero(sizes < 24)
    assert [segments[found == patch][0] for patch in small] == [3, 0]
    assert label(found, background=-1, connectivity=1).max() == len(sizes)


def test_parts_of_a_segment_that_do_not_touch_are_patches_each():
    segments = np.array([[1, 0, 1], [0, 1, 0]])
    found = patches_with_segments(np.zeros((2, 3), int), segments)
    assert len(np.unique(found[segments == 1])) == 3


def test_segments_stay_in_their_frame():
    segments = np.full((3, 4, 5), 7)
    patches = np.zeros((3, 4, 5), int)
    assert patches_with_segments(patches, segments).max() == 0  # slices of a volume
    frames = patches_with_segments(patches, segments, in_time=True)
    assert [np.unique(frame).tolist() for frame in frames] == [[0], [1], [2]]


def test_labels_of_64_bits_are_told_apart():
    segments = np.array([[2**63, 2**63 + 1]], np.uint64)
    assert patches_with_segments(np.zeros((1, 2), int), segments).tolist() == [[0, 1]]


@pytest.mark.parametrize("kind", [np.asarray, da.from_array, zarr.array], ids=lambda k: k.__name__)
def test_regions_and_classes_never_cut_a_segment(kind):
    tree = aeseg.build_hierarchy(IMAGE, "base", device="cpu", labels=kind(SEGMENTS))
    for labels in (tree.regions(6), tree.regions(2), tree.classes(3)):
        for value in (9, 4, 2**30):
            assert len(np.unique(labels[value == SEGMENTS])) == 1
    finest = tree.regions(tree.n_patches)
    assert len({int(finest[value == SEGMENTS][0]) for value in (9, 4, 2**30)}) == 3


@pytest.mark.parametrize("axes", ["YXC", "XYC", "TYX", "YXT", "ZYX", "TZYX"])
def test_labels_are_in_the_order_of_the_image(axes):
    sizes = {"T": 2, "Z": 3, "Y": 24, "X": 32, "C": 2}
    image = RNG.random([sizes[a] for a in axes]).astype(np.float32)
    space = axes.replace("C", "")
    segments = np.zeros([sizes[a] for a in space], int)
    box = {"T": slice(1, 2), "Z": slice(0, 2), "Y": slice(4, 9), "X": slice(10, 30)}
    segments[tuple(box[a] for a in space)] = 1
    tree = aeseg.build_hierarchy(image, "base", axes=axes, device="cpu", labels=segments)
    (patch,) = np.unique(tree.patches[segments == 1])
    assert np.array_equal(tree.patches == patch, segments == 1)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (SEGMENTS[:-1], r"labels have the shape \(39, 48\), but image has \(40, 48\) \(YX\)"),
        (SEGMENTS[..., None], r"labels have the shape \(40, 48, 1\)"),
        (SEGMENTS / 2, "labels are float64 from 0.0 .*: give whole numbers"),
        (SEGMENTS - 1, "labels are int32 from -1 .*: give whole numbers"),
        (np.ma.masked_equal(SEGMENTS, 9), "masked pixel"),
        ("labels.tif", "is the name of a file"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, problem):
    with pytest.raises(InputError, match=problem):
        aeseg.build_hierarchy(IMAGE, "base", device="cpu", labels=labels)


def test_labels_of_images_in_blocks_are_refused():
    with pytest.raises(InputError, match="labels cannot be used with image in blocks"):
        aeseg.build_hierarchy(IMAGE, "base", labels=SEGMENTS, blocks=aeseg.BlockParams())


def test_true_and_false_are_a_segment_and_none():
    assert checked_segments(SEGMENTS > 0, read_axes(IMAGE.shape)).any()
