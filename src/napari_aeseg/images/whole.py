"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

# Of the name that a file will have, so much is in the name that it has first.
_CHARACTERS = 60


def part_of(path: Path) -> Path:
    """Return a hidden name beside a file, with its ending, that nobody else has.

    Examples
    --------
    >>> part_of(Path("a.tif")).name.split(".")[::3]
    ['', 'part']
    """
    return path.with_name(f".{path.stem[:_CHARACTERS]}.{uuid4().hex[:8]}.part{path.suffix}")


@contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[Path]:
    """Give another name to write under: the file appears when it is complete, or stays as it was.

    What a link leads to is replaced, not the link.

    Yields
    ------
    Path
        Beside the file, with the same ending.

    Raises
    ------
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with whole_file(path) as part:
    ...     _ = part.write_text("all of it")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('all of it', 1)
    """
    target = Path(os.path.realpath(path))
    part = part_of(target)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            # A full disk says no name by itself.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        part.unlink(missing_ok=True)
