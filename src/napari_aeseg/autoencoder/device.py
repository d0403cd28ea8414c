"""Choosing where torch works."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from napari_aeseg.errors import DeviceError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

Precision = Literal["float32", "bfloat16"]
# How allocators say it: CUDA and MPS, the CPU (on Linux, Windows, and through C++), cuBLAS and
# cuDNN, MPS for a single array, and cuDNN where no algorithm has the memory that it needs.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "status_alloc_failed",
    "invalid buffer size",
    "unable to find an engine",
)
_CHANGED_SETTING = Lock()


def available_devices() -> list[str]:
    """Return the devices that torch can use here, best first; "cpu" is always among them.

    Examples
    --------
    >>> available_devices()[-1]
    'cpu'
    """
    devices = []
    if torch.cuda.is_available():
        devices += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def warm_up() -> None:
    """Have torch load what it loads when the first optimizer is made: 800 modules, a second.

    Examples
    --------
    >>> warm_up()
    """
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])


def choose_device(device: str = "auto") -> torch.device:
    """Return the torch device for "auto", "cpu", "cuda", "cuda:1" or "mps".

    Parameters
    ----------
    device : str
        "auto" takes CUDA, else MPS, else the CPU.

    Raises
    ------
    DeviceError
        If the device is not there.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    found = available_devices()
    if device == "auto":
        return torch.device(found[0])
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in found:
        raise DeviceError(f"Device {device!r} is not available here; choose one of: {found}.")
    return torch.device(wanted)


def is_accelerator(device: torch.device) -> bool:
    """Tell whether a device works by itself, with memory of its own: all but the CPU."""
    return device.type != "cpu"


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the type in which a network is to compute on a device.

    Parameters
    ----------
    precision : {"float32", "bfloat16"}
    device : torch.device

    Raises
    ------
    InputError
        If it is another one.
    DeviceError
        If it is a CUDA device that computes no bfloat16.

    Examples
    --------
    >>> dtype_of("bfloat16", torch.device("cpu"))
    torch.bfloat16
    """
    if precision not in get_args(Precision):
        known = " or ".join(repr(p) for p in get_args(Precision))
        raise InputError(f"precision = {precision!r}: give {known}.")
    if precision == "bfloat16" and device.type == "cuda":
        with torch.cuda.device(device):
            # Older cards have it emulated, slower than float32.
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise DeviceError(f"{device} does not compute bfloat16: choose 'float32'.")
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def precision_used(precision: Precision, device: torch.device) -> str:
    """Return what convolutions compute in: "float32", "bfloat16" or, rounded on the way, "tf32".

    Examples
    --------
    >>> precision_used("float32", torch.device("cpu"))
    'float32'
    """
    if precision != "float32" or device.type != "cuda":
        return precision
    holder, name, _ = _tf32_setting()
    allowed = getattr(holder, name) in (True, "tf32")
    # Ampere (8.0) and later cards have it.
    return "tf32" if allowed and torch.cuda.get_device_capability(device) >= (8, 0) else "float32"


@contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """Let convolutions on CUDA compute in float32, which torch would round to 10 bits on the way.

    Rounded like that, a third of the texture mosaics would get other regions than on a CPU
    (docs/performance.md). What other threads launch meanwhile is not rounded either.

    Examples
    --------
    >>> with without_tf32(torch.device("cpu")):
    ...     float(torch.nn.functional.conv2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)))
    4.0
    """
    if device.type != "cuda":
        yield
        return
    holder, name, off = _tf32_setting()
    # The setting is the whole process's: two threads must not restore each other's.
    with _CHANGED_SETTING:
        before = getattr(holder, name)
        setattr(holder, name, off)
        try:
            yield
        finally:
            setattr(holder, name, before)


def _tf32_setting() -> tuple[Any, str, object]:
    """Return where torch says whether convolutions may round float32, under which name, and no."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    if hasattr(convolutions, "fp32_precision"):  # since torch 2.9
        return convolutions, "fp32_precision", "ieee"
    return torch.backends.cudnn, "allow_tf32", False


def keep_to_one_thread(usual: int) -> None:
    """Let torch work on the CPU in this thread alone; in other threads with `usual` many."""
    torch.set_num_threads(1)
    # Threads that start later take the number that was set last, by whichever thread.
    passing = Thread(target=torch.set_num_threads, args=(usual,))
    passing.start()
    passing.join()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device (or the host) ran out of memory."""
    # All but CUDA's own allocator raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
    )


@contextmanager
def oom_as_device_error(what: str, advice: str) -> Iterator[None]:
    """Turn the many errors of memory that ran out into one that says for what, and what to do.

    Raises
    ------
    DeviceError

    Examples
    --------
    >>> with oom_as_device_error("the picture", "Close it."):
    ...     raise MemoryError
    Traceback (most recent call last):
    ...
    napari_aeseg.errors.DeviceError: There is not enough memory for the picture. Close it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(f"There is not enough memory for {what}. {advice}") from error
