"""Raises errors at any operation of torch or any call of the package; finds what is left then."""

from __future__ import annotations

import gc
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import napari_aeseg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PACKAGE = str(Path(napari_aeseg.__file__).parent)

#: Errors of allocators, in the words of each.
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


def _line_of(frame: FrameType | None) -> str:
    """File and line of the innermost frame in the package."""
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    if frame is None:
        return ""
    return f"{Path(frame.f_code.co_filename).relative_to(PACKAGE)}:{frame.f_lineno}"


def _takes_memory(func: Any) -> bool:
    """Whether an operation may allocate: it returns no view, and does not just set values."""
    returned = [value.alias_info for value in func._schema.returns]
    is_view = bool(returned) and all(a is not None and not a.is_write for a in returned)
    name = func._schema.name
    return not (is_view or name.startswith("profiler::") or name in _SETTERS)


_SETTERS = {"aten::fill_", "aten::zero_", "aten::copy_"}


class TorchFaults(TorchDispatchMode):
    """Raises an error at operation `at` of torch, counted from 0, and at the next ones.

    Without `at`, it only lists the lines of the package that run operations, see `lines`.
    """

    def __init__(
        self,
        at: float = float("inf"),
        error: Callable[[], BaseException] = MemoryError,
        times: float = 1,
    ) -> None:
        super().__init__()
        self.at, self.error, self.times = at, error, times
        self.lines: list[str] = []
        self.raised = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not _takes_memory(func):
            return func(*args, **(kwargs or {}))
        self.lines.append(_line_of(sys._getframe()))
        if len(self.lines) > self.at and self.raised < self.times:
            self.raised += 1
            raise self.error()
        return func(*args, **(kwargs or {}))


class CallFaults:
    """Raises an error at call `at` of a function, by or in the package, counted from 0.

    Functions that clean up are left out: the tests see whether they did.
    """

    CLEANING = frozenset(
        {"__exit__", "remove_folder", "delete", "close", "unlink", "rmtree", "shutdown", "abort",
         "remove", "closing", "finish", "restore_original_limits", "clear_controlling_thread",
         "_allow_this_thread_to_set", "trim_heap", "exit", "<listcomp>", "__del__"}
    )  # fmt: skip

    def __init__(
        self, at: float = float("inf"), error: Callable[[], BaseException] = MemoryError
    ) -> None:
        self.at, self.error = at, error
        self.lines: list[str] = []
        self.raised = 0

    def __enter__(self) -> CallFaults:
        sys.setprofile(self._on_call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> None:
        if event not in ("call", "c_call"):
            return
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return
        name = frame.f_code.co_name if event == "call" else getattr(arg, "__name__", "")
        if name in self.CLEANING or frame.f_code.co_name in self.CLEANING:
            return
        self.lines.append(f"{_line_of(frame)} {event}")
        if len(self.lines) - 1 == self.at:
            self.raised += 1
            raise self.error()


def first_of_each(lines: list[str]) -> list[int]:
    """Return the position at which each line comes first."""
    return sorted({line: i for i, line in reversed(list(enumerate(lines)))}.values())


def place_of(lines: list[str], *files: str) -> int:
    """Return the position at which files follow each other: the first line of the last one."""
    at = -1
    for file in files:
        at = next(i for i in range(at + 1, len(lines)) if lines[i].startswith(file))
    return at


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let the CPU pass for a GPU called "cpu:0"; "cpu" is the CPU to fall back on."""
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
    """Fail if work leaves a thread, a temporary folder or part of a file; give a folder for it."""
    with tempfile.TemporaryDirectory() as own, mock.patch.object(tempfile, "tempdir", own):
        threads = set(threading.enumerate())
        yield Path(own) if folder is None else folder
        # dask and zarr keep threads for later
        of_libraries = ("ThreadPoolExecutor", "asyncio", "zarr")
        new = [
            t for t in set(threading.enumerate()) - threads if not t.name.startswith(of_libraries)
        ]
        assert not new, f"threads left: {new}"
        gc.collect()  # temporary folders may be held by a cycle
        gc.freeze()  # the next collection need not look again at what is still there
        left = [p for p in Path(own).rglob("*") if _is_temporary(p)]
        if folder is not None:
            left += [p for p in folder.rglob("*") if _is_temporary(p)]
        assert not left, f"files left: {left}"


def _is_temporary(path: Path) -> bool:
    return ".part" in path.name or path.name.startswith("aeseg-") or path.name.endswith(".old")
