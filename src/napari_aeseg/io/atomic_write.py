"""Atomic writes: a file or folder is complete, or as it was before."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from uuid import uuid4

from napari_aeseg.errors import InputError

# Characters of the final name in a temporary name: file systems limit its length.
_CHARACTERS = 60
# Seconds in which other threads of zarr end.
_SECONDS = 0.3


def temporary_name(path: Path) -> Path:
    """Return a unique hidden name beside a file, with its suffix."""
    return path.with_name(f".{path.stem[:_CHARACTERS]}.{uuid4().hex[:8]}.part{path.suffix}")


def check_writable(folder: str | PathLike[str]) -> None:
    """Raise InputError if files cannot be written to a folder; called before work of hours.

    The folder need not exist if it can be made.
    """
    wanted = Path(os.path.realpath(folder))
    existing = next(path for path in (wanted, *wanted.parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is no folder: nothing can be written to {wanted}.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"{existing} may not be written to: choose another folder for the results."
        )


def refuse_existing(paths: Sequence[Path], alternative: str) -> None:
    """Raise InputError if files exist that would be replaced.

    `alternative` is what the user can do instead, for the end of the message.
    """
    existing = [str(path) for path in paths if path.exists()]
    if existing:
        more = f" and {len(existing) - 3} more" if len(existing) > 3 else ""
        verb = "exists" if len(existing) == 1 else "exist"
        raise InputError(
            f"{', '.join(existing[:3])}{more} {verb} already. Choose another output, or "
            f"{alternative}."
        )


def remove_folder(folder: Path, *, failed: bool = False) -> None:
    """Delete a folder with its contents; errors are ignored.

    If writing to it has just `failed`, other threads of zarr may still write for a moment, and make
    the folder again.
    """
    shutil.rmtree(folder, ignore_errors=True)
    end = time.monotonic() + _SECONDS
    while failed and time.monotonic() < end:
        time.sleep(0.01)
        shutil.rmtree(folder, ignore_errors=True)


def with_file_name(error: OSError, path: str | PathLike[str]) -> OSError:
    """Return an error with the name of the file: that of a full disk has none."""
    if error.errno is None or error.filename is not None:
        return error
    return OSError(error.errno, error.strerror, str(path))


@contextmanager
def atomic_write(path: str | PathLike[str]) -> Iterator[Path]:
    """Write under a temporary name: the file is complete when it appears, or stays as it was.

    Yields the name to write under, with the same suffix. The target of a link is replaced, not the
    link.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():  # os.replace would name the temporary file in its error
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = temporary_name(target)
    try:
        yield part
        with part.open("rb+") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())  # else a crash may leave the new name without contents
        os.replace(part, target)  # atomic, because both are in one folder
    except OSError as error:
        raise with_file_name(error, path) from error
    finally:
        part.unlink(missing_ok=True)  # it is missing where it was renamed
