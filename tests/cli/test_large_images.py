"""Images in blocks, on the command line and in batches."""

import json

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

import napari_aeseg as aeseg
from napari_aeseg import batch, samples
from napari_aeseg.io.images import open_file
from napari_aeseg.io.labels import write_labels

BLOCKS = ["--block-size=64", "--patch-size=8", "--patches=grid", "--device=cpu"]


@pytest.fixture(scope="module")
def image():
    return samples.tissue()[:128, :192]


@pytest.fixture
def big(tmp_path, image):
    """An OME-Zarr image."""
    path = tmp_path / "big.ome.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    group.create_array("0", data=image.transpose(2, 0, 1), chunks=(3, 64, 64))
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": a, "type": "space", "unit": "micrometer"} for a in "yx"
    ]
    scale = {"type": "scale", "scale": [1.0, 0.5, 0.5]}
    level = {"path": "0", "coordinateTransformations": [scale]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    return path


@pytest.fixture(scope="module")
def expected(image):
    params = aeseg.SegmentationParams(patches="grid", patch_size=8)
    return aeseg.build_hierarchy(
        image.transpose(2, 0, 1), "base", params, device="cpu",
        blocks=aeseg.BlockParams(block_size=64),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["labels.ome.zarr", "labels.tif"])
def test_one_image_to_one_file(run, big, tmp_path, expected, name):
    output = tmp_path / "out" / name
    done = run(
        "segment", big, f"--output={output}", "--model=base", "--regions=5", "--table",
        f"--store={tmp_path / 'store'}", *BLOCKS,
    )  # fmt: skip
    assert done.code == 0, done.err
    opened = open_file(output)
    assert np.array_equal(opened.array, expected.regions(5).compute())
    assert (opened.axes, opened.spacing("YX"), opened.unit) == ("YX", (0.5, 0.5), "micrometer")
    table = pd.read_csv(tmp_path / "out" / "labels_table.csv")
    assert table["area"].sum() == 128 * 192 / 4
    assert (tmp_path / "store" / "run.json").is_file()
    again = run("segment", big, f"--output={output}", "--model=base", *BLOCKS)
    assert again.code == 1
    assert "exists already" in again.err


def test_one_label_file_takes_one_image_and_is_never_replaced(run, big, tmp_path):
    output = tmp_path / "labels.ome.zarr"
    two = run("segment", big, big, f"--output={output}", "--model=base")
    assert two.code == 1
    assert "there are 2 images" in two.err
    replace = run("segment", big, f"--output={output}", "--model=base", "--overwrite")
    assert replace.code == 1
    assert "never replaced" in replace.err
    named = run("segment", big, f"--output={tmp_path / 'a.aeseg.zarr'}", "--model=base")
    assert named.code == 1
    assert "only saved hierarchies end with .aeseg.zarr" in named.err
    assert not output.exists()


@pytest.mark.parametrize("output", ["labels.ome.zarr", "results"])
def test_objects_of_blocks_are_written(run, big, tmp_path, output):
    done = run("segment", big, "--output", tmp_path / output, "--model=base", "--objects", *BLOCKS)
    assert done.code == 0, done.err
    assert "objects" in done.out


def test_labels_are_not_written_as_png(run, big, tmp_path):
    done = run("segment", big, "--output", tmp_path / "labels.png")
    assert done.code == 1
    assert "labels.png: labels are written as .zarr or .tif" in done.err
    assert not (tmp_path / "labels.png").exists()


def test_segment_files_refuses_one_path(tmp_path):
    with pytest.raises(aeseg.InputError, match="give a list of files"):
        aeseg.segment_files("scan.tif", tmp_path, "base")


def test_a_folder_of_images_has_zarr_among_them(run, big, image, tmp_path, expected):
    tifffile.imwrite(tmp_path / "flat.tif", image)
    assert [p.name for p in batch.image_files(tmp_path)] == ["big.ome.zarr", "flat.tif"]
    output = tmp_path / "out"
    store = tmp_path / "store"
    done = run(
        "segment", tmp_path, f"--output={output}", "--model=base", "--regions=5", "--table",
        f"--store={store}", *BLOCKS,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert sorted(p.name for p in output.iterdir()) == [
        f"{stem}_{end}" for stem in ("big", "flat") for end in ("labels.ome.zarr", "table.csv")
    ]
    assert sorted(p.name for p in store.iterdir()) == ["big", "flat"]
    labels = open_file(output / "big_labels.ome.zarr")
    assert np.array_equal(labels.array, expected.regions(5).compute())
    refused = run("segment", tmp_path, f"--output={output}", "--model=base", *BLOCKS)
    assert "exist already" in refused.err
    skipped = run(
        "segment", tmp_path, f"--output={output}", "--model=base", "--skip-existing", *BLOCKS
    )
    assert "2 skipped" in skipped.out
    replaced = run(
        "segment", big, f"--output={output}", "--model=base", "--overwrite", "--regions=3", *BLOCKS
    )
    assert replaced.code == 0, replaced.err
    assert open_file(output / "big_labels.ome.zarr").array[...].max() == 3


def test_a_small_zarr_image_is_segmented_as_any_file(run, big, image, tmp_path):
    output = tmp_path / "out"
    done = run("segment", big, f"--output={output}", "--model=base", "--regions=4", "--device=cpu")
    assert done.code == 0, done.err
    tree = aeseg.build_hierarchy(image.transpose(2, 0, 1), "base", device="cpu")
    assert np.array_equal(tifffile.imread(output / "big_labels.tif"), tree.regions(4))
    assert (output / "big_overlay.png").is_file()


def test_unreadable_parts_are_skipped_on_request(run, image, tmp_path):
    bad = image.astype(np.float32)
    bad[92:100, 90:100] = np.nan
    path = tmp_path / "bad.zarr"
    zarr.create_array(store=str(path), data=bad, chunks=(64, 64, 3))
    arguments = ["segment", path, "--model=base", "--axes=YXC", "--regions=4", *BLOCKS]
    stopped = run(*arguments, f"--output={tmp_path / 'a.zarr'}")
    assert stopped.code == 1
    assert "NaN" in stopped.err
    done = run(*arguments, f"--output={tmp_path / 'b.zarr'}", "--unreadable=skip")
    assert done.code == 0, done.err
    assert "left out" in done.out
    assert (open_file(tmp_path / "b.zarr").array[64:128, 64:128] == 0).all()


def test_a_model_is_trained_on_zarr(run, big, tmp_path):
    path = tmp_path / "a.aeseg.safetensors"
    quick = ["--levels=2", "--width=4", "--crop-size=16", "--steps=2", "--device=cpu"]
    done = run("train", big, f"--output={path}", *quick)
    assert done.code == 0, done.err
    (known,) = aeseg.load_model(path).record.images
    assert (known["shape"], known["axes"]) == ([3, 128, 192], "CYX")


def test_info_describes_an_image_on_disk(run, big, tmp_path):
    done = run("info", big)
    assert done.code == 0
    assert "3 channels, 128 x 192 pixels (CYX, from the file)" in done.out
    assert "Y 0.5, X 0.5 micrometer" in done.out
    assert "as a whole" in done.out
    path = write_labels(da.ones((9, 9), dtype=int), tmp_path / "l.zarr")
    assert json.loads(run("info", path, "--json").out)["labels"] == "complete"


def test_a_hierarchy_beside_a_label_file_can_be_cut_again(run, big, tmp_path, expected):
    first, again = tmp_path / "first.ome.zarr", tmp_path / "again.tif"
    common = ["--model=base", "--regions=5"]
    done = run("segment", big, f"--output={first}", *common, "--save-hierarchy", *BLOCKS)
    assert done.code == 0, done.err
    saved = tmp_path / "first.aeseg.zarr"
    done = run("segment", saved, f"--output={again}", "--regions=5", "--table")
    assert done.code == 0, done.err
    assert np.array_equal(open_file(again).array, expected.regions(5).compute())
    assert open_file(again).spacing("YX") == (0.5, 0.5)
    assert set(pd.read_csv(tmp_path / "again_table.csv")["unit"]) == {"micrometer"}


def test_hierarchies_of_large_images_are_saved_and_cut_in_batches(run, big, tmp_path, expected):
    output, later = tmp_path / "out", tmp_path / "later"
    done = run(
        "segment", big, f"--output={output}", "--model=base", "--regions=3", "--save-hierarchy",
        *BLOCKS,
    )  # fmt: skip
    assert done.code == 0, done.err
    saved = output / "big.aeseg.zarr"
    assert sorted(p.name for p in output.iterdir()) == [saved.name, "big_labels.ome.zarr"]
    with pytest.raises(aeseg.InputError, match="no image"):  # results, all of them
        batch.image_files(output)
    done = run("segment", saved, f"--output={later}", "--regions=5", "--table")
    assert done.code == 0, done.err
    labels = open_file(later / "big_labels.ome.zarr")
    assert np.array_equal(labels.array, expected.regions(5).compute())
    assert (labels.spacing("YX"), labels.unit) == ((0.5, 0.5), "micrometer")


@pytest.mark.parametrize(
    ("spacings", "options", "dimensions"),
    [((1, 1), [], 3), ((1, 2), [], 2), ((1, 2), ["--voxel-size", "1", "1", "1"], 3)],
)
def test_voxel_sizes_of_files_reach_the_training(run, tmp_path, spacings, options, dimensions):
    files = [tmp_path / f"{name}.tif" for name in "ab"]
    noise = np.random.default_rng(0).integers(0, 255, (16, 32, 32), dtype=np.uint8)
    for file, spacing in zip(files, spacings, strict=True):
        about = {"axes": "ZYX", "spacing": spacing, "unit": "um"}
        tifffile.imwrite(file, noise, imagej=True, resolution=(1, 1), metadata=about)
    path = tmp_path / "a.aeseg.safetensors"
    quick = ["--levels=2", "--width=4", "--crop-size=16", "--steps=1", "--device=cpu"]
    done = run("train", *files, f"--output={path}", *quick, *options)
    assert done.code == 0, done.err
    assert aeseg.load_model(path).architecture.dimensions == dimensions
