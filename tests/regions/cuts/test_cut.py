from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from napari_aeseg import Cut, InputError, Merge, Split, StoppedError
from napari_aeseg.regions.cuts.cut import MODES

EDITS = (Split(0), Merge((0, 200)), Split(200))


@pytest.fixture(scope="module")
def markers():
    """A marker in three of the quadrants, one of them outvoted in a patch of another."""
    markers = np.zeros((64, 64), int)
    markers[10, 5:20], markers[10, 50:60], markers[50, 50:60] = 1, 2, 4
    markers[9, 12] = 2
    return markers


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "things"},
        {"class_ids": ()},
        {"class_ids": [1]},
        {"class_ids": (0,)},
        {"class_ids": (True,)},
        {"edits": [Split(1)]},
        {"edits": ("split",)},
        {"n_regions": "2"},
        {"n_regions": float("inf")},
        {"n_classes": None},
        {"threshold": float("nan")},
        {"threshold": "0.5"},
        {"n_regions": 0},
        {"n_regions": 2.5},
        {"n_regions": True},
        {"n_classes": 0},
        {"min_size": 0},
        {"threshold": -0.1},
        {"threshold": 1.1},
        {"n_regions": 2, "threshold": 0.5},
    ],
)
def test_a_wrong_value_is_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Cut(**wrong)


def test_without_a_number_it_takes_the_suggestion(hierarchy):
    assert Cut().regions_in(hierarchy) == hierarchy.suggest_n_regions()


def test_a_number_is_limited_to_the_patches(hierarchy):
    assert Cut(n_regions=10**6).regions_in(hierarchy) == hierarchy.n_patches


def test_threshold_and_number_say_the_same(hierarchy):
    threshold = Cut(n_regions=2).threshold_in(hierarchy)

    assert Cut(threshold=threshold).regions_in(hierarchy) == 2
    assert Cut(threshold=0.25).threshold_in(hierarchy) == 0.25


def test_labels_of_patches_are_those_of_the_core(hierarchy):
    regions = Cut(n_regions=4).of_patch(hierarchy)
    classes = Cut("classes", n_classes=2).of_patch(hierarchy)

    assert np.array_equal(regions, hierarchy.region_of_patch(4))
    assert np.array_equal(classes, hierarchy.class_of_patch(2))


def test_classes_take_their_ids_from_an_example(hierarchy):
    cut = Cut("classes", n_classes=2)
    other = hierarchy.reweighted(balance=0.2)

    there = cut.of_patch(other, cut.prototypes_of(hierarchy))

    expected = other.class_of_patch(prototypes=hierarchy.prototypes(2))
    assert np.array_equal(there, expected)


def test_prototypes_say_how_many_classes(hierarchy):
    prototypes = hierarchy.prototypes(4)
    labels = Cut("classes", n_classes=2).labels(hierarchy, prototypes)
    assert labels.max() == 4
    assert np.array_equal(labels, hierarchy.classes(prototypes=prototypes))


def test_labels_of_every_mode_are_those_of_the_core(hierarchy, markers):
    for cut, expected in (
        (Cut(n_regions=4), hierarchy.regions(4)),
        (Cut(threshold=0.2), hierarchy.regions(threshold=0.2)),
        (Cut(), hierarchy.regions(hierarchy.suggest_n_regions())),
        (Cut("classes", n_classes=2), hierarchy.classes(2)),
        (Cut("objects"), hierarchy.objects()),
        (Cut("objects", min_size=20), hierarchy.objects(min_size=20)),
        (Cut("markers"), hierarchy.from_markers(markers)),
    ):
        labels = cut.labels(hierarchy, markers=markers)
        assert labels.dtype == np.int32
        assert np.array_equal(labels, expected)


def test_objects_in_classes(hierarchy):
    cut = Cut("objects", n_classes=4, class_ids=(4,), min_size=20)
    expected = hierarchy.objects(4, n_classes=4, min_size=20)
    assert expected.any()
    assert np.array_equal(cut.labels(hierarchy), expected)
    prototypes = hierarchy.prototypes(4)
    expected = hierarchy.objects(4, prototypes=prototypes, min_size=20)
    assert expected.any()
    assert np.array_equal(cut.labels(hierarchy, prototypes), expected)
    # Of three classes the prototypes know, there is no fourth.
    with pytest.raises(InputError, match=r"class_ids = 4: .* from 1 to 3"):
        cut.labels(hierarchy, hierarchy.prototypes(3))


def test_edits_change_what_follows_patches(hierarchy, markers):
    for mode in ("regions", "classes", "markers"):
        n_regions = None if mode != "regions" else 4
        plain = Cut(mode, n_regions, n_classes=2, refine=False)
        changed = Cut(mode, n_regions, n_classes=2, refine=False, edits=EDITS)
        labels = changed.labels(hierarchy, markers=markers)
        of_patch = changed.of_patch(hierarchy, markers=markers)
        assert not np.array_equal(labels, plain.labels(hierarchy, markers=markers))
        follows = slice(None) if mode != "markers" else markers == 0
        assert np.array_equal(labels[follows], hierarchy.map_to_pixels(of_patch)[follows])
    assert np.array_equal(Cut("objects", edits=EDITS).labels(hierarchy), hierarchy.objects())


def test_outvoted_marks_go_where_their_marker_goes(hierarchy, markers):
    before = Cut("markers").labels(hierarchy, markers=markers)
    assert before[9, 12] == 2
    assert before[8, 12] == 1
    merge = Merge((int(hierarchy.patches[10, 55]), int(hierarchy.patches[10, 10])))
    after = Cut("markers", edits=(merge,)).labels(hierarchy, markers=markers)
    assert np.array_equal(after, np.where(before == 2, 1, before))
    split = Split(int(hierarchy.patches[10, 55]))
    labels = Cut("markers", edits=(split,)).labels(hierarchy, markers=markers)
    assert labels[9, 12] == 2
    assert labels.max() == 5


def test_markers_are_needed(hierarchy):
    with pytest.raises(InputError, match="needs markers"):
        Cut("markers").labels(hierarchy)
    with pytest.raises(InputError, match="needs markers"):
        Cut("markers").of_patch(hierarchy)


def test_objects_are_not_of_patches(hierarchy):
    with pytest.raises(InputError, match="do not follow patches"):
        Cut("objects").of_patch(hierarchy)


@pytest.mark.parametrize("mode", MODES)
def test_it_can_be_stopped(hierarchy, markers, mode):
    stop = threading.Event()
    assert Cut(mode).labels(hierarchy, markers=markers, stop=stop).shape == (64, 64)
    stop.set()
    with pytest.raises(StoppedError, match=mode):
        Cut(mode).labels(hierarchy, markers=markers, stop=stop)


def test_titles(hierarchy):
    assert Cut(n_regions=4).title(hierarchy) == "regions 4"
    assert Cut("classes", n_classes=2).title(hierarchy) == "classes 2"
    assert Cut("objects").title(hierarchy) == "objects"
    assert Cut("objects", min_size=50).title(hierarchy) == "objects 50"
    assert Cut("objects", class_ids=(1, 3)).title(hierarchy) == "objects in class 1 + 3"
    assert Cut("markers").title(hierarchy) == "markers"
    assert Cut("classes", n_classes=2, edits=EDITS).title(hierarchy) == "classes 2 edited"


def test_the_record_says_how_to_make_the_labels_again(hierarchy):
    record = Cut(n_regions=4).record(hierarchy, "tissue")

    assert json.loads(json.dumps(record)) == record
    assert record["n_regions"] == 4
    assert record["model"] == hierarchy.model_fingerprint
    assert record["params"]["patch_size"] == 4
    assert record["image"] == "tissue"
    assert record["axes"] == "YX"


@pytest.mark.parametrize(
    "cut",
    [
        Cut(n_regions=5),
        Cut(threshold=0.2),
        Cut(n_regions=np.int64(5), edits=EDITS),
        Cut("classes", n_classes=2, edits=EDITS),
        Cut("objects"),
        Cut("objects", n_classes=4, class_ids=(4, np.int64(2)), min_size=np.int32(30)),
        Cut("markers", edits=(Merge((0, 255)),)),
    ],
    ids=lambda cut: cut.mode,
)
def test_a_record_makes_the_same_labels_again(hierarchy, markers, cut):
    record = json.loads(json.dumps(cut.record(hierarchy, "tissue")))
    again = Cut.from_record(record)
    expected = cut.labels(hierarchy, markers=markers)
    assert np.array_equal(again.labels(hierarchy, markers=markers), expected)
    assert again.record(hierarchy, "tissue") == record


@pytest.mark.parametrize(
    ("record", "hint"),
    [
        ({"n_regions": 3}, "no 'mode'"),
        ({"mode": "things"}, "mode = 'things'"),
        ({"mode": "regions", "n_regions": 0}, "n_regions"),
        ({"mode": "objects", "class_ids": 3}, "class_ids"),
        ({"mode": "regions", "edits": [{"melt": 2}]}, "not an edit"),
    ],
)
def test_other_records_are_refused(record, hint):
    with pytest.raises(InputError, match=hint):
        Cut.from_record(record)


@pytest.mark.parametrize(
    ("cut", "needed"),
    [
        (Cut("classes"), True),
        (Cut("objects", class_ids=(2,)), True),
        (Cut("objects"), False),
        (Cut("regions", class_ids=(2,)), False),
        (Cut("markers"), False),
    ],
)
def test_what_depends_on_classes(cut, needed):
    assert cut.needs_classes is needed
