import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import napari_aeseg
from napari_aeseg import Prototypes, load_model
from napari_aeseg.autoencoder.model_file import HEADER_KEY, read_header
from napari_aeseg.errors import InputError, ModelFileError
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.prototypes import StrokeExamples

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
    assert header["format_version"] == 1
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

    monkeypatch.setattr(os, failing, full_disk)
    with pytest.raises(OSError, match="No space left"):
        make_model(seed=5).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_interrupted_save_leaves_nothing_behind(monkeypatch, path, make_model):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_model().save(path)
    assert os.listdir(path.parent) == []


def test_missing_folder_and_missing_file_are_named(path, make_model):
    with pytest.raises(FileNotFoundError, match=r"^There is no folder '.*lost' to save in\.$"):
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


def test_file_with_trailing_bytes_is_refused(saved):
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


@pytest.mark.parametrize(
    "key", ["package_version", "architecture", "intensity", "training", "any_channels"]
)
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
def test_weights_that_are_not_finite_are_refused(saved, value):
    rewrite(saved, tensors=lambda w: w | {"readout.bias": torch.tensor([value])})
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        load_model(saved)


# -- any number of channels ----------------------------------------------------------------------


@pytest.mark.parametrize("any_channels", [True, False])
def test_model_for_any_channels_stays_one(path, make_model, any_channels):
    make_model(3, any_channels=any_channels).save(path)
    assert load_model(path).any_channels is any_channels


@pytest.mark.parametrize("value", [True, 1, "yes", None])
def test_impossible_any_channels_is_refused(saved, value):
    # True does not go with the intensities of one channel that this file has.
    rewrite(saved, lambda header: header.update(any_channels=value))
    with pytest.raises(ModelFileError, match="any_channels"):
        load_model(saved)


# -- prototypes


KINDS = Prototypes(
    np.random.default_rng(0).random((2, 3)),
    np.random.default_rng(1).random((3, 2)),
    5.0,
    ("gland", "Stützgewebe"),
    ("#ff0000", "#00ff00"),
)


@pytest.fixture
def with_prototypes(path, make_model):
    make_model(prototypes=KINDS).save(path)
    return path


def test_prototypes_are_kept_bit_for_bit(with_prototypes):
    found = load_model(with_prototypes).prototypes
    assert np.array_equal(found.centres, KINDS.centres)
    assert np.array_equal(found.whitening, KINDS.whitening)
    assert (found.scale, found.names, found.colors) == (5.0, KINDS.names, KINDS.colors)


def test_examples_of_strokes_are_kept_bit_for_bit(path, make_model):
    rng = np.random.default_rng(2)
    shapes = [(3,), (3, 3), (3, 3), (3, 2), (2,), (4,), (4, 9), (2,), (9,), (9, 9)]
    arrays = {
        name: rng.random(shape) + 0.1
        for name, shape in zip(StrokeExamples.__slots__, shapes, strict=True)
    }
    arrays["stroke_class"], arrays["pixel_class"] = np.array([1.0, 2, 2]), np.array([1.0, 1, 2, 2])
    examples = StrokeExamples(**arrays)
    make_model(prototypes=dataclasses.replace(KINDS, examples=examples)).save(path)
    found = load_model(path).prototypes.examples
    assert all(np.array_equal(getattr(found, name), array) for name, array in arrays.items())
    rewrite(path, tensors=lambda t: {k: v for k, v in t.items() if k != "prototypes.scatter"})
    with pytest.raises(ModelFileError, match="prototypes in"):
        load_model(path)


def test_prototypes_can_be_set_and_taken_away(path, make_model):
    model = make_model()
    assert model.prototypes is None
    model.prototypes = KINDS
    model.save(path)
    again = load_model(path)
    assert again.prototypes.names == KINDS.names
    assert again.fingerprint == make_model().fingerprint
    again.prototypes = None
    again.save(path)
    assert load_model(path).prototypes is None
    assert "prototypes" not in read_header(path)


@pytest.mark.parametrize(
    "change",
    [
        None,
        [],
        {},
        {"scale": 5.0, "names": []},
        {"scale": 5.0, "names": [], "colors": [], "more": 1},
        {"scale": "5", "names": [], "colors": []},
        {"scale": 0, "names": [], "colors": []},
        {"scale": 10**400, "names": [], "colors": []},
        {"scale": float("nan"), "names": [], "colors": []},
        {"scale": 5.0, "names": ["gland"], "colors": []},
        {"scale": 5.0, "names": "ab", "colors": []},
        {"scale": 5.0, "names": [1, 2], "colors": []},
        {"scale": 5.0, "names": [], "colors": ["red", "green"]},
    ],
    ids=str,
)
def test_odd_prototypes_are_refused(with_prototypes, change):
    rewrite(with_prototypes, lambda h: h | {"prototypes": change})
    with pytest.raises(ModelFileError, match=r"prototypes in tissue\.aeseg.* cannot be used"):
        load_model(with_prototypes)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {k: v for k, v in t.items() if k != "prototypes.centres"},
        lambda t: t | {"prototypes.more": torch.zeros(1)},
        lambda t: t | {"prototypes.centres": torch.zeros(2, 4, dtype=torch.float64)},
        lambda t: t | {"prototypes.centres": torch.zeros(2, 3)},
        lambda t: t | {"prototypes.centres": torch.zeros(2, 3, dtype=torch.bfloat16)},
        lambda t: t | {"prototypes.centres": torch.full((2, 3), torch.nan, dtype=torch.float64)},
        lambda t: t | {"prototypes.whitening": torch.zeros(3, 0, dtype=torch.float64)},
    ],
    ids=["missing", "unknown", "shape", "float32", "bfloat16", "nan", "empty"],
)
def test_odd_arrays_of_prototypes_are_refused(with_prototypes, change):
    rewrite(with_prototypes, tensors=change)
    with pytest.raises(ModelFileError, match=r"prototypes in tissue\.aeseg.* cannot be used"):
        load_model(with_prototypes)


def test_arrays_of_prototypes_that_the_header_does_not_name_are_refused(with_prototypes):
    rewrite(with_prototypes, lambda h: {k: v for k, v in h.items() if k != "prototypes"})
    with pytest.raises(ModelFileError, match=r"differing: prototypes\.centres"):
        load_model(with_prototypes)


# -- unfinished trainings


@pytest.fixture(scope="module")
def unfinished(stripes, tiny_params):
    """A model whose training was stopped after three of six steps."""
    events = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_aeseg.autoencoder.training_loop._SECONDS_BETWEEN_EVENTS", 0)
        napari_aeseg.train(
            stripes, tiny_params, device="cpu", progress=events.append, snapshot_seconds=0
        )
    return next(e.snapshot for e in events if e.stage == "train" and e.done == 3)


@pytest.fixture
def half(path, unfinished):
    unfinished.save(path)
    return path


def test_checkpoint_is_kept_bit_for_bit(half, unfinished):
    found, kept = load_model(half).checkpoint, unfinished.checkpoint
    assert found.batch_size == kept.batch_size
    assert found.moments.keys() == kept.moments.keys()
    assert all(torch.equal(found.moments[k], v) for k, v in kept.moments.items())


def test_finished_model_has_nothing_to_resume_in_its_file(path, model):
    model.save(path)
    assert "resume" not in read_header(path)
    with safetensors.safe_open(path, framework="pt") as file:
        assert not [k for k in file.keys() if k.startswith("resume.")]  # noqa: SIM118 (no dict)


def refused(path):
    with pytest.raises(
        ModelFileError, match=r"(state of the training|header).* (in|of) tissue\.aeseg"
    ):
        load_model(path)


@pytest.mark.parametrize("change", [None, [], 3, "text", {}], ids=str)
def test_state_of_another_type_is_refused(half, change):
    rewrite(half, lambda h: h | {"resume": change})
    refused(half)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"batch_size": 5},  # four were asked for
        {"batch_size": 2.0},
        {"batch_size": True},
    ],
    ids=str,
)
def test_odd_state_is_refused(half, change):
    rewrite(half, lambda h: h | {"resume": h["resume"] | change})
    refused(half)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"steps": 6},
        {"steps": 2},
        {"steps": "3"},
        {"losses": [0.1, 0.2]},
        {"losses": [0.1, 0.2, "0.3"]},
        {"losses": [0.1, 0.2, float("nan")]},
        {"params": {}},  # another network, by default
        {"params": []},
        {"params": {"depth": 3}},
        {"notes": [3]},
        {"seconds": "long"},
        {"seconds": 10**400},
        {"images": [3]},
        {"images": [{"shape": [3]}]},
        {"images": [{"shape": [48, 40], "axes": "YXC"}]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_record_that_cannot_be_resumed_is_refused(half, change):
    rewrite(half, lambda h: h | {"training": h["training"] | change})
    refused(half)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {k: v for k, v in t.items() if k != "resume.exp_avg.readout.bias"},
        lambda t: t | {"resume.exp_avg.readout.bias": torch.zeros(2)},
        lambda t: t | {"resume.exp_avg.readout.bias": torch.zeros(1).double()},
        lambda t: t | {"resume.exp_avg.readout.bias": torch.tensor([torch.nan])},
        lambda t: t | {"resume.exp_avg_sq.readout.bias": torch.tensor([-1.0])},
        lambda t: t | {"resume.exp_avg.readout.scale": torch.zeros(1)},
    ],
    ids=[
        "missing",
        "shape",
        "dtype",
        "nan",
        "negative",
        "unknown",
    ],
)
def test_odd_tensors_of_the_state_are_refused(half, change):
    rewrite(half, tensors=change)
    refused(half)


def test_state_that_the_header_does_not_name_is_refused(half):
    rewrite(half, lambda h: {k: v for k, v in h.items() if k != "resume"})
    with pytest.raises(ModelFileError, match=r"differing: resume\."):
        load_model(half)


def test_immense_numbers_are_refused(saved):
    rewrite(saved, lambda h: h | {"intensity": {"low": [10**400], "high": [1]}})
    with pytest.raises(ModelFileError, match=saved.name):
        load_model(saved)


# -- files of somebody who means harm; soak/files.py reads thousands of them


def framed(head, data=b""):
    return len(head).to_bytes(8, "little") + head + data


def test_reading_a_model_draws_no_random_numbers(saved):
    before = torch.random.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_file_that_shrinks_after_it_was_read_does_not_end_the_process(half, with_prototypes_too):
    """Prototypes and moments were views of the mapped file: reading them was a bus error."""
    code = (
        "import os, sys\n"
        "from napari_aeseg import load_model\n"
        "model = load_model(sys.argv[1])\n"
        "os.truncate(sys.argv[1], 0)\n"
        "assert model.prototypes.centres.sum() > 0\n"
        "assert all(m.isfinite().all() for m in model.checkpoint.moments.values())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, half], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def with_prototypes_too(half, unfinished):
    unfinished.prototypes = KINDS
    unfinished.save(half)
    unfinished.prototypes = None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no such files")
@pytest.mark.parametrize("make", [os.mkdir, getattr(os, "mkfifo", None)], ids=["folder", "pipe"])
def test_folder_or_pipe_is_refused_without_waiting(path, make):
    make(path)
    for read in (load_model, read_header):
        with pytest.raises(ModelFileError, match=r"tissue\.aeseg.* is not a file"):
            read(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ((2**62).to_bytes(8, "little") + b"{}", "claims to have 4611686018427387904 bytes"),
        (framed(b"[" * 300_000), "too many"),
        (framed(b'{"a":[' + b"0," * 2_000_000 + b"0]}"), "too many"),
    ],
    ids=["long", "deep", "many"],
)
def test_a_header_of_too_many_parts_is_not_parsed(path, monkeypatch, content, text):
    path.write_bytes(content)
    monkeypatch.setattr(safetensors, "safe_open", None)
    with pytest.raises(ModelFileError, match=text):
        load_model(path)


def test_json_header_of_too_many_parts_is_not_parsed(saved):
    rewrite(saved, lambda h: h | {"more": [{}] * 250_000})
    with pytest.raises(ModelFileError, match="too many"):
        read_header(saved)


def test_too_many_tensors_are_not_read(saved, monkeypatch):
    monkeypatch.setattr("napari_aeseg.autoencoder.model_file.MAX_TENSORS", 5)
    with pytest.raises(ModelFileError, match="tensors"):
        load_model(saved)


@pytest.mark.parametrize("shape", [[0, 2**63], [2**62, 0], [0] * 70], ids=str)
def test_an_empty_tensor_of_a_shape_that_none_has_is_refused(saved, shape):
    data = saved.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    head["more"] = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    saved.write_bytes(framed(json.dumps(head).encode(), data[8 + length :]))
    with pytest.raises(ModelFileError, match=r"weights of tissue\.aeseg.* cannot be read"):
        load_model(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"images": [3]},
        {"images": [{"name": 3, "shape": [4, 4], "axes": "YX"}]},
        {"images": [{"name": "a", "shape": [4, 4], "axes": "YXC"}]},
        {"images": [{"name": "a", "shape": [4, 0], "axes": "YX"}]},
        {"images": {}},
        {"losses": ["a"]},
        {"losses": [float("nan")]},
        {"notes": [3]},
        {"notes": "text"},
        {"device": 3},
        {"seconds": "long"},
        {"seconds": 10**30},
        {"losses": [10**30]},
        {"seconds": float("inf")},
        {"steps": "many"},
        {"steps": -1},
        {"params": 3},
        {"params": {"noise": float("nan")}},
        {"voxel_size": ["a"]},
    ],
    ids=str,
)
def test_impossible_training_record_is_refused(saved, change):
    """A finished model was loaded with any record, and the command line failed on it."""
    rewrite(saved, lambda h: h | {"training": h["training"] | change})
    with pytest.raises(ModelFileError, match=saved.name):
        load_model(saved)


@pytest.mark.parametrize("name", ["package_version", "torch_version"])
def test_a_version_that_is_no_text_is_refused(saved, name):
    rewrite(saved, lambda h: h | {name: [1]})
    with pytest.raises(ModelFileError, match=name):
        load_model(saved)


def test_intensities_that_are_text_are_refused(saved):
    rewrite(saved, lambda h: h | {"intensity": {"low": "1", "high": "9"}})
    with pytest.raises(ModelFileError, match="not a list"):
        load_model(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99, "package_version": "9\x1b[2J" * 9999},
        {"architecture": {"decoder": "x\x1b[2J\ud800" * 9999, "channels": 1}},
        {"training": {"y" * 99_999: 1, "images": [], "losses": [], "notes": []}},
    ],
    ids=["version", "decoder", "training"],
)
def test_errors_are_short_and_without_control_characters(saved, change):
    rewrite(saved, lambda h: h | change)
    with pytest.raises(ModelFileError) as error:
        load_model(saved)
    assert len(str(error.value)) < 1000
    assert str(error.value).isprintable()


def test_info_prints_no_control_characters(saved, capsys):
    from napari_aeseg.cli import main

    rewrite(saved, lambda h: h | {"training": h["training"] | {"notes": ["\x1b[2J\ud800"]}})
    assert main(["info", str(saved)]) == 0
    assert "notes       \\x1b[2J\\ud800" in capsys.readouterr().out


@pytest.mark.parametrize("value", [3e38, 1e25])
def test_features_that_are_not_finite_are_an_error(saved, value):
    rewrite(saved, tensors=lambda w: {k: torch.full_like(t, value) for k, t in w.items()})
    model = load_model(saved)
    with pytest.raises(InputError, match="model is unusable"):
        model.features(IMAGE * 8, device="cpu")
    with pytest.raises(InputError, match="model is unusable"):
        napari_aeseg.build_hierarchy(IMAGE * 8, model, device="cpu")


def test_seconds_and_losses_are_floats(saved):
    whole = {"seconds": 10**9, "losses": [2, 1]}
    rewrite(saved, lambda h: h | {"training": h["training"] | whole})
    record = load_model(saved).record
    assert {type(n) for n in (record.seconds, *record.losses)} == {float}
