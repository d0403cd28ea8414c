from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.layers import Image
from napari.layers._source import layer_source

import napari_aeseg as aeseg
from napari_aeseg import InputError
from napari_aeseg._napari.layers.image_input import image_input


def test_grey_image_is_read_from_its_shape():
    shot = image_input(Image(np.zeros((4, 5)), name="grey"))

    assert shot.name == "grey"
    assert shot.axes.letters == "YX"
    assert shot.axes.inferred
    assert shot.axes_argument is None


def test_axis_labels_that_are_names_are_the_truth():
    shot = image_input(Image(np.zeros((3, 4, 5)), axis_labels=("z", "y", "x")))

    assert shot.axes.letters == "ZYX"
    assert shot.axes_argument == "ZYX"
    assert str(shot.axes).endswith("(ZYX, from the layer)")


def opened(path, data, **more):
    """A layer as napari has it after opening a file: without the axes of the file."""
    with layer_source(path=str(path), reader_plugin="napari"):
        return Image(data, **more)


@pytest.mark.parametrize("name", ["a.tif", "a.lsm"])
def test_axes_are_those_of_the_file_that_the_layer_was_opened_from(tmp_path, name):
    """Time was taken for channels."""
    stack = np.zeros((5, 2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / name, stack, imagej=True, metadata={"axes": "TCYX"})
    shot = image_input(opened(tmp_path / name, stack))
    assert str(shot.axes).endswith("(TCYX, from the file)")
    assert shot.axes_argument == "TCYX"
    # What is typed, and names of the layer, count more.
    assert image_input(opened(tmp_path / name, stack), "ZCYX").axes.letters == "ZCYX"
    named = opened(tmp_path / name, stack, axis_labels=("z", "c", "y", "x"))
    assert image_input(named).axes.letters == "ZCYX"


def test_a_file_that_does_not_fit_the_layer_is_passed_over(tmp_path):
    stack = np.zeros((5, 2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TCYX"})
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    for path, data in (
        (tmp_path / "a.tif", stack[:4]),  # cropped
        (tmp_path / "b.tif", stack),
        (tmp_path / "lost.tif", stack),
        (tmp_path, stack),
    ):
        assert image_input(opened(path, data)).axes.inferred


def test_what_is_typed_wins_over_axis_labels():
    shot = image_input(Image(np.zeros((3, 4, 5)), axis_labels=("z", "y", "x")), "CYX")

    assert shot.axes.letters == "CYX"


@pytest.mark.parametrize("channels", [3, 4])
def test_rgb_has_its_colour_last_and_loses_alpha(channels):
    shot = image_input(Image(np.zeros((4, 5, channels), np.uint8), rgb=True))

    assert shot.axes.letters == "YXC"
    assert str(shot.axes) == "3 channels, 4 x 5 pixels (YXC, from the layer)"
    assert shot.axes_argument == "YXC"
    assert shot.data.shape == (4, 5, 3)


def test_rgb_stack_takes_axis_labels_of_the_layer():
    shot = image_input(Image(np.zeros((2, 4, 5, 3)), rgb=True, axis_labels=("t", "y", "x")))

    assert shot.axes.letters == "TYXC"


def test_tiny_rgb_image_is_not_mistaken_for_a_stack():
    assert image_input(Image(np.zeros((3, 3, 3)), rgb=True)).axes.letters == "YXC"


def test_axes_of_rgb_must_end_with_the_colour():
    layer = Image(np.zeros((4, 5, 3)), rgb=True, name="photo")

    assert str(image_input(layer, "yxc").axes).endswith("(YXC, as given)")
    with pytest.raises(InputError, match="photo: axes='CYX': the last axis of an RGB layer"):
        image_input(layer, "CYX")


def test_axes_that_do_not_fit_name_the_layer():
    with pytest.raises(InputError, match=r"grey: axes='YXC' does not fit .*\(4, 5\)"):
        image_input(Image(np.zeros((4, 5)), name="grey"), "YXC")


def test_multiscale_gives_its_finest_level():
    layer = Image([np.zeros((8, 8)), np.zeros((4, 4))], multiscale=True)

    assert image_input(layer).data.shape == (8, 8)


def test_a_coarser_level_has_larger_pixels():
    layer = Image([np.zeros((4, 9, 8)), np.zeros((4, 3, 4))], multiscale=True, scale=(3, 0.5, 0.5))

    shot = image_input(layer, "ZYX", 1)
    assert shot.data.shape == shot.axes.shape == (4, 3, 4)
    assert shot.axes.voxel_size == (3, 1.5, 1)
    assert shot.has_shape_of(layer)
    assert image_input(layer, "ZYX", 7).resolution == 1  # others may have more levels


@pytest.mark.parametrize(
    ("unit", "scale", "size"),
    [("um", (1, 1), (0.5, 0.25)), ("um", (3, 3), (3, 3)), ("", (1, 1), None)],
)
def test_pixel_size_is_that_of_the_file_if_the_layer_has_none(tmp_path, unit, scale, size):
    """napari opens TIFF without it."""
    path, image = str(tmp_path / "a.tif"), np.zeros((9, 8), np.uint8)
    about = {"unit": unit} if unit else {}
    tifffile.imwrite(path, image, imagej=True, resolution=(4, 2), metadata=about)

    assert image_input(opened(path, image, scale=scale)).axes.voxel_size == size


def test_lazy_arrays_stay_lazy():
    assert isinstance(image_input(Image(da.zeros((8, 8)))).data, da.Array)


@pytest.mark.parametrize(
    ("letters", "shape", "scale", "units", "voxels", "unit"),
    [
        ("ZYX", (4, 9, 9), (2, 0.5, 0.5), ("um",) * 3, (2, 0.5, 0.5), "micrometer"),
        ("ZYX", (4, 9, 9), (-2, 0.5, 0.5), None, (2, 0.5, 0.5), "pixel"),
        ("ZYX", (4, 9, 9), (900, 0.5, 0.5), ("nm", "um", "um"), (0.9, 0.5, 0.5), "micrometer"),
        ("ZYX", (4, 9, 9), (2, 0.5, 0.5), ("pixel", "um", "um"), (2, 0.5, 0.5), "pixel"),
        ("TYX", (4, 9, 9), (60, 0.5, 0.5), ("s", "um", "um"), (0.5, 0.5), "micrometer"),
        ("TYX", (4, 9, 9), (60, 1, 1), None, None, "pixel"),
        ("CZYX", (2, 4, 9, 9), (1, 3, 1, 1), None, (3, 1, 1), "pixel"),
        ("YX", (9, 9), (1, 1), ("um", "um"), (1, 1), "micrometer"),
        ("YX", (9, 9), (1, 1), None, None, "pixel"),
    ],
)
def test_voxels_are_those_of_the_scale(letters, shape, scale, units, voxels, unit):
    shot = image_input(Image(np.zeros(shape), scale=scale, units=units), letters)

    assert shot.axes.voxel_size == (None if voxels is None else pytest.approx(voxels))
    assert shot.axes.unit == unit


def test_voxels_of_rgb_leave_the_colour_out():
    shot = image_input(Image(np.zeros((2, 9, 9, 3), np.uint8), rgb=True, scale=(3, 1, 1)))

    assert shot.axes.voxel_size == (3, 1, 1)


def test_the_finest_level_of_several_is_worked_on(stripes):
    layer = Image([stripes, stripes[::2, ::2]], multiscale=True)
    tree = aeseg.build_hierarchy(layer.data, "base", device="cpu")
    assert tree.patches.shape == stripes.shape
    params = aeseg.TrainingParams(steps=1, width=2, levels=1)
    trained = aeseg.train(layer.data, params, device="cpu")
    assert trained.record.images[0]["shape"] == list(stripes.shape)
    with pytest.raises(InputError, match="different shapes"):
        aeseg.build_hierarchy(list(layer.data), "base", device="cpu")
