"""Imports what takes seconds in such a way that the window stays alive."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

# As torch itself loads them; the second one brings in all others.
_LIBRARIES = {"torch_global_deps": os.RTLD_GLOBAL, "torch": 0} if os.name == "posix" else {}


def import_core() -> None:
    """Import what is written in C++: PyTorch and the merge tree.

    To be called in a thread that ends with that: pybind11, as torch 2.9 still has it, keeps the
    state of the thread that first imports it. One of Qt's has another state for each piece of work:
    the next tensor that was freed in it ended the process.
    """
    if "torch" not in sys.modules:
        _load_libraries()
    with garbage_left_alone():
        import napari_aeseg.api  # noqa: F401 - brings in torch

        with suppress(ImportError):  # there are platforms without it
            import higra  # noqa: F401


@contextmanager
def garbage_left_alone() -> Iterator[None]:
    """Collect no garbage while modules are imported.

    Every new object is looked at again and again, the window waits, and nothing is garbage. At the
    end, the new objects count as old without having been looked at.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()


def _load_libraries() -> None:
    """Load the libraries of PyTorch by a call that lets the window go on; an import does not."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return
    ending = "dylib" if sys.platform == "darwin" else "so"
    for name, mode in _LIBRARIES.items():
        path = Path(spec.origin).parent / "lib" / f"lib{name}.{ending}"
        load = ctypes.CDLL(None).dlopen
        load.restype, load.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
        load(os.fsencode(path), os.RTLD_NOW | mode)  # what fails is loaded, or reported, by torch
