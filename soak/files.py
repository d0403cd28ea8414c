"""Reads thousands of hostile model files, saved hierarchies and folders of blocks.

Each must be refused with the project's own error and a clear text, or give something sound: without
a crash, a hang, memory that only the file promises, code that runs or a file written elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

#: Of so many files each: reading a hierarchy takes ten times as long as reading a model.
SHARES = {"model": 0.93, "hierarchy": 0.05, "blocks": 0.02}
#: Seconds after which a file counts as one that hangs, and for all good files together.
_LONGEST, _LONGEST_START = 60.0, 600.0
_HERE = Path(__file__).parent


class Readers:
    """A process that reads files, and the next one when it died or hung."""

    def __init__(self) -> None:
        self.started = 0
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[str] | None = None

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._last_words()  # and close what they are in

    def read(self, kind: str, seed: int) -> dict[str, Any]:
        """Have one file read; a death or a hang is an outcome too."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        print(kind, seed, file=self._process.stdin, flush=True)
        answer = self._answer(_LONGEST)
        if answer is not None:
            return answer
        how = self._end()
        return {
            "kind": kind,
            "seed": seed,
            "what": "?",
            "outcome": how,
            "problems": [f"{how}: {self._last_words()}"],
            "taken": 0,
            "seconds": _LONGEST,
        }

    def _start(self) -> None:
        self.started += 1
        self._said = tempfile.TemporaryFile("w+")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "reading.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
        )
        if self._answer(_LONGEST_START) is None:
            self._end()
            raise RuntimeError(f"Good files could not be read: {self._last_words()}")

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        line = self._process.stdout.readline()
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found

    def _end(self) -> str:
        """End the process; return whether it had died or hung."""
        if self._process is None:
            return ""
        code = self._process.poll()
        if code is None:
            with_input = self._process.stdin
            if with_input is not None:
                with_input.close()
            try:
                code = self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None
        return "hangs" if code is None else f"died ({code})"

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(0)
        words = self._said.read()[-3000:]
        self._said.close()
        self._said = None
        return words


def read_hostile_files(
    number: int, seed: int = 0, shares: dict[str, float] | None = None, verbose: bool = False
) -> dict[str, Any]:
    """Read so many hostile files; return counts, and all that went wrong.

    Parameters
    ----------
    number : int
    seed : int
        Another one gives other files.
    shares : dict
        How many of them are of each kind; `SHARES` by default.
    verbose : bool
        Whether to say what goes wrong as soon as it does, and now and then how far it is.
    """
    shares = SHARES if shares is None else shares
    # Kinds by turns: also a part of it is a sample of all.
    work = sorted(
        ((i + 0.5) / share, kind, i)
        for kind, share in shares.items()
        for i in range(round(number * share))
    )
    counts: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    most: Counter[str] = Counter()
    start = time.perf_counter()
    with Readers() as readers:
        for done, (_, kind, i) in enumerate(work, 1):
            found = readers.read(kind, seed * 10**6 + i)
            counts[f"{kind} {found['outcome']}"] += 1
            counts[f"{kind}: {found['what']}"] += 1
            most[kind] = max(most[kind], found["taken"])
            if found["problems"]:
                failures.append(found)
            if verbose and found["problems"]:
                _say(found)
            if verbose and done % 500 == 0:
                print(f"{done} files in {time.perf_counter() - start:.0f} s", flush=True)
        started = readers.started
    return {
        "files": len(work),
        "seed": seed,
        "counts": dict(sorted(counts.items())),
        "most memory, MiB": {kind: round(n / 2**20) for kind, n in most.items()},
        "processes": started,
        "failures": failures,
        "seconds": round(time.perf_counter() - start),
    }


def _say(found: dict[str, Any]) -> None:
    print(f"--- {found['kind']} {found['seed']} ({found['what']})", flush=True)
    for problem in found["problems"]:
        print(problem, flush=True)


def main() -> int:
    """Read files as the command line says; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=20_000, help="of files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the counts")
    options = parser.parse_args()
    found = read_hostile_files(options.number, options.seed, verbose=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))
    for name, count in found["counts"].items():
        print(f"{count:7} {name}")
    print(f"most memory beyond what was in use: {found['most memory, MiB']} MiB")
    print(f"{found['files']} files in {found['seconds']} s, {len(found['failures'])} went wrong")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
