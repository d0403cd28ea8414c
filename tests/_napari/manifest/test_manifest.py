from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.resources import files

import pytest
from npe2 import PluginManifest

from napari_aeseg import samples
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

    assert {s.key for s in manifest.contributions.sample_data} == set(samples.SAMPLES)


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_samples_are_layers(name):
    ((data, options, kind),) = getattr(sample_layers, name)()

    assert kind == "image"
    assert options["name"] == name
    assert options["axis_labels"] == ("y", "x")
    assert data.shape == samples.SAMPLES[name]().shape


def test_the_reader_takes_models_only():
    assert get_reader("cells.aeseg.safetensors") is not None
    assert get_reader(["a.aeseg.safetensors"]) is not None
    assert get_reader("cells.safetensors") is None
    assert get_reader(["a.aeseg.safetensors", "b.tif"]) is None
