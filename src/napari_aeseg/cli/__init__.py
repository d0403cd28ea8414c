"""Command line: ``napari-aeseg demo | train | segment | info``.

Each command is a module with `add_options(parser)` and `run(options)`, imported when it is used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from napari_aeseg.errors import AesegError, StoppedError

#: Modules of this folder, with a line of help.
COMMANDS = {
    "demo": "train on sample images, segment them, show them in napari",
    "train": "train a model on image files",
    "segment": "segment image files",
    "info": "print the contents of a model, a saved hierarchy or an image",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0: success; 1: an error, printed to stderr, or some files failed; 130: interrupted.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
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


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command; `options.run(options)` runs it."""
    parser = argparse.ArgumentParser(
        prog="napari-aeseg",
        description="Label-free segmentation: train an autoencoder on the images, "
        "merge patches that look alike.",
    )
    commands = parser.add_subparsers(required=True, metavar=" | ".join(COMMANDS))
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        if name in arguments[:1]:
            module = import_module(f"{__name__}.{name}")
            module.add_options(command)
            command.set_defaults(run=module.run)
    return parser.parse_args(arguments)
