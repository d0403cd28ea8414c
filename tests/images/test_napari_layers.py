"""Layers of napari in the place of arrays."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels, Points, Shapes

import napari_aeseg as aeseg
from napari_aeseg import InputError
from napari_aeseg.images.napari_layers import labels_of_layer, layer_axes

PARAMS = aeseg.SegmentationParams(patch_size=4)


def quarters() -> np.ndarray:
    """Four greys with noise, shape (32, 32)."""
    plain = np.kron([[0, 1], [2, 3]], np.ones((16, 16)))
    return (plain + np.random.default_rng(0).normal(0, 0.05, plain.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def tree():
    layer = Image(quarters(), scale=(0.5, 0.25), units=("um", "um"), name="quarters")
    return aeseg.build_hierarchy(layer, "base", PARAMS, device="cpu")


def test_a_scale_beyond_reason_is_ignored():
    layer = Image(np.zeros((4, 8, 9)), scale=(1e-7, 1, 1), axis_labels=("z", "y", "x"))
    assert layer_axes(layer).voxel_size is None


def test_a_labels_layer_can_be_the_start():
    segments = np.zeros((32, 32), int)
    segments[5:14, 4:28] = 3
    image = Image(quarters())
    tree = aeseg.build_hierarchy(image, "base", PARAMS, device="cpu", labels=Labels(segments))
    (patch,) = np.unique(tree.patches[segments == 3])
    assert np.array_equal(tree.patches == patch, segments == 3)


def test_an_image_layer_brings_its_scale(tree):
    assert tree.axes.voxel_size == (0.5, 0.25)
    assert tree.axes.unit == "micrometer"


@pytest.mark.parametrize(
    ("shape", "more", "letters"),
    [
        ((2, 32, 32), {"axis_labels": ("t", "y", "x")}, "TYX"),
        ((32, 32, 4), {"rgb": True}, "YXC"),
    ],
)
def test_an_image_layer_brings_its_axes(shape, more, letters):
    layer = Image(np.random.default_rng(0).random(shape), **more)

    assert layer_axes(layer).letters == letters
    tree = aeseg.build_hierarchy(layer, "base", PARAMS, device="cpu")
    assert tree.axes.letters == letters
    assert tree.axes.channels == (3 if letters == "YXC" else 1)


def test_training_and_segmenting_take_layers():
    layer = Image([quarters(), quarters()[::2, ::2]], multiscale=True)
    params = aeseg.TrainingParams(steps=1, width=2, levels=1)

    model = aeseg.train([layer, layer], params, device="cpu")
    assert model.record.images[0]["shape"] == [32, 32]
    assert aeseg.segment(layer, model, n_regions=2, device="cpu").shape == (32, 32)
    assert model.reconstruct(layer, device="cpu").shape == (32, 32)


def test_strokes_and_points_are_markers(tree):
    strokes = np.zeros((32, 32), int)
    places = np.array([(4, 4), (4, 28), (28, 4), (28, 28)])
    strokes[tuple(places.T)] = 1, 2, 3, 4
    expected = tree.from_markers(strokes)
    points = Points(places, scale=(0.5, 0.25))
    coarse = Points(places / 2, scale=(1, 0.5))
    named = Points(places, scale=(0.5, 0.25), features={"label": [1, 2, 3, 4]})

    for layer in (Labels(strokes), points, coarse, named):
        assert np.array_equal(tree.from_markers(layer), expected)
        assert np.array_equal(aeseg.Cut("markers").labels(tree, markers=layer), expected)
    named.features = {"label": [7, 7, 1, 1]}
    assert set(np.unique(tree.from_markers(named))) == {1, 7}
    assert tree.table(Labels(expected))["index"].tolist() == [1, 2, 3, 4]


def test_labels_of_an_image_with_channels_lose_the_axis_that_stands_in_for_them():
    axes = layer_axes(Image(np.zeros((3, 2, 8, 8)), axis_labels=("t", "c", "y", "x")))
    layer, points = Labels(np.ones((3, 1, 8, 8), int)), Points([(2, 1, 4, 5)])

    assert labels_of_layer(layer, axes).shape == (3, 8, 8)
    assert np.argwhere(labels_of_layer(points, axes)).tolist() == [[2, 4, 5]]


def test_other_layers_are_refused_by_name(tree):
    with pytest.raises(InputError, match=r"^dots is a Points layer: give an Image layer\.$"):
        aeseg.build_hierarchy(Points([(1, 1)], name="dots"), "base", PARAMS, device="cpu")
    with pytest.raises(InputError, match=r"^box is a Shapes layer: give a Labels or a Points"):
        tree.from_markers(Shapes([[(0, 0), (4, 4)]], name="box"))
    with pytest.raises(InputError, match="1 point"):
        tree.from_markers(Points([(1, 1), (40, 1)], scale=(0.5, 0.25)))
