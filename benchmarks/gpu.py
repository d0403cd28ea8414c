"""How fast a GPU encodes and trains, beside what it could do, and whether it finds the same.

    python benchmarks/gpu.py --json out/gpu.json
    python benchmarks/gpu.py --device cpu --sides 512 --steps 20

The floor of encoding is worked out from the network and from the card's rates, which are measured
first: operations over the rate of matrix products, bytes over the rate of copies. Without a GPU it
runs at small sizes on the CPU, which shows that it works and nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

import napari_aeseg as aeseg
from napari_aeseg import samples
from napari_aeseg.api import hierarchy_steps
from napari_aeseg.autoencoder.device import choose_device
from napari_aeseg.autoencoder.patch_moments import patch_moments_steps
from napari_aeseg.autoencoder.trainer import Trainer
from napari_aeseg.autoencoder.training_loop import training_steps
from napari_aeseg.progress import drain
from scores import overlap_table
from speed import load, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_aeseg.autoencoder.architecture import Architecture

    Row = dict[str, Any]

PATCH = 8
CUTS: dict[str, Callable[[aeseg.Hierarchy], np.ndarray]] = {
    **{f"{n} regions": methodcaller("regions", n_regions=n) for n in (7, 12, 50)},
    "3 classes": methodcaller("classes", n_classes=3),
}


def finish(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def seconds(work: Callable[[], object], device: torch.device, runs: int = 5) -> list[float]:
    """Return how long some work takes, after a run that does not count."""
    found = []
    for _ in range(runs + 1):
        finish(device)
        start = time.perf_counter()
        work()
        finish(device)
        found.append(time.perf_counter() - start)
    return found[1:]


def rates(device: torch.device) -> dict[str, float]:
    """Return the best rates of matrix products, in FLOP/s, and of copies, in bytes/s."""
    n, size = (16384, 2**30) if device.type == "cuda" else (512, 2**25)
    found = {}
    for name, allowed in (("float32", "highest"), ("TF32", "high")):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(allowed)
        a, b = (torch.rand((n, n), device=device) for _ in range(2))
        found[name] = 2 * n**3 / min(seconds(partial(torch.mm, a, b), device))
        torch.set_float32_matmul_precision(before)
    big = torch.zeros(size, dtype=torch.uint8, device=device)
    there = torch.empty_like(big)
    found["memory"] = 2 * size / min(seconds(lambda: there.copy_(big), device))
    pinned = torch.zeros(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    found["to the device"] = size / min(seconds(lambda: there.copy_(pinned), device))
    found["from the device"] = size / min(seconds(lambda: pinned.copy_(there), device))
    return found


def operations(architecture: Architecture) -> float:
    """Multiplications and additions of the encoder, for each pixel of the image."""
    total, inputs = 0.0, architecture.channels
    for level, outputs in enumerate(architecture.level_channels[1:]):
        for _ in range(architecture.convolutions):
            total += 9 * inputs * outputs / 4**level
            inputs = outputs
    return total


def values_moved(architecture: Architecture) -> float:
    """Numbers read and written, for each pixel, if each layer's output is written and read once."""
    layers = (n / 4**level for level, n in enumerate(architecture.level_channels[1:]))
    return architecture.channels + 2 * architecture.convolutions * sum(layers)


def floor(architecture: Architecture, known: dict[str, float]) -> dict[str, float]:
    """Return the least seconds for each pixel: to compute, to move, to bring here and there."""
    features = sum(architecture.level_channels)
    return {
        "operations": 2 * operations(architecture) / known["float32"],
        "memory": 4 * values_moved(architecture) / known["memory"],
        # The image as float32 and the patch ids; then two moments of each feature of each patch.
        "to the device": 4 * (architecture.channels + 1) / known["to the device"],
        "from the device": 8 * features / PATCH**2 / known["from the device"],
    }


# -- rows ------------------------------------------------------------------------------------------


def encoding(args: argparse.Namespace, known: dict[str, float]) -> Iterator[Row]:
    """Encode large images and sum per patch."""
    model, device = aeseg.load_model("base"), args.device
    small = model.read(picture(512), "YXC")
    for side in args.sides:
        times = -(-side // 512)
        pixels = np.tile(small.pixels, (1, times, times))[:, :side, :side]
        image = replace(small, pixels=np.ascontiguousarray(pixels))
        cells = np.arange(side, dtype=np.int32) // PATCH
        patches = cells[:, None] * (cells[-1] + 1) + cells
        peak(device)
        work = partial(staged, model, image, patches, device)
        stages = [work() for _ in range(args.runs + 1)][1:]
        parts = {name: statistics.median(s[name] for s in stages) for name in stages[0]}
        least = floor(model.architecture, known)
        here = side**2 * max(least["operations"], least["memory"])
        bus = side**2 * (least["to the device"] + least["from the device"])
        yield {
            "what": f"encoding + sums, {side} x {side} RGB",
            "seconds": parts["all"],
            "gigapixels per second": side**2 / parts["all"] / 1e9,
            "floor on the device, s": here,
            "times the floor on the device": parts["all"] / here,
            "floor of transfers, s": bus,
            "times the larger floor": parts["all"] / max(here, bus),
            "parts, s": parts,
            "peak GiB on the device": peak(device),
        }


def staged(
    model: aeseg.Model, image: Any, patches: np.ndarray, device: torch.device
) -> dict[str, float]:
    """Return the seconds of parts of the work; a GPU may lag behind by two tiles."""
    at = [time.perf_counter()]
    work = patch_moments_steps(model, image, patches, device=str(device))
    drain(work, lambda _: at.append(time.perf_counter()))
    at.append(time.perf_counter())
    return {
        "first tile": at[1] - at[0],
        "other tiles": at[-2] - at[1],
        "result": at[-1] - at[-2],
        "all": at[-1] - at[0],
    }


def training(args: argparse.Namespace, _known: dict[str, float]) -> Iterator[Row]:
    """Train with the default parameters."""
    image = aeseg.load_model("base").read(picture(1024), "YXC")
    params = aeseg.TrainingParams(steps=args.steps)
    used: list[str] = []
    peak(args.device)
    trained(image, params.updated(steps=5), args.device, used)
    start = time.perf_counter()
    model = trained(image, params, args.device, used)
    taken = time.perf_counter() - start
    default = "the default run" if params == aeseg.TrainingParams() else f"{args.steps} steps"
    yield {
        "what": f"training, {default}",
        "seconds": taken,
        "steps per second": args.steps / taken,
        "precision reported": used[-1],
        "mean of the last 10 losses": float(np.mean(model.losses[-10:])),
        "peak GiB on the device": peak(args.device),
    }


def trained(
    image: Any, params: aeseg.TrainingParams, device: torch.device, used: list[str]
) -> aeseg.Model:
    """Train, and note in `used` what precision events report."""
    work = training_steps(Trainer([image], params, str(device)))
    return drain(work, lambda event: used.append(event.precision))


def sameness(args: argparse.Namespace, _known: dict[str, float]) -> Iterator[Row]:
    """Compare regions and classes of texture mosaics with those of the CPU in float32."""
    model = aeseg.load_model("base")
    images = [samples.textures(seed) for seed in range(args.mosaics)]
    trees = [drain(hierarchy_steps(image, model, axes="YX", device="cpu")) for image in images]
    there = [drain(hierarchy_steps(i, model, None, "YX", str(args.device))) for i in images]
    pairs = list(zip(trees, there, strict=True))
    shares = {n: [same_pixels(cut(a), cut(b)) for a, b in pairs] for n, cut in CUTS.items()}
    yield {
        "what": f"pixels as on the CPU, {args.mosaics} texture mosaic(s)",
        **{f"{n}, mean and least": f"{np.mean(s):.4f}, {min(s):.4f}" for n, s in shares.items()},
        "means of features differ by": max(difference(a, b) for a, b in pairs),
        "each": shares,
    }


def difference(expected: aeseg.Hierarchy, found: aeseg.Hierarchy) -> float:
    """Return the largest difference of patches' mean features, as a part of the largest mean."""
    a, b = expected.statistics.mean, found.statistics.mean
    return float((np.abs(a - b).max(axis=0) / np.abs(a).max(axis=0)).max())


def same_pixels(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the share of pixels on which labels agree, whatever they are called."""
    table = overlap_table(expected, found).toarray()
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / expected.size)


ROWS = {"encoding": encoding, "training": training, "sameness": sameness}


def peak(device: torch.device) -> float | None:
    """Return the most GiB that tensors took since the last call; None where nobody counts."""
    if device.type != "cuda":
        return None
    most = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return most


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=choose_device, help="cuda, cuda:1, mps or cpu")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--sides", type=int, nargs="+", help="pixels along each side")
    parser.add_argument("--runs", type=int, default=5, help="of encoding")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--mosaics", type=int, help="texture mosaics to be compared")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    if args.device is None:
        args.device = choose_device("auto")
        if args.device.type == "cpu":
            print("No GPU that torch can use: small sizes on the CPU.")
    small = args.device.type == "cpu"
    args.sides = args.sides or ([512] if small else [4096, 8192, 16384])
    args.steps = args.steps or (20 if small else aeseg.TrainingParams().steps)
    args.mosaics = args.mosaics or (1 if small else 8)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    known = rates(args.device)
    architecture = aeseg.load_model("base").architecture
    card = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else None
    facts = {
        "device": str(args.device),
        "card": card,
        "torch": torch.__version__,
        "rates, per second": known,
        "multiplications and additions per pixel": operations(architecture),
        "floor, seconds per pixel": floor(architecture, known),
    }
    print(json.dumps(facts, indent=1))
    rows = []
    for name in args.only:
        before = load()
        for row in ROWS[name](args, known):
            rows.append({"row": name, "load": [before, load()], **row})
            for key, value in row.items():
                text = f"{value:.4g}" if isinstance(value, float) else value
                print(f"\n{text}" if key == "what" else f"    {key}: {text}", flush=True)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
