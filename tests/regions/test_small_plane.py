from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

import napari_aeseg as aeseg
from napari_aeseg.regions.small_plane import plane_of


@pytest.fixture(scope="module")
def image():
    """Four quadrants: black, red, green, white."""
    colors = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 1, 1]]], np.float32)
    return colors.repeat(32, 0).repeat(48, 1)


def tree_of(image, axes):
    params = aeseg.SegmentationParams(patches="grid")
    return aeseg.build_hierarchy(image, "base", params, axes=axes, device="cpu")


@pytest.mark.parametrize(("axes", "order"), [("YXC", (0, 1, 2)), ("CYX", (2, 0, 1)),
                                             ("XCY", (1, 2, 0))])  # fmt: skip
@pytest.mark.parametrize("longest", [24, 96, 200])
def test_picture_and_patches_are_those_of_the_image(image, axes, order, longest):
    given = image.transpose(order)
    tree = tree_of(given, axes)
    plane = plane_of(tree, given, longest)
    height, width, _ = plane.picture.shape
    assert (height, width) == plane.patches.shape == (round(longest * 2 / 3), longest)
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert np.allclose(plane.picture[row, column], image[row, column], atol=0.05)
    labels = tree.regions(4)
    labels = labels.T if axes == "XCY" else labels
    assert np.array_equal(plane.labels(tree.region_of_patch(4))[::height - 1, ::width - 1],
                          labels[::63, ::95])  # fmt: skip


def test_without_the_image_the_brightness_is_shown(image):
    plane = plane_of(tree_of(image, "YXC"), None, 48)
    black, red, green, white = (plane.picture[y, x] for y in (0, -1) for x in (0, -1))
    assert black.max() < red.max() < green.max() < white.max()
    assert (plane.picture == plane.picture[..., :1]).all()


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "YXT"])
def test_it_is_the_middle_of_volumes_and_of_time(axes):
    stack = np.zeros((5, 32, 32), np.float32)
    stack[2, :, 16:] = 1
    given = np.moveaxis(stack, 0, axes.index("T")) if "T" in axes else stack
    plane = plane_of(tree_of(given, axes), given, 16)
    assert plane.picture[:, 8:].min() > 0.9
    assert plane.picture[:, :8].max() < 0.1


def test_no_block_is_read_for_an_image_in_blocks(image):
    blocks = aeseg.BlockParams(block_size=32)
    params = aeseg.SegmentationParams(patches="grid")
    tree = aeseg.build_hierarchy(image, "base", params, device="cpu", blocks=blocks)
    plane = plane_of(tree, object(), 48)  # nothing can be read from it
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert np.allclose(plane.picture[row, column], image[row, column], atol=0.1)


def test_pixels_that_could_not_be_read_have_no_label(image):
    tree = tree_of(image, "YXC")
    patches = np.where(np.arange(64)[:, np.newaxis] < 8, -1, tree.patches)
    holed = replace(tree, patches=da.from_array(patches), brightness=None)
    labels = plane_of(holed, None, 96).labels(tree.region_of_patch(3))
    assert (labels[:8] == 0).all()
    assert (labels[8:] > 0).all()
