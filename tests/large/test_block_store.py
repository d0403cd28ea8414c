"""Folders of blocks that somebody changed: refused with what to do, or done again."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import zarr

import napari_aeseg as aeseg
from napari_aeseg import InputError

GRID = aeseg.SegmentationParams(patches="grid", patch_size=8)
IMAGE = np.random.default_rng(0).random((64, 96)).astype(np.float32)


@pytest.fixture(scope="module")
def small_model():
    params = aeseg.TrainingParams(levels=1, width=2, convolutions=1, crop_size=16, steps=1)
    return aeseg.train(IMAGE, params, device="cpu")


@pytest.fixture(scope="module")
def done(tmp_path_factory, small_model):
    folder = tmp_path_factory.mktemp("done") / "store"
    go_on(folder, small_model, 32)
    return folder


@pytest.fixture
def folder(done, tmp_path):
    import shutil

    return shutil.copytree(done, tmp_path / "store")


def go_on(folder, model, block_size="auto"):
    blocks = aeseg.BlockParams(block_size=block_size, max_patches=40)
    return aeseg.build_hierarchy(IMAGE, model, GRID, device="cpu", blocks=blocks, store=folder)


def refused(folder, model, text):
    with pytest.raises(InputError, match=text) as error:
        np.asarray(go_on(folder, model).regions(2))
    assert len(str(error.value)) < 1000


def test_what_is_whole_is_taken_up(folder, small_model):
    assert go_on(folder, small_model).regions(2).compute().max() == 2


@pytest.mark.parametrize(
    "block",
    [
        [0, 32], [-32, 32], [1, 1], [8, 8], [32], [32, 32, 32], [2**62, 2**62], "32", None,
        [32.0, 32], [True, 32], [10**400, 32], [1e400, 32], [33, 32],
    ],
    ids=str,
)  # fmt: skip
def test_blocks_of_a_shape_that_cannot_be_are_refused(folder, small_model, block):
    """0 was a division by zero, 1e400 an overflow, and [1, 1] as many blocks as pixels."""
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(known | {"block": block}))
    refused(folder, small_model, "give another folder")


@pytest.mark.parametrize("text", ["", "[", "[]", "3", "{}", "[" * 100_000, '"' + "x" * 2**21 + '"'])
def test_values_that_are_none_are_refused(folder, small_model, text):
    (folder / "run.json").write_text(text)
    refused(folder, small_model, "run.json is damaged")


def test_a_link_to_the_values_of_other_work_is_refused(folder, small_model):
    (folder / "run.json").rename(folder.parent / "run.json")
    (folder / "run.json").symlink_to(folder.parent / "run.json")
    refused(folder, small_model, "give another folder")


@pytest.mark.parametrize("name", ["patches", "blocks", "patches/c", "patches/c/0"])
def test_nothing_is_written_through_a_link(folder, small_model, name):
    """A link in a folder of somebody else had the files that it led to written over."""
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside, target_is_directory=True)
    before = {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}
    block = outside / "0_0.npz" if name == "blocks" else folder / "blocks" / "0_0.npz"
    block.unlink()
    before.pop(block, None)
    refused(folder, small_model, "links to other places")
    assert {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()} == before


def npz(folder):
    return sorted((folder / "blocks").glob("*.npz"))[0]


def rewrite(file, change, save=np.savez):
    with np.load(file) as found:
        arrays = dict(found)
    change(arrays)
    with file.open("wb") as stream:
        save(stream, **arrays)


def put(name, value):
    def change(arrays):
        arrays[name] = value(arrays[name]) if callable(value) else value

    return change


def first(value):
    def change(values):
        values = values.copy()
        values.flat[0] = value
        return values

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("count", first(0)),
        put("count", first(0.5)),
        put("count", lambda v: v * 2),
        put("count", lambda v: v[:0]),
        put("mean", first(np.nan)),
        put("mean", first(1e20)),
        put("mean", lambda v: v[:-1]),
        put("mean", lambda v: v[:, :-1]),
        put("mean", lambda v: v.astype(float)),
        put("second", first(-1)),
        put("second", first(1e38)),
        put("level", first(9)),
        put("level", first(1)),
        put("centroid", first(1e9)),
        put("intensity", lambda v: v[:, [0, 0]]),
        put("edges", first(-1)),
        put("edges", lambda v: v + 1000),
        put("edges", lambda v: v[::-1]),
        put("edges", lambda v: v.ravel()),
        put("border", first(0)),
        put("border", first(np.inf)),
        put("face_0_0", first(-1)),
        put("face_0_0", first(2**31 - 1)),
        put("face_1_1", lambda v: v[:-1]),
        put("face_1_1", lambda v: v.astype(np.int64)),
        put("more", 3),
        lambda arrays: arrays.pop("edges"),
        put("level", np.array([{"pickled": 1}], object)),
    ],
)
def test_a_block_that_is_none_is_named_and_can_be_made_again(folder, small_model, change):
    """Each was a bare error of numpy or zipfile, or a wrong result."""
    expected = np.asarray(go_on(folder, small_model).regions(3))
    rewrite(npz(folder), change)
    refused(folder, small_model, r"0_0\.npz is damaged .* Delete it, and it is made again\.$")
    npz(folder).unlink()
    assert np.array_equal(np.asarray(go_on(folder, small_model).regions(3)), expected)


def test_blocks_that_are_packed_are_refused_before_they_are_unpacked(folder, small_model):
    rewrite(npz(folder), lambda arrays: None, np.savez_compressed)
    refused(folder, small_model, "packed|more than it has")


def test_an_array_that_promises_terabytes_takes_no_memory(folder, small_model):
    with np.load(npz(folder)) as found:
        arrays = dict(found)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, values in arrays.items():
            raw = io.BytesIO()
            np.save(raw, values)
            if name == "count":
                raw = io.BytesIO()
                head = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
                np.lib.format.write_array_header_1_0(raw, head)
            archive.writestr(f"{name}.npy", raw.getvalue())
    npz(folder).write_bytes(stream.getvalue())
    refused(folder, small_model, "count is float64 of shape .* in 0 bytes")


@pytest.mark.parametrize(
    "change",
    [
        put("pixels", np.float64(0)),
        put("pixels", np.float64(np.nan)),
        put("pixels", np.array("12")),
        put("matrix", lambda v: v[:-1]),
        put("matrix", first(np.nan)),
        put("matrix", first(1e30)),
        put("own_floor", first(0)),
        put("known/unit", np.float64(0)),
        put("known/scale", np.float64(np.inf)),
        put("known/everything/own", first(-1)),
        put("known/everything/vectors", lambda v: v[:-1]),
        put("known/things/covariance", first(1e300)),
        lambda arrays: arrays.pop("own"),
    ],
)
def test_how_patches_are_joined_is_checked(folder, small_model, change):
    npz(folder).unlink()
    rewrite(folder / "reduction.npz", change)
    refused(folder, small_model, r"reduction\.npz is damaged .* Delete it")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(shape=[2**40, 2**40]),
        lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[2**20, 2**20]),
        lambda m: m["chunk_key_encoding"]["configuration"].update(separator="../"),
        lambda m: m.update(data_type="int8"),
        lambda m: m.update(fill_value=7),
        lambda m: m["codecs"].append({"name": "numcodecs.pickle"}),
        lambda m: m["codecs"][1].update(configuration="none"),
        lambda m: m.pop("shape"),
    ],
)
def test_zarr_never_writes_by_metadata_that_are_not_ours(folder, small_model, change, monkeypatch):
    file = folder / "patches" / "zarr.json"
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))
    npz(folder).unlink()
    monkeypatch.setattr("zarr.open_array", None)
    refused(folder, small_model, "give another folder")


@pytest.mark.parametrize("odd", [-1, 17, 2**31 - 1])
def test_ids_of_no_patch_are_refused_when_they_are_looked_at(folder, small_model, odd):
    """They were an error of numpy, or labels of other patches."""
    zarr.open_array(str(folder / "patches"), mode="r+")[0, 0] = odd
    refused(folder, small_model, "Patch ids in .* run from")


def test_damaged_ids_are_an_error_of_ours(folder, small_model):
    file = folder / "patches" / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[:-3])
    refused(folder, small_model, "Patch ids in .* cannot be read")


@pytest.mark.parametrize("name", ["patches", "blocks"])
def test_a_part_that_is_missing_is_named(folder, small_model, name):
    os.rename(folder / name, folder.parent / name)
    refused(folder, small_model, "give another folder|missing")
