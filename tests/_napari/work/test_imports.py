"""Imports that take seconds do not hold the window up."""

from __future__ import annotations

import gc
from importlib.util import find_spec
from pathlib import Path

import pytest

from napari_aeseg._napari.work import imports


def test_garbage_is_left_alone_while_modules_are_imported():
    gc.unfreeze()  # see quick_collections
    with imports.garbage_left_alone():
        new = [[i] for i in range(10_000)]  # lists are what the collector looks at
        assert not gc.isenabled()
        assert len(gc.get_objects(generation=0)) > 10_000
    assert gc.isenabled()
    assert len(gc.get_objects(generation=0)) < 10_000  # it will not look at them again soon
    assert gc.get_freeze_count() == 0
    assert len(new) == 10_000


@pytest.mark.skipif(not imports._LIBRARIES, reason="Windows loads them without Python's lock")
def test_torch_has_the_libraries_that_are_loaded_before_it():
    folder = Path(find_spec("torch").origin).parent / "lib"
    for name in imports._LIBRARIES:
        assert list(folder.glob(f"lib{name}.*")), name
