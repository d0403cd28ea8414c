import json
import os
import sys

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from napari_aeseg import load_model
from napari_aeseg.autoencoder import model_file
from napari_aeseg.autoencoder.model_file import FORMAT_VERSION, HEADER_KEY, read_header
from napari_aeseg.errors import ModelFileError
from napari_aeseg.images.intensity import IntensityRange

IMAGE = np.random.default_rng(0).random((20, 24))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tissue.aeseg.safetensors"


@pytest.fixture
def saved(path, make_model):
    """A good file that a test may spoil."""
    make_model(intensity=IntensityRange((1.0,), (9.0,))).save(path)
    return path


def rewrite(path, header=None, tensors=None):
    """Write a file again, with header and tensors changed by functions."""
    with safetensors.safe_open(path, framework="pt") as file:
        old = json.loads(file.metadata()[HEADER_KEY])
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
    new = old if header is None else header(old) or old
    weights = weights if tensors is None else tensors(weights) or weights
    safetensors.torch.save_file(weights, path, {HEADER_KEY: json.dumps(new)})


@pytest.mark.parametrize("decoder", ["transposed", "unpooling"])
@pytest.mark.parametrize("channels", [1, 3])
def test_loaded_model_gives_the_same_features_bit_for_bit(path, make_model, decoder, channels):
    model = make_model(channels, levels=3, convolutions=2, decoder=decoder)
    model.save(path)
    loaded = load_model(path)
    image = np.random.default_rng(0).random((channels, 20, 24))
    for source in ("encoder", "decoder"):
        expected = model.features(image, axes="CYX", source=source, device="cpu")
        assert np.array_equal(
            loaded.features(image, axes="CYX", source=source, device="cpu"), expected
        )
    assert loaded.architecture == model.architecture
    assert loaded.fingerprint == model.fingerprint


def test_loaded_model_remembers_its_training(path, model):
    model.save(str(path))
    loaded = load_model(str(path))
    assert loaded.record == model.record
    assert loaded.losses == model.losses
    assert loaded.intensity is None


def test_range_of_the_training_images_is_kept(saved):
    assert load_model(saved).intensity == IntensityRange((1.0,), (9.0,))


def test_header_can_be_read_by_anyone(path, model, tiny_params):
    model.save(path)
    header = read_header(path)
    assert set(header) == {
        "format_version",
        "package_version",
        "torch_version",
        "architecture",
        "intensity",
        "training",
        "any_channels",
    }
    assert header["format_version"] == FORMAT_VERSION == 1
    assert header["architecture"]["levels"] == tiny_params.levels
    assert header["training"]["params"] == tiny_params.model_dump()
    assert header["training"]["steps"] == tiny_params.steps
    assert header["training"]["losses"] == list(model.losses)
    # By nothing but the safetensors format: length, JSON, bytes.
    data = path.read_bytes()
    raw = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(raw["__metadata__"][HEADER_KEY]) == header


def test_params_of_the_file_are_params(path, model, tiny_params):
    model.save(path)
    assert type(tiny_params)(**load_model(path).record.params) == tiny_params


def test_saving_replaces_the_file_and_leaves_no_other(saved, make_model):
    make_model(seed=5).save(saved)
    assert load_model(saved).fingerprint == make_model(seed=5).fingerprint
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such permissions")
def test_file_may_be_read_by_those_the_umask_allows(path, make_model):
    old = os.umask(0o027)
    try:
        make_model().save(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failing_save_leaves_the_old_file_and_no_other(monkeypatch, saved, make_model, failing):
    before = saved.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_file.os, failing, full_disk)
    with pytest.raises(OSError, match="No space left"):
        make_model(seed=5).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_interrupted_save_leaves_nothing_behind(monkeypatch, path, make_model):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(model_file.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_model().save(path)
    assert os.listdir(path.parent) == []


def test_missing_folder_and_missing_file_are_named(path, make_model):
    with pytest.raises(OSError, match="lost"):
        make_model().save(path.parent / "lost" / path.name)
    with pytest.raises(FileNotFoundError, match=r"no model file.*tissue\.aeseg"):
        load_model(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 3,
        b"\x00" * 100,
        b"\xff" * 100,
        b"\x80\x04\x95" + b"no pickle is read here" * 10,
        np.random.default_rng(0).bytes(5000),
        b"{}",
    ],
    ids=["empty", "short", "zeros", "ones", "pickle", "random", "json"],
)
def test_file_that_is_no_model_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{path.name} .*damaged or cut short") as error:
        load_model(path)
    assert "written by napari-aeseg" in str(error.value)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelFileError, match=saved.name):
        load_model(saved)
    with pytest.raises(ModelFileError, match=saved.name):
        read_header(saved)


def test_file_with_something_behind_it_is_refused(saved):
    with saved.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelFileError):
        load_model(saved)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_other_safetensors_file_is_refused_as_foreign(path, metadata):
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(ModelFileError, match="not one written by napari-aeseg"):
        load_model(path)


def test_newer_format_asks_for_an_update(saved):
    rewrite(saved, lambda h: h | {"format_version": 2, "package_version": "9.8"})
    for read in (load_model, read_header):
        with pytest.raises(ModelFileError, match=r"format 2.*9\.8.*up to format 1\. Update"):
            read(saved)


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, None])
def test_impossible_format_is_refused(saved, version):
    rewrite(saved, lambda h: h | {"format_version": version})
    with pytest.raises(ModelFileError, match="format version"):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"text"', "null", "[" * 100_000])
def test_header_that_is_no_object_is_refused(path, text):
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, {HEADER_KEY: text})
    for read in (load_model, read_header):
        with pytest.raises(ModelFileError, match=f"header of {path.name} cannot be read"):
            read(path)


@pytest.mark.parametrize("key", ["package_version", "architecture", "intensity", "training"])
def test_header_with_a_missing_part_is_refused(saved, key):
    rewrite(saved, lambda h: {k: v for k, v in h.items() if k != key})
    for read in (load_model, read_header):
        with pytest.raises(ModelFileError, match=key):
            read(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": None},
        {"architecture": {}},
        {"architecture": {"channels": 1, "depth": 3}},
        {"training": []},
        {"training": None},
        {"training": {"losses": 3}},
        {"training": {"images": [], "losses": [], "notes": [], "epochs": 3}},
        {"intensity": 5},
        {"intensity": {"low": [0]}},
        {"intensity": {"low": ["a"], "high": [1]}},
        {"intensity": {"low": [0, 0], "high": [1, 1]}},  # the model has one channel
        {"intensity": {"low": [float("nan")], "high": [1]}},
    ],
    ids=str,
)
def test_header_with_a_wrong_part_is_refused(saved, change):
    rewrite(saved, lambda h: h | change)
    with pytest.raises(ModelFileError, match=saved.name):
        load_model(saved)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", 0),
        ("channels", 10**9),
        ("levels", 60),
        ("levels", 2.0),
        ("levels", True),
        ("width", -4),
        ("width", "4"),
        ("convolutions", 1000),
        ("decoder", "linear"),
    ],
)
def test_impossible_architecture_is_refused_by_name(saved, name, value):
    rewrite(saved, lambda h: h | {"architecture": h["architecture"] | {name: value}})
    with pytest.raises(ModelFileError, match=name):
        load_model(saved)


def test_weights_of_another_network_are_refused(saved):
    rewrite(saved, lambda h: h | {"architecture": h["architecture"] | {"width": 8}})
    with pytest.raises(ModelFileError, match=r"do not fit its architecture.*encoder\.0"):
        load_model(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {k: v for k, v in w.items() if k != "readout.bias"},
        lambda w: w | {"readout.bias": torch.zeros(7)},
        lambda w: w | {"readout.bias": w["readout.bias"].double()},
        lambda w: w | {"readout.scale": torch.zeros(1)},
    ],
    ids=["missing", "shape", "dtype", "unknown"],
)
def test_odd_weight_is_named(saved, change):
    rewrite(saved, tensors=change)
    with pytest.raises(ModelFileError, match=r"readout\.(bias|scale)\.$"):
        load_model(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(saved, value):
    rewrite(saved, tensors=lambda w: w | {"readout.bias": torch.tensor([value])})
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        load_model(saved)


# -- any number of channels ----------------------------------------------------------------------


@pytest.mark.parametrize("any_channels", [True, False])
def test_model_for_any_channels_stays_one(path, make_model, any_channels):
    make_model(3, any_channels=any_channels).save(path)
    assert load_model(path).any_channels is any_channels


def test_file_from_before_there_were_such_models_is_for_its_channels_only(saved):
    rewrite(saved, lambda header: header.pop("any_channels") and None)
    assert load_model(saved).any_channels is False


@pytest.mark.parametrize("value", [True, 1, "yes", None])
def test_any_channels_that_cannot_be_is_refused(saved, value):
    # True does not go with the intensities of one channel that this file has.
    rewrite(saved, lambda header: header.update(any_channels=value))
    with pytest.raises(ModelFileError, match="any_channels"):
        load_model(saved)
