"""Checks of images before anything of them is read."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import napari_aeseg as aeseg
from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import read_axes
from napari_aeseg.images.blocks import BlockImage
from napari_aeseg.images.checks import check_compatible, full_resolution, image_axes, plain_array
from napari_aeseg.images.intensity import read_image

GREY = np.arange(100.0).reshape(10, 10)


def test_axes_that_were_read_are_not_checked_again():
    axes = read_axes((10, 10), "XY")
    assert image_axes("not looked at", axes) is axes
    assert image_axes(GREY, "XY") == axes
    with pytest.raises(InputError, match=r"axes='ZYX' does not fit an image of shape \(10, 10\)"):
        image_axes(GREY, "ZYX")


def test_the_finest_level_of_a_multiscale_image_is_taken():
    class Levels(list):
        shapes = ((10, 10), (5, 5))

    assert full_resolution(Levels([GREY, GREY[::2, ::2]])) is GREY
    slices = [GREY, GREY]
    assert full_resolution(slices) is slices


class Named:
    """An array with names of dimensions, as xarray has them; parts of it are none of numpy."""

    def __init__(self, data, dims):
        self.data, self.dims, self.shape, self.dtype = data, dims, data.shape, data.dtype
        self.chunks = getattr(data, "chunks", None)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.data)

    def __getitem__(self, index):
        raise TypeError("unhashable type: 'slice'")


VALUES = GREY.astype(np.float32)
TENSOR = torch.from_numpy(VALUES)
ARRAYS = {
    "torch": TENSOR,
    "torch with gradient": TENSOR.clone().requires_grad_(),
    "pandas": pd.DataFrame(VALUES),
    "named": Named(VALUES, ("y", "x")),
    "named dask": Named(da.from_array(VALUES, chunks=5), ("y", "x")),
    "pillow": Image.fromarray(VALUES),
    "memoryview": memoryview(VALUES),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_whatever_can_be_an_array_is_read_like_one(kind):
    """Indices and dtypes of others ended in raw errors."""
    image = ARRAYS[kind]
    assert np.array_equal(read_image(image).pixels, read_image(VALUES).pixels)
    blocks, expected = BlockImage.of(image), BlockImage.of(VALUES)
    part = (slice(2, 7), slice(1, 4))
    assert blocks.intensity == expected.intensity
    assert np.array_equal(blocks.raw(part), expected.raw(part))
    params = aeseg.TrainingParams(steps=1, width=4)
    assert aeseg.train(image, params, device="cpu").losses
    for given in (None, aeseg.BlockParams()):
        tree = aeseg.build_hierarchy(image, "base", device="cpu", blocks=given)
        assert tree.axes.space_shape == (10, 10)


def test_arrays_that_are_lazy_stay_lazy():
    lazy = da.from_array(VALUES, chunks=5)
    assert plain_array(Named(lazy, ("y", "x"))) is lazy
    assert plain_array(VALUES) is VALUES


def test_names_of_dimensions_are_axes():
    axes = image_axes(Named(np.zeros((10, 10, 3)), ("y", "x", "time")))
    assert str(axes).endswith("(YXT, from the array)")
    assert image_axes(Named(np.zeros((9, 10, 10)), ("a", "b", "c"))).inferred
    assert image_axes(Named(np.zeros((9, 10, 10)), ("t", "y", "x")), "ZYX").letters == "ZYX"


@pytest.mark.parametrize("image", [None, {}, iter([]), TENSOR.to("meta"), TENSOR.bfloat16()])
def test_what_is_no_array_is_refused_with_its_type(image):
    with pytest.raises(InputError, match=rf"image is of type {type(image).__name__}, which is no"):
        aeseg.build_hierarchy(image, "base")
    with pytest.raises(
        InputError, match=rf"image 1 is of type {type(image).__name__}, which is no"
    ):
        aeseg.train(image)
    for read in (read_image, BlockImage.of):
        with pytest.raises(InputError):
            read(image)


def test_images_that_differ_are_refused_with_the_list_of_them():
    images = [GREY, GREY.astype(np.uint8), np.zeros((10, 10, 3))]
    names = ["a", "b", "c"]
    check_compatible(images[:2], [None, read_axes((10, 10))], names[:2])
    with pytest.raises(InputError, match="different dtypes: convert them to one, or train on them"):
        check_compatible(images[:2], [None] * 2, names[:2], one_dtype=True)
    with pytest.raises(InputError, match=r"(?s)numbers of channels.*c: shape .* 3 channels"):
        check_compatible(images, [None] * 3, names)
    many = [np.zeros((10, 10, 3 + i % 2)) for i in range(25)]
    with pytest.raises(InputError, match="and 5 more"):
        check_compatible(many, [None] * 25, [str(i) for i in range(25)])


@pytest.mark.parametrize(
    "change",
    [lambda a: a, lambda a: da.from_array(a, chunks=5), lambda a: list(a)],
    ids=["array", "dask", "list"],
)
def test_masked_pixels_are_refused(change):
    image = np.ma.masked_array(GREY, GREY > 90)
    for read in (read_image, BlockImage.of):
        with pytest.raises(InputError, match=rf"{int((GREY > 90).sum())} masked pixel.*filled"):
            read(change(image))
    assert np.array_equal(read_image(np.ma.masked_array(GREY)).pixels, read_image(GREY).pixels)


@pytest.mark.parametrize("read", [read_image, BlockImage.of, image_axes])
def test_lists_of_rows_are_images_and_ragged_ones_are_refused(read):
    axes = getattr(read(GREY.tolist()), "axes", None) or image_axes(GREY.tolist())
    assert axes.shape == GREY.shape
    with pytest.raises(InputError, match=r"different shapes, \(2,\) and \(1,\)"):
        read([[1, 2], [3]])


def test_dask_arrays_of_unknown_shape_are_refused():
    grey = da.from_array(np.eye(40))
    unknown = grey[grey[:, 0] >= 0]
    for work in (aeseg.train, lambda image: aeseg.build_hierarchy(image, "base")):
        with pytest.raises(aeseg.InputError, match=r"not known yet: call compute_chunk_sizes"):
            work(unknown)


def test_the_name_of_a_file_is_not_taken_for_an_image():
    for work in (aeseg.train, lambda image: aeseg.build_hierarchy(image, "base")):
        with pytest.raises(aeseg.InputError, match=r"'a\.tif' is the name of a file"):
            work("a.tif")
