from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import contingency_table
from sklearn.metrics import rand_score

import scores

HALVES = np.repeat([[1, 2]], 4, axis=0).repeat(4, axis=1)  # 4 x 8, left and right half
QUARTERS = HALVES + 2 * (np.arange(4) >= 2)[:, None]  # each half cut in two


def shifted(by: int) -> np.ndarray:
    """HALVES with the border moved to the right."""
    return np.where(np.arange(8) < 4 + by, 1, 2)[None].repeat(4, axis=0)


def random_pair(shape: tuple[int, ...], n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, n, shape)
    return truth, np.where(rng.random(shape) < 0.6, truth, rng.integers(0, n, shape))


@pytest.mark.parametrize("largest", [5, 100_000])  # dense and sparse counting
@pytest.mark.parametrize("shape", [(40, 30), (8, 9, 10)])
def test_overlap_table_counts_pairs(shape: tuple[int, ...], largest: int) -> None:
    truth, labels = random_pair(shape)
    labels[labels == 5] = largest
    expected = contingency_table(truth, labels)
    assert (abs(scores.overlap_table(truth, labels) - expected)).sum() == 0


def test_overlap_table_refuses_other_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(2, 3\)"):
        scores.overlap_table(np.zeros((2, 2), int), np.zeros((2, 3), int))


# -- classes


def test_mean_iou_does_not_care_about_names() -> None:
    assert scores.mean_iou(HALVES, 3 - HALVES) == 1


def test_mean_iou_of_a_moved_border() -> None:
    # left 16 of 20, right 12 of 16
    assert scores.mean_iou(HALVES, shifted(1)) == pytest.approx((16 / 20 + 12 / 16) / 2)


def test_mean_iou_assigns_one_to_one() -> None:
    # One class found where there are two: the second truth class gets nothing
    assert scores.mean_iou(HALVES, np.ones_like(HALVES)) == pytest.approx(0.5 / 2)
    # and of two classes found in one half only one counts
    labels = np.where(HALVES == 1, QUARTERS, 2)
    assert scores.mean_iou(HALVES, labels) == pytest.approx((0.5 + 1) / 2)


def test_mean_iou_prefers_the_best_sum() -> None:
    truth = np.array([1] * 9 + [2] * 2)
    labels = np.array([1] * 5 + [2] * 4 + [1] * 2)
    # The largest IoU is that of (1, 1), 5/11, but it would leave nothing for truth 2
    assert scores.mean_iou(truth, labels) == pytest.approx((4 / 9 + 2 / 7) / 2)


def test_mean_iou_ignores_pixels_without_truth() -> None:
    truth = HALVES.copy()
    truth[:, 4] = 0  # the column where the border moved
    assert scores.mean_iou(truth, shifted(1), ignore=[0]) == 1


# -- partitions


def test_covering_weights_regions_by_area() -> None:
    truth = np.array([1] * 6 + [2] * 2)
    # 1 is found whole together with half of 2
    labels = np.array([1] * 7 + [2])
    assert scores.covering([truth], labels) == pytest.approx((6 * 6 / 7 + 2 * 1 / 2) / 8)


def test_covering_may_use_a_region_twice() -> None:
    assert scores.covering([QUARTERS], HALVES) == pytest.approx(0.5)
    assert scores.covering([QUARTERS], np.ones_like(HALVES)) == pytest.approx(0.25)


def test_partition_scores_are_means_over_annotators() -> None:
    for score in (
        scores.covering,
        scores.probabilistic_rand_index,
        scores.variation_of_information,
    ):
        apart = [score([truth], shifted(1)) for truth in (HALVES, QUARTERS)]
        assert score([HALVES, QUARTERS], shifted(1)) == pytest.approx(np.mean(apart))


def test_rand_index_by_hand() -> None:
    # of six pairs, (0,1) is together in both, (0,2) (1,2) (2,3) differ, (0,3) (1,3) apart in both
    truth, labels = np.array([1, 1, 2, 2]), np.array([1, 1, 1, 2])
    assert scores.probabilistic_rand_index([truth], labels) == pytest.approx(3 / 6)
    assert scores.probabilistic_rand_index([truth], truth) == 1


def test_rand_index_agrees_with_scikit_learn() -> None:
    truth, labels = random_pair((20, 30))
    expected = rand_score(truth.ravel(), labels.ravel())
    assert scores.probabilistic_rand_index([truth], labels) == pytest.approx(expected)


def test_variation_of_information_in_bits() -> None:
    assert scores.variation_of_information([HALVES], HALVES) == pytest.approx(0)
    assert scores.variation_of_information([HALVES], QUARTERS) == pytest.approx(1)
    assert scores.variation_of_information([QUARTERS], np.ones_like(HALVES)) == pytest.approx(2)


# -- objects


def test_border_distance_is_that_of_a_moved_border() -> None:
    truth, moved, one = (np.repeat([[1] * n + [2] * (20 - n)], 5, axis=0) for n in (10, 13, 20))
    assert scores.border_distance(truth, truth) == 0
    # Borders are two pixels thick: of 3 and 2 pixels
    assert scores.border_distance(truth, moved) == pytest.approx(2.5)
    assert scores.border_distance(truth, one, most=7) == 7
    assert scores.border_distance(one, one) == 0


def test_dice_of_the_foreground() -> None:
    truth, labels = np.array([0, 1, 1, 2]), np.array([0, 0, 5, 5])
    assert scores.dice(truth, labels) == pytest.approx(2 * 2 / (3 + 2))
    assert scores.dice(np.zeros(3, int), np.zeros(3, int)) == 1
    assert scores.dice(np.zeros(3, int), np.ones(3, int)) == 0


def test_average_precision_counts_true_false_and_missed() -> None:
    truth = np.array([1] * 4 + [0] * 4 + [2] * 4 + [0] * 4)
    labels = np.array([7] * 4 + [0] * 2 + [8] * 2 + [0] * 3 + [9] * 1 + [0] * 4)
    # 7 is right; 8 is false; 9 covers a quarter of truth 2, which is missed
    assert scores.average_precision(truth, labels) == pytest.approx(1 / (1 + 2 + 1))
    assert scores.average_precision(truth, labels, iou=0.25) == pytest.approx(2 / 3)


def test_average_precision_matches_one_to_one() -> None:
    # both halves reach IoU 0.5 with the truth: only one of them counts
    truth, labels = np.array([1, 1, 0]), np.array([1, 2, 0])
    assert scores.average_precision(truth, labels, iou=0.5) == pytest.approx(1 / 2)


def test_average_precision_without_objects() -> None:
    nothing, something = np.zeros(4, int), np.array([0, 1, 1, 0])
    assert scores.average_precision(nothing, nothing) == 1
    assert scores.average_precision(something, nothing) == 0
    assert scores.average_precision(nothing, something) == 0


def test_scores_in_3d() -> None:
    truth = np.stack([QUARTERS, QUARTERS])
    assert scores.mean_iou(truth, truth) == 1
    assert scores.covering([truth], truth) == 1
    assert scores.average_precision(truth - 1, truth - 1, iou=0.75) == 1


# -- sweeps


def test_sweep_of_one_setting_and_of_the_best() -> None:
    values = [[0.1, 0.6, 0.5], [0.9, 0.6, 0.1]]
    result = scores.sweep(values)
    assert (result.ods, result.ois, result.setting) == pytest.approx((0.6, 0.75, 1))
    np.testing.assert_allclose(result.per_image, [0.6, 0.6])
    lowest = scores.sweep(values, lower_is_better=True)
    assert (lowest.ods, lowest.ois, lowest.setting) == pytest.approx((0.3, 0.1, 2))


def test_sweep_wants_images_by_settings() -> None:
    with pytest.raises(ValueError, match=r"\(3,\)"):
        scores.sweep([1, 2, 3])
