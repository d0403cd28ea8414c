import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_aeseg.errors import InputError

IMAGE = np.stack([np.arange(80.0).reshape(8, 10), np.arange(80.0).reshape(8, 10)[::-1] ** 2])


@pytest.fixture(scope="module")
def tree(hierarchy_of):
    return hierarchy_of(IMAGE, patch_size=2)  # 4 x 5 patches


def by_hand(labels: np.ndarray) -> pd.DataFrame:
    """The table with every label measured from its pixels."""
    rows = []
    for label in np.unique(labels[labels > 0]):
        inside = labels == label
        y, x = np.argwhere(inside).mean(axis=0)
        rows.append((label, inside.sum(), y, x, *IMAGE[:, inside].mean(axis=1)))
    names = ["index", "area", "centroid_y", "centroid_x", "mean_1", "mean_2"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize("n_regions", [1, 2, 7, 20])
def test_regions_are_measured_exactly(tree, n_regions):
    labels = tree.regions(n_regions)
    found = tree.table(labels)
    pd.testing.assert_frame_equal(found, by_hand(labels), check_dtype=False)
    assert found["index"].tolist() == list(range(1, n_regions + 1))
    assert found["area"].sum() == 80


@given(seed=st.integers(0, 200), most=st.integers(1, 5))
def test_unions_of_patches_are_measured_exactly(tree, seed, most):
    labels = np.random.default_rng(seed).integers(0, most + 1, 20)[tree.patches]
    pd.testing.assert_frame_equal(tree.table(labels), by_hand(labels), check_dtype=False)


@given(seed=st.integers(0, 200))
def test_painted_labels_have_exact_areas_and_places(tree, seed):
    labels = np.random.default_rng(seed).integers(0, 4, (8, 10))
    found, expected = tree.table(labels), by_hand(labels)
    exact = ["index", "area", "centroid_y", "centroid_x"]
    pd.testing.assert_frame_equal(found[exact], expected[exact], check_dtype=False)
    # The channels come from the patches that a label overlaps: within their range.
    means = tree.statistics.intensity
    assert (found[["mean_1", "mean_2"]] >= means.min(axis=0)).all(axis=None)
    assert (found[["mean_1", "mean_2"]] <= means.max(axis=0)).all(axis=None)


def test_part_of_a_patch_has_the_mean_of_the_patch(tree):
    labels = np.zeros((8, 10), int)
    labels[0, 0] = 5
    row = tree.table(labels).iloc[0]
    assert (row["index"], row["area"], row["centroid_y"], row["centroid_x"]) == (5, 1, 0, 0)
    assert row["mean_1"] == IMAGE[0, :2, :2].mean()


def test_zero_is_left_out_and_gaps_between_labels_are_fine(tree):
    labels = np.zeros((8, 10), int)
    labels[:2], labels[4:] = 900, 7
    assert tree.table(labels)["index"].tolist() == [7, 900]


def test_no_label_at_all_is_an_empty_table(tree):
    table = tree.table(np.zeros((8, 10), int))
    assert len(table) == 0
    assert list(table) == ["index", "area", "centroid_y", "centroid_x", "mean_1", "mean_2"]


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "<u4", ">i4", "u8"])
def test_any_whole_dtype_will_do(tree, dtype):
    labels = (np.arange(80).reshape(8, 10) % 2).astype(dtype)
    assert tree.table(labels)["area"].tolist() == [40]


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (np.zeros((10, 8), int), r"\(10, 8\).*\(8, 10\) \(YX\)"),
        (np.zeros((1, 8, 10), int), r"\(1, 8, 10\)"),
        (np.zeros((8, 10)), "whole numbers"),
        (np.full((8, 10), -1), "whole numbers of 0 or more"),
        (np.full((8, 10), "a"), "whole numbers"),
    ],
    ids=["turned", "stack", "float", "negative", "text"],
)
def test_other_labels_are_refused(tree, labels, hint):
    with pytest.raises(InputError, match=hint):
        tree.table(labels)
