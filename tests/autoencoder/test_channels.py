import numpy as np
import pytest
import torch

from napari_aeseg.autoencoder.network import shares, with_channels
from napari_aeseg.errors import InputError

CHANNELS = [1, 2, 3, 4, 5, 7]
RNG = np.random.default_rng(0)


def batch(channels, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((2, channels, 16, 24))).float()


@pytest.fixture(params=["transposed", "unpooling"])
def network(request, make_model):
    return make_model(3, decoder=request.param).network


@pytest.mark.parametrize("channels", CHANNELS)
def test_every_input_sees_a_mean_and_every_channel_counts_the_same(channels):
    share = shares(3, channels).numpy()
    assert share.shape == (3, channels)
    assert (share >= 0).all()
    np.testing.assert_allclose(share.sum(axis=1), 1)
    np.testing.assert_allclose(share.sum(axis=0), 3 / channels)


def test_as_many_channels_as_inputs_go_one_to_one():
    assert np.array_equal(shares(3, 3), np.eye(3))


@pytest.mark.parametrize("channels", CHANNELS)
def test_no_two_channels_are_seen_alike_by_all_inputs_unless_there_are_too_many(channels):
    share = shares(3, channels).numpy()
    assert np.linalg.matrix_rank(share) == min(3, channels)


@pytest.mark.parametrize("channels", CHANNELS)
def test_network_for_other_channels_sees_them_mixed(network, channels):
    image = batch(channels)
    mixed = torch.einsum("ij,bjhw->bihw", shares(3, channels).float(), image)
    found = with_channels(network, channels).encoder_features(image)
    for level, expected in enumerate(network.encoder_features(mixed)):
        if level:
            torch.testing.assert_close(found[level], expected, atol=1e-5, rtol=1e-4)
    # What is compared is not nothing.
    assert found[-1].abs().max() > 0.01


@pytest.mark.parametrize("channels", CHANNELS)
def test_equal_channels_are_a_grey_image(network, channels):
    grey = batch(1)
    found = with_channels(network, channels)(grey.expand(2, channels, 16, 24))
    assert found.shape == (2, channels, 16, 24)
    expected = network(grey.expand(2, 3, 16, 24))
    torch.testing.assert_close(found.mean(1), expected.mean(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_reversed_channels_are_reversed_inputs(network, make_model, channels):
    backwards = make_model(3, decoder=network.architecture.decoder).network
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    weights["encoder.0.0.weight"] = weights["encoder.0.0.weight"].flip(1)
    for name in ("readout.weight", "readout.bias"):
        weights[name] = weights[name].flip(0)
    backwards.load_state_dict(weights)
    image = batch(channels)
    expected = with_channels(network, channels)(image).flip(1)
    found = with_channels(backwards, channels)(image.flip(1))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_original_is_left_alone(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    copy = with_channels(network, 2)
    with torch.no_grad():
        for weight in copy.parameters():
            weight.zero_()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


# -- Model.fitted --------------------------------------------------------------------------------


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
