"""How fast this project is, beside other ways to the same, measured side by side in one run.

    python benchmarks/speed.py --json out/speed.json
    python benchmarks/speed.py --only cut reweighted import --side 1024

Every row is a ratio of two medians taken alternately; the load of the machine is printed, because
on a busy one no row can be trusted. Peers are in speed_peers.py and run with the same threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import napari_aeseg as aeseg
import speed_peers
import superpixels
from napari_aeseg import samples
from napari_aeseg.api import hierarchy_steps, train_steps
from napari_aeseg.images.parallel import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from numpy.typing import NDArray

N_REGIONS = 50
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One line of the table: `ours` and `theirs` in `unit`; `ratio` or `ours` is held to bars."""

    what: str
    beside: str
    ours: float
    theirs: float
    unit: str
    #: What the bars are about: how many times better, or a value that should be small.
    measure: float
    reach: float
    reach_for: float
    higher_is_better: bool
    note: str = ""

    @property
    def verdict(self) -> str:
        """How far the measure has got."""
        sign = 1 if self.higher_is_better else -1
        if sign * self.measure >= sign * self.reach_for:
            return "reached, and what to reach for"
        return "reached" if sign * self.measure >= sign * self.reach else "MISSED"


def picture(side: int) -> NDArray:
    """Stained tissue tiled to a size, turned, with noise: no part is like another. uint8 RGB."""
    tile, rng = samples.tissue(), np.random.default_rng(0)
    times = -(-side // len(tile))
    rows = [
        np.concatenate([np.rot90(tile, int(rng.integers(4))) for _ in range(times)], axis=1)
        for _ in range(times)
    ]
    image = np.concatenate(rows)[:side, :side] + rng.normal(0, 5, (side, side, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def staged(work: Generator[Any, None, Any]) -> tuple[Any, dict[str, float]]:
    """Run a generator of events; its result, and the seconds up to the last event of each stage."""
    seconds: dict[str, float] = {}
    last = time.perf_counter()
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            return end.value, seconds
        now = time.perf_counter()
        seconds[event.stage] = seconds.get(event.stage, 0) + now - last
        last = now


def _median(values: list[float]) -> float:
    return statistics.median(values)


# -- rows: each yields what it has measured --------------------------------------------------------


def segment(args: argparse.Namespace) -> Iterator[Row]:
    """Segment with a ready model, with and without encoding."""
    image, model = picture(args.side), aeseg.load_model("base")
    patches = (args.side // aeseg.SegmentationParams().patch_size) ** 2
    aeseg.segment(image[:256, :256], model, N_REGIONS, device="cpu")
    whole, unencoded, theirs, stages = [], [], [], []
    for run in range(args.runs):
        start = time.perf_counter()
        tree, seconds = staged(hierarchy_steps(image, model, device="cpu"))
        tree.regions(n_regions=N_REGIONS)
        whole.append(time.perf_counter() - start)
        unencoded.append(whole[-1] - seconds["encode"])
        stages.append(seconds)
        if run < args.slow_runs:
            peer = lambda: superpixels.merged_superpixels(image, patches, N_REGIONS)  # noqa: E731
            theirs.append(timed(peer))
    slow = _median(theirs)
    parts = {name: _median([s[name] for s in stages]) for name in stages[0]}
    note = ", ".join(f"{name} {value:.2f}" for name, value in parts.items()) + " s"
    beside = f"scikit-image: slic, rag_mean_color, merge_hierarchical to {N_REGIONS} regions"
    for what, ours, bars in (
        ("segment", whole, (15, 40)),
        ("without encoding", unencoded, (40, 100)),
    ):
        best = _median(ours)
        yield Row(f"{what}, {args.side} x {args.side} RGB", beside, best, slow, "s", slow / best,
                  *bars, True, note)  # fmt: skip


def _tree(args: argparse.Namespace) -> Any:
    return aeseg.build_hierarchy(picture(args.side), "base", device="cpu")


def cut(args: argparse.Namespace) -> Iterator[Row]:
    """Cut and labels: what a slider does."""
    tree, rng = _tree(args), np.random.default_rng(0)
    numbers = rng.integers(2, tree.n_patches, 200).tolist()
    seconds = [timed(lambda n=n: tree.regions(n_regions=n)) for n in numbers]  # type: ignore[misc]
    ours = float(np.percentile(seconds, 95)) * 1e3
    note = f"median {_median(seconds) * 1e3:.1f} ms"
    yield Row("cut + labels, 95th percentile", "one 60 Hz frame", ours, 1e3 / 60, "ms", ours, 16, 4,
              False, note)  # fmt: skip


def reweighted(args: argparse.Namespace) -> Iterator[Row]:
    """Another balance or scale, up to the labels."""
    tree = _tree(args)
    tree.regions(n_regions=N_REGIONS)
    for name, values in (("balance", (0.3, 0.7, 0.6, 0.4)), ("scale", (1.0, 2.0, 3.0, 16.0))):
        seconds = []
        for value in values:
            start = time.perf_counter()
            tree.reweighted(**{name: value}).regions(n_regions=N_REGIONS)
            seconds.append(time.perf_counter() - start)
        ours = _median(seconds) * 1e3
        listed = ", ".join(f"{v:g}: {s * 1e3:.0f}" for v, s in zip(values, seconds, strict=True))
        yield Row(f"changed {name} -> labels", "", ours, float("nan"), "ms", ours, 250, 60, False,
                  f"scale {tree.descriptor.scale:g} at first; {name} {listed} ms")  # fmt: skip


def training(args: argparse.Namespace) -> Iterator[Row]:
    """Crops per second of training, beside the network alone."""
    image, steps = picture(args.training_side), args.steps
    params = aeseg.TrainingParams()
    scaled = aeseg.load_model("base").read(image, "YXC").pixels
    ours, theirs = [], []
    for _ in range(args.runs):
        times: list[tuple[int, float]] = []
        for event in train_steps(image, params.updated(steps=steps), "YXC", "cpu"):
            if event.stage == "train":
                times.append((event.done, time.perf_counter()))
        (first, start), (last, end) = times[0], times[-1]
        ours.append((last - first) * params.batch_size / (end - start))
        theirs.append(speed_peers.bare_loop(scaled, params.batch_size, params.crop_size, steps))
    a, b = _median(ours), _median(theirs)
    ratio = _median([x / y for x, y in zip(ours, theirs, strict=True)])
    yield Row("training, crops per second", "the same network in a bare loop", a, b, "crops/s",
              ratio, 0.9, 0.98, True)  # fmt: skip


_PEAK = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
image = np.load({file!r})
{work}
try:  # what getrusage tells of a process begins with what the one that started it had
    lines = open("/proc/self/status").read().splitlines()
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10)
except FileNotFoundError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / (2**20 if sys.platform == "darwin" else 2**10))
"""


def memory(args: argparse.Namespace) -> Iterator[Row]:
    """Peak resident memory of whole processes."""
    patches = (args.side // aeseg.SegmentationParams().patch_size) ** 2
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "image.npy")
        np.save(file, picture(args.side))
        nothing, ours, theirs = (
            float(_python(_PEAK.format(here=str(HERE), file=file, work=work)))
            for work in (
                "import napari_aeseg as a; a.load_model('base')",
                f"import napari_aeseg as a; a.segment(image, 'base', {N_REGIONS}, device='cpu')",
                f"import superpixels as s; s.merged_superpixels(image, {patches}, {N_REGIONS})",
            )
        )
    yield Row(f"peak memory, {args.side} x {args.side} RGB", "the scikit-image route", ours, theirs,
              "MiB", ours / theirs, 1, 0.5, False,
              f"of ours, {nothing:.0f} before any work: image, torch, model")  # fmt: skip


_IMPORT = "import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"


def imports(args: argparse.Namespace) -> Iterator[Row]:
    """Importing the package, in a new process each time."""
    found: dict[str, list[float]] = {"napari_aeseg": [], "numpy": []}
    for _ in range(3 * args.runs):
        for name, seconds in found.items():
            seconds.append(float(_python(_IMPORT.format(name=name))) * 1e3)
    ours, theirs = (_median(seconds) for seconds in found.values())
    yield Row("import napari_aeseg", "import numpy", ours, theirs, "ms", ours - theirs, 50, 20,
              False)  # fmt: skip


_DOCK = """
import os, time
import napari
from qtpy.QtWidgets import QApplication, QWidget
viewer = napari.Viewer()
def opened(work):
    QApplication.processEvents()
    start = time.perf_counter()
    work()
    QApplication.processEvents()
    return 1e3 * (time.perf_counter() - start)
opened(lambda: viewer.window.add_dock_widget(QWidget(), name="first"))
print(opened(lambda: viewer.window.add_dock_widget(QWidget(), name="empty")))
ours = opened(lambda: viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment"))
print(ours, flush=True)
os._exit(0)
"""


def dock(args: argparse.Namespace) -> Iterator[Row]:
    """Opening the dock in a running napari."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        print("dock: left out, there is no display (tools/with_display makes one)")
        return
    pairs = [tuple(map(float, _python(_DOCK).split()[-2:])) for _ in range(args.runs)]
    empty, ours = (_median(list(values)) for values in zip(*pairs, strict=True))
    yield Row("dock opens in a running napari", "an empty dock widget", ours, empty, "ms",
              ours - empty, 300, 100, False, "the first time in each process")  # fmt: skip


def _python(code: str) -> str:
    """Return what a new Python prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


ROWS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "segment": segment,
    "cut": cut,
    "reweighted": reweighted,
    "training": training,
    "memory": memory,
    "import": imports,
    "dock": dock,
}


# -- the machine, and its floor --------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return what the times depend on: cores, threads, rates, versions."""
    a, big = torch.rand(1024, 1024), torch.rand(2**25)
    copy = torch.empty_like(big)
    timed(lambda: (a @ a, copy.copy_(big)))
    product = min(timed(lambda: a @ a) for _ in range(10))
    moved = min(timed(lambda: copy.copy_(big)) for _ in range(5))
    names = ("napari-aeseg", "torch", "numpy", "scipy", "scikit-image")
    return {
        "machine": f"{platform.machine()}, {platform.system()}, CPU only",
        "cores": cores(),
        "torch threads": torch.get_num_threads(),
        "GFLOP/s (float32 matrix product)": 2 * len(a) ** 3 / product / 1e9,
        "GB/s (copy, read + written)": 2 * big.nbytes / moved / 1e9,
        "versions": {name: version(name) for name in names},
    }


def load() -> float:
    """Return how many processes wanted to run in the last minute; NaN where that is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--side", type=int, default=2048, help="pixels along each side")
    parser.add_argument("--training-side", type=int, default=1024, help="of the image to train on")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slow-runs", type=int, default=1, help="of what takes minutes")
    parser.add_argument("--steps", type=int, default=60, help="training steps to be timed")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    args, facts = parse(), machine()
    print(json.dumps(facts, indent=1))
    rows = []
    for name in args.only:
        before = load()
        for row in ROWS[name](args):
            rows.append({"row": name, "load": [before, load()], **asdict(row)})
            rows[-1]["verdict"] = row.verdict
            theirs = "" if np.isnan(row.theirs) else f"{row.theirs:.4g} {row.unit}"
            print(
                f"\n{row.what}: {row.ours:.4g} {row.unit}; {row.beside}: {theirs}\n"
                f"    {row.measure:.3g} (reach {row.reach:g}, for {row.reach_for:g}): "
                f"{row.verdict}; load {before:.1f} - {load():.1f}\n    {row.note}",
                flush=True,
            )
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
