"""Folders of blocks that are damaged, or of another run: refused with what to do."""

import json
import shutil

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
    return shutil.copytree(done, tmp_path / "store")


def go_on(folder, model, block_size="auto"):
    blocks = aeseg.BlockParams(block_size=block_size, max_patches=40)
    return aeseg.build_hierarchy(IMAGE, model, GRID, device="cpu", blocks=blocks, store=folder)


def refused(folder, model, text):
    with pytest.raises(InputError, match=text) as error:
        np.asarray(go_on(folder, model).regions(2, refine=False))
    assert len(str(error.value)) < 1000


def test_a_complete_folder_is_opened_again(folder, small_model):
    assert go_on(folder, small_model).regions(2, refine=False).compute().max() == 2


@pytest.mark.parametrize("block", [[0, 32], "32", None, [32.0, 32], [True, 32]], ids=str)
def test_blocks_of_a_shape_that_cannot_be_are_refused(folder, small_model, block):
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"block": block}))
    refused(folder, small_model, r"run\.json is damaged .* Choose another folder\.$")


@pytest.mark.parametrize("text", ["", "[", "[]", "3", "{}"])
def test_a_damaged_description_of_the_run_is_refused(folder, small_model, text):
    (folder / "run.json").write_text(text)
    refused(folder, small_model, r"run\.json is damaged")


def test_blocks_of_another_format_are_refused_and_left_as_they_are(folder, small_model):
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"format": 99}))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    refused(folder, small_model, r"different run \(format: 99 saved, 1 now\)")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_folder_without_its_blocks_is_computed_again(folder, small_model):
    expected = np.asarray(go_on(folder, small_model).regions(3, refine=False))
    shutil.rmtree(folder / "blocks")
    assert np.array_equal(np.asarray(go_on(folder, small_model).regions(3, refine=False)), expected)


def test_notes_of_blocks_are_given_once_when_work_goes_on(folder, small_model):
    for file in (folder / "blocks").glob("*.npz"):
        rewrite(file, put("notes", np.array(["Light was uneven.", "µ"])))
    notes = go_on(folder, small_model).notes
    assert [note for note in notes if note in ("Light was uneven.", "µ")] == [
        "Light was uneven.",
        "µ",
    ]


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
        put("count", lambda v: v[:0]),
        put("mean", first(np.nan)),
        put("mean", lambda v: v[:-1]),
        put("mean", lambda v: v[:, :-1]),
        put("mean", lambda v: v.astype(float)),
        put("centroid", lambda v: v[:, [0, 0, 0]]),
        put("edges", lambda v: v.ravel()),
        put("border", first(np.inf)),
        put("face_1_1", lambda v: v.astype(np.int64)),
        put("more", 3),
        lambda arrays: arrays.pop("edges"),
        lambda arrays: arrays.pop("face_0_0"),
        put("level", np.array([{"pickled": 1}], object)),
    ],
)
def test_a_damaged_block_is_named_and_can_be_computed_again(folder, small_model, change):
    expected = np.asarray(go_on(folder, small_model).regions(3, refine=False))
    rewrite(npz(folder), change)
    refused(folder, small_model, r"0_0\.npz is damaged .* Delete it to compute it again\.$")
    npz(folder).unlink()
    assert np.array_equal(np.asarray(go_on(folder, small_model).regions(3, refine=False)), expected)


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: data[:600] + data[601:]])
def test_a_block_with_missing_bytes_is_refused(folder, small_model, damage):
    file = npz(folder)
    file.write_bytes(damage(file.read_bytes()))
    refused(folder, small_model, r"0_0\.npz is damaged")


def test_a_changed_number_in_a_block_does_not_fit_its_checksum(folder, small_model):
    file = npz(folder)
    data = bytearray(file.read_bytes())
    with np.load(file) as arrays:
        place = data.index(arrays["mean"].tobytes()[:64])
    data[place] ^= 1
    file.write_bytes(data)
    refused(folder, small_model, r"0_0\.npz is damaged .*CRC")


@pytest.mark.parametrize(
    "change",
    [
        put("pixels_per_patch", np.float64(np.nan)),
        put("projection", lambda v: v[:-1]),
        put("projection", first(np.nan)),
        put("calibration/unit", np.float64(0)),
        put("calibration/scale", np.float64(np.inf)),
        lambda arrays: arrays.pop("single_projection"),
        lambda arrays: arrays.pop("calibration/gain"),
    ],
)
def test_damaged_coarsening_is_refused(folder, small_model, change):
    npz(folder).unlink()
    rewrite(folder / "coarsening.npz", change)
    refused(folder, small_model, r"coarsening\.npz is damaged .* Delete it")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(shape=[2**40, 2**40]),
        lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[16, 16]),
        lambda m: m.update(data_type="int64"),
        lambda m: m["codecs"].append({"name": "of nobody"}),
        lambda m: m.pop("shape"),
    ],
)
def test_patch_ids_of_other_shape_chunks_or_dtype_are_refused(folder, small_model, change):
    file = folder / "patches" / "zarr.json"
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))
    refused(folder, small_model, r"patches is damaged .* Choose another folder\.$")


@pytest.mark.parametrize("odd", [-1, 17, 2**31 - 1])
def test_ids_of_no_patch_are_refused_when_they_are_read(folder, small_model, odd):
    """They were an error of numpy, or labels of other patches."""
    zarr.open_array(str(folder / "patches"), mode="r+")[0, 0] = odd
    refused(folder, small_model, "Patch ids in .* run from")


def test_damaged_ids_are_an_InputError(folder, small_model):
    file = folder / "patches" / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[:-3])
    refused(folder, small_model, "Patch ids in .* cannot be read")


def test_missing_patch_ids_are_named(folder, small_model):
    shutil.rmtree(folder / "patches")
    refused(folder, small_model, "patches is damaged .* Choose another folder")
