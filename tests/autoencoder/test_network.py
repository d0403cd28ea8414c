from itertools import product

import pytest
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.network import Autoencoder, halved

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
    for offset in product(range(0, architecture.reduction[0], 3), repeat=2):
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


def test_weights_are_those_of_the_seed():
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in Autoencoder(Architecture(1)).parameters()])

    with torch.random.fork_rng(devices=[]):
        assert torch.equal(weights(1), weights(1))
        assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 6, 10)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_halving_is_max_pooling_with_and_without_gradient(shape, layout):
    images = random_images(*shape).contiguous(memory_format=layout)
    expected = F.max_pool2d(images, 2)
    assert torch.equal(halved(images), expected)
    with torch.no_grad():
        assert torch.equal(halved(images), expected)
        assert halved(images).is_contiguous(memory_format=layout)
