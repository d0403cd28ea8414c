"""What became of the files of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    Parameters
    ----------
    path : Path
    status : {"done", "failed", "skipped", "stopped"}
        "skipped" when its results exist already, "stopped" when its turn never came.
    text : str
        What was read, or what went wrong.
    labels : int
        Number of labels.
    seconds : float
    written : tuple of Path
    """

    path: Path
    status: Literal["done", "failed", "skipped", "stopped"]
    text: str = ""
    labels: int = 0
    seconds: float = 0.0
    written: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of all files, in their order.

    Examples
    --------
    >>> from pathlib import Path
    >>> report = BatchReport((FileOutcome(Path("a.tif"), "failed", "no image"),))
    >>> print(report)
    1 file: 1 failed
    a.tif: failed, no image
    """

    files: tuple[FileOutcome, ...]

    @property
    def failed(self) -> tuple[FileOutcome, ...]:
        """The files that could not be segmented."""
        return tuple(f for f in self.files if f.status == "failed")

    @property
    def summary(self) -> str:
        """One line, such as "3 files: 2 done, 1 failed"."""
        states = ("done", "skipped", "failed", "stopped")
        counts = {s: sum(f.status == s for f in self.files) for s in states}
        told = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
        return f"{len(self.files)} file{'s' if len(self.files) != 1 else ''}: {told}"

    def __str__(self) -> str:
        lines = [_line(f) for f in self.files if f.status != "done"]
        return "\n".join([self.summary, *lines])


def _line(file: FileOutcome) -> str:
    name = file.path.name
    # Errors begin with the name too.
    text = file.text.removeprefix(name).lstrip(": ")
    return f"{name}: {file.status}, {text}"
