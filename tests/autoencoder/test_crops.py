import numpy as np
import pytest

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.crops import CropSampler
from napari_aeseg.images.intensity import read_image
from napari_aeseg.params import TrainingParams

CODE = Architecture(channels=1, levels=2)


@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (15, 40), (17, 16)])
@pytest.mark.parametrize("augment", [False, True])
def test_images_smaller_than_a_crop_are_mirrored(shape, augment, tiny_params):
    image = np.random.default_rng(0).random(shape)
    params = tiny_params.updated(augment=augment)
    read = read_image(image)
    sampler = CropSampler([read], params, CODE)
    crops = sampler.draw(5, np.random.default_rng(0))
    assert crops.shape == (5, 1, 16, 16)
    # Mirroring invents no intensity.
    assert set(crops.unique().tolist()) <= set(read.pixels.ravel().tolist())


def test_crops_are_as_large_as_whole_cells_of_the_code(stripes):
    params = TrainingParams(levels=6, crop_size=72)
    sampler = CropSampler([read_image(np.tile(stripes, (4, 4)))], params, Architecture(1, levels=6))
    assert sampler.draw(2, np.random.default_rng(0)).shape == (2, 1, 128, 128)


def test_crops_lie_anywhere_in_the_image(tiny_params):
    ramp = np.arange(20 * 19, dtype=float).reshape(20, 19)
    sampler = CropSampler([read_image(ramp)], tiny_params.updated(augment=False), CODE)
    crops = sampler.draw(300, np.random.default_rng(0))
    starts = {float(crop[0, 0, 0]) for crop in crops}
    assert len(starts) == 5 * 4
    assert crops.max() == read_image(ramp).pixels.max()


def test_augmented_crops_are_turned_and_flipped(tiny_params):
    image = np.random.default_rng(0).random((16, 16))
    draw = {
        augment: CropSampler([read_image(image)], tiny_params.updated(augment=augment), CODE)
        .draw(100, np.random.default_rng(0))
        .numpy()[:, 0]
        for augment in (False, True)
    }
    plain = read_image(image).pixels[0]
    assert (draw[False] == plain).all()
    turned = [np.rot90(p, k) for p in (plain, plain[:, ::-1]) for k in range(4)]
    seen = {next(i for i, t in enumerate(turned) if np.array_equal(crop, t)) for crop in draw[True]}
    assert seen == set(range(8))


def test_images_are_drawn_as_often_as_their_area_says(tiny_params):
    rng = np.random.default_rng(0)
    small, large = rng.random((20, 20)), rng.random((60, 60))
    sampler = CropSampler([read_image(small), read_image(large)], tiny_params, CODE)
    assert sampler.probabilities.tolist() == pytest.approx([0.1, 0.9])


def test_every_channel_and_plane_is_drawn(tiny_params):
    stack = np.arange(3.0)[:, None, None, None] * 10 + np.arange(2.0)[:, None, None]
    stack = np.tile(stack, (1, 1, 16, 16))
    sampler = CropSampler([read_image(stack, "ZCYX")], tiny_params, CODE)
    crops = sampler.draw(50, np.random.default_rng(0))
    assert crops.shape == (50, 2, 16, 16)
    assert len(crops[:, 0].unique()) == 3


def test_variance_is_the_loss_of_predicting_the_mean(tiny_params):
    rng = np.random.default_rng(0)
    one, two = (read_image(rng.random((2, n, n)) * 9, "CYX") for n in (40, 60))
    sampler = CropSampler([one, two], tiny_params, CODE)
    pixels = np.concatenate([i.pixels.reshape(2, -1) for i in (one, two)], axis=1)
    assert sampler.variance() == pytest.approx(pixels.var(axis=1).mean(), rel=1e-5)


def test_constant_images_have_no_part_in_the_variance(stripes, tiny_params):
    images = [read_image(i) for i in (stripes, np.zeros((500, 500)))]
    alone, beside = (CropSampler(i, tiny_params, CODE).variance() for i in (images[:1], images))
    assert alone == beside > 0
