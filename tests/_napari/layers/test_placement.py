"""Labels and pictures lie on the image, wherever it has its channels and however it is placed."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_aeseg._napari.layers.image_input import image_input
from napari_aeseg._napari.layers.placement import (
    arguments_on,
    label_place,
    placed_on,
)
from napari_aeseg.images.napari_layers import labels_in

SHAPES = {
    "YX": (3, 4),
    "CYX": (2, 3, 4),
    "TCYX": (3, 2, 3, 4),
    "ZCYX": (3, 5, 3, 4),
    "CTYX": (2, 3, 3, 4),
    "TZCYX": (2, 3, 4, 3, 4),
    "TCZYX": (2, 1, 3, 3, 4),
    "YXC": (3, 4, 2),
    "TYXC": (2, 3, 4, 5),
    "YCX": (3, 2, 4),
}


def placed_image(shape: tuple[int, ...], rgb: bool = False, turned: bool = False) -> Image:
    """An image whose axes all have other scales, and are turned and sheared if asked for."""
    n = len(shape) - rgb
    more = {}
    if turned:
        rotate, affine = np.eye(n), np.eye(n + 1)
        rotate[-2:, -2:] = [[0.6, -0.8], [0.8, 0.6]]
        affine[-2, -1] = 0.5
        more = {"rotate": rotate, "shear": 0.1 * np.arange(n * (n - 1) // 2), "affine": affine}
    return Image(
        np.zeros(shape), rgb=rgb, scale=np.arange(n) + 2.0, translate=np.arange(n) + 7.0, **more
    )


def test_labels_of_a_coarser_level_lie_on_its_pixels():
    image = Image([np.zeros((12, 8)), np.zeros((4, 4))], scale=(2, 3), translate=(5, 7))
    axes = image_input(image, None, 1).axes
    _, arguments = placed_on(image, axes, np.zeros((4, 4), int))
    labels = Labels(np.zeros((4, 4), int), **arguments)

    for pixel, centre in (((0, 0), (1, 0.5)), ((3, 3), (10, 6.5))):  # of 3 x 2 pixels
        assert np.allclose(labels.data_to_world(pixel), image.data_to_world(centre))
    assert np.array_equal(labels.scale, (6, 6))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("letters", SHAPES)
def test_every_pixel_has_its_label(letters, turned):
    image = placed_image(SHAPES[letters], turned=turned and letters[0] != "C")
    axes = image_input(image, letters).axes
    values = 1 + np.arange(np.prod(axes.space_shape)).reshape(axes.space_shape)

    data, arguments = placed_on(image, axes, values)
    labels = Labels(data, **arguments)

    for place in np.ndindex(image.data.shape):
        world = image.data_to_world(place)[-labels.ndim :]
        at = tuple(int(i) for i in np.rint(labels.world_to_data(world)))
        assert labels.data[at] == values[label_place(place, axes)]
        assert label_place(at, axes) == label_place(place, axes)
    assert np.array_equal(labels_in(labels.data, axes), values)


@pytest.mark.parametrize("letters", SHAPES)
def test_labels_leave_the_sliders_as_the_image_has_them(letters):
    viewer, image = ViewerModel(), placed_image(SHAPES[letters])
    viewer.add_layer(image)
    steps, limits = viewer.dims.nsteps, viewer.dims.range
    axes = image_input(image, letters).axes

    data, arguments = placed_on(image, axes, np.ones(axes.space_shape, int))
    viewer.add_layer(Labels(data, **arguments))

    assert viewer.dims.nsteps == steps
    assert viewer.dims.range == limits


def test_labels_of_colours_and_of_a_layer_without_channels_are_as_they_are():
    rgb, brightness = placed_image((3, 4, 3), rgb=True, turned=True), placed_image((2, 3, 4))
    axes = image_input(placed_image((2, 5, 3, 4)), "TCYX").axes

    for image, read in ((rgb, image_input(rgb).axes), (brightness, axes)):
        values = np.ones(read.space_shape, int)
        data, arguments = placed_on(image, read, values)
        assert data is values
        for name in ("scale", "translate", "rotate"):
            assert np.array_equal(arguments[name], getattr(image, name))


def test_names_and_units_of_axes_are_those_of_the_image():
    named = Image(np.zeros((2, 3, 4)), units=("pixel", "um", "um"), axis_labels=("c", "y", "x"))
    plain = Image(np.zeros((4, 5, 2)))

    on_named = arguments_on(named, image_input(named).axes, "YX")
    on_plain = Labels(
        np.zeros((4, 5, 1), int), **arguments_on(plain, image_input(plain, "YXC").axes, "YX")
    )

    assert on_named["axis_labels"] == ("y", "x")
    assert on_named["units"] == named.units[1:]
    assert on_plain.axis_labels == plain.axis_labels


def test_a_picture_of_a_plane_begins_at_its_corner():
    image = placed_image((3, 2, 8, 8))
    axes = image_input(image, "TCYX").axes

    data, arguments = placed_on(image, axes, np.zeros((2, 2)), "YX", {"T": 1, "Y": 3, "X": 5})

    assert data.shape == (2, 2)
    assert np.array_equal(arguments["translate"], image.data_to_world((0, 0, 3, 5))[-2:])
