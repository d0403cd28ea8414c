import numpy as np
import pytest

from napari_aeseg.errors import InputError
from napari_aeseg.regions.cuts.objects import SearchInTime, find_objects, linked


def discs(number=5, step=3):
    """A disc that moves, and one that comes after two frames; dark frames are none."""
    t, y, x = np.indices((number, 64, 64))
    moving = np.hypot(y - 20, x - 16 - step * t) < 8
    coming = (np.hypot(y - 46, x - 40) < 7) & (t >= 2)
    noise = np.random.default_rng(0).normal(0, 0.02, moving.shape)
    return ((moving | coming) + noise).astype(np.float32), moving, coming


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_object_keeps_its_label(axis):
    image, moving, coming = (np.moveaxis(a, 0, axis) for a in discs())
    labels = SearchInTime(image, axis).find()
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) == {0, 1, 2}
    assert np.mean((labels == 1) == moving) > 0.99
    assert np.mean((labels == 2) == coming) > 0.99


def test_one_frame_is_an_image():
    image = discs()[0][:1]
    assert np.array_equal(SearchInTime(image, 0).find()[0], find_objects(image[0]))


def test_a_frame_without_objects_ends_labels():
    image, moving, _ = discs(3, step=0)
    image[1] = 0
    labels = SearchInTime(image, 0).find()
    first, last = labels[0][moving[0]], labels[2][moving[2]]
    assert not labels[1].any()
    assert np.bincount(first).argmax() != np.bincount(last).argmax()


def test_foreground_clips_objects_of_each_frame():
    image, moving, _ = discs()
    labels = SearchInTime(image, 0).find(moving)
    assert set(np.unique(labels)) == {0, 1}
    assert np.mean((labels == 1) == moving) > 0.99


def test_a_wrong_size_is_refused():
    with pytest.raises(InputError, match="min_size = 0"):
        SearchInTime(discs()[0], 0).find(min_size=0)


def test_a_division_gives_one_label_on_and_a_new_one():
    before = np.array([1, 1, 1, 1, 1, 0])
    after = np.array([1, 1, 0, 2, 0, 0])
    assert [labels.tolist() for labels in linked([before, after])] == [
        [1, 1, 1, 1, 1, 0],
        [1, 1, 0, 2, 0, 0],
    ]
    assert linked([after, before])[1].tolist() == before.tolist()
