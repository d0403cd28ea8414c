"""Work that is stopped, closed or broken anywhere; a short version of soak/stops.py."""

import pytest

WORKS = ["training", "hierarchy", "blockwise", "error", "features", "labels.zarr", "labels.tif"]


@pytest.mark.parametrize("how", ["stopped", "closed"])
@pytest.mark.parametrize("what", WORKS)
def test_work_ends_at_any_event_and_can_be_done_again(what, how):
    from stops import tried

    failures = []
    # Of what has many events, some are enough here.
    stride = {"labels.zarr": 20, "labels.tif": 3, "blockwise": 3}.get(what, 1)
    ends = tried(how, only=what, stride=stride, report=failures.append)
    assert not failures
    assert ends.total() >= 2


@pytest.mark.parametrize(
    ("what", "stride"), [("training", 40), ("hierarchy", 40), ("blockwise", 120)]
)
def test_an_error_at_any_place_surfaces_and_leaves_nothing(what, stride):
    from stops import tried

    failures = []
    ends = tried("broken", only=what, stride=stride, report=failures.append)
    assert not failures
    assert ends[f"{what} broken: the error itself"] > 2
