"""What is said at the end of a script that counts how its trials ended."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path


def told(ends: Counter[str], what: str, start: float, path: Path | None) -> int:
    """Print how often there was each end, and write it to a file; return the exit code.

    Parameters
    ----------
    ends : Counter
        Those that end with "failed" broke a promise.
    what : str
        What was tried.
    start : float
        Of `time.perf_counter`.
    path : Path, optional
        JSON.
    """
    failed = sum(n for end, n in ends.items() if end.endswith("failed"))
    for end, number in sorted(ends.items()):
        print(f"{number:7} {end}")
    seconds = time.perf_counter() - start
    print(f"{ends.total()} {what}, {failed} failed, {seconds:.0f} s")
    if path is not None:
        path.write_text(json.dumps({**ends, "seconds": seconds}, indent=1))
    return 1 if failed else 0
