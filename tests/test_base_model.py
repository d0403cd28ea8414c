"""The model that ships with the package: any image is segmented with it before any training."""

from pathlib import Path

import numpy as np
import pytest

import napari_aeseg as aeseg
from napari_aeseg import cli, samples
from napari_aeseg.autoencoder.model_file import BASE_FILE
from napari_aeseg.params import BASE_MODEL


@pytest.fixture(scope="module")
def base():
    return aeseg.load_model("base")


def halves(channels):
    """Channels of noise of which the right half of every other one is coarse, and their halves."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (channels, 96, 128))
    coarse = np.kron(rng.normal(0, 1, (channels, 24, 16)), np.ones((4, 4)))
    image[::2, :, 64:] = coarse[::2]
    return image, np.repeat([1, 2], 64) * np.ones((96, 1), int)


def agreement(found, truth):
    """Share of pixels with the right one of two labels, whichever is which."""
    same = np.mean(found == truth)
    return max(same, 1 - same)


def test_is_small_enough_to_ship():
    assert 100_000 < BASE_FILE.stat().st_size < 1_000_000


def test_is_built_as_a_model_trained_on_the_spot_is(base):
    params = aeseg.TrainingParams()
    a = base.architecture
    assert (a.levels, a.width, a.convolutions, a.decoder) == (
        params.levels,
        params.width,
        params.convolutions,
        params.decoder,
    )


def test_says_what_it_was_trained_on(base):
    names = [image["name"] for image in base.record.images]
    assert len(names) == len(set(names)) > 30
    assert all("CC0" in name or "public domain" in name for name in names)
    assert base.record.steps == len(base.losses) >= 1000
    assert np.mean(base.losses[-100:]) < 0.2 * np.mean(base.losses[:10])


def test_reconstructs_an_image_it_has_not_seen(base):
    coins = samples.coins()[::2, ::2].astype(float)
    error = np.mean((base.reconstruct(coins, axes="YX", device="cpu") - coins) ** 2)
    assert error < 0.25 * coins.var()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_tells_textures_apart_in_any_number_of_channels(channels):
    image, truth = halves(channels)
    tree = aeseg.build_hierarchy(image, "base", axes="CYX", device="cpu")
    found = tree.classes(n_classes=2)
    assert found.shape == truth.shape
    assert agreement(found, truth) > 0.9


def test_segments_in_one_call(quadrants):
    fine = aeseg.SegmentationParams(patch_size=4)
    labels = aeseg.segment(quadrants, "base", n_regions=4, params=fine, device="cpu")
    corners = labels[8::48, 8::48]
    assert len(np.unique(corners)) == 4


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_training_starts_from_it(base, channels, tiny_params, quadrants):
    image = np.stack([quadrants] * channels)
    fresh = aeseg.train(image, tiny_params.updated(levels=3, width=16), "CYX", device="cpu")
    model = aeseg.train(image, tiny_params, "CYX", device="cpu", init="base")
    # The architecture is that of the base, whatever the parameters say.
    assert model.architecture == base.fitted(channels).architecture
    assert model.losses[0] < 0.5 * fresh.losses[0]
    # What was trained on images of one kind is for these.
    assert not model.any_channels
    with pytest.raises(aeseg.InputError, match="trained on"):
        model.read(np.zeros((channels + 1, 8, 8)), "CYX")


def test_only_the_very_word_means_it(base, tmp_path, monkeypatch, make_model):
    monkeypatch.chdir(tmp_path)
    other = make_model()
    other.save("base")
    assert aeseg.load_model(BASE_MODEL).fingerprint == base.fingerprint
    assert aeseg.load_model("./base").fingerprint == other.fingerprint
    assert aeseg.load_model(Path("base")).fingerprint == other.fingerprint


@pytest.mark.parametrize("name", ["Base", "base ", "bases"])
def test_other_names_are_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=name):
        aeseg.load_model(name)
    with pytest.raises(FileNotFoundError, match=name):
        aeseg.train(np.eye(64), init=name, device="cpu")


def test_command_line_knows_it(tmp_path, monkeypatch, capsys, quadrants):
    from tifffile import imwrite

    monkeypatch.chdir(tmp_path)
    imwrite("cells.tif", (quadrants * 200).astype(np.uint8))
    arguments = ["--model", "base", "--regions", "4", "--device", "cpu", "--output", "out"]
    assert cli.main(["segment", "cells.tif", *arguments]) == 0
    assert "4 labels" in capsys.readouterr().out
    assert not Path("out/model.aeseg.safetensors").exists()
    assert cli.main(["info", "base"]) == 0
    assert "any number" in capsys.readouterr().out
    training = ["--init", "base", "--steps", "1", "--device", "cpu", "--output", "mine"]
    assert cli.main(["train", "cells.tif", *training]) == 0
    assert aeseg.load_model("mine.aeseg.safetensors").architecture.width == 16
    # A path to a file of that name is a path.
    assert cli.main(["segment", "cells.tif", "--model", "./base", "--output", "other"]) == 1
    assert "no model file 'base'" in capsys.readouterr().err
