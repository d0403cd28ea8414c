"""What a process takes, opens and runs while it works: memory, files, code, connections."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes that reading a file may take besides what the file itself has.
MARGIN = 256 * 2**20
#: Bytes of addresses beyond those of a warm process: a promise of terabytes fails at once.
_ADDRESSES = 3 * 2**30
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Whatever runs code, or reaches out.
_RUNS = {"exec", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}
_RUNS |= {"subprocess.Popen", "pickle.find_class", "ctypes.dlopen", "import", "os.putenv"}
_RUNS |= {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "urllib.Request"}
_PICKLED = {"dask", "numpy", "zarr", "pathlib", "napari_aeseg", "functools", "builtins", "_codecs"}
_PICKLED |= {"operator", "collections", "itertools", "copyreg"}
_CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod"}
_CHANGES |= {"os.truncate", "shutil.rmtree", "shutil.move", "os.chown"}


class Watch:
    """Notes what is done that reading a file has no need of.

    A hook on the audit events of Python stays for the life of a process: make one.
    """

    def __init__(self) -> None:
        self._target: str | None = None
        self._seen: list[str] = []
        sys.addaudithook(self._event)

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._target is None:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = flags & _WRITING if isinstance(flags, int) else False
            writes = writes or (isinstance(mode, str) and set(mode) & set("wax+"))
            if writes and not self._inside(path):
                self._seen.append(f"writes {path!r}")
        elif event == "compile":
            # `ast.literal_eval` and the like make a tree of it, and run nothing.
            if arguments[1] not in ("<unknown>", b"<unknown>", None):
                self._seen.append(f"compiles {str(arguments[1])[:80]}")
        elif event == "pickle.find_class" and arguments[0].split(".")[0] in _PICKLED:
            pass  # dask copies its own graphs that way
        elif event == "ctypes.dlopen" and arguments[0] is None:
            pass  # the process itself: memory is given back
        elif event in _RUNS:
            self._seen.append(f"{event} {str(arguments[0])[:80]}")
        elif event in _CHANGES and not all(map(self._inside, _paths(arguments))):
            self._seen.append(f"{event} {arguments!r:.200}")

    def _inside(self, path: Any) -> bool:
        if isinstance(path, int):  # was opened before
            return True
        target = self._target or ""
        real = os.path.realpath(os.fspath(path))
        real = real if isinstance(real, str) else os.fsdecode(real)
        return real == target or real.startswith(target + os.sep) or real == os.devnull

    @contextmanager
    def looking(self, target: Path) -> Iterator[list[str]]:
        """Note what is done outside a folder, into the list that is given."""
        self._seen = seen = []
        self._target = os.path.realpath(target)
        try:
            yield seen
        finally:
            self._target = None


def _paths(arguments: tuple[Any, ...]) -> list[Any]:
    return [a for a in arguments if isinstance(a, str | bytes | os.PathLike)]


def limit_addresses() -> None:
    """Let this process take no more than some gigabytes of addresses beyond those it has."""
    most = _status("VmSize") + _ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def memory_now() -> int:
    """Return the bytes of memory in use."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Have `peak_memory` count from now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the most bytes of memory in use since `forget_peak`."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise LookupError(name)
