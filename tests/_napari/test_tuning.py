from __future__ import annotations

import json

import numpy as np
import pytest

from napari_aeseg import InputError
from napari_aeseg._napari.tuning import Cut, most_patches


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "things"},
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


def test_classes_take_their_ids_from_the_example(hierarchy):
    cut = Cut("classes", n_classes=2)

    there = cut.of_patch(hierarchy.reweighted(balance=0.2), hierarchy)

    expected = hierarchy.reweighted(balance=0.2).class_of_patch(prototypes=hierarchy.prototypes(2))
    assert np.array_equal(there, expected)


def test_titles(hierarchy):
    assert Cut(n_regions=4).title(hierarchy) == "regions 4"
    assert Cut("classes", n_classes=2).title(hierarchy) == "classes 2"
    assert Cut("objects").title(hierarchy) == "objects"
    assert Cut("objects", min_size=50).title(hierarchy) == "objects 50"


def test_the_record_says_how_to_make_the_labels_again(hierarchy):
    record = Cut(n_regions=4).record(hierarchy, "tissue")

    assert json.loads(json.dumps(record)) == record
    assert record["n_regions"] == 4
    assert record["model"] == hierarchy.model_fingerprint
    assert record["params"]["patch_size"] == 8
    assert record["image"] == "tissue"
    assert record["axes"] == "YX"


def test_most_patches(hierarchy):
    assert most_patches([]) == 1
    assert most_patches([hierarchy]) == hierarchy.n_patches
