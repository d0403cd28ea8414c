from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.resources import files

import numpy as np
import pytest
from napari.layers import Layer
from npe2 import PluginManifest

from napari_aeseg import AesegError, samples
from napari_aeseg._napari.layers.image_input import image_input
from napari_aeseg._napari.manifest import samples as sample_layers
from napari_aeseg._napari.manifest.reader import get_reader

MANIFEST = str(files("napari_aeseg") / "napari.yaml")


def test_npe2_finds_nothing_wrong():
    command = [sys.executable, "-m", "npe2", "validate", MANIFEST]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid" in done.stdout


def test_every_command_leads_somewhere():
    manifest = PluginManifest.from_file(MANIFEST)

    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name))


def test_every_sample_is_in_the_manifest():
    manifest = PluginManifest.from_file(MANIFEST)

    keys = {s.key for s in manifest.contributions.sample_data}
    assert keys == {*samples.SAMPLES, "mitosis", "kidney"}


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_samples_are_layers(name):
    ((data, options, kind),) = getattr(sample_layers, name)()

    assert kind == "image"
    assert options["name"] == name
    assert options["axis_labels"] == ("y", "x")
    assert data.shape == samples.SAMPLES[name]().shape


def test_a_downloaded_volume_is_read_with_its_channels_and_voxels(monkeypatch):
    monkeypatch.setattr("skimage.data.kidney", lambda: np.zeros((16, 8, 8, 3), np.uint16))

    (layer_data,) = sample_layers.kidney()

    axes = image_input(Layer.create(*layer_data)).axes
    assert axes.letters == "CZYX"
    assert axes.shape == (3, 16, 8, 8)
    assert axes.voxel_size == (1.25, 1.24, 1.24)


def test_without_internet_the_sample_says_so(monkeypatch):
    def offline():
        raise ConnectionError

    monkeypatch.setattr("skimage.data.human_mitosis", offline)
    with pytest.raises(AesegError, match="Download failed: mitosis"):
        sample_layers.mitosis()


def test_the_reader_takes_models_only():
    assert get_reader("cells.aeseg.safetensors") is not None
    assert get_reader(["a.aeseg.safetensors"]) is not None
    assert get_reader("cells.safetensors") is None
    assert get_reader(["a.aeseg.safetensors", "b.tif"]) is None
