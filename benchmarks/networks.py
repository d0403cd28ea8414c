"""What the network costs and what it is worth: variants of it, by time and by quality.

    python benchmarks/networks.py --data FOLDER
    python benchmarks/networks.py --variants "default" "width 8" --seeds 0 1 2

Prints one table and writes every single score to a JSON file, as results come in; what that file
has already is not measured again. Each model is trained in a process of its own, which has a time
limit. All in one thread, all variants with the same steps, crops and seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import napari_aeseg as aeseg
import quality
from napari_aeseg.autoencoder.patch_moments import pooling_steps
from napari_aeseg.autoencoder.trainer import Trainer
from napari_aeseg.images.intensity import read_image
from napari_aeseg.progress import drain
from napari_aeseg.regions.patches.superpixels import make_patches
from network_report import picture_of, summary, table
from network_variants import DEFAULT, VARIANTS, Variant, installed
from ours import Ours, axes_of
from speed import load, picture, timed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Textures, a texture with gaps, things in grey and in colour.
SETS = ["texture_brodatz", "scratch_assay", "superalloy_sem", "wbc_large"]
STEPS_TIMED = 3


# -- time ----------------------------------------------------------------------------------------


class Timed:
    """A variant with random weights, to be timed on an RGB image."""

    def __init__(self, variant: Variant, image: np.ndarray) -> None:
        self.variant = variant
        self.image = read_image(image, "YXC")
        self.patches = make_patches(self.image.pixels, 8)
        with installed(variant):
            self.trainer = Trainer([self.image], variant.params(), "cpu")
            self.trainer.step()
            self.model = self.trainer.model()

    def encode(self) -> None:
        """Encode the image and sum its features per patch, as segmenting does."""
        with installed(self.variant):
            drain(pooling_steps(self.model, self.image, self.patches, device="cpu"))

    def train(self) -> None:
        for _ in range(STEPS_TIMED):
            self.trainer.step()

    def facts(self) -> dict[str, Any]:
        """Return its size, and multiplications per pixel in the encoder."""
        network = self.model.network
        x = torch.zeros(1, 3, 64, 64)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network.encoder_features(x)
        return {
            "parameters": sum(p.numel() for p in network.parameters()),
            "multiplications": counter.get_total_flops() / 2 / 64**2,
        }


def times(variants: Sequence[Variant], side: int, runs: int) -> Iterator[dict[str, Any]]:
    """Time all variants in turn, several times; the fastest counts, as others only slow it down."""
    image = picture(side)
    contestants = [Timed(variant, image) for variant in variants]
    found: dict[str, list[tuple[float, float]]] = {v.name: [] for v in variants}
    before = load()
    for _ in range(1 + runs):  # the first round only warms up
        for one in contestants:
            found[one.variant.name].append((timed(one.encode), timed(one.train) / STEPS_TIMED))
    for one in contestants:
        fastest = np.min(found[one.variant.name][1:], axis=0)
        beside = np.min(found[variants[0].name][1:], axis=0) / fastest
        yield {
            "variant": one.variant.name,
            **one.facts(),
            **dict(zip(("encode_seconds", "step_seconds"), fastest, strict=True)),
            **dict(zip(("encode_faster", "step_faster"), beside, strict=True)),
            "side": side,
            "load": [before, load()],
        }


# -- quality -------------------------------------------------------------------------------------


class Trained(Ours):
    """The default configuration with a model that is there already."""

    def __init__(self, model: aeseg.Model) -> None:
        self.model = model


def chosen(data: Path, name: str, limit: int) -> list[quality.Sample]:
    """Return so many images of a set, evenly spread over their names."""
    samples = quality.load(data, name, None)
    return samples[:: max(1, len(samples) // limit)][:limit]


def scored(variant: Variant, seed: int, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train a variant on the images of a set, without their labels, and score its segmentations."""
    samples = chosen(args.data, name, args.limit)
    images = [sample.image for sample in samples]
    params = variant.params(seed=seed, steps=args.steps, batch_size=args.batch)
    with installed(variant):
        start = time.process_time()
        model = aeseg.train(images, params, axes_of(images[0]), "cpu")
        trained = time.process_time() - start
        result = quality.measure(quality.SETS[name].kind, samples, lambda _: Trained(model))
        unexplained = [
            model.reconstruction_error(image, axes_of(image), "cpu").mean()
            / model.read(image, axes_of(image)).pixels.var()
            for image in images
        ]
    assert result is not None
    return {
        **_key(variant.name, seed, name, args),
        "scores": next(iter(result["scores"].values()))["images"],
        "unexplained": float(np.mean(unexplained)),
        "training_seconds": trained,
        "seconds_per_image": result["seconds_per_image"],
        "notes": list(model.record.notes),
    }


def _key(variant: str, seed: int, name: str, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "variant": variant,
        "seed": seed,
        "set": name,
        "steps": args.steps,
        "batch": args.batch,
        "limit": args.limit,
    }


# -- running -------------------------------------------------------------------------------------


class Results:
    """What has been measured, in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        known = json.loads(path.read_text()) if path.exists() else {}
        self.times: list[dict[str, Any]] = known.get("times", [])
        self.quality: list[dict[str, Any]] = known.get("quality", [])

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep rows and write the file."""
        for row in rows:
            (self.quality if "scores" in row else self.times).append(row)
        found = {"machine": quality.machine(), "times": self.times, "quality": self.quality}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(found, indent=1) + "\n")

    def alike(self, args: argparse.Namespace) -> list[dict[str, Any]]:
        """Return the scores of models trained as now, on the same images."""
        same = {name: getattr(args, name) for name in ("steps", "batch", "limit")}
        return [
            row for row in self.quality if row["set"] in args.sets and same.items() <= row.items()
        ]

    def has(self, key: dict[str, Any]) -> bool:
        """Return whether something has been scored."""
        return any(key.items() <= row.items() for row in self.quality)


def measured(arguments: list[str], limit_s: float) -> list[dict[str, Any]]:
    """Run this script for a part of the work; return what it found before it ended, or had to."""
    command = [sys.executable, __file__, "--worker", *arguments]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=alone)
    try:
        lines, _ = worker.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        worker.kill()
        lines, _ = worker.communicate()
        print(f"Ended after {limit_s:g} s: {' '.join(arguments)}", file=sys.stderr)
    if worker.returncode > 0:
        print(f"Failed: {' '.join(arguments)}", file=sys.stderr)
    return [json.loads(line) for line in lines.splitlines() if line.endswith("}")]


def run(args: argparse.Namespace, results: Results) -> None:
    """Measure what the file does not have yet: times first, then seed by seed."""
    untimed = {v.name for v in args.variants} - {row["variant"] for row in results.times}
    if untimed:
        names = [DEFAULT.name, *(n for n in VARIANTS if n in untimed - {DEFAULT.name})]
        rows = measured(["--variants", *names, *_passed_on(args)], args.time_limit)
        results.add([row for row in rows if row["variant"] in untimed])
    for seed in args.seeds:
        for variant in args.variants:
            key = {name: _key(variant.name, seed, name, args) for name in args.sets}
            sets = [name for name in args.sets if not results.has(key[name])]
            if sets:
                what = ["--sets", *sets, "--seeds", str(seed), "--variants", variant.name]
                start = time.perf_counter()
                results.add(measured([*what, "--score", *_passed_on(args)], args.time_limit))
                seconds = time.perf_counter() - start
                print(f"{variant.name}, seed {seed}: {seconds:.0f} s", file=sys.stderr)


def _passed_on(args: argparse.Namespace) -> list[str]:
    names = ("data", "steps", "batch", "limit", "side", "runs")
    return [text for name in names for text in (f"--{name}", str(getattr(args, name)))]


def work(args: argparse.Namespace) -> None:
    """Do a part of the work; print one JSON line for everything found."""
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    torch.set_num_threads(1)
    if not args.score:
        for row in times(args.variants, args.side, args.runs):
            print(json.dumps(row), flush=True)
        return
    for variant in args.variants:
        for name in args.sets:
            print(json.dumps(scored(variant, args.seeds[0], name, args)), flush=True)


# -- command line --------------------------------------------------------------------------------


def _variants(part: str) -> list[Variant]:
    found = [v for name, v in VARIANTS.items() if part == name or part.lower() in name.lower()]
    exact = [v for v in found if v.name == part]
    if not found:
        raise argparse.ArgumentTypeError(f"no variant {part!r}; there are: {', '.join(VARIANTS)}")
    return exact or found


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=quality.DATA, help="folder of the labelled sets")
    add("--sets", nargs="+", default=SETS, choices=quality.SETS, metavar="SET")
    add("--variants", nargs="+", type=_variants, metavar="PART", help="parts of names; default all")
    add("--seeds", nargs="+", type=int, default=[0, 1])
    add("--steps", type=int, default=400, help="training steps of each model")
    add("--batch", type=int, default=4, help="crops in a step: 4 are the preset 'fast'")
    add("--limit", type=int, default=4, help="images of each set")
    add("--side", type=int, default=1024, help="of the image that is encoded for time")
    add("--runs", type=int, default=5, help="how often each variant is timed")
    add("--time-limit", type=float, default=600, help="seconds for each process")
    add("--json", type=Path, default=quality.ROOT / "out" / "networks.json")
    add("--picture", type=Path, help="PNG to write: quality against encoding time")
    add("--worker", action="store_true", help=argparse.SUPPRESS)
    add("--score", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    wanted = [v for group in args.variants or [list(VARIANTS.values())] for v in group]
    args.variants = list(dict.fromkeys(wanted))
    missing = [name for name in args.sets if not (args.data / name / "images").is_dir()]
    if missing:
        there = ", ".join(quality.SETS)
        parser.exit(2, quality.MISSING.format(path=args.data / missing[0], sets=there) + "\n")
    return args


def main() -> None:
    args = parse()
    if args.worker:
        work(args)
        return
    results = Results(args.json)
    run(args, results)
    rows = summary(results.times, results.alike(args))
    print(table(rows))
    if args.picture and rows:
        picture_of(rows, args.picture)
    print(f"\nEvery score: {args.json}")


if __name__ == "__main__":
    main()
