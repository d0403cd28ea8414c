"""Kills processes while they write: the old file must be there, or the new one, never a part.

Where work can be continued after a stop, it can be after a kill, with the same labels.
"""

from __future__ import annotations

import argparse
import json
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

from outputs import GOES_ON, OUTPUTS, Output, make_ready


def _child(work: Callable[[], object]) -> int:
    """Start a process that does some work; return its id when the work begins."""
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
    """Seconds that writing takes if nothing disturbs it."""
    seconds = []
    for number in range(2):
        path = folder / str(number) / output.name
        path.parent.mkdir()
        if output.put_old is not None:
            output.put_old(path)
        start = time.perf_counter()
        pid = _child(lambda path=path: output.write(path))
        _, status = os.waitpid(pid, 0)
        seconds.append(time.perf_counter() - start)
        assert status == 0, "it cannot be written even without a kill"
    return min(seconds)


def kill_once(output: Output, folder: Path, after: float, goes_on: bool) -> str | None:
    """Kill a process that writes; return the state of the file, None if it was done before."""
    path = folder / output.name
    if output.put_old is not None:
        output.put_old(path)
    pid = _child(lambda: output.write(path))
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    state = output.state(path)
    allowed = ("old", "new") if output.put_old is not None else ("none", "new")
    assert state in allowed + ("begun",) * goes_on, f"it is {state}"
    output.write(path)
    assert output.state(path) in ("new", "begun"), "it cannot be written afterwards"
    return state if os.WIFSIGNALED(status) else None


def killed(
    number: int, seed: int = 0, report: Callable[[str], None] = print, only: str = ""
) -> Counter[str]:
    """Kill each kind of writing so many times, at random moments; return counts of states."""
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
    for end, number in sorted(ends.items()):
        print(f"{number:7} {end}")
    failed = sum(number for end, number in ends.items() if end.endswith("failed"))
    seconds = round(time.perf_counter() - start)
    print(f"{ends.total()} kills, {failed} failed, {seconds} s")
    if options.json is not None:
        options.json.write_text(json.dumps({**ends, "seconds": seconds}, indent=1))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
