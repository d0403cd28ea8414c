"""Model files of every format version: what was written once is read for ever."""

import json
from pathlib import Path

import numpy as np
import pytest
from make_golden import of_model

import napari_aeseg as aeseg
from napari_aeseg.autoencoder import model_file
from napari_aeseg.autoencoder.model_file import read_header

HERE = Path(__file__).parent
MODELS = sorted(path.name for path in HERE.glob("*.aeseg.safetensors"))


def known(name):
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def versions(names, header):
    """The format versions that golden files have; each is named by what it says of itself."""
    found = {header(HERE / name)["format_version"] for name in names}
    assert found == {int(name.split("-")[1][0]) for name in names}
    return found


def test_there_is_a_file_of_every_format_version():
    assert versions(MODELS, read_header) == set(range(1, model_file.FORMAT_VERSION + 1))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_what_it_gave_when_it_was_saved(name):
    model = aeseg.load_model(HERE / name)
    found, then = of_model(model), known(name)
    features = found.pop("features"), then.pop("features")
    assert found == then
    assert np.allclose(*features, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_saved_again_gives_the_same(name, tmp_path):
    aeseg.load_model(HERE / name).save(tmp_path / name)
    found, then = of_model(aeseg.load_model(tmp_path / name)), known(name)
    assert {**found, "features": 0} == {**then, "features": 0}
