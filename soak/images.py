"""Hostile input: random images through all public functions, and damaged image files.

    python soak/images.py --number 5000

Of both kinds `--number` are tried. An image must give right labels or one of the package's errors,
and must not be written to; a file must be read or refused in words.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, seed, settings

import image_files
import random_images
from napari_aeseg.autoencoder.device import warm_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

Tried = tuple[Counter[str], dict[str, str]]
# Different failures that are told; more of them are counted.
_TOLD = 20
_SAID_EVERY = 250


def tried(
    cases: SearchStrategy, check: Callable[[object], Counter[str]], number: int, first_seed: int
) -> Tried:
    """Try so many cases; return what came of them, and one case for each way to fail."""
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}

    @seed(first_seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def one(case: object) -> None:
        counts["tried"] += 1
        if counts["tried"] % _SAID_EVERY == 0:
            print(f"  {dict(counts)}", flush=True)
        try:
            counts.update(check(case))
        except Exception as error:
            counts["failed"] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            failures.setdefault(
                f"{type(error).__name__} in {where.name}, line {where.lineno}",
                f"{case!r}\n{traceback.format_exc()}",
            )

    one()
    return counts, failures


def main() -> int:
    """Try images and files; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["images", "files"])
    parser.add_argument("--json", type=Path, help="file for the counts")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # tifffile tells of all that it finds
    warm_up()
    model = random_images.any_model()
    folder = tempfile.TemporaryDirectory()
    model_path = Path(folder.name) / "any.aeseg.safetensors"
    model.save(model_path)
    rows = {
        "images": (random_images.cases(), lambda case: random_images.try_image(case, model)),
        "files": (image_files.cases(), lambda case: image_files.try_file(case, model_path)),
    }
    found, failed = {}, False
    for name, (cases, check) in rows.items():
        if options.only not in (None, name):
            continue
        began = time.perf_counter()
        counts, failures = tried(cases, check, options.number, options.seed)
        found[name] = {**counts, "seconds": round(time.perf_counter() - began)}
        print(f"{name}: {', '.join(f'{v} {k}' for k, v in found[name].items())}", flush=True)
        for text in list(failures.values())[:_TOLD]:
            failed = True
            print(text, file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
