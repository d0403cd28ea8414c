from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_aeseg as aeseg
from napari_aeseg import HierarchyFileError, InputError, load_hierarchy
from napari_aeseg.images.axes import Axes
from napari_aeseg.io import zarr_folder as store
from napari_aeseg.io.zarr_folder import KEY
from napari_aeseg.regions.hierarchy_file import hierarchy_header
from napari_aeseg.regions.patches.graph import region_graph


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tissue.aeseg.zarr"


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory, noisy):
    path = tmp_path_factory.mktemp("saved") / "noisy.aeseg.zarr"
    noisy.prepare().save(path)
    return path


@pytest.fixture
def saved(path, saved_once):
    """A good folder that a test may spoil."""
    return shutil.copytree(saved_once, path)


def restart(hierarchy):
    """The same hierarchy without what it has computed."""
    return replace(hierarchy, _moments=None, _search=None)


def answers(tree):
    """All that can be asked of a hierarchy, as arrays."""
    markers = np.zeros(tree.patches.shape, int)
    markers.flat[[0, -1]] = 1, 2
    few, classes = min(3, tree.n_patches), min(2, tree.max_classes)
    prototypes = tree.prototypes(classes)
    coarse = tree.reweighted(balance=0.8, scale=6.0)
    return {
        "regions": tree.regions(few),
        "threshold": tree.regions(threshold=0.3),
        "classes": tree.classes(classes),
        "objects": tree.objects(min_size=2),
        "objects of classes": tree.objects(1, classes, min_size=2),
        "markers": tree.from_markers(markers),
        "threshold_at": np.array(tree.threshold_at(few)),
        "merge_thresholds": tree.merge_thresholds,
        "border_strength": tree.border_strength(),
        "merge_height": tree.merge_height(),
        "feature_colors": tree.feature_colors(),
        "suggested": np.array(tree.suggest_n_regions()),
        "table": tree.table(tree.regions(few)).to_numpy(),
        "coarse regions": coarse.regions(few),
        "coarse classes": coarse.classes(classes),
        "centres": prototypes.centres,
        "whitening": prototypes.whitening,
        "by prototypes": tree.classes(prototypes=prototypes),
        "size": tree.tree.size,
    }


def assert_same(one, other):
    first, second = answers(one), answers(other)
    for name, values in first.items():
        assert values.dtype == second[name].dtype, name
        assert np.array_equal(values, second[name], equal_nan=values.dtype.kind == "f"), name
    assert (one.axes, one.params, one.notes) == (other.axes, other.params, other.notes)
    assert one.model_fingerprint == other.model_fingerprint


@given(
    height=st.integers(4, 18),
    width=st.integers(4, 18),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
    patch_size=st.integers(2, 9),
    balance=st.sampled_from([0.0, 0.4, 1.0]),
    scale=st.sampled_from([1.0, 7.5, "auto"]),
    built=st.booleans(),
)
@settings(max_examples=8)
def test_a_loaded_hierarchy_gives_the_same_bits(
    tmp_path_factory, hierarchy_of, height, width, channels, seed, patch_size, balance, scale, built
):
    image = np.random.default_rng(seed).random((channels, height, width))
    levels = [0, *range(1, channels)]
    params = {"balance": balance if channels > 1 else 0.5, "scale": scale}
    tree = hierarchy_of(image, patch_size, levels, **params)
    if built:
        tree.prepare()
    path = tmp_path_factory.mktemp("saved") / "a.aeseg.zarr"
    tree.save(path)

    loaded = load_hierarchy(path)

    assert (loaded._compared.merges is not None) is built
    assert_same(restart(tree), loaded)


def test_notes_and_model_are_loaded(path, hierarchy):
    tree = replace(hierarchy, notes=("Light was evened out.", "µ"), model_fingerprint="abc")
    tree.save(str(path))

    assert_same(tree, load_hierarchy(str(path)))


def test_order_and_source_of_axes_are_loaded(path, hierarchy_of):
    tree = hierarchy_of(np.random.default_rng(0).random((2, 12, 8)))
    for source in ("given", "file", "layer", "shape"):
        axes = Axes("CXY", (2, 12, 8), source)
        replace(tree, axes=axes).save(path)
        assert load_hierarchy(path).axes == axes


def test_a_loaded_volume_gives_the_same_bits(path, hierarchy_of):
    from napari_aeseg.regions.patches.superpixels import make_patches

    volume = np.random.default_rng(0).random((6, 12, 10))
    patches = make_patches(volume[np.newaxis].astype(np.float32), 4, "grid")
    flat = hierarchy_of(volume.reshape(1, 6, 120), patches=patches.reshape(6, 120))
    tree = replace(
        flat,
        patches=patches,
        statistics=replace(flat.statistics, centroid=centroid_of(patches)),
        graph=region_graph(patches),
        axes=Axes("ZYX", volume.shape, "given"),
        brightness=volume.astype(np.float16),
        _moments=None,
        _search=None,
    )
    tree.save(path)
    assert_same(restart(tree), load_hierarchy(path))


def centroid_of(patches):
    from napari_aeseg.regions.patches.statistics import geometry

    return geometry(patches)[1]


def test_arrays_of_many_chunks_give_the_same_bits(path, noisy, monkeypatch):
    monkeypatch.setattr(store, "_CHUNK", 2**6)
    noisy.save(path)
    assert len(list((path / "patches" / "c").rglob("*"))) > 25

    assert_same(restart(noisy), load_hierarchy(path))


def test_another_process_gives_the_same_bits(path, noisy):
    noisy.save(path)
    np.save(path.parent / "expected.npy", noisy.classes(3))
    code = (
        "import sys, numpy as np\n"
        "from napari_aeseg import load_hierarchy\n"
        "found = load_hierarchy(sys.argv[1]).classes(3)\n"
        "assert np.array_equal(found, np.load(sys.argv[2]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, path, path.parent / "expected.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_header_and_arrays_are_plain_zarr(saved, noisy):
    header = hierarchy_header(saved)
    assert set(header) == {
        *("format_version", "package_version", "axes", "patches", "features", "edges", "params"),
        *("comparison", "model", "notes", "has_tree", "has_stain", "has_channels", "evidence"),
        *("steps", "calibration", "checksums"),
    }
    assert header["format_version"] == 1
    assert header["patches"] == noisy.n_patches
    assert header == json.loads((saved / "zarr.json").read_text())["attributes"][KEY]
    import zarr

    group = zarr.open_group(str(saved), mode="r")
    assert np.array_equal(group["patches"][...], noisy.patches)
    assert np.array_equal(group["statistics/mean"][...], noisy.statistics.mean)


# Saving


def names(folder):
    return sorted(os.listdir(folder))


def test_saving_again_replaces_what_is_there_and_leaves_nothing_else(saved, hierarchy):
    (saved / ".DS_Store").write_bytes(b"")  # of a file manager
    hierarchy.save(saved)
    assert load_hierarchy(saved).n_patches == hierarchy.n_patches
    assert names(saved.parent) == [saved.name]


def test_saving_to_a_link_replaces_its_target(saved, hierarchy):
    link = saved.with_name("link.aeseg.zarr")
    try:
        link.symlink_to(saved, target_is_directory=True)
    except OSError:
        pytest.skip("may not make links")
    hierarchy.save(link)
    assert link.is_symlink()
    assert load_hierarchy(saved).n_patches == hierarchy.n_patches


def make_file(path):
    path.write_text("mine")


def make_folder(path):
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def make_zarr(path):
    import zarr

    zarr.create_group(str(path)).create_array("mine", shape=(2,), dtype="int8")


@pytest.mark.parametrize("make", [make_file, make_folder, make_zarr, os.mkdir])
@pytest.mark.parametrize("name", ["tissue.aeseg.zarr", ".tissue.aeseg.zarr.old"])
def test_files_of_other_programs_are_never_replaced(path, noisy, make, name):
    make(path.with_name(name))
    before = [(p, p.read_bytes()) for p in path.parent.rglob("*") if p.is_file()]

    with pytest.raises(InputError, match="is not replaced"):
        noisy.save(path)

    assert [(p, p.read_bytes()) for p in path.parent.rglob("*") if p.is_file()] == before
    assert names(path.parent) == [name]


def test_a_hierarchy_with_files_of_the_user_is_not_replaced(saved, noisy):
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"files that are not of a hierarchy \(notes.txt\)"):
        noisy.save(saved)
    assert load_hierarchy(saved).n_patches == noisy.n_patches


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", ["write", "_flush", "rename 1", "rename 2"])
def test_a_save_that_ends_early_leaves_the_old_folder_and_no_other(
    monkeypatch, saved, noisy, hierarchy, error, failing
):
    rename, calls = os.rename, []

    def fail(*arguments):
        calls.append(arguments)
        if failing.startswith("rename") and len(calls) != int(failing[-1]):
            return rename(*arguments)
        raise error

    if failing == "write":
        monkeypatch.setattr(store, "chunks_of", fail)
    else:
        home = (store.os, "rename") if failing.startswith("rename") else (store, failing)
        monkeypatch.setattr(*home, fail)
    with pytest.raises(type(error)):
        hierarchy.save(saved)
    monkeypatch.undo()

    assert names(saved.parent) == [saved.name]
    assert load_hierarchy(saved).n_patches == noisy.n_patches


def test_a_save_killed_between_two_renames_is_loaded_and_repaired(saved, noisy, hierarchy):
    os.rename(saved, store._backup_of(saved))
    assert load_hierarchy(saved).n_patches == noisy.n_patches

    hierarchy.save(saved)

    assert names(saved.parent) == [saved.name]
    assert load_hierarchy(saved).n_patches == hierarchy.n_patches


def test_a_process_that_is_killed_leaves_the_old_folder(saved, noisy):
    code = (
        "import os, sys\n"
        "from napari_aeseg import load_hierarchy\n"
        "from napari_aeseg.io import zarr_folder\n"
        "zarr_folder._flush = lambda folder: os._exit(9)\n"
        "load_hierarchy(sys.argv[1]).save(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, saved], check=False)
    assert done.returncode == 9
    assert load_hierarchy(saved).n_patches == noisy.n_patches


def test_missing_folders_are_named(path, noisy):
    with pytest.raises(FileNotFoundError, match=r"^There is no folder '.*lost' to save in\.$"):
        noisy.save(path.parent / "lost" / "a.aeseg.zarr")
    with pytest.raises(FileNotFoundError, match=r"^There is no hierarchy '.*tissue.aeseg.zarr'\.$"):
        load_hierarchy(path)


def test_invalid_hierarchies_are_not_written(path, noisy):
    broken = replace(noisy, brightness=np.full_like(noisy.brightness, np.nan))
    with pytest.raises(InputError, match=r"cannot be saved: brightness has NaN"):
        broken.save(path)
    with pytest.raises(InputError, match=r"cannot be saved: patches has shape \(2, 40\)"):
        replace(noisy, patches=noisy.patches[:2]).save(path)
    with pytest.raises(InputError, match=r"cannot be saved: brightness does not fit float16"):
        replace(noisy, brightness=noisy.brightness.astype(np.float64) + 1e-9).save(path)
    assert names(path.parent) == []


# Loading what is wrong


def rewrite(folder, change):
    """Change the header of a folder by a function that returns the new one, or None."""
    file = folder / "zarr.json"
    whole = json.loads(file.read_text())
    new = change(whole["attributes"][KEY])
    if new is not None:
        whole["attributes"][KEY] = new
    file.write_text(json.dumps(whole))


def test_files_and_folders_of_others_are_named(path, saved):
    for make, text in ((make_file, "is a file"), (os.mkdir, "a folder without zarr.json"),
                       (make_zarr, "is zarr, but no hierarchy")):  # fmt: skip
        other = path.with_name(make.__name__)
        make(other)
        with pytest.raises(HierarchyFileError, match=f"{text}.*Expected a .*aeseg.zarr folder"):
            load_hierarchy(other)


def test_a_newer_format_says_what_to_do(saved, noisy):
    def newer(header):
        header.update(format_version=2, package_version="9.0", more=[])

    rewrite(saved, newer)
    with pytest.raises(HierarchyFileError, match=r"format 2, written by napari-aeseg 9\.0; .*Upd"):
        load_hierarchy(saved)
    with pytest.raises(InputError, match="is not replaced"):
        noisy.save(saved)


def put(*keys, value):
    def change(header):
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("format_version", value=0),
        put("format_version", value=True),
        put("format_version", value="1"),
        put("axes", value=None),
        put("axes", "letters", value="CYZ"),
        put("axes", "letters", value=3),
        put("axes", "source", value="me"),
        put("axes", "shape", value=[2, 36, 41]),
        put("axes", "shape", value=[2, 36, 0]),
        put("axes", "shape", value=[2, 10**9, 10**9]),
        put("axes", "voxel_size", value=[0, 1]),
        put("params", value=[]),
        put("comparison", "balance", value=7),
        put("params", "surprise", value=1),
        put("params", "levels", value=[[]]),
        put("patches", value=10**15),
        put("patches", value=89),
        put("features", value=-1),
        put("edges", value=3),
        put("model", value=7),
        put("notes", value="text"),
        put("notes", value=[1]),
        put("checksums", value=[]),
        put("checksums", value={}),
        put("checksums", "patches", value="00"),
        lambda header: [],
        lambda header: "text",
        lambda header: {},
    ],
)
def test_a_header_that_does_not_fit_is_refused(saved, change):
    rewrite(saved, change)
    with pytest.raises(HierarchyFileError):
        load_hierarchy(saved)


def test_json_that_is_cut_off_is_refused(saved):
    file = saved / "zarr.json"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(HierarchyFileError, match=r"damaged: zarr\.json cannot be read .*Copy"):
        load_hierarchy(saved)


@pytest.mark.parametrize("name", ["patches", "statistics/mean", "graph/edges", "tree/cost"])
def test_values_that_do_not_fit_their_checksum_are_refused(saved, name):
    import zarr

    array = zarr.open_array(str(saved / name), mode="r+")
    array[0] = array[-1]
    with pytest.raises(HierarchyFileError, match=f"{name} cannot be read .*checksum"):
        load_hierarchy(saved)


def test_an_array_of_another_dtype_is_refused(saved):
    import zarr

    values = zarr.open_array(str(saved / "graph" / "border"), mode="r")[...]
    zarr.create_array(str(saved / "graph" / "border"), data=values.astype(float), overwrite=True)
    with pytest.raises(HierarchyFileError, match="it is float64 of shape"):
        load_hierarchy(saved)


@pytest.mark.parametrize("part", ["patches", "statistics", "graph/edges", "patches/c/0/0"])
def test_a_part_that_is_missing_is_refused(saved, part):
    lost = saved / part
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    with pytest.raises(HierarchyFileError, match=f"{part.split('/')[0]}.* cannot be read"):
        load_hierarchy(saved)


def test_more_than_free_memory_is_refused_with_how_much_it_is(saved, monkeypatch):
    monkeypatch.setattr(store, "free_memory", lambda: 1000)
    with pytest.raises(HierarchyFileError, match=r"GiB of memory, of which 0\.0 are free"):
        load_hierarchy(saved)


# At random


def test_random_damage_is_refused_or_harmless(path, hierarchy_of):
    tree = hierarchy_of(np.random.default_rng(0).random((2, 12, 12)), levels=[0, 1]).prepare()
    tree.save(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    rng = np.random.default_rng(0)
    refused = harmless = 0
    for number in range(200):
        file = files[number % len(files)]
        whole = file.read_bytes()
        damage(file, whole, number // len(files), rng)
        try:
            loaded = load_hierarchy(path)
        except HierarchyFileError:
            refused += 1
        else:
            harmless += 1
            if file != path / "zarr.json":  # its values have no checksum
                assert_equal_parts(loaded, tree)
        file.write_bytes(whole)
    assert_equal_parts(load_hierarchy(path), tree)
    assert refused > 160
    assert refused + harmless == 200


def damage(file, whole, kind, rng):
    """Flip a bit, put another byte, cut, lengthen or remove a file."""
    data, place = bytearray(whole), int(rng.integers(len(whole)))
    match kind % 8:
        case 0:
            file.unlink()
            return
        case 1:
            data = data[:place]
        case 2:
            data = data[:place] + bytes(rng.integers(0, 256, 5, np.uint8)) + data[place:]
        case 3:
            data[place] = int(rng.integers(256))
        case 4:
            data[place] = ord("9")
        case _:
            data[place] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)


def arrays_of(tree):
    arrays = {"patches": tree.patches, "brightness": tree.brightness, "cost": tree.tree.cost}
    arrays |= {"edges": tree.graph.edges, "border": tree.graph.border}
    return {**arrays, "children": tree.tree.children, **vars_of(tree.statistics)}


def vars_of(statistics):
    return {f.name: getattr(statistics, f.name) for f in fields(statistics)}


def assert_equal_parts(one, other):
    first, second = arrays_of(one), arrays_of(other)
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name
    assert (one.axes, one.params, one.notes) == (other.axes, other.params, other.notes)


def test_parts_of_two_hierarchies_do_not_mix(path, hierarchy_of):
    """As when a copy over an older folder was interrupted: every chunk by itself is whole."""
    rng = np.random.default_rng(0)
    for name in ("one", "other"):
        hierarchy_of(rng.random((1, 12, 12))).prepare().save(path.with_name(name))
    mixed = path.with_name("mixed")
    for part in ("brightness", "statistics/mean", "statistics/second", "tree/cost"):
        shutil.copytree(path.with_name("one"), mixed)
        shutil.rmtree(mixed / part)
        shutil.copytree(path.with_name("other") / part, mixed / part)
        with pytest.raises(HierarchyFileError, match=f"{part} cannot be read"):
            load_hierarchy(mixed)
        shutil.rmtree(mixed)


@pytest.mark.parametrize("axes", ["CYX", "YXC", "XYC"])
def test_a_hierarchy_matches_its_own_image_only(path, hierarchy_of, axes):
    image = np.random.default_rng(0).random((2, 12, 8))
    tree = hierarchy_of(image)
    order = ["CYX".index(letter) for letter in axes]
    given = image.transpose(order)
    space = tree.patches.T if axes == "XYC" else tree.patches
    tree = replace(tree, patches=space, axes=Axes(axes, given.shape, "given"))

    assert tree.matches_image(given)
    assert tree.matches_image(given.tolist())
    other = given.copy()
    other[0, 0, 0] += 1e-6
    assert not tree.matches_image(other)
    assert not tree.matches_image(given[1:])
    assert not tree.matches_image(given[..., np.newaxis])


def test_load_hierarchy_and_its_error_are_public():
    assert aeseg.load_hierarchy is load_hierarchy
    assert issubclass(HierarchyFileError, aeseg.AesegError)


# Of an image in blocks


def test_ids_on_disk_that_no_patch_has_are_refused_when_they_are_read(lazily_saved):
    import zarr

    path, tree = lazily_saved
    array = zarr.open_array(str(path / "patches"), mode="r+")
    for odd in (tree.n_patches, -2, 2**31 - 1):
        array[0, 0] = odd
        loaded = load_hierarchy(path)
        with pytest.raises(HierarchyFileError, match=r"patches cannot be read .*it has ids"):
            np.asarray(loaded.regions(2))


def test_damaged_ids_on_disk_are_a_HierarchyFileError(lazily_saved):
    path, _ = lazily_saved
    file = path / "patches" / "c" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(HierarchyFileError, match="patches cannot be read"):
        np.asarray(load_hierarchy(path).regions(2))


@pytest.fixture(scope="module")
def lazily_saved_once(tmp_path_factory, quadrants, model):
    params = aeseg.SegmentationParams(patch_size=8, patches="grid")
    blocks = aeseg.BlockParams(block_size=32)
    tree = aeseg.build_hierarchy(quadrants, model, params, device="cpu", blocks=blocks)
    path = tmp_path_factory.mktemp("saved") / "lazy.aeseg.zarr"
    tree.save(path)
    return path, tree


@pytest.fixture
def lazily_saved(path, lazily_saved_once):
    saved, tree = lazily_saved_once
    return shutil.copytree(saved, path), tree


def test_a_hierarchy_in_blocks_gives_the_same_labels(lazily_saved):
    path, tree = lazily_saved
    loaded = load_hierarchy(path)
    assert np.array_equal(np.asarray(loaded.regions(5)), np.asarray(tree.regions(5)))
    assert len(loaded.coarse) == len(tree.coarse)
    assert np.array_equal(loaded.tree.cost, tree.tree.cost)


def test_ids_on_disk_of_which_a_chunk_is_lost_are_refused(lazily_saved):
    path, _ = lazily_saved
    (path / "patches" / "c" / "0" / "0").unlink()
    with pytest.raises(HierarchyFileError, match=r"patches cannot be read .*1 chunks are missing"):
        load_hierarchy(path)


def test_a_calibration_gives_the_same_tree_and_other_numbers_are_refused(path, quadrants, model):
    params = aeseg.SegmentationParams(patch_size=4, patches="grid")
    blocks = aeseg.BlockParams(block_size=32, max_patches=40)
    tree = aeseg.build_hierarchy(quadrants, model, params, device="cpu", blocks=blocks)
    assert tree.calibration is not None
    tree.save(path)

    same = load_hierarchy(path).reweighted(balance=0.9)
    assert np.array_equal(same.tree.cost, tree.reweighted(balance=0.9).tree.cost)

    rewrite(path, put("calibration", "unit", value=0))
    with pytest.raises(HierarchyFileError, match=r"its calibration cannot be read .*unit 0"):
        load_hierarchy(path)
