"""Counts what a process holds after many rounds of train, segment, keep and close.

    python tools/with_display python soak/rounds.py --number 50

Each way of use gets a process of its own, and prints a row for every five rounds. From the first
row to the last, memory may grow by 5 %, and no count may grow. The ways "viewer" and "dock" need a
display. They are done with an empty dock first: its growth is napari's and Qt's, and is allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import dask.array as da
import numpy as np

import napari_aeseg as aeseg
from counts import Count, counted, grown, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Round = Callable[[int], None]

CONTROL_OF = {"headless": None, "viewer": "viewer-control", "dock": "dock-control"}
CONTROL_ROUNDS = 20
SIDE = 144
EVERY = 5
STROKES = np.zeros((SIDE, SIDE), np.uint8)
STROKES[10, 10:30], STROKES[80, 50:70] = 1, 2
QUICK = aeseg.TrainingParams(steps=10, width=4, levels=2, batch_size=4, crop_size=32)


def make_image(seed: int) -> np.ndarray:
    """Return discs and stripes on noise: float32, shape (SIDE, SIDE)."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.05, (SIDE, SIDE))
    y, x = np.mgrid[:SIDE, :SIDE]
    image[:, : SIDE // 3] += 0.5 * (y[:, : SIDE // 3] % 6 < 3)
    for row, column in rng.uniform(0, SIDE, (12, 2)):
        image[(y - row) ** 2 + (x - column) ** 2 <= 8**2] += 1
    return image.astype(np.float32)


def as_blocks(image: np.ndarray) -> Any:
    """Return an image as a dask array."""
    return da.from_array(image, chunks=SIDE // 3)


# Over the public API


def headless(number: int) -> None:
    """Train, segment as a whole and in blocks, cut in all ways, write and read everything."""
    image = make_image(number)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        aeseg.train(image, QUICK).save(folder / "model.aeseg.safetensors")
        model = aeseg.load_model(folder / "model.aeseg.safetensors")
        blocks = aeseg.BlockParams(block_size=SIDE // 3)
        whole = aeseg.build_hierarchy(image, model)
        parts = aeseg.build_hierarchy(as_blocks(image), model, blocks=blocks)
        for tree, kind in (whole, "tif"), (parts, "zarr"):
            tree.save(folder / f"{kind}.aeseg.zarr")
            tree = aeseg.load_hierarchy(folder / f"{kind}.aeseg.zarr").reweighted(0.5)
            labels = tree.regions(n_regions=12)
            tree.table(labels)
            np.asarray(tree.classes(n_classes=3))
            aeseg.write_labels(labels, folder / f"labels.{kind}")
        whole.objects()
        whole.from_markers(STROKES[:SIDE, :SIDE])
        model.reconstruct(image)


# In a window


def in_new_viewer(number: int) -> None:
    """Open a viewer and the dock, use them, close the viewer."""
    import napari

    viewer = napari.Viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    use(viewer, widget, number)
    viewer.close()


class InOneViewer:
    """One viewer in which the dock is opened, used and closed."""

    def __init__(self, viewer: Any = None) -> None:
        import napari

        self.viewer = napari.Viewer() if viewer is None else viewer

    def __call__(self, number: int) -> None:
        """Do one round."""
        dock, widget = self.viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
        use(self.viewer, widget, number)
        dock.destroyOnClose()
        self.viewer.layers.clear()

    def close(self) -> None:
        """Close the viewer."""
        self.viewer.close()


def use(viewer: Any, widget: Any, number: int) -> None:
    """Train, segment a loaded and a lazy image, show every kind of labels, keep most of them."""
    image = make_image(number)
    layers = [
        viewer.add_image(image, name="cells"),
        viewer.add_image(as_blocks(image), name="lazy"),
    ]
    widget.training_params = QUICK
    widget.watch = True
    widget.images = layers[:1]
    widget.train()
    widget.wait()
    widget.images = layers
    widget.mode = "regions"  # a dock that is opened again is as it was
    widget.segment()
    widget.wait()
    widget.keep()
    widget.wait()
    widget.mode = "classes"
    widget.wait()
    widget.images = layers[:1]  # objects and strokes need pixels in memory
    widget.mode = "regions"
    widget.balance = 0.3
    widget.tool = "merge"
    widget.mode = "objects"
    widget.wait()
    widget.keep()
    widget.mode = "markers"
    widget.paint().data = STROKES[:SIDE, :SIDE].copy()
    widget.wait()
    widget.keep()
    widget.wait()


# The same with an empty dock


def in_new_viewer_control(number: int) -> None:
    """Open a viewer with an empty dock, show as many layers, close the viewer."""
    import napari

    viewer = napari.Viewer()
    use_nothing(viewer, number)
    viewer.close()


class InOneViewerControl(InOneViewer):
    """One viewer in which an empty dock is opened and closed."""

    def __call__(self, number: int) -> None:
        """Do one round."""
        use_nothing(self.viewer, number).destroyOnClose()
        self.viewer.layers.clear()


def use_nothing(viewer: Any, number: int) -> Any:
    """Show as many layers as `use` does, with as many workers; return the dock."""
    from napari.qt.threading import WorkerBase, create_worker
    from qtpy.QtWidgets import QWidget

    class Empty(QWidget):
        def reset_choices(self, *_: object) -> None:
            """Be told of layers, as every dock of magicgui is."""

    dock = viewer.window.add_dock_widget(Empty(), name="empty")
    image = make_image(number)
    viewer.add_image(image, name="cells")
    viewer.add_image(as_blocks(image), name="lazy")
    viewer.add_image(image, name="in training")
    for i in range(7):  # layers that `use` makes
        layer = viewer.add_labels((image > 0.5).astype(np.int32), name=f"labels {i}")
        for shown in range(3):
            layer.data = (image > shown / 4).astype(np.int32)
        create_worker(make_image, number, _progress={"desc": "nothing"})
        WorkerBase.await_workers(10_000)
        settle()
    return dock


# Rounds


@contextmanager
def prepared(way: str) -> Iterator[Round]:
    """Give a function that does a round; none of it touches the user's own folders."""
    if way == "headless":
        yield headless
        return
    with small_images_in_blocks():
        if way in ("viewer", "viewer-control"):
            yield in_new_viewer if way == "viewer" else in_new_viewer_control
            return
        one = InOneViewer() if way == "dock" else InOneViewerControl()
        try:
            yield one
        finally:
            one.close()


@contextmanager
def small_images_in_blocks() -> Iterator[None]:
    """Process small lazy images in blocks, as large ones are."""
    from napari_aeseg.large import build

    sizes = {"_LAZY_PIXELS": 1000, "_MAX_BLOCK_PIXELS": 2**13, "_MIN_BLOCK_PIXELS": 2**13}
    with patch.multiple(build, **sizes):
        yield


def rounds(way: str, number: int, seed: int = 0, every: int = EVERY) -> Iterator[Count]:
    """Do rounds of one way of use; yield what is held after every so many."""
    with prepared(way) as one_round:
        begun = time.perf_counter()
        for i in range(1, number + 1):
            one_round(seed + i)
            if i % every == 0:
                seconds = time.perf_counter() - begun
                yield {"round": i, "seconds": round(seconds, 1), **counted()}


def per_round(rows: list[Count]) -> Count:
    """Return what a round adds to each count."""
    first, last = rows[0], rows[-1]
    apart = last["round"] - first["round"]
    return {name: (last[name] - first[name]) / apart for name in first}


def missed(rows: list[Count], control: list[Count] | None = None) -> list[str]:
    """Describe what grew from the first row to the last, beyond the growth of a control."""
    apart = round(rows[-1]["round"] - rows[0]["round"])
    plain = [{k: v for k, v in row.items() if k not in ("round", "seconds")} for row in rows]
    return grown(plain, apart, None if control is None else per_round(control))


def run_one(way: str, number: int, seed: int) -> list[Count]:
    """Do all rounds of one way in this process, and print rows."""
    rows = []
    for row in rounds(way, number, seed):
        if not rows:
            print(" ".join(f"{name:>11}" for name in row), flush=True)
        print(" ".join(f"{value:>11.6g}" for value in row.values()), flush=True)
        rows.append(row)
    return rows


def run_apart(way: str, number: int, seed: int, home: str) -> list[Count]:
    """Do all rounds of one way in a process of its own, without the settings of the user."""
    print(f"{way}: {number} rounds", flush=True)
    path = Path(home) / f"{way}.json"
    own = {"XDG_CONFIG_HOME": home, "XDG_DATA_HOME": home, "XDG_CACHE_HOME": home, "TMPDIR": home}
    command = [sys.executable, __file__, "--way", way, "--here", "--json", str(path)]
    command += ["--number", str(number), "--seed", str(seed)]
    subprocess.run(command, env={**os.environ, **own}, check=True)
    return json.loads(path.read_text())


def main(arguments: list[str] | None = None) -> int:
    """Do the rounds of the chosen ways; return 1 if anything grew."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=50, help="rounds")
    parser.add_argument("--seed", type=int, default=0)
    every_way = [way for pair in CONTROL_OF.items() for way in pair if way]
    parser.add_argument("--way", nargs="+", choices=every_way, default=list(CONTROL_OF))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", action="store_true", help="one way, in this process")
    options = parser.parse_args(arguments)
    if options.number < 2 * EVERY:
        parser.error(f"--number: {2 * EVERY} rounds or more, there is nothing to compare before")
    if options.here:
        options.json.write_text(json.dumps(run_one(options.way[0], options.number, options.seed)))
        return 0
    rows, growth = {}, {}
    with tempfile.TemporaryDirectory(prefix="soak-") as home:
        for way in options.way:
            control = CONTROL_OF.get(way)
            if control is not None:
                number = min(CONTROL_ROUNDS, options.number)
                rows[control] = run_apart(control, number, options.seed, home)
            rows[way] = run_apart(way, options.number, options.seed, home)
            growth[way] = missed(rows[way], rows.get(control))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    for way, lines in growth.items():
        print(f"{way}: " + ("; ".join(lines) if lines else "nothing grew"))
    return int(any(growth.values()))


if __name__ == "__main__":
    sys.exit(main())
