"""Images worked on in blocks: no seams, nothing lost, nothing loaded whole."""

from itertools import permutations

import dask.array as da
import numpy as np
import pytest
import random_images
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_aeseg as aeseg
from napari_aeseg import samples
from napari_aeseg.api import hierarchy_steps
from napari_aeseg.large import build as building
from napari_aeseg.large.build import needs_blocks

MODEL = random_images.any_model()  # all but the textures do without what "base" has learnt
GRID = aeseg.SegmentationParams(patches="grid", patch_size=8)


@pytest.fixture(scope="module")
def image():
    return samples.tissue()[:192, :256]


def built(image, size=64, params=GRID, model=MODEL, axes=None, **more):
    blocks = {name: more.pop(name) for name in ("max_patches", "unreadable") if name in more}
    more["blocks"] = aeseg.BlockParams(block_size=size, **blocks)
    return aeseg.build_hierarchy(image, model, params, axes, "cpu", **more)


@pytest.fixture(scope="module")
def blocks(image):
    """The image in blocks of 64 pixels."""
    return built(image)


def partition(labels):
    """Labels renamed in the order in which they occur."""
    _, first, which = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which].reshape(labels.shape)


@pytest.fixture(scope="module")
def one_block(image):
    return built(image, 4096)


@pytest.mark.parametrize("size", [40, 64])
def test_blocks_have_no_seams(image, one_block, blocks, size):
    tree = blocks if size == 64 else built(image, size)
    assert np.array_equal(tree.statistics.mean, one_block.statistics.mean)
    assert np.array_equal(tree.graph.edges, one_block.graph.edges)
    assert np.array_equal(tree.graph.border, one_block.graph.border)
    for number in (2, 7, 40, 500):
        assert np.array_equal(
            partition(tree.regions(n_regions=number, refine=False)),
            partition(one_block.regions(number, refine=False)),
        )
    assert np.array_equal(
        tree.classes(3, refine=False).compute(), one_block.classes(3, refine=False).compute()
    )
    for balance, scale in ((0.2, 1.0), (0.8, 16.0)):
        a, b = (
            t.reweighted(balance, scale).regions(n_regions=9, refine=False)
            for t in (tree, one_block)
        )
        assert np.array_equal(partition(a), partition(b))


def test_one_block_is_what_is_found_without_blocks(image, one_block):
    # But for the illumination, which is looked at in whole images only.
    whole = aeseg.build_hierarchy(image, MODEL, GRID, device="cpu")
    assert not whole.notes
    assert np.array_equal(whole.patches, one_block.patches.compute())
    for number in (2, 7, 40, 500):
        assert np.array_equal(
            partition(whole.regions(n_regions=number, refine=False)),
            partition(one_block.regions(number, refine=False)),
        )


@pytest.mark.parametrize("axes", ["YXC", "CYX", "XYC"])
def test_labels_lie_as_the_image_does(image, one_block, axes):
    moved = image.transpose([{"Y": 0, "X": 1, "C": 2}[a] for a in axes])
    labels = built(moved, axes=axes).regions(n_regions=9, refine=False)
    if axes == "XYC":
        labels = labels.T
    assert np.array_equal(
        partition(labels), partition(one_block.regions(n_regions=9, refine=False))
    )


def test_volumes_have_no_seams_either():
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 1, (20, 64, 72)) + 4 * (np.indices((20, 64, 72))[2] > 30)
    one, many = (built(volume, size) for size in (4096, 32))
    assert many.axes.letters == "ZYX"
    # 20 slices are three patches deep as a whole, and a block of 8 or 16 slices as well.
    assert np.array_equal(
        partition(one.regions(n_regions=2, refine=False)),
        partition(many.regions(n_regions=2, refine=False)),
    )


@pytest.mark.parametrize("z_levels", [0, 1])
def test_volumes_have_no_seams_in_3d_either(make_model, z_levels):
    model = make_model(1, 2, 2, dimensions=3, z_levels=z_levels)
    volume = np.random.default_rng(0).random((40, 48, 40)) + (np.indices((40, 48, 40))[2] > 20)
    one, many = (built(volume, size, model=model) for size in (4096, 32))
    found, expected = (t.statistics for t in (many, one))
    assert len(found.count) == len(expected.count) == 5 * 6 * 5
    # Cut into blocks, patches are numbered otherwise.
    here, there = (np.lexsort(s.centroid.T.round(3)) for s in (found, expected))
    assert np.array_equal(found.count[here], expected.count[there])
    off = np.abs(found.mean[here] - expected.mean[there])
    assert off.max() <= 1e-5 * np.abs(expected.mean).max()


def test_a_plane_is_refused_by_a_model_of_volumes(make_model, image):
    with pytest.raises(aeseg.InputError, match="has no slices"):
        built(image[..., 0], model=make_model(dimensions=3))


def test_watershed_patches_do_not_cross_blocks(image):
    tree = built(image, 64, params=aeseg.SegmentationParams())
    ids = tree.patches.compute()
    for y in range(0, 192, 64):
        for x in range(0, 256, 64):
            inside = np.unique(ids[y : y + 64, x : x + 64])
            outside = ids.copy()
            outside[y : y + 64, x : x + 64] = -1
            assert not np.isin(inside, outside).any()
    assert sorted(np.unique(ids)) == list(range(tree.n_patches))


def test_labels_are_computed_where_they_are_looked_at(image, blocks):
    labels = blocks.regions(n_regions=6, refine=False)
    assert isinstance(labels, da.Array)
    assert labels.dtype == np.int32
    assert labels.shape == image.shape[:2]
    assert np.array_equal(labels[70:90, 5:250].compute(), labels.compute()[70:90, 5:250])


class Watched:
    """An array that notes how much of it was read at once."""

    def __init__(self, array):
        self.array, self.most = array, 0
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index):
        found = self.array[index]
        self.most = max(self.most, found.size)
        return found


def test_a_lazy_image_is_never_read_whole():
    rng = np.random.default_rng(0)
    watched = Watched(rng.integers(0, 4000, (500, 600)).astype(np.uint16))
    image = da.from_array(watched, chunks=(100, 100))
    tree = built(image, 128, params=aeseg.SegmentationParams(patch_size=16))
    tree.regions(n_regions=5, refine=False)[:50, :50].compute()
    assert 0 < watched.most <= 100 * 100


def test_large_lazy_images_are_worked_on_in_blocks_by_themselves():
    assert needs_blocks(da.zeros((4096, 4096), chunks=512))
    assert not needs_blocks(da.zeros((512, 512), chunks=512))
    assert not needs_blocks(np.zeros((600, 600)))
    huge = np.broadcast_to(np.float32(0), (2**20, 2**20))
    assert needs_blocks(huge)


def test_patches_beyond_the_most_are_joined_within_blocks(image):
    params = aeseg.SegmentationParams(patch_size=4)
    tree = built(image, 64, params=params, max_patches=240)
    assert 180 <= tree.n_patches <= 240
    whole = aeseg.build_hierarchy(image, MODEL, params, device="cpu")
    np.testing.assert_allclose(
        np.average(tree.statistics.mean, axis=0, weights=tree.statistics.count),
        np.average(whole.statistics.mean, axis=0, weights=whole.statistics.count),
        atol=2e-2,
    )
    ids = tree.patches.compute()
    assert np.array_equal(np.bincount(ids.ravel()), tree.statistics.count)
    # Joined patches follow the image: brightness varies less within them than within squares.
    grey = image.mean(axis=2)
    square = np.arange(192 * 256).reshape(192, 256) // (256 * 16) * 16 + np.arange(256) // 16

    def within(labels):
        count = np.bincount(labels.ravel())
        mean = np.bincount(labels.ravel(), grey.ravel()) / count
        return ((grey - mean[labels]) ** 2).mean()

    assert within(ids) < 0.8 * within(square)


def test_textures_are_told_apart_by_few_large_patches_too(tmp_path):
    image, truth = samples.textures(1), samples.textures_truth(1)
    given = {"comparison": aeseg.ComparisonParams(scale=16), "max_patches": image.size // 1500}
    given |= {"model": "base", "store": tmp_path / "blocks"}
    tree = built(image, 192, **given)
    assert tree.n_patches <= 98
    assert tree.calibration.scale == 16
    classes = np.asarray(tree.classes(3, refine=False))
    table = np.array(
        [[np.sum((truth == t) & (classes == c)) for c in (1, 2, 3)] for t in (1, 2, 3)]
    )
    assert max(sum(table[i, p[i]] for i in range(3)) for p in permutations(range(3))) > 0.8 * 384**2
    again = built(image, 192, **given)
    assert np.array_equal(np.asarray(again.classes(3, refine=False)), classes)
    tree.save(tmp_path / "tree.aeseg.zarr")
    loaded = aeseg.load_hierarchy(tmp_path / "tree.aeseg.zarr")
    assert loaded.calibration.numbers() == tree.calibration.numbers()
    for a, b in ((loaded, tree), (loaded.reweighted(balance=0.9), tree.reweighted(balance=0.9))):
        assert np.array_equal(
            np.asarray(a.classes(3, refine=False)), np.asarray(b.classes(3, refine=False))
        )
    assert np.array_equal(
        np.asarray(loaded.regions(9, refine=False)), np.asarray(tree.regions(9, refine=False))
    )


def test_a_part_that_cannot_be_read_is_named(image, tmp_path):
    def broken(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][:2] == (1, 2):
            raise OSError("tile-7.tif: unexpected end of file")
        return block

    lazy = da.from_array(image, chunks=(64, 64, 3)).map_blocks(broken, dtype=image.dtype)
    with pytest.raises(aeseg.InputError, match=r"Y \d+ to \d+, X \d+ to \d+ .*tile-7.tif"):
        built(lazy)


def test_parts_that_cannot_be_read_are_left_out_if_asked(image):
    bad = image.astype(float)
    bad[92:100, 154:166] = np.nan  # in the middle of a block: no other one reads it
    lazy = da.from_array(bad, chunks=(64, 64, 3))
    with pytest.raises(aeseg.InputError, match="NaN"):
        built(lazy)
    tree = built(lazy, unreadable="skip")
    labels = tree.regions(n_regions=6, refine=False).compute()
    left_out = np.zeros(labels.shape, bool)
    left_out[64:128, 128:192] = True
    assert np.array_equal(labels == 0, left_out)
    assert set(np.unique(labels)) == set(range(7))
    assert len(tree.notes) == 1
    assert "Y 64 to 128, X 128 to 192" in tree.notes[0]
    assert "left out" in tree.notes[0]
    assert tree.matches_image(bad)
    assert not tree.matches_image(bad + 1)


def test_blocks_beside_a_part_that_cannot_be_read_are_not_left_out(image):
    bad = image.astype(float)
    bad[64:128, 128:192] = np.nan  # a whole block, within reach of the eight around it
    tree = built(da.from_array(bad, chunks=(64, 64, 3)), unreadable="skip")
    left_out = np.zeros(image.shape[:2], bool)
    left_out[64:128, 128:192] = True
    assert np.array_equal(tree.regions(n_regions=6, refine=False).compute() == 0, left_out)
    assert len(tree.notes) == 1


@pytest.mark.parametrize("given", [np.asarray, lambda image: da.from_array(image, chunks=64)])
def test_a_hierarchy_of_blocks_knows_its_image(image, blocks, given):
    assert blocks.matches_image(given(image))
    assert not blocks.matches_image(given(image[::-1]))
    assert not blocks.matches_image(given(image[:-1]))


def test_a_hierarchy_of_volumes_in_time_knows_its_image():
    movie = np.random.default_rng(0).random((3, 2, 20, 40, 48)).astype(np.float32)
    tree = built(movie, 32, axes="TCZYX")
    assert tree.matches_image(movie)
    assert not tree.matches_image(movie[:, ::-1])


def test_an_image_of_which_nothing_can_be_read_is_refused():
    nothing = da.full((128, 128), np.nan, chunks=(64, 64))
    with pytest.raises(aeseg.InputError, match="NaN"):
        built(nothing, unreadable="skip")


def test_work_goes_on_when_a_part_can_be_read_again(image, tmp_path):
    """Intensities were others then, and the folder was refused as that of another image."""
    ill = {"yes": True}

    def read(block):
        if ill["yes"] and block.shape[0] == 64:  # all but what dask asks for the type
            raise OSError("the share is away")
        return block

    chunks = da.from_array(image, chunks=(64, 64, 3))
    lazy = da.concatenate([chunks[:64].map_blocks(read, dtype=image.dtype), chunks[64:]])
    first = built(lazy, store=tmp_path / "s", unreadable="skip")
    assert len(first.notes) == 4
    ill["yes"] = False
    again = built(lazy, store=tmp_path / "s", unreadable="skip")
    assert again.notes == ()
    assert (again.regions(n_regions=6, refine=False).compute() > 0).all()
    with pytest.raises(aeseg.InputError, match="different run"):
        built(lazy // 2, store=tmp_path / "s", unreadable="skip")
    with pytest.raises(aeseg.InputError, match="other pixels"):
        built(lazy[:, ::-1], store=tmp_path / "s", unreadable="skip")


@pytest.mark.parametrize("other", ["mirrored", "mended"])
def test_blocks_of_another_image_are_not_taken_for_those_of_this_one(image, tmp_path, other):
    """Pixels whose percentiles are the same got the labels of the other image, without a word."""
    built(image, store=tmp_path / "s")
    changed = image[::-1] if other == "mirrored" else image.copy()
    if other == "mended":
        changed[100:130, 100:130] = changed[100:130, 100:130][::-1].copy()
    with pytest.raises(aeseg.InputError, match="of an image with other pixels"):
        built(changed, store=tmp_path / "s")
    lazy = da.from_array(image, chunks=(64, 64, 3))
    assert built(lazy, store=tmp_path / "s").n_patches > 1


def test_reading_here_and_there_can_be_stopped(image):
    class Third:
        """Says stop at the third look."""

        looks = 0

        def is_set(self):
            Third.looks += 1
            return Third.looks == 3

    with pytest.raises(aeseg.StoppedError):
        built(image, stop=Third())
    assert Third.looks == 3


def test_a_row_that_is_missing_does_not_part_the_tree(image):
    bad = image.astype(float)
    bad[90:100] = np.nan
    tree = built(da.from_array(bad, chunks=(64, 64, 3)), unreadable="skip")
    assert len(tree.tree.cost) == tree.n_patches - 1
    assert len(np.unique(tree.regions(n_regions=1, refine=False)[:60].compute())) == 1


def test_work_that_was_stopped_goes_on(image, blocks, tmp_path):
    class Later:
        """Says stop after a few looks."""

        def __init__(self, looks):
            self.looks = looks

        def is_set(self):
            self.looks -= 1
            return self.looks < 0

    store = tmp_path / "blocks"
    with pytest.raises(aeseg.StoppedError):
        built(image, store=store, stop=Later(60))
    done = list((store / "blocks").glob("*.npz"))
    assert 0 < len(done) < 12
    before = {f: f.stat().st_mtime_ns for f in done}
    tree = built(image, store=store)
    assert {f: f.stat().st_mtime_ns for f in done} == before
    expected = blocks
    assert np.array_equal(tree.patches.compute(), expected.patches.compute())
    assert np.array_equal(tree.statistics.mean, expected.statistics.mean)
    assert np.array_equal(
        tree.regions(n_regions=9, refine=False).compute(),
        expected.regions(n_regions=9, refine=False).compute(),
    )


def test_a_folder_of_other_work_is_refused(image, tmp_path):
    store = tmp_path / "blocks"
    built(image[:64, :64], store=store)
    with pytest.raises(aeseg.InputError, match=r"image: \[3, 64, 64\] saved, \[3, 64, 128\] now"):
        built(image[:64, :128], store=store)
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("precious")
    with pytest.raises(aeseg.InputError, match="not empty"):
        built(image[:64, :64], store=other)
    assert (other / "notes.txt").read_text() == "precious"


def test_a_temporary_folder_lives_as_long_as_the_labels(image, monkeypatch, tmp_path):
    import gc
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tree = built(image)
    labels = tree.regions(n_regions=4, refine=False)
    del tree
    gc.collect()
    assert len(np.unique(labels.compute())) == 4
    del labels
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_zarr_arrays_are_read_as_they_are(image, one_block, tmp_path):
    stored = zarr.create_array(
        store=str(tmp_path / "image.zarr"), shape=image.shape, dtype=image.dtype, chunks=(50, 70, 3)
    )
    stored[:] = image
    tree = built(stored)
    assert np.array_equal(
        partition(tree.regions(n_regions=7, refine=False)),
        partition(one_block.regions(n_regions=7, refine=False)),
    )


@settings(deadline=None, max_examples=8)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.integers(32, 64),
    seed=st.integers(0, 99),
)
def test_any_size_of_image_is_labelled_everywhere(height, width, size, seed):
    image = np.random.default_rng(seed).normal(size=(height, width))
    tree = built(image, size, params=aeseg.SegmentationParams(patch_size=8))
    labels = tree.regions(n_regions=min(3, tree.n_patches), refine=False).compute()
    assert labels.shape == image.shape
    assert np.array_equal(np.unique(labels), np.arange(1, min(3, tree.n_patches) + 1))


def test_objects_are_found_and_those_of_classes_lie_in_these(image):
    tree = built(image[:128, :128])
    labels = tree.objects()
    assert labels.dtype == np.int32
    assert labels.shape == np.asarray(labels).shape == tree.axes.space_shape
    inside = np.asarray(tree.objects(class_ids=1, n_classes=2)) > 0
    assert inside.any()
    assert (np.asarray(tree.classes(2, refine=True))[inside] == 1).all()


@pytest.fixture(scope="module")
def wide():
    """A hierarchy that a viewer would look at from afar."""
    image = np.random.default_rng(0).normal(size=(300, 2100))
    return built(image, 512, params=aeseg.SegmentationParams(patch_size=32))


def test_every_second_row_and_column_is_there_to_look_at_from_afar(wide):
    ids = wide.patches.compute()
    assert [level.shape for level in wide.coarse] == [(150, 1050), (75, 525)]
    for step, level in zip((2, 4), wide.coarse, strict=True):
        assert np.array_equal(level.compute(), ids[::step, ::step])
    labels = wide.map_to_pyramid(wide.region_of_patch(7))
    assert np.array_equal(labels[2].compute(), labels[0].compute()[::4, ::4])


def test_a_hierarchy_is_saved_and_goes_on_tomorrow(wide, tmp_path):
    tree = wide
    path = tmp_path / "slide.aeseg.zarr"
    tree.save(path)
    again = aeseg.load_hierarchy(path)
    assert isinstance(again.patches, da.Array)
    assert len(again.coarse) == 2
    for number in (2, 9):
        assert np.array_equal(
            again.regions(n_regions=number, refine=False).compute(),
            tree.regions(n_regions=number, refine=False).compute(),
        )
    for level, other in zip(again.coarse, tree.coarse, strict=True):
        assert np.array_equal(level.compute(), other.compute())
    other = tree.reweighted(balance=0.8, scale=16.0)
    assert np.array_equal(
        again.reweighted(balance=0.8, scale=16.0).classes(2, refine=False).compute(),
        other.classes(2, refine=False).compute(),
    )


def test_a_saved_part_that_is_damaged_is_noticed_when_it_is_looked_at(blocks, tmp_path):
    path = tmp_path / "slide.aeseg.zarr"
    blocks.save(path)
    chunk = max((path / "patches" / "c").rglob("*"), key=lambda f: f.stat().st_size * f.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 0xFF
    chunk.write_bytes(content)
    labels = aeseg.load_hierarchy(path).regions(n_regions=3, refine=False)
    with pytest.raises(aeseg.HierarchyFileError, match=r"damaged.*checksum"):
        labels.compute()
    chunk.unlink()
    with pytest.raises(aeseg.HierarchyFileError, match="missing"):
        aeseg.load_hierarchy(path)


def test_a_temporary_folder_goes_when_the_work_does_not_end(image, monkeypatch, tmp_path):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bad = image.astype(float)
    bad[92:100, 154:166] = np.nan
    with pytest.raises(aeseg.InputError, match="NaN"):
        built(da.from_array(bad, chunks=64))
    steps = hierarchy_steps(image, MODEL, GRID, blocks=aeseg.BlockParams(block_size=64))
    for event in steps:
        if event.stage == "encode":
            break
    assert list(tmp_path.iterdir())
    steps.close()
    assert not list(tmp_path.iterdir())


def test_work_goes_on_with_its_blocks_whatever_memory_is_free_by_then(image, monkeypatch, tmp_path):
    monkeypatch.setattr(building, "free_memory", lambda: 2**40)
    first = built(image, "auto", store=tmp_path / "blocks")
    monkeypatch.setattr(building, "free_memory", lambda: 2**20)
    monkeypatch.setattr(building, "_MIN_BLOCK_PIXELS", 2**12)
    again = built(image, "auto", store=tmp_path / "blocks")
    assert again.patches.chunks == first.patches.chunks
    with pytest.raises(aeseg.InputError, match="block"):
        built(image, 64, store=tmp_path / "blocks")


@pytest.mark.parametrize("axes", ["YXC", "XYC", "CXY"])
def test_places_are_those_of_the_labels(image, axes):
    moved = image[:, :200].transpose([{"Y": 0, "X": 1, "C": 2}[a] for a in axes])
    trees = [
        aeseg.build_hierarchy(moved, MODEL, GRID, axes, "cpu", blocks=blocks)
        for blocks in (None, aeseg.BlockParams(block_size=64))
    ]
    whole, lazy = (tree.table(tree.classes(2, refine=False)) for tree in trees)
    for name in ("centroid_y", "centroid_x", "area"):
        np.testing.assert_allclose(lazy[name], whole[name], rtol=1e-6)


def test_parts_that_cannot_be_read_do_not_keep_patches_from_being_joined(image):
    bad = np.tile(image.astype(float), (2, 2, 1))
    bad[200:330, 200:400] = np.nan  # where parts are looked at before
    tree = built(da.from_array(bad, chunks=(64, 64, 3)), unreadable="skip", max_patches=300)
    assert tree.n_patches <= 300
    assert tree.notes


def test_an_image_that_would_take_weeks_is_refused_before_any_work():
    promised = da.zeros((10**9, 10**9), dtype=np.uint8, chunks=10**8)
    with pytest.raises(aeseg.InputError, match=r"blocks of .*1,000,000 are the most"):
        aeseg.build_hierarchy(promised, MODEL, axes="YX", device="cpu")
