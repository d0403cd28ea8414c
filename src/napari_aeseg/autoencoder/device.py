"""Choosing where torch works."""

from __future__ import annotations

from threading import Thread

import torch

from napari_aeseg.errors import DeviceError


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


def keep_to_one_thread(usual: int) -> None:
    """Let torch work on the CPU in this thread alone; in other threads with `usual` many."""
    torch.set_num_threads(1)
    # Threads that start later take the number that was set last, by whichever thread.
    passing = Thread(target=torch.set_num_threads, args=(usual,))
    passing.start()
    passing.join()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device (or the host) ran out of memory."""
    # The CPU allocator and MPS raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in text or "can't allocate memory" in text)
    )
