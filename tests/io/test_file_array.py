"""Arrays in files of which only parts are read."""

import numpy as np
import pytest
import zarr

import napari_aeseg as aeseg
from napari_aeseg.images.axes import read_axes
from napari_aeseg.images.blocks import BlockImage
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.io.file_array import FileArray
from napari_aeseg.io.images import open_file, read_file

VALUES = np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_arrays_are_opened_without_being_loaded(tmp_path, version):
    path = tmp_path / "a.zarr"
    zarr.create_array(store=str(path), data=VALUES, chunks=(1, 16, 16), zarr_format=version)
    opened = open_file(path)
    assert isinstance(opened.array, FileArray)
    assert (opened.array.shape, opened.array.dtype) == (VALUES.shape, VALUES.dtype)
    assert opened.array.chunks == (1, 16, 16)
    assert opened.axes is None
    assert np.array_equal(opened.array[1, 3:9, ::2], VALUES[1, 3:9, ::2])
    assert np.array_equal(opened.array[..., 4], VALUES[..., 4])
    assert np.array_equal(read_file(path)[0], VALUES)


@pytest.mark.parametrize("axes", ["CYX", "XCY", "ZYX"])
def test_blocks_of_a_file_are_those_of_the_array(tmp_path, axes):
    path = tmp_path / "a.zarr"
    zarr.create_array(store=str(path), data=VALUES, chunks=(1, 16, 16))
    given = read_axes(VALUES.shape, axes)
    same = IntensityRange((0.0,) * 40, (1.0,) * 40)
    lazy, whole = (BlockImage.of(a, given, "a", same) for a in (open_file(path).array, VALUES))
    assert (lazy.shape, lazy.axes) == (whole.shape, whole.axes)
    part = (slice(1, 3),) * len(whole.shape)
    assert np.array_equal(lazy.raw(part), whole.raw(part))


def test_a_file_is_segmented_in_blocks(tmp_path, stripes):
    path = tmp_path / "a.zarr"
    zarr.create_array(store=str(path), data=stripes, chunks=(16, 16))
    params = aeseg.SegmentationParams(patches="grid", patch_size=4)
    blocks = aeseg.BlockParams(block_size=32)
    lazy, whole = (
        aeseg.build_hierarchy(image, "base", params, device="cpu", blocks=blocks)
        for image in (open_file(path).array, stripes)
    )
    assert np.array_equal(lazy.regions(4).compute(), whole.regions(4).compute())
