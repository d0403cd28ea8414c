import numpy as np
import pytest

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import channels_first, common_voxel_size, read_axes


@pytest.mark.parametrize(
    ("shape", "letters"),
    [
        ((9, 10), "YX"),
        ((1, 1), "YX"),
        ((9, 10, 3), "YXC"),
        ((9, 10, 4), "YXC"),
        ((9, 10, 2), "YXC"),
        ((9, 10, 5), "YXC"),
        ((9, 10, 1), "YXC"),
        ((9, 10, 6), "ZYX"),
        ((3, 9, 2), "YXC"),
        ((20, 9, 10, 2), "ZYXC"),
        ((7, 20, 9, 10, 5), "TZYXC"),
        ((3, 9, 10), "CYX"),
        ((1, 9, 10), "CYX"),
        ((5, 9, 10), "CYX"),
        ((6, 9, 10), "ZYX"),
        ((20, 9, 10), "ZYX"),
        ((20, 9, 10, 3), "ZYXC"),
        ((2, 20, 9, 10), "CZYX"),
        ((20, 2, 9, 10), "ZCYX"),
        ((7, 20, 9, 10, 3), "TZYXC"),
        ((7, 2, 20, 9, 10), "TCZYX"),
    ],
)
def test_axes_are_inferred_from_the_shape(shape, letters):
    axes = read_axes(shape)
    assert axes.letters == letters
    assert axes.inferred
    assert str(axes).endswith(f"({letters}, inferred from the shape)")


@pytest.mark.parametrize(
    ("shape", "given"), [((3, 9, 10), "ZYX"), ((9, 10, 3), "yxz"), ((4, 9, 10), "TYX")]
)
def test_given_axes_win_over_the_shape(shape, given):
    axes = read_axes(shape, given)
    assert axes.letters == given.upper()
    assert not axes.inferred
    assert "as given" in str(axes)


def test_text_of_axes_has_sizes():
    text = str(read_axes((7, 2, 1, 512, 256), "TCZYX"))
    assert text == "7 time points, 2 channels, 1 slice, 512 x 256 pixels (TCZYX, as given)"


@pytest.mark.parametrize(
    ("labels", "letters", "inferred"),
    [
        (("z", "y", "x"), "ZYX", False),
        (("channel", "y", "x"), "CYX", False),
        (("Time", "Y", "X"), "TYX", False),
        (("-3", "-2", "-1"), "CYX", True),  # napari's names for "unknown"
        (("y", "x"), "CYX", True),
        (("y", "y", "x"), "CYX", True),
        (None, "CYX", True),
    ],
)
def test_axis_names_of_a_viewer_count_if_all_are_understood(labels, letters, inferred):
    axes = read_axes((3, 9, 10), labels=labels)
    assert (axes.letters, axes.inferred) == (letters, inferred)
    assert str(axes).endswith(", inferred from the shape)" if inferred else ", from the layer)")


def test_text_of_axes_names_their_source():
    assert str(read_axes((9, 10), "YX", source="file")) == "9 x 10 pixels (YX, from the file)"
    assert not read_axes((9, 10), "YX", source="file").inferred


def test_given_axes_win_over_labels():
    assert read_axes((3, 9, 10), "TYX", labels=("z", "y", "x")).letters == "TYX"


@pytest.mark.parametrize("axes", ["YX", "YXCZ", "YYX", "YXQ", "CZX", "", "Y X", "YX C"])
def test_axes_that_do_not_fit_are_refused_with_an_example_that_does(axes):
    with pytest.raises(InputError) as error:
        read_axes((9, 10, 3), axes)
    text = str(error.value)
    assert repr(axes) in text
    assert "(9, 10, 3)" in text
    assert "T, C, Z, Y, X" in text
    assert "'YXC'" in text


@pytest.mark.parametrize("shape", [(), (10,), (2, 2, 2, 2, 9, 10)])
def test_too_few_or_too_many_dimensions_are_refused(shape):
    with pytest.raises(InputError, match="2 to 5") as error:
        read_axes(shape)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(0, 10), (9, 0), (3, 9, 0)])
@pytest.mark.parametrize("given", [False, True])
def test_empty_image_is_refused(shape, given):
    with pytest.raises(InputError, match="empty") as error:
        read_axes(shape, "CYX"[-len(shape) :] if given else None)
    assert str(shape) in str(error.value)


def test_space_is_all_but_the_channels():
    axes = read_axes((7, 2, 9, 10), "TCYX")
    assert (axes.space, axes.space_shape, axes.channels) == ("TYX", (7, 9, 10), 2)
    assert read_axes((9, 10)).channels == 1


@pytest.mark.parametrize("letters", ["YX", "XY", "CXY", "XYC", "YZX", "XCTY", "TCZYX"])
def test_results_go_back_to_the_order_of_the_image(letters):
    shape = tuple("TCZYX".index(a) + 2 for a in letters)
    image = np.random.default_rng(0).random(shape)
    axes = read_axes(shape, letters)
    plane = channels_first(image, axes)
    index = letters.index("C") if "C" in letters else None
    expected = image[np.newaxis] if index is None else np.moveaxis(image, index, 0)
    assert np.array_equal(axes.to_image_order(plane), expected)
    assert axes.to_image_order(plane[0]).shape == axes.space_shape


@pytest.mark.parametrize(
    ("axes", "shape", "moved"),
    [
        ("YX", (4, 5), (1, 4, 5)),
        ("YXC", (4, 5, 3), (3, 4, 5)),
        ("CYX", (3, 4, 5), (3, 4, 5)),
        ("ZCYX", (6, 3, 4, 5), (3, 6, 4, 5)),
        ("TZYXC", (2, 6, 4, 5, 3), (3, 2, 6, 4, 5)),
    ],
)
def test_channels_move_to_the_front_without_a_copy(axes, shape, moved):
    image = np.arange(np.prod(shape)).reshape(shape)
    result = channels_first(image, read_axes(shape, axes))
    assert result.shape == moved
    assert np.shares_memory(result, image)
    if "C" in axes:
        last = np.take(image, -1, axis=axes.index("C"))
        assert np.array_equal(result[-1], last)


@pytest.mark.parametrize(
    ("letters", "shape", "voxels", "spacing", "distance"),
    [
        ("ZYX", (9, 20, 30), (2, 0.5, 0.5), (2, 0.5, 0.5), 4),
        ("YXZ", (20, 30, 9), (0.5, 1.5, 3), (0.5, 1.5, 3), 3),
        ("TCZYX", (2, 3, 9, 20, 30), (1, 2, 2), (1, 1, 2, 2), 0.5),
        ("YXC", (20, 30, 3), (0.1, 0.1), (0.1, 0.1), 1),
    ],
)
def test_voxel_size_gives_spacing_and_slice_distance(letters, shape, voxels, spacing, distance):
    axes = read_axes(shape, letters)
    assert axes.spacing is None
    assert axes.slice_distance == 1
    axes = axes.with_voxel_size(voxels)
    assert axes.spacing == spacing
    assert axes.slice_distance == distance
    assert axes.letters == letters


def test_text_of_axes_has_the_voxel_size():
    axes = read_axes((20, 30), "YX").with_voxel_size((0.25, 1 / 3))
    assert str(axes) == "20 x 30 pixels (YX, as given), pixels of 0.25 x 0.3333"
    assert str(axes.with_voxel_size((2, 3), "nanometer")).endswith("pixels of 2 x 3 nanometer")


def test_common_voxel_size_is_that_of_all_images_or_none():
    axes = read_axes((20, 64, 64), "ZYX")
    near, far = axes.with_voxel_size((2, 1, 1)), axes.with_voxel_size((4, 1, 1))
    assert common_voxel_size([near, near]) == (2, 1, 1)
    assert common_voxel_size([near, far]) is None
    assert common_voxel_size([near, axes]) is None
