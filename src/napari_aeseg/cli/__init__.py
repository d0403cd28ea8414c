"""Command line: ``napari-aeseg demo | train | segment | info``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from napari_aeseg.cli import demo, info, segment, train
from napari_aeseg.errors import AesegError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0: all is done; 1: an error was said on stderr, or some of the files failed; 130: interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (KeyboardInterrupt, StoppedError):
        print("napari-aeseg: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"napari-aeseg: out of memory ({error or 'no details'})", file=sys.stderr)
        return 1
    except (AesegError, OSError) as error:
        print(f"napari-aeseg: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-aeseg",
        description="Label-free segmentation: learn an autoencoder from the images, "
        "merge patches that look alike.",
    )
    commands = parser.add_subparsers(required=True, metavar="demo | train | segment | info")
    for command in (demo, train, segment, info):
        command.add_to(commands)
    return parser
