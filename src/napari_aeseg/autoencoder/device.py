"""Where torch works and in which precision, and what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from typing import Any, TypeVar

import torch

from napari_aeseg.errors import DeviceError, is_out_of_memory

_T = TypeVar("_T")

_TF32_LOCK, _THREADS_LOCK = Lock(), Lock()


def available_devices() -> list[str]:
    """Return the devices that torch can use here, best first; "cpu" is always the last."""
    devices = []
    if torch.cuda.is_available():
        devices += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def choose_device(device: str = "auto") -> torch.device:
    """Return the torch device of a name; "auto" takes CUDA, else MPS, else the CPU.

    DeviceError if the device is not there.
    """
    available = available_devices()
    if device == "auto":
        return torch.device(available[0])
    name = "cuda:0" if device == "cuda" else device
    if name not in available:
        raise DeviceError(f"Device {device!r} is not available here; choose one of: {available}.")
    return torch.device(name)


def is_accelerator(device: torch.device) -> bool:
    """Return whether a device has memory of its own and works in parallel: all but the CPU."""
    return device.type != "cpu"


def precision_used(device: torch.device) -> str:
    """Return what convolutions of training compute in: "float32" or, rounded on the way, "tf32"."""
    if device.type != "cuda":
        return "float32"
    holder, name, _ = _tf32_setting()
    allowed = getattr(holder, name) in (True, "tf32")
    # Ampere (8.0) and later cards have it.
    return "tf32" if allowed and torch.cuda.get_device_capability(device) >= (8, 0) else "float32"


@contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """Keep convolutions on CUDA in float32; by default, torch rounds inputs to 10 bits (TF32).

    With TF32, a third of the texture mosaics would get other regions than on a CPU
    (docs/performance.md). The setting is global: other threads compute without TF32 meanwhile.
    """
    if device.type != "cuda":
        yield
        return
    holder, name, off = _tf32_setting()
    # The setting is the whole process's: two threads must not restore each other's.
    with _TF32_LOCK:
        before = getattr(holder, name)
        setattr(holder, name, off)
        try:
            yield
        finally:
            setattr(holder, name, before)


def _tf32_setting() -> tuple[Any, str, object]:
    """Return where torch keeps the setting for convolutions: object, name, value for off."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    if hasattr(convolutions, "fp32_precision"):  # since torch 2.9
        return convolutions, "fp32_precision", "ieee"
    return torch.backends.cudnn, "allow_tf32", False


def number_of_threads() -> int:
    """Return how many threads of the CPU torch uses when called from this thread, now and later.

    A thread that has not called torch takes the number that was set last, by whichever thread.
    Numbers are rounded differently with another.
    """
    with _THREADS_LOCK:
        return torch.get_num_threads()


def use_one_thread(default: int) -> None:
    """Let torch use one thread of the CPU when called from this thread; `default` from others."""
    with _THREADS_LOCK:
        torch.set_num_threads(1)
        setter = Thread(target=torch.set_num_threads, args=(default,))
        setter.start()
        setter.join()


@contextmanager
def training_modes(device_type: str = "cpu") -> Iterator[None]:
    """Compute gradients, in the precision of the weights, whatever modes the caller has set.

    Modes of torch belong to a thread: they must not stay set while a generator gives way.
    """
    autocast = torch.autocast(device_type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), autocast:
        yield


def unless_out_of_memory(work: Callable[[], _T]) -> _T | None:
    """Return the result of `work`, or None if memory ran out: its arrays are free again then."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None  # outside of the handler, whose traceback holds the arrays


@contextmanager
def oom_as_device_error(what: str, advice: str) -> Iterator[None]:
    """Turn the many kinds of out-of-memory errors into a DeviceError: for what, and what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(f"There is not enough memory for {what}. {advice}") from error
