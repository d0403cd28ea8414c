"""How a real napari window feels at work: late timer ticks, slider to screen, Stop, closing.

    python tools/with_display python benchmarks/window.py --json out/window.json

Needs a display (tools/with_display starts a virtual one). A 10 ms Qt timer ticks on the GUI thread
while every kind of work goes on in the background: a late tick is a frozen window.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEventLoop, QTimer

from napari_aeseg import AesegError, samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_aeseg._napari.widget import AESegWidget

TICK = 10  # milliseconds
BARS = {
    "longest gap": 150,
    "99% of gaps": 60,
    "slider to screen, median": 50,
    "stop": 500,
    "closing": 3000,
}


def picture(side: int) -> np.ndarray:
    """Stained tissue tiled to a size, with noise, so that no tile is like another: uint8 RGB."""
    tile = samples.tissue().astype(np.float32)
    repeats = -(-side // len(tile))
    image = np.tile(tile, (repeats, repeats, 1))[:side, :side]
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


class Window:
    """A viewer with an image and the dock, and what was measured in it."""

    def __init__(self, side: int, settle: float = 8.0) -> None:
        import napari

        self.viewer = napari.Viewer()
        self.viewer.window.resize(1400, 900)
        self.viewer.add_image(picture(side), name="tissue")
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
        self.widget.device = "cpu"
        self.widget.training_params = self.widget.training_params.updated(steps=1_000_000)
        self.ticks: list[float] = []
        self.timer = QTimer()
        self.timer.setInterval(TICK)
        self.timer.timeout.connect(lambda: self.ticks.append(time.perf_counter()))
        self.live(settle)

    def live(self, seconds: float) -> None:
        """Let the window work for a while."""
        loop = QEventLoop()
        QTimer.singleShot(int(1000 * seconds), loop.quit)
        loop.exec_()

    def gaps(self, action: Callable[[], Any], stop_after: float | None = None) -> dict[str, float]:
        """Do something that works in the background; how late ticks came, in milliseconds."""
        self.ticks.clear()
        start = time.perf_counter()
        self.timer.start()
        action()
        if stop_after is not None:
            QTimer.singleShot(int(1000 * stop_after), self.widget.stop)
        self.widget.wait()
        self.timer.stop()
        late = 1000 * np.diff([start, *self.ticks, time.perf_counter()])
        return {
            "took": 1000 * (time.perf_counter() - start),
            "longest gap": float(late.max()),
            "99% of gaps": float(np.percentile(late, 99)),
        }

    def slider(self, moves: int = 40) -> dict[str, float]:
        """From another number of regions to the next drawing of the canvas with the new labels."""
        canvas = self.viewer.window._qt_viewer.canvas._scene_canvas
        drawn: list[float] = []
        shown: list[float] = []
        self.widget.preview.events.data.connect(lambda *_: shown.append(time.perf_counter()))
        canvas.events.draw.connect(lambda *_: drawn.append(time.perf_counter()) if shown else None)
        times = []
        rng = np.random.default_rng(0)
        for _ in range(moves):
            self.live(0.05)
            drawn.clear()
            shown.clear()
            start = time.perf_counter()
            self.widget.n_regions = int(rng.integers(2, 300))
            deadline = start + 3
            while not drawn and time.perf_counter() < deadline:
                self.live(0.001)
            if drawn:
                times.append(1000 * (drawn[0] - start))
        return {
            "slider to screen, median": float(np.median(times)),
            "slider to screen, 95%": float(np.percentile(times, 95)),
            "moves seen": len(times),
        }

    def stops(self, begin: Callable[[AESegWidget], Any], moments: list[float]) -> dict[str, float]:
        """From Stop to the end of the work, asked for at several moments."""
        times = []
        for moment in moments:
            begin(self.widget)
            self.live(moment)
            if not self.widget.busy:
                continue
            start = time.perf_counter()
            self.widget.stop()
            while self.widget.busy:
                self.live(0.005)
            times.append(1000 * (time.perf_counter() - start))
            with suppress(AesegError):  # the one that says that it was stopped
                self.widget.wait()
        return {"stop": max(times, default=0.0), "stops": len(times)}


CLOSE = """
import sys, time
from qtpy.QtCore import QTimer
sys.path.insert(0, {here!r})
import napari
from window import Window
window = Window({side}, settle=1)
window.widget.{what}()
closed = []
def close():
    closed.append(time.monotonic())
    window.viewer.close()
QTimer.singleShot({after}, close)
napari.run()
print("closed", time.monotonic() - closed[0], flush=True)
"""


def closing(side: int, what: str, after: int) -> dict[str, Any]:
    """Milliseconds from closing the window in the middle of work to the end of the process."""
    here = str(Path(__file__).parent)
    code = CLOSE.format(here=here, side=side, what=what, after=after)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    closed = time.monotonic()
    _, errors = process.communicate(timeout=60)
    in_loop = float(line.split()[1]) if line.startswith("closed") else float("nan")
    return {
        "closing": 1000 * (in_loop + time.monotonic() - closed),
        "traceback": "Traceback" in errors,
        "exit code": process.returncode,
    }


def measure(side: int) -> dict[str, dict[str, Any]]:
    """Everything, stage by stage."""
    window = Window(side)
    widget = window.widget
    rows: dict[str, dict[str, Any]] = {}

    def told(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(f"{name}: " + ", ".join(f"{k} {v:.0f}" for k, v in row.items()), flush=True)

    told("nothing", window.gaps(lambda: window.live(3)))
    told("first segment", window.gaps(widget.segment))
    told("segment", window.gaps(widget.segment))
    told("train", window.gaps(widget.train, stop_after=10))
    told("balance", window.gaps(lambda: setattr(widget, "balance", 0.7)))
    told("scale", window.gaps(lambda: setattr(widget, "scale", 16)))
    told("slider", window.slider())
    told("keep", window.gaps(widget.keep))
    told("objects", window.gaps(lambda: setattr(widget, "mode", "objects")))
    widget.mode = "regions"
    told("stop training", window.stops(lambda w: w.train(), [0.5, 2.0, 3.3]))
    took = rows["segment"]["took"] / 1000
    moments = [took * share for share in (0.02, 0.06, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)]
    told("stop segmenting", window.stops(lambda w: w.segment(), moments))
    window.viewer.close()
    for what, after in (
        ("wait", 4000),  # at rest: what napari and Python take by themselves
        ("train", 4000),
        ("segment", 1500),
        ("segment", 5000),
    ):
        told(f"close while {what} ({after} ms)", closing(side, what, after))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start"
    print(f"{options.side} x {options.side} RGB; {machine}; bars in ms: {BARS}")
    rows = measure(options.side)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
