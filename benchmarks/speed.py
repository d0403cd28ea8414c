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
import scale
import speed_peers
import superpixels
from napari_aeseg import samples
from napari_aeseg.api import hierarchy_steps
from napari_aeseg.images.parallel import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from numpy.typing import NDArray

N_REGIONS = 50
CUTS = 200
#: Superpixels of 2048 x 2048 pixels, as users of scikit-image set them.
SUPERPIXELS = 8_000
#: Default training before it was made faster.
STEPS_BEFORE, BATCH_BEFORE, CROP_BEFORE = 400, 16, 64
#: Seconds between opening the dock and pressing Segment.
SETTLE = 3.0
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
    """Segment with a ready model, all stages and refined borders included."""
    image, model = picture(args.side), aeseg.load_model("base")
    patches = (args.side // aeseg.SegmentationParams().patch_size) ** 2
    aeseg.segment(image[:256, :256], model, N_REGIONS, device="cpu")
    whole, busy, stages = [], [], []
    for _ in range(args.runs):
        start, processor = time.perf_counter(), time.process_time()
        tree, seconds = staged(hierarchy_steps(image, model, device="cpu"))
        cut = timed(lambda: tree.regions(n_regions=N_REGIONS))  # noqa: B023 - called at once
        whole.append(time.perf_counter() - start)
        busy.append(time.process_time() - processor)
        stages.append({**seconds, "cut and borders": cut})
    best = _median(whole)
    parts = {name: _median([s[name] for s in stages]) for name in stages[0]}
    note = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
    note += f" s; processor {_median(busy):.2f} s"
    for number in dict.fromkeys((round(SUPERPIXELS * (args.side / 2048) ** 2), patches)):
        peer = lambda n=number: superpixels.merged_superpixels(image, n, N_REGIONS)  # noqa: E731
        processor = time.process_time()
        slow = _median([timed(peer) for _ in range(args.slow_runs)])
        processor = (time.process_time() - processor) / args.slow_runs
        beside = (
            f"scikit-image: slic ({number:,} superpixels), rag_mean_color, merge_hierarchical to "
            f"{N_REGIONS} regions"
        )
        yield Row(f"segment, {args.side} x {args.side} RGB", beside, best, slow, "s", slow / best,
                  15, 25, True, f"{note}, beside {processor:.2f} s")  # fmt: skip


def _tree(args: argparse.Namespace) -> Any:
    return aeseg.build_hierarchy(picture(args.side), "base", device="cpu")


def cut(args: argparse.Namespace) -> Iterator[Row]:
    """Cut and labels: what a slider does."""
    tree, rng = _tree(args), np.random.default_rng(0)
    numbers = rng.integers(2, tree.n_patches, CUTS).tolist()
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
    """Default training, beside a bare loop over what was the default before."""
    image, model = picture(args.training_side), aeseg.load_model("base")
    scaled = model.read(image, "YXC").pixels
    ours, theirs, params = [], [], aeseg.TrainingParams()
    for _ in range(args.training_runs):
        start = time.process_time()
        aeseg.train(image, params, "YXC", "cpu")
        ours.append(time.process_time() - start)
        rate = speed_peers.bare_loop(scaled, BATCH_BEFORE, CROP_BEFORE, args.steps)
        theirs.append(STEPS_BEFORE * BATCH_BEFORE / rate)
    a, b = _median(ours), _median(theirs)
    yield Row(f"default training, {args.training_side} x {args.training_side}",
              f"a bare loop of {STEPS_BEFORE} steps of {BATCH_BEFORE} crops", a, b,
              "s of the processor", b / a, 2, 4, True,
              f"{params.steps} steps; the loop takes {args.steps} of its steps")  # fmt: skip


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
    """Peak resident memory of processes, over that of one that has imported all and does nothing.

    Both have the image; so has the scikit-image route, which is held against its own imports.
    """
    number = round(SUPERPIXELS * (args.side / 2048) ** 2)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "image.npy")
        np.save(file, picture(args.side))
        idle, peak, idle_peer, peak_peer = (
            float(_python(_PEAK.format(here=str(HERE), file=file, work=work)))
            for work in (
                "import napari_aeseg as a; a.load_model('base')",
                f"import napari_aeseg as a; a.segment(image, 'base', {N_REGIONS}, device='cpu')",
                "import superpixels",
                f"import superpixels as s; s.merged_superpixels(image, {number}, {N_REGIONS})",
            )
        )
    yield Row(f"peak memory over an idle process, {args.side} x {args.side} RGB",
              f"the scikit-image route, {number:,} superpixels", peak - idle, peak_peer - idle_peer,
              "MiB", peak - idle, 250, 150, False,
              f"idle, with image, torch and model: {idle:.0f} MiB")  # fmt: skip


def lazy(args: argparse.Namespace) -> Iterator[Row]:
    """A lazy 16-bit image in blocks: peak memory over an idle process, and growth of time."""
    sides = [args.lazy_side // 4, args.lazy_side]
    with tempfile.TemporaryDirectory() as folder:
        rows = list(scale.images([(side, side) for side in sides], Path(folder)))
    small, large = rows
    peak, mib = max(large["peaks"].values()), large["mib"]
    yield Row(f"lazy {sides[1]} x {sides[1]}, 16 bits: peak over an idle process",
              f"the image itself, {mib:.0f} MiB", peak, mib, "MiB", peak, 256 + 0.25 * mib,
              128 + 0.1 * mib, False,
              ", ".join(f"{name} {p:.0f}" for name, p in large["peaks"].items()))  # fmt: skip
    power = scale.growth(rows, "processor")["exponent"]
    yield Row(f"the same: processor time grows with pixels, {sides[0]} to {sides[1]}, to the power",
              "", power, float("nan"), "", power, 1.05, 1.02, False,
              f"{small['processor']:.1f} and {large['processor']:.1f} s of the processor, "
              f"{small['seconds']:.1f} and {large['seconds']:.1f} s on the clock")  # fmt: skip


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
    if _no_display("dock"):
        return
    pairs = [tuple(map(float, _python(_DOCK).split()[-2:])) for _ in range(args.runs)]
    empty, ours = (_median(list(values)) for values in zip(*pairs, strict=True))
    yield Row("dock opens in a running napari", "an empty dock widget", ours, empty, "ms",
              ours - empty, 300, 100, False, "the first time in each process")  # fmt: skip


_FIRST = """
import os, sys, time
sys.path.insert(0, {here!r})
from window import Window
window = Window({side}, settle={settle})
canvas, drawn = window.viewer.window._qt_viewer.canvas._scene_canvas, []
start = time.perf_counter()
window.widget.segment()
while window.widget.preview is None:
    window.live(0.005)
canvas.events.draw.connect(lambda *_: drawn.append(time.perf_counter()))
while not drawn:
    window.live(0.005)
print(drawn[-1] - start, flush=True)
os._exit(0)
"""


def first(args: argparse.Namespace) -> Iterator[Row]:
    """The first Segment of a session, from the button to labels on the screen."""
    if _no_display("first"):
        return
    side = args.side // 2
    code = _FIRST.format(here=str(HERE), side=side, settle=SETTLE)
    ours = _median([float(_python(code).split()[-1]) for _ in range(args.runs)])
    yield Row(f"first Segment of a session, {side} x {side}, to labels on screen", "", ours,
              float("nan"), "s", ours, 2, 1, False,
              f"{SETTLE:g} s after the dock has opened")  # fmt: skip


def demo(args: argparse.Namespace) -> Iterator[Row]:
    """From an installed package to the first results, as `make demo` makes them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "napari_aeseg.cli", "demo", "--no-window", "--output"]
        run = lambda: subprocess.run([*command, folder], check=True, stdout=subprocess.DEVNULL)  # noqa: E731
        ours = timed(run)
    yield Row("napari-aeseg demo, without window", "", ours, float("nan"), "s", ours, 30, 20,
              False)  # fmt: skip


def _no_display(row: str) -> bool:
    """Return whether there is no display, and say which row is left out."""
    missing = sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if missing:
        print(f"{row}: left out, there is no display (tools/with_display makes one)")
    return missing


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
    "lazy": lazy,
    "import": imports,
    "dock": dock,
    "first": first,
    "demo": demo,
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
    parser.add_argument("--lazy-side", type=int, default=8192, help="of the image in blocks")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--training-runs", type=int, default=1, help="of whole trainings")
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
