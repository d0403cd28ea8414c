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


def test_a_save_that_was_killed_as_it_deleted_the_old_one_does_not_block_the_next(
    tmp_path, monkeypatch
):
    """What was left of the old hierarchy was taken for somebody else's, by every later save."""
    import shutil

    from outputs import OUTPUTS

    output = OUTPUTS["hierarchy"]
    path = tmp_path / output.name
    output.put_old(path)
    with monkeypatch.context() as patched:

        def killed(folder, **_):
            (folder / "zarr.json").unlink(missing_ok=True)
            raise KeyboardInterrupt

        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            output.write(path)
    assert output.state(path) == "new"
    output.put_old(path)
    assert output.state(path) == "old"
