"""How long background work holds up a window, and how soon it stops when asked.

    python benchmarks/responsiveness.py --json out/responsiveness.json
    python benchmarks/responsiveness.py --side 1024 --images grey

Every stage runs in a thread while the main thread ticks every 10 ms, as a window's would: a late
tick is a frozen window. Stop is asked for at random moments of each stage.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_aeseg as aeseg
from napari_aeseg.autoencoder.patch_moments import patch_moments_steps
from napari_aeseg.errors import StoppedError
from napari_aeseg.progress import drain
from napari_aeseg.regions.hierarchy import Hierarchy
from napari_aeseg.regions.objects.maps import brightness_of
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.statistics import PatchStatistics, channel_means, geometry
from napari_aeseg.regions.patches.superpixels import make_patches
from speed import load, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Work = Callable[[threading.Event], Any]

TICK = 0.01
#: Milliseconds that should not be exceeded.
BARS = {"longest gap": 150, "99% of gaps": 60, "stop": 500, "reweighted": 250}


@dataclass(frozen=True)
class Timing:
    """One stage; everything in milliseconds."""

    stage: str
    took: float
    longest_gap: float
    gap_99: float
    stop: float | None = None


def ticked(work: Callable[[], Any]) -> tuple[Any, float, NDArray]:
    """Run work in a thread: its result, seconds, and the gaps between ticks of the main thread."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        start = time.perf_counter()
        try:
            outcome["result"] = work()
        except Exception as error:  # noqa: BLE001 - raised again below, in the main thread
            outcome["error"] = error
        outcome["took"] = time.perf_counter() - start

    thread = threading.Thread(target=run)
    last, gaps = time.perf_counter(), []
    thread.start()
    while True:
        time.sleep(TICK)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
        if not thread.is_alive():
            break
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"], outcome["took"], np.array(gaps)


def stop_latency(work: Work, after: float) -> float | None:
    """Seconds from asking to stop until work ends; None if it was done before."""
    stop, asked = threading.Event(), []

    def ask() -> None:
        asked.append(time.perf_counter())
        stop.set()

    timer = threading.Timer(after, ask)
    timer.start()
    try:
        work(stop)
    except StoppedError:
        return time.perf_counter() - asked[0]
    finally:
        timer.cancel()
    return time.perf_counter() - asked[0] if asked else None


def measured(stage: str, work: Work, stops: int, rng: np.random.Generator) -> tuple[Any, Timing]:
    """Run a stage once with ticks, and some times more to be stopped."""
    result, took, gaps = ticked(lambda: work(threading.Event()))
    waits = [stop_latency(work, float(took * rng.random())) for _ in range(stops)]
    known = [wait for wait in waits if wait is not None]
    return result, Timing(
        stage,
        took * 1e3,
        gaps.max() * 1e3,
        float(np.percentile(gaps, 99)) * 1e3,
        max(known) * 1e3 if known else None,
    )


def stages(kind: str, side: int, stops: int, objects: bool) -> Iterator[Timing]:
    """Measure everything between an image and its labels."""
    rng = np.random.default_rng(0)
    image, axes = (
        picture(side) if kind == "rgb" else picture(side).mean(axis=2),
        "YXC" if kind == "rgb" else "YX",
    )
    params, comparison = aeseg.SegmentationParams(), aeseg.ComparisonParams()
    model = aeseg.train(image[:512, :512], aeseg.TrainingParams(steps=60), axes=axes, device="cpu")
    read = model.read(image, axes)
    patches, timing = measured(
        "patches",
        lambda stop: make_patches(read.pixels, params.patch_size, params.patches, stop),
        stops,
        rng,
    )
    yield timing
    moments, timing = measured(
        "encode",
        lambda stop: drain(patch_moments_steps(model, read, patches, device="cpu", stop=stop)),
        stops,
        rng,
    )
    yield timing
    graph, timing = measured("graph", lambda stop: region_graph(patches, stop), stops, rng)
    yield timing

    def known(_: threading.Event) -> PatchStatistics:
        count, centroid = geometry(patches)
        intensity = channel_means(patches, read.pixels, count)
        return PatchStatistics(
            count, moments.mean, moments.second, moments.level, centroid, intensity
        )

    statistics, timing = measured("statistics", known, 0, rng)
    yield timing
    brightness = brightness_of(read.pixels)

    def tree(stop: threading.Event) -> Hierarchy:
        parts = patches, statistics, graph, read.axes, params, comparison, brightness
        return Hierarchy(*parts).prepare(stop)

    hierarchy, timing = measured("descriptor and tree", tree, stops, rng)
    yield timing
    for name, changes in (("balance", {"balance": 0.7}), ("scale", {"scale": 3.0})):

        def again(stop: threading.Event, changes: dict[str, float] = changes) -> NDArray:
            return hierarchy.reweighted(**changes).prepare(stop).regions(n_regions=100)

        yield measured(f"reweighted: {name}", again, stops, rng)[1]
    if objects:
        yield measured("objects", lambda stop: hierarchy.objects(stop=stop), stops, rng)[1]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=2048, help="pixels along each side")
    parser.add_argument("--images", nargs="+", choices=["grey", "rgb"], default=["grey", "rgb"])
    parser.add_argument("--stops", type=int, default=5, help="times each stage is stopped")
    parser.add_argument("--no-objects", action="store_true", help="leave out objects (slow)")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    args = parse()
    before = load()
    print(f"{os.cpu_count()} cores, load {before:.1f}, {platform.platform()}")
    print("Bars, ms: " + ", ".join(f"{name} {bar}" for name, bar in BARS.items()))
    results = []
    for kind in args.images:
        print(f"\n{kind}, {args.side} x {args.side}; all in ms")
        print(f"{'':34} {'took':>7} {'longest gap':>12} {'99%':>6} {'stop':>6}")
        for timing in stages(kind, args.side, args.stops, not args.no_objects):
            stop = "" if timing.stop is None else f"{timing.stop:6.0f}"
            print(
                f"{timing.stage:34} {timing.took:7.1f} {timing.longest_gap:12.0f} "
                f"{timing.gap_99:6.0f} {stop:>6}",
                flush=True,
            )
            results.append({"image": kind, "side": args.side, **asdict(timing)})
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(
            json.dumps({"cores": os.cpu_count(), "load": before, "stages": results})
        )


if __name__ == "__main__":
    main()
