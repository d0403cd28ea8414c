"""A short version of soak/kills.py."""

import os

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("what", ["model", "hierarchy", "labels.zarr", "labels.tif", "blocks"])
def test_a_killed_process_leaves_the_old_file_or_the_new_one(what):
    from kills import killed

    failures = []
    ends = killed(2, seed=1, report=failures.append, only=what)
    assert not failures
    assert ends.total() == 2
