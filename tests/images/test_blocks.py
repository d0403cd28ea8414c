"""Images that are read block by block."""

import pickle

import dask.array as da
import numpy as np
import pytest

from napari_aeseg.errors import InputError
from napari_aeseg.images.blocks import BlockImage, _windows, plan_blocks
from napari_aeseg.images.intensity import IntensityRange, read_image

IMAGE = np.random.default_rng(0).integers(0, 999, (3, 150, 260)).astype(np.uint16)


@pytest.mark.parametrize("shape", [(10, 12), (3, 40, 41)])
def test_inner_parts_of_blocks_cover_the_image_exactly_once(shape):
    size, align = (8,) * len(shape), (4,) * len(shape)
    count = np.zeros(shape, int)
    for block in plan_blocks(shape, size, (3,) * len(shape), align):
        count[block.inner] += 1
        assert count[block.outer][block.keep].shape == count[block.inner].shape
        assert all(side.start % 4 == 0 for side in (*block.inner, *block.outer))
    assert (count == 1).all()


def test_a_small_image_has_the_same_intensities_in_blocks():
    lazy, whole = BlockImage.of(IMAGE, "CYX"), read_image(IMAGE, "CYX", flatten_illumination=False)
    assert lazy.intensity == whole.intensity
    part = (slice(20, 90), slice(7, 200))
    assert np.array_equal(lazy.scaled(lazy.raw(part)).pixels, whole.pixels[:, 20:90, 7:200])


def test_digests_tell_images_apart():
    other = IMAGE.copy()
    other[0, 0, 0] += 1
    digests = [BlockImage.of(image, "CYX").digests for image in (IMAGE, IMAGE.copy(), other)]
    assert digests[0] == digests[1] != digests[2]
    intensity = IntensityRange((0.0,) * 3, (999.0,) * 3)
    assert BlockImage.of(IMAGE, "CYX", intensity=intensity).digests == ()
    again = BlockImage.of(IMAGE, "CYX", intensity=intensity, with_digests=True)
    assert (again.digests, again.intensity) == (digests[0], intensity)


def test_windows_that_cannot_be_read_are_left_out_if_asked_for():
    broken = IMAGE.astype(float)
    broken[:, :9, :9] = np.nan
    with pytest.raises(InputError, match=r"image \(Y 0 to 128, X 0 to 128\) has \d+ NaN"):
        BlockImage.of(broken, "CYX")
    skipped = BlockImage.of(broken, "CYX", skip=True)
    assert [digest is None for digest in skipped.digests] == [True, *[False] * 5]
    # An image that can be read again is measured in the same windows as before.
    whole = BlockImage.of(IMAGE.astype(float), "CYX", skip=True, leave_out={0})
    assert (whole.intensity, whole.digests) == (skipped.intensity, skipped.digests)
    with pytest.raises(InputError, match="NaN"):
        BlockImage.of(broken * np.nan, "CYX", skip=True)


def test_an_image_in_blocks_can_be_sent_to_another_process():
    image = BlockImage.of(da.from_array(IMAGE, chunks=100), "CYX")
    again = pickle.loads(pickle.dumps(image))
    part = (slice(0, 9), slice(0, 9))
    assert np.array_equal(again.raw(part), image.raw(part))


def test_intensities_are_measured_in_few_windows():
    for shape in ((5000, 4000), (300, 900, 1000), (20, 30, 2048, 2048)):
        windows = _windows(shape)
        pixels = sum(np.prod([s.stop - s.start for s in part]) for part in windows)
        assert len(windows) <= 512
        assert 200_000 < pixels < 5_000_000
        assert max(part[-1].stop for part in windows) == shape[-1]
    assert _windows((40, 30)) == [(slice(0, 40), slice(0, 30))]
