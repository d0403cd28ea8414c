"""Counts what a process holds: memory, threads, files, folders, windows, objects."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

Count = dict[str, float]


def counted() -> Count:
    """Count what is held after a collection: "resident" memory in MB, and numbers of objects."""
    import psutil

    settle()
    return {
        "resident": psutil.Process().memory_info().rss / 2**20,
        **of_threads(),
        "files": len(list(Path("/proc/self/fd").glob("*"))),
        "folders": sum(1 for _ in Path(tempfile.gettempdir()).glob("aeseg-*")),
        **held(),
    }


def settle() -> None:
    """Let Qt delete what is to be deleted, and give freed memory back to the system."""
    application = running_application()
    for _ in range(3):
        if application is not None:
            from qtpy.QtCore import QCoreApplication, QEvent

            application.processEvents()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)


def running_application() -> Any:
    """Return the Qt application, if there is one; imports nothing."""
    if "qtpy" not in sys.modules:
        return None
    from qtpy.QtWidgets import QApplication

    return QApplication.instance()


def of_threads() -> Count:
    """Count threads of Python, and "tasks" of the system; those of one pool count as one."""
    names = [thread.name for thread in threading.enumerate()]
    kinds = {re.sub(r"(?<=_)\d+$|(?<=^Dummy-)\d+$", "", name) for name in names}
    tasks = len(list(Path("/proc/self/task").glob("*")))
    return {"threads": len(kinds), "tasks": max(0, tasks - len(names) + len(kinds))}


def held() -> Count:
    """Count objects that ought to go when work is done or a window closes."""
    numbers = dict.fromkeys(("ours", *_COUNTED.values(), "widgets"), 0)
    names_of_type: dict[type, tuple[str, ...]] = {}
    for thing in gc.get_objects():
        kind = type(thing)  # not isinstance: a proxy answers for its object
        if kind not in names_of_type:
            names_of_type[kind] = names_of(kind)
        for name in names_of_type[kind]:
            callbacks = {"connections": thing, "callbacks": getattr(thing, "callbacks", ())}
            numbers[name] += len(callbacks[name]) if name in callbacks else 1
    application = running_application()
    if application is not None:
        numbers["widgets"] = len(application.topLevelWidgets())
    return numbers


# Module and name of a class, and what those that derive from it are counted as.
_COUNTED = {
    ("torch", "Tensor"): "tensors",
    ("psygnal._signal", "SignalInstance"): "connections",
    ("napari.utils.events.event", "EventEmitter"): "callbacks",
    ("napari.components.viewer_model", "ViewerModel"): "viewers",
    ("napari.layers.base.base", "Layer"): "layers",
    ("PyQt6.QtCore", "QTimer"): "timers",
    ("superqt.utils._qthreading", "WorkerBase"): "workers",
}


def names_of(kind: type) -> tuple[str, ...]:
    """Return what objects of a type are counted as."""
    bases = {(str(vars(base).get("__module__")), base.__name__) for base in kind.__mro__}
    names = tuple(name for base, name in _COUNTED.items() if base in bases)
    return ("ours", *names) if str(kind.__module__).startswith("napari_aeseg") else names


def grown(
    rows: list[Count], rounds: int, usual: Count | None = None, memory: float = 0.05
) -> list[str]:
    """Describe what there is more of after so many rounds, beyond what `usual` adds in each.

    Memory may grow by the fraction `memory`. Of numbers, the most of the first half and the fewest
    of the last three rows are compared: threads come and go, and pools begin when first needed.

    Examples
    --------
    >>> grown([{"resident": 100, "files": 9}, {"resident": 104, "files": 10}], 5)
    ['files: 9, then 10']
    >>> grown([{"files": n} for n in (6, 7, 7, 7)], 15), grown([{"files": n} for n in range(4)], 15)
    ([], ['files: 1, then 2'])
    """
    found = []
    for name in rows[0]:
        sized = name == "resident"
        half = max(1, len(rows) // 2)
        before = max(row[name] for row in rows[: 1 if sized else half])
        after = rows[-1][name] if sized else min(row[name] for row in rows[half:][-3:])
        allowed = before * (1 + memory * sized) + rounds * max(0, (usual or {}).get(name, 0))
        if after > allowed:
            found.append(f"{name}: {before:.6g}, then {after:.6g}")
    return found
