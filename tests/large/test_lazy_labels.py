"""What hierarchies of blocks answer, beside the same patches in memory."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pandas as pd
import pytest

import napari_aeseg as aeseg
from napari_aeseg import samples
from napari_aeseg.regions.lazy_labels import map_to_pixels_lazily, values_by_patch
from napari_aeseg.regions.refine import Gaussians, PatchEvidence, band_of, refined
from napari_aeseg.regions.refined_chunks import RefinedChunks, refined_lazily


@pytest.fixture(scope="module")
def image():
    return samples.tissue()[:192, :256]


def built(image, **blocks):
    params = aeseg.SegmentationParams(patches="grid", patch_size=8)
    given = aeseg.BlockParams(block_size=64, **blocks)
    return aeseg.build_hierarchy(image, "base", params, device="cpu", blocks=given)


@pytest.fixture(scope="module")
def lazy(image):
    return built(image)


@pytest.fixture(scope="module")
def whole(lazy):
    """The same patches and the same tree, in memory."""
    return replace(lazy, patches=lazy.patches.compute(), evidence=lazy.evidence.compute())


@pytest.fixture(scope="module")
def holed(image):
    """Patches of an image of which a block could not be read."""
    bad = image.astype(float)
    bad[92:100, 90:100] = np.nan
    return built(da.from_array(bad, chunks=(64, 64, 3)), unreadable="skip")


@pytest.fixture
def markers(image):
    marks = np.zeros(image.shape[:2], np.int32)
    marks[20:24, 30:60] = 5
    marks[150, 200:220] = 2
    marks[66, 10:17], marks[66, 17:20] = 5, 2  # two markers in a patch
    return marks


@pytest.mark.parametrize("kind", [np.asarray, lambda m: da.from_array(m, chunks=50)])
def test_markers(lazy, whole, markers, kind):
    found = lazy.from_markers(kind(markers), refine=False)
    assert isinstance(found, da.Array)
    assert np.array_equal(found.compute(), whole.from_markers(markers, refine=False))


def test_marked_pixels_keep_their_id_where_borders_follow_the_pixels(lazy, markers):
    markers[:] = 0
    for k, (y, x) in enumerate(np.random.default_rng(0).integers(0, (180, 240), (30, 2)), 1):
        markers[y : y + 2, x : x + 12] = k
    labels = lazy.from_markers(markers).compute()
    assert np.array_equal(labels[markers > 0], markers[markers > 0])


def test_only_parts_with_markers_are_computed(lazy, markers):
    looked = []

    def watched(chunk, block_info=None):
        if block_info:
            looked.append(block_info[0]["chunk-location"])
        return chunk

    patches = lazy.patches.map_blocks(watched, dtype=np.int32)
    replace(lazy, patches=patches).marker_of_patch(markers)
    assert set(looked) == {(0, 0), (2, 3), (1, 0)}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m[:10], "shape"),
        (lambda m: m / 2, "dtype"),
        (lambda m: m * 0, "no marker"),
        (lambda m: -m, "from -5"),
    ],
)
def test_markers_that_cannot_be_used_are_refused(lazy, markers, change, match):
    with pytest.raises(aeseg.InputError, match=match):
        lazy.from_markers(da.from_array(change(markers), chunks=64), refine=False)


def test_marks_where_there_is_no_patch_keep_their_id(holed, markers):
    markers[80, 80:90] = 7
    labels = holed.from_markers(markers, refine=False).compute()
    assert (labels[80, 80:90] == 7).all()
    assert (labels[70:74, 70:74] == 0).all()
    only = np.zeros_like(markers)
    only[80, 80] = 1
    with pytest.raises(aeseg.InputError, match="could not be read"):
        holed.from_markers(only, refine=False)


@pytest.mark.parametrize(
    "cut",
    [
        aeseg.Cut(n_regions=6),
        aeseg.Cut(threshold=0.3),
        aeseg.Cut("classes", n_classes=3),
        aeseg.Cut("regions", n_regions=6, edits=(aeseg.Merge((0, 40)), aeseg.Split(0))),
        aeseg.Cut("markers", edits=(aeseg.Merge((83, 620)),)),
    ],
    ids=["regions", "threshold", "classes", "edited", "markers edited"],
)
def test_cuts(lazy, whole, markers, cut):
    found, expected = (cut.labels(tree, markers=markers) for tree in (lazy, whole))
    assert np.array_equal(found.compute(), expected)
    assert cut.title(lazy) == cut.title(whole)
    assert cut.record(lazy) == cut.record(whole)


def test_classes_of_another_image(lazy, whole, image):
    prototypes = built(image[::-1]).prototypes(3)
    found, expected = (tree.classes(prototypes=prototypes, refine=False) for tree in (lazy, whole))
    assert np.array_equal(found.compute(), expected)


def test_tables_are_made_without_a_pixel(lazy, whole, monkeypatch):
    expected = whole.table(
        whole.regions(9, refine=False), whole.classes(3, refine=False), (0.5, 0.5), "micrometre"
    )
    labels, classes = lazy.regions(9, refine=False), lazy.classes(3, refine=False)

    def refuse(*_, **__):
        raise AssertionError("pixels are computed")

    monkeypatch.setattr(da.Array, "compute", refuse)
    monkeypatch.setattr(da.Array, "__array__", refuse)
    found = lazy.table(labels, classes, (0.5, 0.5), "micrometre")
    pd.testing.assert_frame_equal(found, expected)
    by_patch = lazy.table(lazy.region_of_patch(9), lazy.class_of_patch(3), (0.5, 0.5), "micrometre")
    pd.testing.assert_frame_equal(by_patch, expected)
    again = lazy.reweighted(balance=0.9)
    assert len(again.table(again.regions(4, refine=False))) == 4
    assert len(again.table(labels)) == 9  # the patches are the same


def test_what_is_not_known_by_patch_is_refused(lazy, whole, markers):
    for labels in (whole.regions(9, refine=False), lazy.regions(9, refine=False) + 1):
        with pytest.raises(aeseg.InputError, match=r"measured by patch.*Cut\.of_patch"):
            lazy.table(labels)
    with pytest.raises(aeseg.InputError, match="The classes"):
        lazy.table(lazy.regions(9, refine=False), whole.classes(3, refine=False))
    with pytest.raises(aeseg.InputError, match="error: images in blocks"):
        lazy.table(lazy.regions(9, refine=False), error=whole.border_strength())
    with pytest.raises(aeseg.InputError, match="measured by patch"):
        lazy.merge_height(lazy.from_markers(markers, refine=False))


def test_labels_of_other_patches_are_refused(lazy, image):
    with pytest.raises(aeseg.InputError, match="measured by patch"):
        lazy.table(built(image[::-1]).regions(9, refine=False))


def test_what_labels_are_known_by_goes_with_them(lazy):
    from napari_aeseg.regions import lazy_labels as painting

    before = len(painting._VALUES)
    labels = lazy.regions(113, refine=False)
    assert len(painting._VALUES) == before + 1
    del labels
    assert len(painting._VALUES) == before


def test_maps_to_look_at(lazy, whole, holed):
    assert np.array_equal(lazy.border_strength().compute(), whole.border_strength())
    assert np.array_equal(lazy.merge_height().compute(), whole.merge_height())
    found, expected = (tree.merge_height(tree.regions(7, refine=False)) for tree in (lazy, whole))
    assert np.array_equal(found.compute(), expected)
    assert np.array_equal(lazy.feature_colors().compute(), whole.feature_colors())
    assert (holed.border_strength()[66:126, 66:126].compute() == 0).all()
    assert (holed.merge_height()[66:126, 66:126].compute() == 0).all()


def test_labels_can_be_sent_to_another_process(lazy):
    import pickle

    labels = lazy.regions(5, refine=False)
    assert np.array_equal(pickle.loads(pickle.dumps(labels)).compute(), labels.compute())


def test_names_tell_values_apart(lazy):
    values = np.full(lazy.n_patches, 1), np.full(lazy.n_patches, 1), np.full(lazy.n_patches, 2)
    one, same, other = (map_to_pixels_lazily(lazy.patches, value) for value in values)
    assert one.name == same.name != other.name
    assert values_by_patch(other, lazy.patches)[0] == 2


def test_refined_chunks_have_no_seams_whatever_their_size():
    rng = np.random.default_rng(0)
    y, x = np.indices((48, 40))
    patches = np.kron(np.arange(48 * 40).reshape(48, 40), np.ones((8, 8), np.int32))
    of_patch = (1 + (y + 9 * np.sin(x / 7) > 24) + 2 * (x > 20)).ravel().astype(np.int32)
    of_patch[rng.random(len(of_patch)) < 0.1] = 4
    evidence = rng.normal(size=(192, 160, 3)) * 20
    moved = np.roll(patches, (3, 5), axis=(0, 1))[::2, ::2]  # borders are beside those of patches
    evidence += 40 * rng.normal(size=(5, 3))[of_patch[moved]]
    evidence = evidence.clip(-127, 127).astype(np.int8)
    band, count = band_of((8, 8)), np.full(len(of_patch), 64.0)
    in_patches = PatchEvidence.of(patches, evidence, len(of_patch))
    gaussians = Gaussians.of_patches(of_patch, count, in_patches)
    expected = refined(of_patch[patches], evidence, band, gaussians=gaussians, channels=1)
    assert (expected != of_patch[patches]).mean() > 0.01
    for side in (96, 104):
        labels = map_to_pixels_lazily(da.from_array(patches, chunks=side), of_patch)
        in_chunks = da.from_array(evidence, chunks=(70, 50, 3))
        found = refined_lazily(labels, in_chunks, gaussians, band, 1, 1)
        assert found.chunks == labels.chunks
        assert np.array_equal(found[100:200, 60:200].compute(), expected[100:200, 60:200])
        some = RefinedChunks(labels, found).and_those_in((slice(100, 200), slice(60, 200)))
        assert some.has((slice(100, 200), slice(60, 200)))
        assert not some.has((slice(100, 300), slice(60, 200)))
        assert np.array_equal(some.array[100:200, 60:200].compute(), expected[100:200, 60:200])
        assert np.array_equal(some.array[300:].compute(), labels[300:].compute())


@pytest.mark.parametrize("mode", ["regions", "classes", "markers"])
def test_refined_labels_are_those_of_the_whole_image(lazy, whole, markers, mode):
    cut = aeseg.Cut(mode, 6 if mode == "regions" else None, n_classes=2)
    of_patch = cut.of_patch(lazy, markers=markers)
    in_patches = lazy.evidence_of_patches
    gaussians = Gaussians.of_patches(of_patch, lazy.statistics.count, in_patches)
    labels = whole.map_to_pixels(of_patch)
    channels = whole.statistics.intensity.shape[1]
    expected = refined(
        labels, whole.evidence, lazy.border_band, gaussians=gaussians, channels=channels
    )
    assert (expected != labels).any()
    if mode == "markers":
        expected[markers > 0] = markers[markers > 0]
    found = cut.labels(lazy, markers=markers)
    assert isinstance(found, da.Array)
    assert np.array_equal(found.compute(), expected)
    assert len(lazy.table(lazy.refined(lazy.regions(6, refine=False)))) == 6


def test_refined_labels_of_a_saved_hierarchy_are_the_same(lazy, tmp_path):
    lazy.save(tmp_path / "a.aeseg.zarr")
    loaded = aeseg.load_hierarchy(tmp_path / "a.aeseg.zarr")
    assert np.array_equal(loaded.regions(6).compute(), lazy.regions(6).compute())
