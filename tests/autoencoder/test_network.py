from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.network import (
    Autoencoder,
    channel_mix,
    max_pool,
    with_channels,
)

DECODERS = ["transposed", "unpooling"]


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize(("channels", "convolutions"), [(1, 1), (3, 2)])
def test_reconstruction_has_the_shape_of_the_image(decoder, levels, channels, convolutions):
    network = Autoencoder(Architecture(channels, levels, 4, convolutions, decoder))
    images = random_images(2, channels, 2 * 2**levels, 3 * 2**levels)
    with torch.no_grad():
        assert network(images).shape == images.shape


@pytest.mark.parametrize("decoder", DECODERS)
def test_each_level_halves_the_resolution(decoder):
    network = Autoencoder(Architecture(2, 3, 4, 1, decoder))
    images = random_images(1, 2, 16, 24)
    with torch.no_grad():
        encoded = [tuple(f.shape[1:]) for f in network.encoder_features(images)]
        decoded = [tuple(f.shape[1:]) for f in network.decoder_features(images)]
    assert encoded == [(2, 16, 24), (4, 16, 24), (8, 8, 12), (16, 4, 6)]
    assert [shape[1:] for shape in decoded] == [shape[1:] for shape in encoded]
    assert decoded[0] == (2, 16, 24)


def test_level_channels_are_those_of_the_features():
    architecture = Architecture(2, 3, 4)
    with torch.no_grad():
        features = Autoencoder(architecture).encoder_features(random_images(1, 2, 8, 8))
    assert architecture.level_channels == tuple(f.shape[1] for f in features)


def test_deeper_levels_are_not_computed_when_not_asked_for():
    network = Autoencoder(Architecture(1, 3, 4))
    images = random_images(1, 1, 8, 8)
    with torch.no_grad():
        everything = network.encoder_features(images)
        some = network.encoder_features(images, 1)
    assert len(some) == 2
    assert torch.equal(some[1], everything[1])


def test_unpooling_puts_values_back_where_pooling_took_them_from():
    network = Autoencoder(Architecture(1, 1, 2, 1, "unpooling"))
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        # Every convolution hands its first channel on as it is.
        for layer in (network.encoder[0][0], network.decoder[0][0]):
            layer.weight[0, 0, 1, 1] = 1
        network.readout.weight[0, 0] = 1
        image = torch.tensor([[1.0, 2.0, 9.0, 4.0], [3.0, 8.0, 5.0, 6.0]])[None, None]
        found = network(image)
    assert found[0, 0].tolist() == [[0, 0, 9, 0], [0, 8, 0, 0]]


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_image_does_not_depend_on_the_rest_of_the_batch(decoder):
    network = Autoencoder(Architecture(1, 2, 4, 1, decoder)).eval()
    images = random_images(3, 1, 16, 16) * torch.tensor([1.0, 50.0, -20.0])[:, None, None, None]
    with torch.no_grad():
        torch.testing.assert_close(network(images)[:1], network(images[:1]))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("levels", "convolutions"), [(1, 1), (2, 2), (3, 1), (3, 2)])
def test_a_pixel_beyond_reach_changes_nothing(make_model, decoder, levels, convolutions):
    network = make_model(1, levels, 2, convolutions, decoder).network
    architecture = network.architecture
    side = 16 * -(-(2 * architecture.receptive_radius(decoded=True)[0] + 10) // 16)
    image = random_images(1, 1, side, side)
    rows = torch.arange(side)
    # The changed pixel at every place within a cell of the deepest level.
    for offset in product(range(0, architecture.total_stride[0], 3), repeat=2):
        y, x = (side // 2 + o for o in offset)
        changed = image.clone()
        changed[0, 0, y, x] += 100
        distance = torch.maximum((rows - y).abs()[:, None], (rows - x).abs()[None])
        for decoded in (False, True):
            features_of = network.decoder_features if decoded else network.encoder_features
            with torch.no_grad():
                for before, after in zip(features_of(image), features_of(changed), strict=True):
                    differs = (before != after).any(1, keepdim=True).float()
                    grown = F.interpolate(differs, size=(side, side), mode="bilinear")[0, 0] > 0
                    reached = int(distance[grown].max()) if grown.any() else 0
                    assert reached <= architecture.receptive_radius(decoded=decoded)[0]
            assert grown.any()


def test_weights_are_those_of_the_generator_and_global_random_numbers_are_left_alone():
    def weights(seed: int) -> torch.Tensor:
        network = Autoencoder(Architecture(1), torch.Generator().manual_seed(seed))
        return torch.cat([p.flatten() for p in network.parameters()])

    state = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 6, 10)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_max_pool_equals_that_of_torch_with_and_without_gradient(shape, layout):
    images = random_images(*shape).contiguous(memory_format=layout)
    expected = F.max_pool2d(images, 2)
    assert torch.equal(max_pool(images), expected)
    with torch.no_grad():
        assert torch.equal(max_pool(images), expected)
        assert max_pool(images).is_contiguous(memory_format=layout)


# -- other numbers of channels


CHANNELS = [1, 2, 3, 4, 5, 7]


def batch(channels, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((2, channels, 16, 24))).float()


@pytest.fixture(params=["transposed", "unpooling"])
def network(request, make_model):
    return make_model(3, decoder=request.param).network


@pytest.mark.parametrize("channels", CHANNELS)
def test_every_input_sees_a_mean_and_every_channel_counts_the_same(channels):
    mix = channel_mix(3, channels).numpy()
    assert mix.shape == (3, channels)
    assert (mix >= 0).all()
    np.testing.assert_allclose(mix.sum(axis=1), 1)
    np.testing.assert_allclose(mix.sum(axis=0), 3 / channels)


def test_as_many_channels_as_inputs_go_one_to_one():
    assert np.array_equal(channel_mix(3, 3), np.eye(3))


@pytest.mark.parametrize("channels", CHANNELS)
def test_channels_are_mixed_differently_unless_there_are_too_many(channels):
    mix = channel_mix(3, channels).numpy()
    assert np.linalg.matrix_rank(mix) == min(3, channels)


@pytest.mark.parametrize("channels", CHANNELS)
def test_network_for_other_channels_sees_them_mixed(network, channels):
    image = batch(channels)
    mixed = torch.einsum("ij,bjhw->bihw", channel_mix(3, channels).float(), image)
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
