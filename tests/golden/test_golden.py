"""Files of every format version: what was written once is read for ever, or refused as promised."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from make_golden import image, of_hierarchy, of_model

import napari_aeseg as aeseg
from napari_aeseg.autoencoder import model_file
from napari_aeseg.autoencoder.model_file import read_header
from napari_aeseg.io import zarr_folder as store
from napari_aeseg.large import build as building
from napari_aeseg.large.block import BlockWork
from napari_aeseg.regions.hierarchy_file import hierarchy_header

HERE = Path(__file__).parent
MODELS = sorted(
    path.name for path in HERE.glob("*[0-9].aeseg.safetensors") if "blocks" not in path.name
)
HIERARCHIES = sorted(path.name for path in HERE.glob("*.aeseg.zarr"))


def known(name):
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def versions(names, header):
    """The format versions that golden files have; each is named by what it says of itself."""
    found = {header(HERE / name)["format_version"] for name in names}
    assert found == {int(name.split("-")[1][0]) for name in names}
    return found


def test_there_is_a_file_of_every_format_version():
    assert versions(MODELS, read_header) == set(range(1, model_file.FORMAT_VERSION + 1))
    assert versions(HIERARCHIES, hierarchy_header) == set(range(1, store.FORMAT_VERSION + 1))
    blocks = {path.name for path in HERE.glob("blocks-*") if path.is_dir()}
    assert blocks == {f"blocks-{n}" for n in range(1, building._FORMAT + 1)}


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


@pytest.mark.parametrize("name", HIERARCHIES)
def test_a_hierarchy_gives_the_same_bits_as_when_it_was_saved(name, tmp_path):
    tree = aeseg.load_hierarchy(HERE / name)
    assert of_hierarchy(tree) == known(name)
    tree.save(tmp_path / name)
    assert of_hierarchy(aeseg.load_hierarchy(tmp_path / name)) == known(name)


def go_on(folder):
    patches = aeseg.SegmentationParams(patch_size=4, patches="grid", scale=1.0)
    model = aeseg.load_model(HERE / "blocks-2.aeseg.safetensors")
    blocks = aeseg.BlockParams(block_size=32, max_patches=60)
    return aeseg.build_hierarchy(
        image(32, 64), model, patches, device="cpu", store=folder, blocks=blocks
    )


def test_blocks_of_this_format_are_taken_up_and_none_is_worked_on_again(tmp_path, monkeypatch):
    folder = shutil.copytree(HERE / "blocks-2", tmp_path / "blocks")

    def never(*_):
        raise AssertionError("a block that is done is worked on")

    monkeypatch.setattr(BlockWork, "steps", never)
    found, then = of_hierarchy(go_on(folder)), known("blocks-2")
    # The tree is built anew from what is kept, and rounds as this machine does.
    for name in ("mean", "edges", "patches", "axes", "regions 1"):
        assert found[name] == then[name]


def test_blocks_of_the_first_format_are_refused_and_left_as_they_are(tmp_path):
    folder = shutil.copytree(HERE / "blocks-1", tmp_path / "blocks")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(aeseg.InputError, match=r"format None, not 2: .* another version"):
        go_on(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
