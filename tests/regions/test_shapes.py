import numpy as np
import pytest
from skimage.draw import disk, ellipse
from skimage.measure import regionprops_table

from napari_aeseg.images.axes import read_axes
from napari_aeseg.regions.shapes import object_diameters, shape_columns


@pytest.fixture
def shapes():
    """A disc, an ellipse, a C, a single pixel; label 4 has none."""
    labels = np.zeros((60, 90), int)
    labels[disk((20, 20), 12)] = 1
    labels[ellipse(30, 60, 8, 22)] = 2
    labels[45:58, 5:25] = 3
    labels[49:54, 10:25] = 0
    labels[57, 80] = 4
    return labels


def test_shapes_agree_with_those_of_scikit_image(shapes):
    columns = shape_columns(shapes, 4, (1, 1))
    names = {
        "equivalent_diameter": "equivalent_diameter_area",
        "perimeter": "perimeter",
        "major_axis": "axis_major_length",
        "minor_axis": "axis_minor_length",
        "eccentricity": "eccentricity",
    }
    expected = regionprops_table(shapes, properties=(*names.values(), "solidity"))
    for name, theirs in names.items():  # their ellipse of a single pixel has no size
        np.testing.assert_allclose(columns[name][:3], expected[theirs][:3], 5e-3, err_msg=name)
    np.testing.assert_allclose(columns["solidity"], expected["solidity"], atol=0.03)
    assert columns["major_axis"][3] == pytest.approx(2 / 3**0.5)


def test_a_ball_has_the_surface_of_a_ball_also_where_slices_are_farther_apart():
    z, y, x = np.indices((21, 41, 41))
    ball = (np.hypot(np.hypot(2 * (z - 10), y - 20), x - 20) < 15).astype(int)
    columns = shape_columns(ball, 1, (2.0, 1.0, 1.0))
    assert columns["equivalent_diameter"][0] == pytest.approx(30, rel=0.03)
    assert columns["surface"][0] == pytest.approx(4 * np.pi * 15**2, rel=0.12)
    axes = [columns["major_axis"][0], columns["minor_axis"][0]]
    assert axes == pytest.approx([30, 30], rel=0.04)
    assert columns["solidity"][0] > 0.9


def test_diameters_are_of_each_frame_and_of_the_shortest_side():
    square = np.zeros((2, 20, 20), int)
    square[0, 2:12, 2:12] = 1
    square[1, 2:7, 2:7] = 1
    expected = [2 * (100 / np.pi) ** 0.5, 2 * (25 / np.pi) ** 0.5]
    assert object_diameters(square, read_axes(square.shape, "TYX")).tolist() == pytest.approx(
        expected
    )
    axes = read_axes(square.shape, "ZYX").with_voxel_size((4.0, 2.0, 2.0))
    volume = 125 * 2
    assert object_diameters(square, axes) == pytest.approx([(6 * volume / np.pi) ** (1 / 3)])
