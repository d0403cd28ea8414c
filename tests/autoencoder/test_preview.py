import numpy as np
import pytest

from napari_aeseg.autoencoder import preview as preview_module
from napari_aeseg.autoencoder.preview import TrainingPreviewer
from napari_aeseg.images.intensity import read_image

RNG = np.random.default_rng(0)


def preview_of(model, image, axes=None):
    read = read_image(image, axes)
    return TrainingPreviewer(read, model.architecture).preview(model.network)


@pytest.mark.parametrize(
    ("shape", "axes", "channels"),
    [((21, 34), "YX", 1), ((34, 21), "XY", 1), ((3, 20, 26), "CYX", 3), ((20, 26, 3), "YXC", 3)],
)
def test_preview_shows_a_small_image_whole_in_its_orientation(make_model, shape, axes, channels):
    model = make_model(channels)
    image = RNG.random(shape) * 50 + 100
    preview = preview_of(model, image, axes)
    assert preview.axes == axes
    assert preview.offset == (0, 0)
    assert preview.pixels.dtype == np.float32
    expected = model.reconstruct(image, axes=axes, device="cpu")
    np.testing.assert_allclose(preview.pixels, expected, rtol=1e-4)


@pytest.mark.parametrize(("levels", "corner"), [(2, (16, 24)), (5, (0, 0))])
def test_preview_shows_the_middle_of_a_large_image(monkeypatch, make_model, levels, corner):
    monkeypatch.setattr(preview_module, "_SIDE", 32)
    model = make_model(levels=levels)
    image = RNG.random((67, 83))
    preview = preview_of(model, image)
    y, x = preview.offset
    assert (y, x) == corner  # on the grid of the pooling windows
    assert preview.pixels.shape == (32, 32)
    whole = model.reconstruct(image, device="cpu")
    expected = whole[y : y + 32, x : x + 32]
    np.testing.assert_allclose(preview.pixels, expected, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize(
    ("shape", "axes", "offset"),
    [((5, 20, 18), "ZYX", (2, 0, 0)), ((2, 3, 1, 16, 16), "TZCYX", (1, 1, 0, 0))],
)
def test_preview_shows_the_middle_plane_of_a_stack(make_model, shape, axes, offset):
    model = make_model()
    stack = RNG.random(shape)
    preview = preview_of(model, stack, axes)
    assert preview.offset == offset
    assert preview.axes == axes.replace("T", "").replace("Z", "")
    whole = model.reconstruct(stack, axes=axes, device="cpu")
    plane = whole[offset[: len(offset) - 2]]
    np.testing.assert_allclose(preview.pixels, plane, atol=1e-5)


def test_preview_has_the_illumination_of_the_image(make_model):
    image = np.exp(-np.linspace(-1, 1, 128)) * (RNG.random((160, 128)) + 0.2)
    assert read_image(image).light is not None
    model = make_model()
    expected = model.reconstruct(image, device="cpu")
    np.testing.assert_allclose(preview_of(model, image).pixels, expected, rtol=1e-4)
