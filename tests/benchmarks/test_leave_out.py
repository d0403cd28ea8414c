from __future__ import annotations

import pytest

import leave_out


def test_a_value_that_suits_one_group_only_is_not_held_up_by_the_others() -> None:
    values = {"1": {"a": 0.9, "b": 0.4, "c": 0.4}, "2": {"a": 0.2, "b": 0.6, "c": 0.6}}
    choice = leave_out.choose(values)
    assert choice.fitted == "1"
    assert choice.fitted_mean == pytest.approx(0.5667, abs=1e-4)
    assert choice.left_out["a"] == ("2", 0.2)
    assert choice.left_out_mean < choice.fitted_mean


def test_equally_good_values_leave_the_first() -> None:
    assert leave_out.choose({"x": {"a": 0.5, "b": 0.5}, "y": {"a": 0.5, "b": 0.5}}).fitted == "x"
