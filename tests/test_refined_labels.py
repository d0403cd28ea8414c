"""Borders that follow the pixels, and the smallest size, from the image to the labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import napari_aeseg as aeseg
from napari_aeseg.errors import InputError
from napari_aeseg.samples import SAMPLES


@pytest.fixture(scope="module")
def tree():
    return aeseg.build_hierarchy(SAMPLES["textures"]()[:200, :216], "base", device="cpu")


@pytest.fixture(scope="module")
def markers(tree):
    markers = np.zeros(tree.patches.shape, np.int32)
    markers[5:9, 5:60], markers[-9:-5, -60:-5] = 3, 7
    markers[100, 100:140] = 9  # thinner than a patch
    return markers


def test_unrefined_labels_are_those_of_the_patches(tree, markers):
    unions = tree.map_to_pixels
    assert np.array_equal(tree.regions(9, refine=False), unions(tree.region_of_patch(9)))
    assert np.array_equal(tree.classes(3, refine=False), unions(tree.class_of_patch(3)))
    coarse = tree.from_markers(markers, refine=False)
    assert np.array_equal(coarse[markers == 0], unions(tree.marker_of_patch(markers))[markers == 0])


def test_refined_regions_are_as_many_and_connected(tree):
    for n_regions in (2, 9, 40):
        labels = tree.regions(n_regions)
        assert labels.dtype == np.int32
        assert np.array_equal(np.unique(labels), np.arange(1, n_regions + 1))
        assert all(ndimage.label(labels == k)[1] == 1 for k in range(1, n_regions + 1))
        assert (labels != tree.regions(n_regions, refine=False)).any()


def test_marked_pixels_keep_their_id_and_every_marker_is_there(tree, markers):
    labels = tree.from_markers(markers)
    assert np.array_equal(labels[markers > 0], markers[markers > 0])
    assert np.unique(labels).tolist() == [3, 7, 9]


def test_a_cut_its_record_and_the_call_give_the_same_labels(tree, markers):
    for cut in (aeseg.Cut(n_regions=9), aeseg.Cut("classes", n_classes=2), aeseg.Cut("markers")):
        for refine in (True, False):
            chosen = replace(cut, refine=refine)
            labels = chosen.labels(tree, markers=markers)
            again = aeseg.Cut.from_record(chosen.record(tree)).labels(tree, markers=markers)
            assert np.array_equal(labels, again)
            calls = {
                "regions": lambda refine: tree.regions(9, refine=refine),
                "classes": lambda refine: tree.classes(2, refine=refine),
                "markers": lambda refine: tree.from_markers(markers, refine=refine),
            }
            assert np.array_equal(labels, calls[cut.mode](refine))


def test_records_of_older_versions_give_labels_of_patches(tree):
    record = aeseg.Cut(n_regions=9).record(tree)
    del record["refine"]
    labels = aeseg.Cut.from_record(record).labels(tree)
    assert np.array_equal(labels, tree.regions(9, refine=False))


def test_edits_are_refined_too(tree):
    patches = (int(tree.patches[0, 0]), int(tree.patches[-1, -1]))
    edited = aeseg.Cut(n_regions=9, edits=(aeseg.Merge(patches),))
    labels = edited.labels(tree)
    assert len(np.unique(labels)) == 8
    assert labels[0, 0] == labels[-1, -1]
    assert (labels != replace(edited, refine=False).labels(tree)).any()


def test_a_saved_hierarchy_gives_the_same_refined_labels(tree, tmp_path):
    tree.save(tmp_path / "a.aeseg.zarr")
    loaded = aeseg.load_hierarchy(tmp_path / "a.aeseg.zarr")
    assert np.array_equal(loaded.evidence, tree.evidence)
    assert np.array_equal(loaded.regions(9), tree.regions(9))


def test_without_evidence_labels_are_those_of_the_patches(tree, tmp_path):
    plain = replace(tree, evidence=None)
    plain.save(tmp_path / "a.aeseg.zarr")
    loaded = aeseg.load_hierarchy(tmp_path / "a.aeseg.zarr")
    assert loaded.evidence is None
    assert np.array_equal(loaded.regions(9), tree.regions(9, refine=False))


def test_tables_of_refined_labels_have_all_columns(tree):
    table = tree.table(tree.regions(9))
    assert table["area"].sum() == tree.patches.size
    assert table[["border_strength", "merge_height"]].notna().all().all()


def test_frames_and_volumes_are_refined():
    image = np.stack([SAMPLES["textures"]()[:96, :96]] * 3)
    for axes in ("TYX", "ZYX"):
        tree = aeseg.build_hierarchy(image, "base", axes=axes, device="cpu")
        labels, coarse = tree.regions(4), tree.regions(4, refine=False)
        assert (labels != coarse).any()
        assert np.array_equal(np.unique(labels), np.arange(1, 5))
        assert all(ndimage.label(labels == k)[1] == 1 for k in range(1, 5))


def smallest_piece(labels):
    return min(
        np.bincount(ndimage.label(labels == k)[0].ravel())[1:].min() for k in np.unique(labels)
    )


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("min_size", [400, 1500])
def test_the_smallest_size_holds_for_refined_labels(tree, min_size, refine):
    assert smallest_piece(tree.regions(40, refine=refine)) < min_size
    regions = tree.regions(9, min_size=min_size, refine=refine)
    assert np.array_equal(np.unique(regions), np.arange(1, 10))
    assert smallest_piece(regions) >= min_size
    all_regions = tree.regions(tree.n_patches, min_size=min_size, refine=refine)
    assert all_regions.max() == tree.max_regions(min_size) < tree.n_patches
    assert smallest_piece(all_regions) >= min_size
    assert smallest_piece(tree.classes(12, refine=refine)) < min_size
    assert smallest_piece(tree.classes(12, min_size=min_size, refine=refine)) >= min_size


def test_thresholds_and_numbers_agree(tree):
    for number in (1, 2, 7, tree.max_regions(500)):
        threshold = tree.threshold_at(number, 500)
        assert tree.n_regions_at(threshold, 500) == number
        assert np.array_equal(
            tree.regions(number, min_size=500), tree.regions(threshold=threshold, min_size=500)
        )


@pytest.mark.parametrize("mode", ["regions", "classes"])
def test_a_cut_and_its_record_have_the_smallest_size(tree, mode):
    cut = aeseg.Cut(mode, n_regions=500 if mode == "regions" else None, min_size=900)
    labels = cut.labels(tree)
    assert smallest_piece(labels) >= 900
    record = cut.record(tree)
    assert np.array_equal(aeseg.Cut.from_record(record).labels(tree), labels)
    assert record["min_size"] == 900


@pytest.mark.parametrize("min_size", [0, 2.5, "3", True])
def test_a_size_out_of_range_is_refused(tree, min_size):
    with pytest.raises(InputError, match="min_size"):
        tree.regions(3, min_size=min_size)
