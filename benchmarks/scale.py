"""How time and memory grow with the image, and what a second worker brings.

    python benchmarks/scale.py --json out/scale.json
    python benchmarks/scale.py --sides 1024 2048 --volume 32 256 256 --cluster-side 1024

Images are stained tissue in 16 bits, turned, with noise, written chunk by chunk. Each is segmented
in a process of its own, and its peak memory is the kernel's (VmHWM, Linux), less what that process
took when all was imported and the model was loaded. The load of the machine is printed with every
row: on a busy one, times say more about the others. Rows of a cluster: scale_cluster.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import higra
import numpy as np
import scipy.cluster
import scipy.sparse
import torch
import zarr

import napari_aeseg as aeseg
from napari_aeseg import samples
from napari_aeseg.api import hierarchy_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
#: What is asked for: MiB over an idle process, growth of time, ratio of time per pixel, seconds.
FIXED, PER_BYTE, EXPONENT, PER_PIXEL, VIEW_SECONDS, SPEEDUP = 256, 0.25, 1.1, 1.3, 0.1, 1.6
VIEW, LEVELS = 2048, (2, 12, 100, 1000, 10000)


def write_image(path: Path, shape: tuple[int, ...], seed: int = 0) -> None:
    """Write tissue in 16 bits of any size, a chunk at a time, to a zarr folder."""
    sheet = samples.tissue().mean(axis=2)
    side = len(sheet)
    chunks = tuple(min(n, side if len(shape) == 2 else 64) for n in shape)
    part = path.with_suffix(".part")  # whoever is interrupted leaves no image with holes
    image = zarr.create_array(
        store=str(part), shape=shape, chunks=chunks, dtype="uint16", overwrite=True
    )
    starts = [range(0, n, c) for n, c in zip(shape, chunks, strict=True)]

    def fill(corner: tuple[int, ...]) -> None:
        rng = np.random.default_rng([seed, *corner])
        y, x = (c // side for c in corner[-2:])
        tile = np.rot90(sheet, int(np.random.default_rng([seed, y, x]).integers(4)))
        place = tuple(
            slice(c, min(c + n, s)) for c, n, s in zip(corner, chunks, shape, strict=True)
        )
        rows, columns = (np.arange(p.start, p.stop) % side for p in place[-2:])
        pixels = tile[np.ix_(rows, columns)] * 200
        # Structures of a volume move on from slice to slice.
        if len(place) == 3:
            pixels = np.stack(
                [tile[np.ix_((rows + z) % side, columns)] * 200
                 for z in range(place[0].start, place[0].stop)]
            )  # fmt: skip
        image[place] = (pixels + rng.normal(0, 1000, pixels.shape)).clip(0, 65535).astype(np.uint16)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, product(*starts)))
    part.rename(path)


def _memory(name: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


# What is imported at first use is not to be counted as memory that work takes.
IMPORTED = (da, higra, scipy.cluster, scipy.sparse)


def measured(path: str) -> dict[str, Any]:
    """Segment a stored image in this process: seconds and peak memory by stage, and of views."""
    image, model = zarr.open_array(path, mode="r"), aeseg.load_model("base")
    idle = _memory("VmRSS")
    peaks: dict[str, float] = {}
    seconds: dict[str, float] = {}
    work = hierarchy_steps(image, model, device="cpu", blocks=aeseg.BlockParams())
    _forget_peak()
    start, busy = time.perf_counter(), time.process_time()
    last = start
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            tree = end.value
            break
        now = time.perf_counter()
        seconds[event.stage] = seconds.get(event.stage, 0) + now - last
        peaks[event.stage] = max(peaks.get(event.stage, 0), _memory("VmHWM") - idle)
        last = now
        _forget_peak()
    whole, busy = time.perf_counter() - start, time.process_time() - busy
    views = {number: _view_seconds(tree, number) for number in LEVELS if number <= tree.n_patches}
    peaks["views"] = _memory("VmHWM") - idle
    return {
        "shape": image.shape,
        "pixels": image.size,
        "mib": image.nbytes / MIB,
        "idle": idle,
        "seconds": whole,
        "processor": busy,
        "stages": seconds,
        "peaks": peaks,
        "patches": tree.n_patches,
        "views": views,
    }


def _view_seconds(tree: aeseg.Hierarchy, number: int) -> float:
    """Seconds until a cut is shown: the median of five, each in another place."""
    found = []
    for k in range(5):
        corner = [(n - min(n, VIEW)) * k // 4 for n in tree.patches.shape[-2:]]
        part = (0,) * (tree.patches.ndim - 2) + tuple(slice(c, c + VIEW) for c in corner)
        start = time.perf_counter()
        np.asarray(tree.regions(n_regions=number)[part])
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def in_own_process(script: Path, *arguments: str) -> dict[str, Any]:
    """Run a script that prints JSON as its last line; torch in one thread where asked by OMP."""
    command = [sys.executable, str(script), *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def growth(rows: list[dict[str, Any]], what: str = "seconds") -> dict[str, float]:
    """Exponent of time over pixels, and time per pixel of the largest beside the smallest.

    Parameters
    ----------
    what : {"seconds", "processor"}
        Time on the clock, or processor time: the others on the machine count for less in it.
    """
    pixels, seconds = ([row[name] for row in rows] for name in ("pixels", what))
    exponent = np.polyfit(np.log(pixels), np.log(seconds), 1)[0]
    each = np.array(seconds) / pixels
    return {"exponent": float(exponent), "per_pixel": float(each[-1] / each[0])}


def bar(row: dict[str, Any]) -> float:
    """MiB over an idle process that are allowed."""
    return FIXED + PER_BYTE * row["mib"]


def _print_image(row: dict[str, Any]) -> None:
    peak = max(row["peaks"].values())
    stages = ", ".join(
        f"{name} {row['stages'].get(name, 0):.1f} s {mib:.0f} MiB"
        for name, mib in row["peaks"].items()
    )
    views = ", ".join(f"{number}: {s * 1000:.0f}" for number, s in row["views"].items())
    slowest = max(row["views"].values())
    print(
        f"{' x '.join(map(str, row['shape']))}: {row['seconds']:.1f} s, "
        f"{row['seconds'] / row['pixels'] * 1e6:.2f} us per pixel, of the processor "
        f"{row['processor'] / row['pixels'] * 1e6:.2f}; {row['patches']} patches; "
        f"peak {peak:.0f} MiB over idle ({row['idle']:.0f}), bar {bar(row):.0f}: "
        f"{_verdict(peak <= bar(row))}; load {row['load']:.1f}\n    {stages}\n"
        f"    cut and {VIEW} x {VIEW} view, ms: {views}: {_verdict(slowest < VIEW_SECONDS)}",
        flush=True,
    )


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def images(shapes: list[tuple[int, ...]], folder: Path) -> Iterator[dict[str, Any]]:
    """Write an image of each shape, if it is not there, and segment it in its own process."""
    for shape in shapes:
        path = folder / ("x".join(map(str, shape)) + ".zarr")
        if not path.exists():
            write_image(path, shape)
        yield {**in_own_process(Path(__file__), "--one", str(path)), "load": os.getloadavg()[0]}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="*", default=[4096, 8192, 16384])
    parser.add_argument("--volume", type=int, nargs="*", default=[512, 1024, 1024])
    parser.add_argument("--cluster-side", type=int, default=4096, help="0 leaves the cluster out")
    parser.add_argument("--folder", type=Path, help="where images are kept for the next time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.one:
        print(json.dumps(measured(args.one)))
        return
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = measure_all(args, folder)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1))


def measure_all(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure what is asked for and print it row by row."""
    report: dict[str, Any] = {"images": []}
    shapes = [(side, side) for side in args.sides]
    for row in images(shapes + ([tuple(args.volume)] if args.volume else []), folder):
        report["images"].append(row)
        _print_image(row)
    flat = [row for row in report["images"] if len(row["shape"]) == 2]
    if len(flat) > 1:
        report["growth"] = {what: growth(flat, what) for what in ("seconds", "processor")}
        for what, grown in report["growth"].items():
            print(
                f"{what} grow with pixels to the power {grown['exponent']:.2f}: "
                f"{_verdict(grown['exponent'] <= EXPONENT)}; per pixel, the largest takes "
                f"{grown['per_pixel']:.2f} of the smallest: "
                f"{_verdict(grown['per_pixel'] <= PER_PIXEL)}"
            )
    if args.cluster_side:
        path = folder / f"{args.cluster_side}x{args.cluster_side}.zarr"
        if not path.exists():
            write_image(path, (args.cluster_side, args.cluster_side))
        script = Path(__file__).with_name("scale_cluster.py")
        found = report["cluster"] = in_own_process(script, str(path))
        faster = found["one"] / found["two"]
        print(
            f"cluster, {args.cluster_side} x {args.cluster_side}: one worker {found['one']:.1f} s, "
            f"two {found['two']:.1f} s, {faster:.2f} x: {_verdict(faster >= SPEEDUP)}; "
            f"one of two killed at half time: {found['killed']:.1f} s; labels "
            f"{'the same' if found['same'] else 'DIFFER'}; load {os.getloadavg()[0]:.1f}"
        )
    return report


if __name__ == "__main__":
    main()
