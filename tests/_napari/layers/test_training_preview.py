"""The layer that shows, while training goes on, what the network makes of the image."""

from __future__ import annotations

import numpy as np
import pytest

from _napari.conftest import QUICK, add_image, halves


def train(widget) -> list:
    """Train, and return the pictures that came."""
    pictures = []

    def look(event):
        if getattr(event, "preview", None) is not None:
            pictures.append(event.preview)

    widget.progressed.connect(look)
    widget.train()
    widget.wait(30)
    widget.progressed.disconnect(look)
    assert len(pictures) > 1
    return pictures


def layer_of(widget, name: str = "halves"):
    (layer,) = [one for one in widget.viewer_model.layers if one.name == f"{name} in training"]
    return layer


def test_the_layer_is_beside_the_image_and_follows(watched):
    pictures = train(watched)

    layer = layer_of(watched)
    assert np.array_equal(layer.data, pictures[-1].pixels)
    assert not np.array_equal(pictures[0].pixels, pictures[-1].pixels)
    assert np.array_equal(layer.scale, (2, 3))
    image = watched.viewer_model.layers["halves"]
    assert np.array_equal(layer.contrast_limits, image.contrast_limits)
    # To the right of it, with a gap.
    (top, _), (bottom, right) = image.extent.world
    assert layer.extent.world[0][1] > right
    assert layer.extent.world[0][0] == top
    assert layer.extent.world[1][0] == bottom
    assert watched.images == [image]
    assert watched._dock.images.list.count() == 1


def test_the_next_training_uses_the_same_layer(watched):
    train(watched)
    layer = layer_of(watched)
    watched.training_params = QUICK.updated(seed=5)
    before = layer.data
    train(watched)

    assert layer_of(watched) is layer
    assert not np.array_equal(layer.data, before)


def test_a_removed_layer_comes_again(watched):
    train(watched)
    first = layer_of(watched)
    watched.viewer_model.layers.remove(first)
    train(watched)

    assert layer_of(watched) is not first


def test_another_image_has_a_layer_of_its_own(watched):
    train(watched)
    add_image(watched, halves(40), "other")
    train(watched)

    assert layer_of(watched).data.shape == (48, 48)
    assert layer_of(watched, "other").data.shape == (40, 40)


def test_nothing_is_shown_unless_asked_for(watched):
    watched.watch = False
    watched.train()
    watched.wait(30)

    assert [layer.name for layer in watched.viewer_model.layers] == ["halves"]


def test_an_image_that_is_removed_meanwhile_has_none(watched):
    watched.progressed.connect(
        lambda event: event.stage == "read" and watched.viewer_model.layers.clear()
    )
    watched.train()
    watched.wait(30)

    assert len(watched.viewer_model.layers) == 0
    assert watched.model is not None


@pytest.mark.parametrize(
    ("data", "more", "shape"),
    [
        ((np.repeat(halves()[..., None], 3, -1) * 200).clip(0, 255).astype(np.uint8),
         {"rgb": True}, (48, 48, 3)),
        (np.stack([halves(), halves(seed=1)]), {"axis_labels": ("c", "y", "x")}, (48, 48)),
        (np.stack([halves()] * 3), {"axis_labels": ("z", "y", "x"), "scale": (5, 2, 2)}, (48, 48)),
        ((halves() * 900 + 200).astype(np.uint16), {}, (48, 48)),
    ],
    ids=["RGB", "channels", "volume", "uint16"],
)  # fmt: skip
def test_it_is_like_its_image(watched, data, more, shape):
    image = add_image(watched, data, "other", **more)
    train(watched)

    layer = layer_of(watched, "other")
    assert layer.data.shape == shape
    assert layer.rgb == image.rgb
    if data.dtype.kind == "u":
        assert layer.data.dtype == data.dtype
    assert np.array_equal(layer.scale, np.asarray(image.scale)[-2:])
    assert layer.extent.world[0][1] > image.extent.world[1][-1]


def test_an_image_that_is_turned_has_it_beside_it_too(watched):
    image = watched.viewer_model.layers["halves"]
    image.scale, image.translate, image.rotate = (2, 2), (10, 20), 90
    train(watched)

    layer = layer_of(watched)
    assert np.array_equal(layer.rotate, image.rotate)
    # A turn by 90 degrees: what was to the right is now above or below.
    along = np.asarray(image.rotate) @ (0, 48 * 2)
    gap = np.asarray(layer.translate) - np.asarray(image.translate)
    assert np.allclose(gap / np.linalg.norm(gap), along / np.linalg.norm(along))
    assert np.linalg.norm(gap) > np.linalg.norm(along)
