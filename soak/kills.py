"""Processes that are killed while they write: the old file is there, or the new one, never half.

Where work goes on after a stop, it goes on after a kill, to the same labels.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dask

sys.path.insert(0, str(Path(__file__).parent))
from ends import told
from outputs import GOES_ON, OUTPUTS, Output, make_ready


def _child(work: Callable[[], object]) -> int:
    """Start a process that does some work; return its id as soon as it begins."""
    sys.stdout.flush()
    begun, begins = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # A forked process has the pools of dask, but none of their threads.
            with dask.config.set(scheduler="synchronous"):
                os.write(begins, b"!")
                work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(begins)
    os.read(begun, 1)
    os.close(begun)
    return pid


def _seconds(output: Output, folder: Path) -> float:
    """How long the writing takes when nothing disturbs it."""
    found = []
    for number in range(3):
        path = folder / str(number) / output.name
        path.parent.mkdir()
        if output.put_old is not None:
            output.put_old(path)
        start = time.perf_counter()
        pid = _child(lambda path=path: output.write(path))
        _, status = os.waitpid(pid, 0)
        found.append(time.perf_counter() - start)
        assert status == 0, "a process that nobody kills cannot write it"
    return min(found)


def kill_once(output: Output, folder: Path, after: float, goes_on: bool) -> str | None:
    """Kill a process that writes after some seconds; return what there was, or fail.

    None if it was done before.
    """
    path = folder / output.name
    if output.put_old is not None:
        output.put_old(path)
    pid = _child(lambda: output.write(path))
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    state = output.state(path)
    wanted = ("old", "new") if output.put_old is not None else ("none", "new")
    assert state in wanted + ("begun",) * goes_on, f"it is {state}"
    output.write(path)
    assert output.state(path) in ("new", "begun"), "it cannot be written any more"
    return state if os.WIFSIGNALED(status) else None


def killed(
    number: int, seed: int = 0, report: Callable[[str], None] = print, only: str = ""
) -> Counter[str]:
    """Kill each kind of writing so many times, at random moments; return what there was."""
    rng, ends = random.Random(seed), Counter[str]()
    make_ready()
    for name, output in OUTPUTS.items():
        if only and name != only:
            continue
        folder = Path(tempfile.mkdtemp(prefix="kills-"))
        try:
            seconds = _seconds(output, folder)
            done = 0
            while done < number:
                shutil.rmtree(folder)
                folder.mkdir()
                after = rng.uniform(0, seconds)
                try:
                    end = kill_once(output, folder, after, name in GOES_ON)
                except Exception as error:
                    end = "failed"
                    report(f"{name} after {after:.4f} s: {type(error).__name__}: {error}")
                if end is not None:
                    ends[f"{name}: {end}"] += 1
                    done += 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100, help="kills of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help=f"one of {', '.join(OUTPUTS)}")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    ends = killed(options.number, options.seed, only=options.only)
    return told(ends, "kills", start, options.json)


if __name__ == "__main__":
    sys.exit(main())
