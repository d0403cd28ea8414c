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


MEASURED = ["index", "area", "area_share", "centroid_y", "centroid_x", "mean_1", "mean_2"]
COLUMNS = [*MEASURED, "border_strength", "merge_height"]


def by_hand(labels: np.ndarray) -> pd.DataFrame:
    """The table with every label measured from its pixels."""
    rows = []
    for label in np.unique(labels[labels > 0]):
        inside = labels == label
        y, x = np.argwhere(inside).mean(axis=0)
        rows.append((label, inside.sum(), inside.mean(), y, x, *IMAGE[:, inside].mean(axis=1)))
    return pd.DataFrame(rows, columns=MEASURED)


@pytest.mark.parametrize("n_regions", [1, 2, 7, 20])
def test_regions_are_measured_exactly(tree, n_regions):
    labels = tree.regions(n_regions)
    found = tree.table(labels)
    assert list(found) == COLUMNS
    pd.testing.assert_frame_equal(found[MEASURED], by_hand(labels), check_dtype=False)
    assert found["index"].tolist() == list(range(1, n_regions + 1))
    assert found["area"].sum() == 80


def test_each_connected_piece_has_a_row_with_its_shape(tree):
    labels = np.zeros((8, 10), int)
    labels[:4, :4], labels[6:, :4], labels[:2, 8:] = 3, 1, 1
    found = tree.table(labels, pieces=True, spacing=(2, 2))
    assert found["index"].tolist() == [1, 2, 3]
    assert found["label"].tolist() == [1, 1, 3]
    assert found["area_pixels"].tolist() == [4, 8, 16]
    assert found["area_share"].tolist() == [0.05, 0.1, 0.2]
    assert found["perimeter"].is_monotonic_increasing
    assert {"label", "perimeter"}.isdisjoint(tree.table(np.ones((8, 10), int)))


@given(seed=st.integers(0, 200), most=st.integers(1, 5))
def test_unions_of_patches_are_measured_exactly(tree, seed, most):
    labels = np.random.default_rng(seed).integers(0, most + 1, 20)[tree.patches]
    found = tree.table(labels)[MEASURED]
    pd.testing.assert_frame_equal(found, by_hand(labels), check_dtype=False)


@given(seed=st.integers(0, 200))
def test_painted_labels_have_exact_areas_and_places(tree, seed):
    labels = np.random.default_rng(seed).integers(0, 4, (8, 10))
    found, expected = tree.table(labels), by_hand(labels)
    assert [name for name in found if name in COLUMNS] == COLUMNS
    exact = ["index", "area", "centroid_y", "centroid_x"]
    pd.testing.assert_frame_equal(found[exact], expected[exact], check_dtype=False)
    # The channels come from the patches that a label overlaps: within their range.
    means = tree.statistics.intensity
    assert (found[["mean_1", "mean_2"]] >= means.min(axis=0)).all(axis=None)
    assert (found[["mean_1", "mean_2"]] <= means.max(axis=0)).all(axis=None)


def test_with_the_image_each_pixel_of_a_label_is_measured(tree):
    labels = np.zeros((8, 10), int)
    labels[1:4, 2:7] = 3
    found = tree.table(labels, image=IMAGE).iloc[0]
    for channel, values in enumerate(IMAGE[:, labels == 3], 1):
        measured = [found[f"{name}_{channel}"] for name in ("min", "mean", "max")]
        assert measured == pytest.approx([values.min(), values.mean(), values.max()])
    with pytest.raises(InputError, match="image has shape"):
        tree.table(labels, image=IMAGE[0])


def test_shapes_are_of_labels_on_a_background(tree):
    labels = np.zeros((8, 10), int)
    labels[1:4, 2:7] = 3
    found = tree.table(labels, spacing=(0.5, 0.5)).iloc[0]
    assert found["equivalent_diameter"] == pytest.approx(2 * (15 / 4 / np.pi) ** 0.5)
    assert found["solidity"] == 1
    assert "solidity" not in tree.table(np.ones((8, 10), int))


def test_part_of_a_patch_has_the_mean_of_the_patch(tree):
    labels = np.zeros((8, 10), int)
    labels[0, 0] = 5
    row = tree.table(labels).iloc[0]
    assert (row["index"], row["area"], row["centroid_y"], row["centroid_x"]) == (5, 1, 0, 0)
    assert row["mean_1"] == IMAGE[0, :2, :2].mean()
    assert np.isnan(row["border_strength"])  # no patch has most of its pixels in it
    assert np.isnan(row["merge_height"])


def test_heights_are_of_the_patches_that_have_most_of_their_pixels_in_a_label(tree):
    labels = tree.regions(3)
    moved = labels.copy()
    moved[0, 0] = moved[-1, -1]  # one pixel of a patch of four
    columns = ["index", "border_strength", "merge_height"]
    assert (moved != labels).sum() == 1
    pd.testing.assert_frame_equal(tree.table(moved)[columns], tree.table(labels)[columns])
    height = tree.merge_height(labels)
    assert np.array_equal(tree.merge_height(moved)[moved == labels], height[moved == labels])


def test_zero_is_left_out_and_gaps_between_labels_are_fine(tree):
    labels = np.zeros((8, 10), int)
    labels[:2], labels[4:] = 900, 7
    assert tree.table(labels)["index"].tolist() == [7, 900]


def test_no_label_at_all_is_an_empty_table(tree):
    table = tree.table(np.zeros((8, 10), int))
    assert len(table) == 0
    assert {*COLUMNS, "perimeter", "solidity"} < set(table)


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
        (np.full((8, 10), 2**64 - 1, np.uint64), "go up to 18446744073709551615"),
        ([[1, 2], [3]], "different shapes"),
    ],
    ids=["turned", "stack", "float", "negative", "text", "immense", "ragged"],
)
def test_other_labels_are_refused(tree, labels, hint):
    with pytest.raises(InputError, match=hint):
        tree.table(labels)


def test_sizes_and_places_are_physical_with_a_spacing(tree):
    labels = tree.regions(7)
    plain, scaled = tree.table(labels), tree.table(labels, spacing=(0.5, 2), unit="micrometre")
    assert list(scaled)[:3] == ["index", "area", "area_pixels"]
    np.testing.assert_allclose(scaled["area"], plain["area"] * 1.0)
    assert scaled["area_pixels"].tolist() == plain["area"].tolist()
    np.testing.assert_allclose(scaled["centroid_y"], plain["centroid_y"] * 0.5)
    np.testing.assert_allclose(scaled["centroid_x"], plain["centroid_x"] * 2)
    same = ["mean_1", "mean_2", "border_strength", "merge_height"]
    pd.testing.assert_frame_equal(scaled[same], plain[same])
    assert (plain.attrs["unit"], scaled.attrs["unit"]) == ("pixel", "micrometre")


@pytest.mark.parametrize("spacing", [(1,), (1, 0), (1, -2), (1, float("inf")), "ab", (True, True)])
def test_a_spacing_that_is_none_is_refused(tree, spacing):
    with pytest.raises(InputError, match=r"spacing = .*2 numbers above 0"):
        tree.table(tree.regions(2), spacing=spacing)


def painted(rng) -> np.ndarray:
    return rng.integers(0, 4, (8, 10))


def unions(rng) -> np.ndarray:
    return np.kron(rng.integers(0, 4, (4, 5)), np.ones((2, 2), int))


@pytest.mark.parametrize("make_labels", [painted, unions])
@pytest.mark.parametrize("make_classes", [painted, unions])
@given(seed=st.integers(0, 200))
def test_the_class_is_that_of_most_pixels(tree, make_labels, make_classes, seed):
    rng = np.random.default_rng(seed)
    labels, classes = make_labels(rng), make_classes(rng)
    expected = [np.bincount(classes[labels == i]).argmax() for i in np.unique(labels[labels > 0])]
    table = tree.table(labels, classes=classes)
    assert table["class"].tolist() == expected
    names = np.array(["grain", "matrix", "nothing", "void"])  # in order, for equal numbers
    text = tree.table(labels, classes=names[classes])["class"]
    assert text.tolist() == [str(name) for name in names[expected]]


@pytest.mark.parametrize("make_labels", [painted, unions])
def test_classes_may_be_given_by_patch(tree, make_labels):
    labels = make_labels(np.random.default_rng(3))
    names = np.array(["dark", "grey", "bright"])[tree.class_of_patch(3) - 1]
    by_patch, by_pixel = (tree.table(labels, classes=c) for c in (names, tree.map_to_pixels(names)))
    pd.testing.assert_frame_equal(by_patch, by_pixel)


@pytest.mark.parametrize("make_labels", [painted, unions])
@pytest.mark.parametrize("dtype", [float, np.float32, np.uint8, bool])
def test_maps_are_averaged_over_each_label(tree, make_labels, dtype):
    rng = np.random.default_rng(4)
    labels, values = make_labels(rng), (rng.random((8, 10)) * 2).astype(dtype)
    table = tree.table(labels, reconstruction_error=values, again=values)
    expected = [values[labels == i].mean() for i in table["index"]]
    np.testing.assert_allclose(table["reconstruction_error"], expected, rtol=1e-6)
    assert list(table)[-2:] == ["reconstruction_error", "again"]


def test_classes_and_maps_of_no_label_are_empty(tree):
    for labels in (np.zeros((8, 10), int), np.zeros((8, 10), np.uint8)):
        table = tree.table(labels, classes=labels, error=labels)
        assert len(table) == 0
        assert list(table)[-2:] == ["class", "error"]


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        ({"classes": np.zeros((10, 8), int)}, r"classes .*\(10, 8\).*\(8, 10\).*\(20,\)"),
        ({"classes": np.zeros((8, 10))}, "classes .*float64.*whole numbers or names"),
        ({"error": np.zeros((10, 8))}, r"error .*\(10, 8\).*\(8, 10\)"),
        ({"error": np.full((8, 10), "a")}, "error .*real numbers"),
        ({"mean_1": np.zeros((8, 10))}, "mean_1: the table has a column"),
        ({"index": np.zeros((8, 10))}, "index: the table has a column"),
    ],
)
def test_other_classes_and_maps_are_refused(tree, more, hint):
    with pytest.raises(InputError, match=hint):
        tree.table(tree.regions(3), **more)


@given(seed=st.integers(0, 200))
def test_border_strength_is_the_mean_along_the_border(tree, seed):
    labels = unions(np.random.default_rng(seed))
    found = dict(zip(*(tree.table(labels)[c] for c in ("index", "border_strength")), strict=True))
    edges = tree.graph.edges.tolist()
    strength = {tuple(e): s for e, s in zip(edges, tree.edge_strength, strict=True)}
    faces: dict[int, list[float]] = {label: [] for label in found}
    for axis in (0, 1):
        first = np.stack([np.moveaxis(a, axis, 0)[:-1] for a in (labels, tree.patches)], -1)
        second = np.stack([np.moveaxis(a, axis, 0)[1:] for a in (labels, tree.patches)], -1)
        for (la, pa), (lb, pb) in zip(first.reshape(-1, 2), second.reshape(-1, 2), strict=True):
            for label in {la, lb} - {0} if la != lb else ():
                faces[label].append(strength[min(pa, pb), max(pa, pb)])
    for label, values in faces.items():
        assert found[label] == pytest.approx(np.mean(values))


def test_a_label_that_is_everywhere_has_no_border_and_never_merges(tree):
    row = tree.table(tree.regions(1)).iloc[0]
    assert np.isnan(row["border_strength"])
    assert row["merge_height"] == 1


def test_merge_height_in_the_table_is_that_of_the_image(tree):
    labels = tree.regions(9)
    height = tree.merge_height(labels)
    table = tree.table(labels, height=height)
    np.testing.assert_allclose(table["merge_height"], table["height"], rtol=1e-6)


def test_ids_may_be_large(hierarchy_of):
    tree = hierarchy_of(IMAGE, patch_size=2)
    labels = tree.regions(3).astype(np.int64) * 10**12
    assert tree.table(labels)["index"].tolist() == [10**12, 2 * 10**12, 3 * 10**12]
    assert tree.table(labels)["area"].tolist() == tree.table(tree.regions(3))["area"].tolist()
