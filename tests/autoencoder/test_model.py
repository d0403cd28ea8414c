import threading

import numpy as np
import pytest
import torch

import napari_aeseg
from napari_aeseg import load_model
from napari_aeseg.autoencoder.encoding import map_tiles
from napari_aeseg.autoencoder.model import error_steps, feature_steps
from napari_aeseg.errors import DeviceError, InputError, StoppedError
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.progress import drain

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 200, (21, 26)).astype(np.uint8)
RGB = RNG.integers(0, 200, (21, 26, 3)).astype(np.uint8)
SOURCES = ["encoder", "decoder"]
DECODERS = ["transposed", "unpooling"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_features_do_not_depend_on_the_tiling(make_model, source, decoder, levels):
    model = make_model(1, levels, 3, 1, decoder)
    image = np.random.default_rng(1).random((75, 101))
    everything, events = tuple(range(levels + 1)), []
    whole = model.features(image, everything, source=source, device="cpu")
    work = feature_steps(model, model.read(image), everything, source, "cpu", tile_size=32)
    tiled = drain(work, events.append)
    assert len(events) == 12
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (7, 5), (33, 64)])
@pytest.mark.parametrize("decoder", DECODERS)
def test_any_size_has_features_and_a_reconstruction(make_model, shape, decoder):
    model = make_model(levels=3, decoder=decoder)
    image = np.random.default_rng(0).random(shape)
    assert model.features(image, device="cpu").shape == (4 + 8 + 16, *shape)
    assert model.reconstruct(image, device="cpu").shape == shape


def test_levels_come_one_after_the_other(make_model):
    model = make_model(levels=2)
    first = model.features(GREY, [1], device="cpu")
    second = model.features(GREY, (2,), device="cpu")
    assert (len(first), len(second)) == (4, 8)
    both = model.features(GREY, device="cpu")
    assert np.array_equal(both, np.concatenate([first, second]))
    assert np.array_equal(
        model.features(GREY, [2, 1], device="cpu"), np.concatenate([second, first])
    )


def test_level_0_is_the_scaled_image(make_model):
    model = make_model(channels=3)
    assert np.array_equal(model.features(RGB, [0], device="cpu"), model.read(RGB).pixels)


def test_decoder_features_are_those_of_the_decoder(make_model):
    model = make_model(levels=2)
    decoded = model.features(GREY, [0, 1, 2], source="decoder", device="cpu")
    assert len(decoded) == 1 + 4 + 4
    low, high = model.read(GREY).intensity.low[0], model.read(GREY).intensity.high[0]
    np.testing.assert_allclose(
        decoded[0] * (high - low) + low, model.reconstruct(GREY, device="cpu"), rtol=1e-5, atol=1e-3
    )
    encoded = model.features(GREY, [1], device="cpu")
    assert not np.allclose(decoded[1:5], encoded)


@pytest.mark.parametrize(
    ("axes", "change"),
    [
        ("CYX", lambda image: np.moveaxis(image, -1, 0)),
        ("YCX", lambda image: np.moveaxis(image, -1, 1)),
        ("YXC", np.ascontiguousarray),
        ("YXC", np.asfortranarray),
    ],
)
def test_order_of_axes_and_memory_does_not_matter(make_model, axes, change):
    model = make_model(channels=3)
    image = change(RGB)
    assert np.array_equal(
        model.features(image, axes=axes, device="cpu"), model.features(RGB, device="cpu")
    )
    found = model.reconstruct(image, axes=axes, device="cpu")
    assert found.shape == image.shape
    assert np.array_equal(found, change(model.reconstruct(RGB, device="cpu")))


def test_rows_and_columns_may_be_swapped(make_model):
    model = make_model()
    found = model.features(GREY.T, axes="XY", device="cpu")
    assert np.array_equal(found, model.features(GREY, device="cpu").swapaxes(1, 2))
    found = model.reconstruct(GREY.T, axes="XY", device="cpu")
    assert np.array_equal(found, model.reconstruct(GREY, device="cpu").T)


def test_stack_has_features_plane_by_plane(make_model):
    model = make_model()
    stack = np.stack([GREY, GREY[::-1]])
    found = model.features(stack, axes="ZYX", device="cpu")
    assert found.shape == (12, *stack.shape)
    assert model.reconstruct(stack, axes="ZYX", device="cpu").shape == stack.shape
    # The range of intensities is that of the stack, which both planes share here.
    np.testing.assert_allclose(found[:, 0], model.features(GREY, device="cpu"), atol=1e-5)


def test_brightness_and_contrast_do_not_change_features(make_model):
    model = make_model()
    bright = GREY * 40.0 + 3000
    np.testing.assert_allclose(
        model.features(bright, device="cpu"), model.features(GREY, device="cpu"), atol=1e-4
    )
    expected = model.reconstruct(GREY, device="cpu") * 40 + 3000
    # Of values near 0, rounding is a part of what cancels in them.
    np.testing.assert_allclose(
        model.reconstruct(bright, device="cpu"),
        expected,
        rtol=1e-4,
        atol=1e-6 * np.abs(expected).max(),
    )


def test_brightness_counts_when_the_model_has_a_range(make_model):
    model = make_model(intensity=IntensityRange((0.0,), (200.0,)))
    dark, bright = (model.features(a, [0], device="cpu") for a in (GREY, GREY // 2 + 100))
    np.testing.assert_allclose(dark[0], GREY / 200, atol=1e-6)
    assert bright.min() >= 0.5


def test_constant_image_is_reconstructed_as_it_is(make_model):
    found = make_model().reconstruct(np.full((9, 10), 7), device="cpu")
    assert (found == 7).all()


def test_inputs_are_never_written_to(make_model):
    model = make_model(channels=3)
    image = RGB.copy()
    image.flags.writeable = False
    model.features(image, device="cpu")
    model.reconstruct(image, device="cpu")
    assert np.array_equal(image, RGB)


@pytest.mark.parametrize("image", [GREY, RGB[..., :2], np.zeros((4, 9, 10))])
def test_other_channels_than_the_models_are_refused(make_model, image):
    model = make_model(channels=3)
    with pytest.raises(InputError, match=r"channel.*but the model was trained on 3\."):
        model.features(image, axes=None if image.ndim == 2 else "YXC", device="cpu")
    with pytest.raises(InputError, match="train a model on this image"):
        model.reconstruct(image, device="cpu")


def test_channels_error_says_how_the_axes_were_read(make_model):
    with pytest.raises(InputError, match=r"tissue has 3 channel.*YXC, inferred from the shape"):
        make_model().read(RGB, name="tissue")


@pytest.mark.parametrize("levels", [[3], [-1], (1, 7), [], [1, 1]])
def test_levels_that_cannot_be_given_are_refused(make_model, levels):
    with pytest.raises(InputError, match=r"[Ll]evel.*\(0, 1, 2\)"):
        make_model(levels=2).features(GREY, levels, device="cpu")


def test_absent_device_is_refused(make_model):
    with pytest.raises(DeviceError, match="'cuda:99'"):
        make_model().features(GREY, device="cuda:99")


def test_fingerprint_is_that_of_architecture_and_weights(make_model):
    fingerprint = make_model().fingerprint
    assert fingerprint == make_model().fingerprint
    others = [make_model(seed=1), make_model(levels=1), make_model(decoder="unpooling")]
    assert len({fingerprint, *(m.fingerprint for m in others)}) == 4
    changed = make_model()
    with torch.no_grad():
        changed.network.readout.bias += 1e-6
    assert changed.fingerprint != fingerprint


def test_repr_says_what_the_model_is(make_model):
    text = repr(make_model(channels=3, decoder="unpooling"))
    assert "3 channel" in text
    assert "2 levels" in text
    assert "unpooling" in text


def test_features_come_channels_last_from_a_model_that_was_loaded(make_model, tmp_path):
    make_model(channels=2, levels=2).save(tmp_path / "model")
    model = load_model(tmp_path / "model")
    read = model.read(np.random.default_rng(0).random((2, 16, 16)), "CYX")
    (tile,) = map_tiles(model.network, lambda tile: tile, read.pixels, (1, 2))
    for features in tile.features.values():
        assert features[None].is_contiguous(memory_format=torch.channels_last)


def test_fingerprint_is_compared_for_the_channels_of_the_image(make_model):
    model = make_model()
    assert model.has_fingerprint(model.fingerprint, 1)
    assert not model.has_fingerprint(make_model(seed=1).fingerprint, 1)
    base = load_model("base")
    assert base.has_fingerprint(base.fitted(2).fingerprint, 2)
    assert not base.has_fingerprint(base.fitted(2).fingerprint, 3)


# -- fitted to other numbers of channels


@pytest.fixture
def any_model(make_model):
    return make_model(3, any_channels=True)


def test_model_that_fits_is_returned_itself(any_model, make_model):
    assert any_model.fitted(3) is any_model
    ordinary = make_model(2)
    assert ordinary.fitted(2) is ordinary


@pytest.mark.parametrize("channels", [0, 1, 2, 4])
def test_ordinary_model_is_fitted_to_no_other_channels(make_model, channels):
    with pytest.raises(InputError, match=f"{channels} channel.*trained on 3"):
        make_model(3).fitted(channels)


def test_no_model_is_fitted_to_no_channels(any_model):
    with pytest.raises(InputError, match="0 channel"):
        any_model.fitted(0)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_fingerprint_of_a_fitted_model_is_stable(any_model, channels):
    fitted = any_model.fitted(channels)
    assert fitted.fingerprint == any_model.fitted(channels).fingerprint
    assert fitted.fingerprint != any_model.fingerprint
    assert fitted.architecture.channels == channels
    assert fitted.record == any_model.record


@pytest.mark.parametrize("source", ["encoder", "decoder"])
def test_grey_image_has_the_features_of_its_colour_copy(any_model, source):
    grey = RNG.random((21, 26))
    colour = np.stack([grey] * 3, axis=-1)
    found = any_model.features(grey, axes="YX", source=source, device="cpu")
    expected = any_model.features(colour, axes="YXC", source=source, device="cpu")
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_level_0_is_the_channels_themselves(any_model, channels):
    image = RNG.random((channels, 12, 17))
    found = any_model.features(image, [0], axes="CYX", device="cpu")
    assert np.array_equal(found, any_model.read(image, "CYX").pixels)
    assert any_model.reconstruct(image, axes="CYX", device="cpu").shape == image.shape


def test_channels_that_cancel_in_their_mean_are_still_seen(any_model):
    pattern = RNG.random((20, 20))
    opposite = np.stack([pattern, 1 - pattern])
    seen = any_model.features(opposite, [1], axes="CYX", device="cpu")
    assert seen[:, 5:-5, 5:-5].std(axis=(1, 2)).max() > 0.05


# -- the reconstruction error


NOISE = np.random.default_rng(0).random((45, 38))
CHANNELS = np.random.default_rng(1).random((3, 30, 41))


def by_hand(model, image, axes=None):
    """Image and reconstruction, both as scaled for the network."""
    scaled = model.features(image, [0], axes=axes, device="cpu")
    rebuilt = model.features(image, [0], source="decoder", axes=axes, device="cpu")
    return ((scaled - rebuilt) ** 2).mean(axis=0)


@pytest.mark.parametrize(
    ("image", "axes", "shape"),
    [
        (NOISE, "YX", (45, 38)),
        (NOISE, "XY", (45, 38)),
        (CHANNELS, "CYX", (30, 41)),
        (np.moveaxis(CHANNELS, 0, -1), "YXC", (30, 41)),
        (CHANNELS, "ZYX", (3, 30, 41)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_error_is_the_mean_squared_difference(make_model, image, axes, shape):
    model = make_model(channels=3 if "C" in axes else 1)
    error = model.reconstruction_error(image, axes, device="cpu")
    assert error.dtype == np.float32
    assert error.shape == shape
    np.testing.assert_allclose(error, by_hand(model, image, axes), atol=1e-5)


def test_error_does_not_depend_on_the_tiles(make_model):
    model = make_model()
    read = model.read(NOISE)
    whole, tiled = (drain(error_steps(model, read, "cpu", size)) for size in (512, 16))
    np.testing.assert_allclose(whole, tiled, atol=1e-5)


def test_unlike_the_rest_is_reconstructed_worse(stripes, tiny_params):
    params = tiny_params.updated(steps=60, learning_rate=0.02)
    model = napari_aeseg.train(stripes, params, device="cpu")
    odd = stripes.copy()
    odd[20:28, 6:14] = np.where(np.indices((8, 8)).sum(axis=0) % 2, 180, 20)
    error = model.reconstruction_error(odd, device="cpu")
    assert error[20:28, 6:14].mean() > 2 * np.delete(error[:, :18], slice(18, 30), 0).mean()


def test_progress_of_the_error_counts_tiles(make_model):
    model = make_model()
    events = []
    drain(error_steps(model, model.read(NOISE), "cpu", 16), events.append)
    assert [event.done for event in events] == list(range(1, 10))
    assert {(event.stage, event.total, event.device) for event in events} == {("error", 9, "cpu")}


def test_error_stops_at_the_next_tile(make_model):
    model, stop = make_model(), threading.Event()
    work = error_steps(model, model.read(NOISE), "cpu", 16, stop)
    next(work)
    stop.set()
    with pytest.raises(StoppedError, match="'error'"):
        next(work)


def test_error_of_an_image_that_does_not_fit_is_refused(make_model):
    with pytest.raises(InputError, match=r"channel.*trained on 3\."):
        make_model(channels=3).reconstruction_error(NOISE, device="cpu")
    with pytest.raises(DeviceError, match="'cuda:99'"):
        make_model().reconstruction_error(NOISE, device="cuda:99")


def test_error_of_a_model_for_any_channels(make_model):
    model = make_model(channels=3, any_channels=True)
    for image, axes in ((NOISE, "YX"), (CHANNELS[:2], "CYX")):
        error = model.reconstruction_error(image, axes, device="cpu")
        np.testing.assert_allclose(error, by_hand(model, image, axes), atol=1e-5)
