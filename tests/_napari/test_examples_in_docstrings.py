"""Examples in the GUI's docstrings; pytest collects only those of the core by itself."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import napari_aeseg._napari as package

MODULES = [
    module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    module = import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [import_module(name) for name in MODULES]
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) >= 9
