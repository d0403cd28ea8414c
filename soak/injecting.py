"""Faults where nobody waits for them: at any operation of torch, at any call of the package."""

from __future__ import annotations

import gc
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import napari_aeseg

PACKAGE = str(Path(napari_aeseg.__file__).parent)

#: What allocators say, in the words of each.
OUT_OF_MEMORY: dict[str, Callable[[], BaseException]] = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "MPS": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    "MPS array": lambda: RuntimeError("Invalid buffer size: 12.25 GiB"),
    "cuDNN": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuDNN plan": lambda: RuntimeError("FIND was unable to find an engine to execute this"),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
    "CPU": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 16777216 bytes."
    ),
    "CPU on Windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
    "C++": lambda: RuntimeError("std::bad_alloc"),
    "Python": MemoryError,
}


def _site(frame: FrameType | None) -> str:
    """File and line of the innermost frame that is of the package."""
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    if frame is None:
        return ""
    return f"{Path(frame.f_code.co_filename).relative_to(PACKAGE)}:{frame.f_lineno}"


def _takes_memory(func: Any) -> bool:
    """Whether an operation may need memory: no view, and not just values that are set."""
    returned = [value.alias_info for value in func._schema.returns]
    is_view = bool(returned) and all(a is not None and not a.is_write for a in returned)
    name = func._schema.name
    return not (is_view or name.startswith("profiler::") or name in _SETTERS)


_SETTERS = {"aten::fill_", "aten::zero_", "aten::copy_"}


class TorchFaults(TorchDispatchMode):
    """Raises an error at an operation of torch, and at those after it, so many times.

    Parameters
    ----------
    at : int
        Which operation, from 0; none by default, to learn which there are: see `sites`.
    error : callable
    times : int or inf
    """

    def __init__(
        self,
        at: float = float("inf"),
        error: Callable[[], BaseException] = MemoryError,
        times: float = 1,
    ) -> None:
        super().__init__()
        self.at, self.error, self.times = at, error, times
        self.sites: list[str] = []
        self.raised = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not _takes_memory(func):
            return func(*args, **(kwargs or {}))
        self.sites.append(_site(sys._getframe()))
        if len(self.sites) > self.at and self.raised < self.times:
            self.raised += 1
            raise self.error()
        return func(*args, **(kwargs or {}))


class CallFaults:
    """Raises an error at a call that the package makes or gets, counted from 0.

    Calls of functions that clean up are left out: what they would have to do is what is tested.
    """

    CLEANERS = frozenset(
        {"__exit__", "_remove_part", "delete", "close", "unlink", "rmtree", "shutdown", "abort",
         "remove", "closing", "finish", "restore_original_limits", "clear_controlling_thread",
         "_let_this_thread_set", "give_back", "exit", "<listcomp>", "__del__"}
    )  # fmt: skip

    def __init__(
        self, at: float = float("inf"), error: Callable[[], BaseException] = MemoryError
    ) -> None:
        self.at, self.error = at, error
        self.sites: list[str] = []
        self.raised = 0

    def __enter__(self) -> CallFaults:
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _seen(self, frame: FrameType, event: str, arg: Any) -> None:
        if event not in ("call", "c_call"):
            return
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return
        name = frame.f_code.co_name if event == "call" else getattr(arg, "__name__", "")
        if name in self.CLEANERS or frame.f_code.co_name in self.CLEANERS:
            return
        self.sites.append(f"{_site(frame)} {event}")
        if len(self.sites) - 1 == self.at:
            self.raised += 1
            raise self.error()


def first_of_each(sites: list[str]) -> list[int]:
    """Return where each site comes first."""
    return sorted({site: i for i, site in reversed(list(enumerate(sites)))}.values())


def place_of(sites: list[str], *files: str) -> int:
    """Return where the last of some files comes first, after the ones before it in turn."""
    at = -1
    for file in files:
        at = next(i for i in range(at + 1, len(sites)) if sites[i].startswith(file))
    return at


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let the CPU pass for a GPU called "cpu:0" while memory lasts; "cpu" is the CPU still."""
    gpu = torch.device("cpu", 0)
    fakes = {
        "choose_device": lambda device="auto": torch.device(device) if device == "cpu" else gpu,
        "is_accelerator": lambda device: device.index is not None,
    }
    with ExitStack() as patches:
        for module in [m for n, m in sys.modules.items() if n.startswith("napari_aeseg.auto")]:
            for name, fake in fakes.items():
                if hasattr(module, name):
                    patches.enter_context(mock.patch.object(module, name, fake))
        yield


@contextmanager
def nothing_left_behind(folder: Path | None = None) -> Iterator[Path]:
    """Fail if work leaves a thread, a temporary folder, or a file that is not complete.

    Yields
    ------
    Path
        Of a folder for the work, if none was given.
    """
    with tempfile.TemporaryDirectory() as own, mock.patch.object(tempfile, "tempdir", own):
        threads = set(threading.enumerate())
        yield Path(own) if folder is None else folder
        # dask and zarr keep threads of their own for later.
        theirs = ("ThreadPoolExecutor", "asyncio", "zarr")
        new = [t for t in set(threading.enumerate()) - threads if not t.name.startswith(theirs)]
        assert not new, f"threads left: {new}"
        gc.collect()  # what is in a cycle is deleted later
        left = [p for p in Path(own).rglob("*") if _is_left(p)]
        if folder is not None:
            left += [p for p in folder.rglob("*") if _is_left(p)]
        assert not left, f"files left: {left}"


def _is_left(path: Path) -> bool:
    return ".part" in path.name or path.name.startswith("aeseg-") or path.name.endswith(".old")
