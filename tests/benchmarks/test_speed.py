import math
from argparse import Namespace

import numpy as np
import pytest

import speed
import superpixels

IMAGE = np.kron([[0, 80], [160, 240]], np.ones((16, 16)))[..., np.newaxis].repeat(3, 2)
IMAGE = IMAGE.astype(np.uint8)


@pytest.mark.parametrize("number", [4, 7])
def test_merged_superpixels_stop_at_the_number(number):
    labels = superpixels.merged_superpixels(IMAGE, 64, number)
    assert np.unique(labels).tolist() == list(range(1, number + 1))


def test_four_squares_are_four_merged_regions():
    labels = superpixels.merged_superpixels(IMAGE, 64, 4)
    assert {(a, b) for a, b in zip(IMAGE[..., 0].flat, labels.flat, strict=True)} == {
        (IMAGE[y, x, 0], labels[y, x]) for y in (5, 25) for x in (5, 25)
    }


@pytest.mark.parametrize(
    ("measure", "higher", "verdict"),
    [
        (9, True, "MISSED"),
        (10, True, "reached"),
        (30, True, "reached, and what to reach for"),
        (31, False, "MISSED"),
        (30, False, "reached"),
    ],
)
def test_a_row_says_what_was_reached(measure, higher, verdict):
    bars = (10, 30) if higher else (30, 10)
    row = speed.Row("a", "b", 1, 1, "s", measure, *bars, higher)
    assert row.verdict == verdict


@pytest.mark.parametrize("name", ["segment", "cut", "reweighted"])
def test_rows_are_measured(name, monkeypatch):
    monkeypatch.setattr(speed, "CUTS", 9)
    args = Namespace(side=64, runs=1, slow_runs=1)
    rows = list(speed.ROWS[name](args))
    assert rows
    assert all(row.ours > 0 and math.isfinite(row.measure) for row in rows)
    if name == "segment":
        beside_few, beside_many = rows  # superpixels
        assert beside_few.ours == beside_many.ours
