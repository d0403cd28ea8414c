"""Disks that are full, folders that may not be written in, names that cannot be.

Whatever is written ends with an error that names the file; the old one is intact, and nothing
temporary is left.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_aeseg.errors import AesegError

sys.path.insert(0, str(Path(__file__).parent))
from ends import told
from injecting import nothing_left_behind
from outputs import GOES_ON, OUTPUTS, Output, make_ready


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let every file end at a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(kilobytes: int) -> Iterator[Path]:
    """A disk of a few kilobytes; needs root."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def refused(output: Output, name: str, folder: Path, fault: Callable[[], object]) -> str:
    """Write with a fault in place (a context); return how it ended, or fail."""
    path = folder / output.name
    before = output.state(path)
    with nothing_left_behind(folder):
        try:
            with fault():  # type: ignore[attr-defined]
                output.write(path)
        except (OSError, AesegError) as error:
            assert str(error).strip(), "an error that says nothing"
            end = type(error).__name__
        else:
            end = "written"
    wanted = {before} if end != "written" else {"new"}
    if name in GOES_ON:
        wanted |= {"begun", "none", "new"}
    state = output.state(path)
    assert state in wanted, f"{state} where it was {before} and {end}"
    output.write(path)  # with room again
    assert output.state(path) in ("new", "begun")
    return end


def tried(number: int, seed: int = 0, report: Callable[[str], None] = print) -> Counter[str]:
    """Write each kind of file on disks with too little room, so many times."""
    rng, ends = random.Random(seed), Counter[str]()
    make_ready()
    for name, output in OUTPUTS.items():
        for _ in range(number):
            folder = Path(tempfile.mkdtemp(prefix="disks-"))
            size = int(2 ** rng.uniform(0, 15))
            try:
                if output.put_old is not None:
                    output.put_old(folder / output.name)
                end = refused(output, name, folder, lambda s=size: no_file_larger_than(s))
            except Exception as error:
                end = "failed"
                report(f"{name} with {size} bytes: {type(error).__name__}: {error}")
            finally:
                shutil.rmtree(folder)
            ends[f"{name}, files of a few bytes: {end}"] += 1
    return ends


@contextmanager
def _filled(disk: Path, left: int) -> Iterator[None]:
    """Fill a disk but for some bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(bytes(max(free - left, 0)))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


def tried_on_disks(
    number: int, seed: int = 0, report: Callable[[str], None] = print
) -> Counter[str]:
    """Write each kind of file on a disk that is full, and one that is read-only; needs root."""
    rng, ends = random.Random(seed), Counter[str]()
    make_ready()
    for name, output in OUTPUTS.items():
        for kind in ["full"] * number + ["read-only"] * min(number, 2):
            left = int(2 ** rng.uniform(10, 18))
            try:
                with small_disk(8192) as disk:
                    if output.put_old is not None:
                        output.put_old(disk / output.name)
                    fault = _read_only(disk) if kind == "read-only" else _filled(disk, left)
                    end = refused(output, name, disk, lambda fault=fault: fault)
                    assert kind == "full" or end != "written"
            except Exception as error:
                end = "failed"
                report(f"{name}, {kind}, {left} bytes left: {type(error).__name__}: {error}")
            ends[f"{name}, {kind} disk: {end}"] += 1
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=50, help="of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    ends = tried(options.number, options.seed)
    if os.geteuid() == 0:
        ends += tried_on_disks(options.number, options.seed)
    else:
        print("not root: no disk is mounted that is full or read-only")
    return told(ends, "faults", start, options.json)


if __name__ == "__main__":
    sys.exit(main())
