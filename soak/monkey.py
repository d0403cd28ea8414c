"""Random actions in a real napari window: no traceback, no hang, no layer of the user lost.

    python tools/with_display python soak/monkey.py --number 5000 --seed 0

In random order: mouse and keys on the dock's controls and on the canvas, methods of the widget,
layers added, removed, painted and replaced, the dock closed and opened again. After every forty
actions it waits until no work runs, and checks.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import subprocess
import sys
import tempfile
import traceback
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import dask.array as da
import napari
import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager
from qtpy import QtWidgets
from qtpy.QtCore import QPoint, Qt, QtMsgType, qInstallMessageHandler
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest

import napari_aeseg as aeseg
from napari_aeseg.errors import AesegError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUICK = aeseg.TrainingParams(steps=8, width=4, levels=2, batch_size=2, crop_size=16)
IMAGES = ["grey"] * 3 + ["rgb", "stack", "movie", "channels", "lazy", "units", "holes", "tiny"]
DIAGNOSTICS = ["features", "reconstruction", "reconstruction error", "border strength"]
CONTROLS = (
    "AbstractButton",
    "AbstractSlider",
    "AbstractSpinBox",
    "ComboBox",
    "LineEdit",
    "ListWidget",
)
LEFT, NO_KEY = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
_MOST_LAYERS = 14
_SECONDS_TO_HANG = 300  # then all threads are printed, and the process ends
# Warnings of Qt with the dock or without
_NOISE = ("propagateSizeHints", "QSocketNotifier", "font", "This plugin", "XDG_RUNTIME_DIR")


def make_image(rng: np.random.Generator, kind: str) -> tuple[Any, dict[str, Any]]:
    """Return a small image of some kind, and options for `add_image`."""
    side = int(rng.integers(24, 90))
    y, x = np.mgrid[:side, :side]
    plane = rng.normal(0.2, 0.05, (side, side))
    plane[:, side // 2 :] += 0.5 * ((y[:, side // 2 :] // 3) % 2)
    for row, column in rng.uniform(0, side, (5, 2)):
        plane[(y - row) ** 2 + (x - column) ** 2 <= 20] += 0.6
    grey = plane.astype(np.float32)
    if kind == "holes":
        grey[3:5] = np.nan
    photo = (np.stack([plane, plane.T, 1 - plane], -1) * 150).clip(0, 255).astype(np.uint8)
    counts = (1000 * plane).clip(0, 65535).astype(np.uint16)
    images: dict[str, tuple[Any, dict[str, Any]]] = {
        "rgb": (photo, {"rgb": True}),
        "stack": (np.stack([grey] * 4), {"axis_labels": ("z", "y", "x"), "scale": (4, 1, 1)}),
        "movie": (np.stack([grey] * 3), {"axis_labels": ("t", "y", "x")}),
        "channels": (np.stack([grey, grey.T]), {"axis_labels": ("c", "y", "x")}),
        "lazy": (da.from_array(grey, chunks=16), {}),
        "units": (counts, {"scale": (2, 0.5), "units": ("um", "um")}),
        "holes": (grey, {"contrast_limits": (0, 1)}),
        "tiny": (grey[:3, :3], {}),
    }
    return images.get(kind, (grey, {}))


class Monkey:
    """One viewer with the dock, from its opening to its closing; writes into a folder."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng, self.folder = np.random.default_rng(seed), folder
        self.problems: list[str] = []
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=12)
        self.expected: dict[Any, np.ndarray] = {}  # layers of the user, and what they must hold
        self.was_edited = False
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1200, 900)
        self.widget: Any = None
        for kind in ("grey", "rgb", "stack", "lazy"):
            self.add(kind)
        self.open()

    # Helpers of actions

    def any(self, values: Any) -> Any:
        """Return any of some values; InputError if there is none."""
        values = list(values)
        if not values:
            raise InputError("nothing to choose from")
        return values[int(self.rng.integers(len(values)))]

    def layer(self, kind: type = object) -> Any:
        """Return any layer of a kind."""
        return self.any(layer for layer in self.viewer.layers if isinstance(layer, kind))

    @property
    def dock_widget(self) -> Any:
        """The widget; InputError while the dock is closed."""
        if self.widget is None:
            raise InputError("the dock is closed")
        return self.widget

    def add(self, kind: str) -> None:
        """Add an image."""
        data, options = make_image(self.rng, kind)
        self.keep_watch(self.viewer.add_image(data, name=kind, **options))

    def keep_watch(self, layer: Any) -> None:
        """Note that a layer is the user's, with the data that it has now."""
        self.expected[layer] = np.array(layer.data)

    def open(self) -> None:
        """Open the dock."""
        window = self.viewer.window
        self.dock, self.widget = window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
        self.widget.training_params, self.widget.device = QUICK, "cpu"
        self.widget.failed.connect(self._on_failed)

    def _on_failed(self, error: Exception) -> None:
        self.refused[f"{type(error).__name__}: {str(error)[:60]}"] += 1
        if not isinstance(error, AesegError | OSError):
            self.problems.append(f"failed: {error!r}")

    # One action, and the checks after it

    def act(self) -> None:
        """Do one thing, and let the window work for a moment."""
        name = str(self.rng.choice(list(WEIGHTS), p=SHARES))
        self.last.append(name)
        try:
            self.last[-1] = f"{name} {ACTIONS[name](self) or ''}"
            self.done[name] += 1
        except (AesegError, OSError) as error:
            self.refused[f"{type(error).__name__}: {str(error)[:60]}"] += 1
        except Exception:
            self.problems.append(f"{name} raised\n{traceback.format_exc()}")
        QTest.qWait(int(self.rng.choice([0, 0, 20, 100])))
        self.check_layers()

    def check_layers(self) -> None:
        """Find layers of the user that are gone or were overwritten."""
        for layer, data in list(self.expected.items()):
            if layer not in self.viewer.layers:
                self.problems.append(f"{layer.name} is gone")
                del self.expected[layer]
            elif not np.array_equal(np.array(layer.data), data, equal_nan=data.dtype.kind == "f"):
                self.problems.append(f"{layer.name} was overwritten")
                self.keep_watch(layer)

    def rest(self, seconds: float = 120.0) -> None:
        """Wait until no work runs, stopping what takes long, and check."""
        widget = self.widget
        QTest.qWait(200)
        if widget is None:
            return
        for timeout in (3.0, seconds):
            try:
                widget.wait(timeout)
                break
            except TimeoutError:
                widget.stop()
            except Exception:  # was reported by `failed`, too
                continue
        QTest.qWait(50)
        self.check_layers()
        if widget.busy:
            self.problems.append(f"work goes on {seconds} s after Stop")
            return
        if any(bar.isVisible() for bar in widget.native.findChildren(QtWidgets.QProgressBar)):
            self.problems.append("a progress bar is left")
        for image, preview in widget.previews.items():
            shape = widget.hierarchies[image].axes.space_shape
            if image not in self.viewer.layers or preview.data.shape != shape:
                self.problems.append(f"a preview of {image.name} does not fit it")
        if widget.mode == "regions" and widget.preview is not None and not self.was_edited:
            number = len(np.unique(np.asarray(widget.preview.data)))
            if number != widget.n_regions:
                text = f"{number} regions are shown, the dock says {widget.n_regions}"
                self.problems.append(text)

    def close(self) -> None:
        """Close the window, whatever work runs."""
        from napari.qt.threading import WorkerBase

        self.viewer.close()
        QTest.qWait(100)
        WorkerBase.await_workers(60_000)
        QTest.qWait(100)


ACTIONS: dict[str, Callable[[Monkey], object]] = {}
WEIGHTS: dict[str, float] = {}


def action(weight: float) -> Callable[[Callable[[Monkey], object]], Callable[[Monkey], object]]:
    """Register a function as an action; the weight says how often it is chosen."""

    def register(function: Callable[[Monkey], object]) -> Callable[[Monkey], object]:
        ACTIONS[function.__name__], WEIGHTS[function.__name__] = function, weight
        return function

    return register


# Mouse and keys on the dock and the canvas


@action(35)
def use_a_control(monkey: Monkey) -> str:
    """Use any control of the dock that is visible and enabled."""
    widget = monkey.dock_widget
    controls = {
        control
        for kind in CONTROLS
        for control in widget.native.findChildren(getattr(QtWidgets, f"Q{kind}"))
    }
    usable = [
        control
        for control in controls
        if control.isVisible()
        and control.isEnabled()
        and not isinstance(control, QtWidgets.QScrollBar)
        if not control.objectName().startswith("qt_") and not getattr(control, "menu", int)()
    ]
    # The order of a set differs from run to run.
    usable.sort(key=lambda c: (c.mapTo(widget.native, QPoint()).y(), c.x()))
    control = monkey.any(usable)
    name = control.accessibleName() or getattr(control, "text", str)()
    with answered_dialogs(monkey):
        use(control, monkey)
    if monkey.widget is not None:
        monkey.widget.training_params, monkey.widget.device = QUICK, "cpu"
    monkey.was_edited |= isinstance(control, QtWidgets.QAbstractButton)  # Merge, Undo ...
    return f"{type(control).__name__} {name}"


def use(control: QtWidgets.QWidget, monkey: Monkey) -> None:
    """Click on a control, or press keys in it."""
    if isinstance(control, QtWidgets.QAbstractButton):
        QTest.mouseClick(control, LEFT)
    elif isinstance(control, QtWidgets.QLineEdit):
        control.selectAll()
        text = monkey.any(["YX", "CYX", "ZYX", "nonsense", "12", "auto", "é"])
        QTest.keyClick(control, Qt.Key.Key_Delete)
        QTest.keyClicks(control, text if monkey.rng.random() < 0.4 else "")
        QTest.keyClick(control, Qt.Key.Key_Return)
    elif isinstance(control, QtWidgets.QListWidget):
        if control.count():
            item = control.item(int(monkey.rng.integers(control.count())))
            QTest.mouseClick(
                control.viewport(), LEFT, NO_KEY, control.visualItemRect(item).center()
            )
            QTest.keyClick(control, Qt.Key.Key_Space)
    else:
        keys = ["Up", "Down", "Home", "End"]
        keys += ["PageUp", "PageDown"] if isinstance(control, QtWidgets.QAbstractSlider) else []
        for _ in range(int(monkey.rng.integers(1, 4))):
            QTest.keyClick(control, getattr(Qt.Key, f"Key_{monkey.any(keys)}"))


@contextlib.contextmanager
def answered_dialogs(monkey: Monkey) -> Iterator[None]:
    """Answer dialogs at random."""
    folder = monkey.folder
    models = [str(path) for path in folder.glob("**/*.safetensors")]
    folders = [str(path) for path in folder.glob("*.zarr")] + [str(folder)]
    answers = {
        "getOpenFileName": (monkey.any([*models, ""]), ""),
        "getSaveFileName": (monkey.any([str(folder / "saved"), ""]), ""),
        "getExistingDirectory": monkey.any([*folders, ""]),
    }
    color = QColor(monkey.any(["#123456", "#ff8800", "#00ff00"]))
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(
                patch.object(QtWidgets.QFileDialog, name, lambda *_, a=answer, **__: a)
            )
        stack.enter_context(
            patch.object(QtWidgets.QColorDialog, "getColor", lambda *_, **__: color)
        )
        yield


@action(8)
def use_the_canvas(monkey: Monkey) -> str:
    """Drag the mouse, which paints with a brush in hand, or press a key."""
    canvas = monkey.viewer.window._qt_viewer.canvas.native
    sides = canvas.width(), canvas.height()
    start, end = (QPoint(*(int(monkey.rng.integers(n)) for n in sides)) for _ in range(2))
    way = monkey.any(["drag", "drag", "Z", "M", "1", "V"])
    if way == "drag":
        QTest.mousePress(canvas, LEFT, NO_KEY, start)
        QTest.mouseMove(canvas, end)
        QTest.mouseRelease(canvas, LEFT, NO_KEY, end)
    else:
        canvas.setFocus()
        control = Qt.KeyboardModifier.ControlModifier
        QTest.keyClick(canvas, getattr(Qt.Key, f"Key_{way}"), control if way == "Z" else NO_KEY)
    monkey.was_edited = True  # a click of a tool merges or splits
    active = monkey.viewer.layers.selection.active
    if isinstance(active, Labels) and active in monkey.expected:
        monkey.keep_watch(active)
    return way


# Methods of the widget

for _name, _weight in {"train": 4, "segment": 8, "stop": 3, "resume": 2, "apply_to_all": 2}.items():
    ACTIONS[_name] = lambda monkey, name=_name: getattr(monkey.dock_widget, name)()
    WEIGHTS[_name] = _weight


@action(6)
def keep(monkey: Monkey) -> None:
    """Keep the previews: these layers are the user's from now on."""
    if len(monkey.viewer.layers) < _MOST_LAYERS:
        for layer in monkey.dock_widget.keep():
            monkey.keep_watch(layer)


@action(24)
def set_a_property(monkey: Monkey) -> str:
    """Give a property of the widget another value."""
    widget, rng = monkey.dock_widget, monkey.rng
    images = [image for image in widget.images if rng.random() < 0.7]
    params = aeseg.SegmentationParams(
        patch_size=int(rng.integers(2, 12)), patches=monkey.any(["grid", "watershed"])
    )
    name, value = monkey.any(
        [
            *[("mode", mode) for mode in ("regions", "classes", "objects", "markers")],
            ("n_regions", monkey.any([None, 1, 2, 7, 10**6])),
            ("threshold", float(rng.random())),
            ("n_classes", int(rng.integers(1, 8))),
            ("min_size", monkey.any([None, 1, 20])),
            ("class_ids", monkey.any([None, (1,), (1, 3), (9,)])),
            ("balance", float(rng.random())),
            ("scale", monkey.any(["auto", 1, 2.5, 40])),
            ("tool", monkey.any(["merge", "split", None])),
            ("class_names", [f"kind {i}" for i in range(len(widget.class_names))]),
            ("class_colors", ["#ff8800"] * len(widget.class_colors)),
            ("classes_fixed", bool(rng.random() < 0.5)),
            ("images", images),
            ("axes", monkey.any([None, None, "YX", "ZYX", "CYX", "x"])),
            ("segmentation_params", params),
            ("training_params", QUICK.updated(steps=int(rng.integers(1, 60)))),
            ("watch", bool(rng.random() < 0.5)),
            ("start_from", monkey.any(["new", "base", "current"])),
        ]
    )
    setattr(widget, name, value)
    return f"{name} = {value}"


@action(12)
def call_a_method(monkey: Monkey) -> None:
    """Correct regions, show diagnostics, save and load, measure, segment a folder."""
    import tifffile

    widget, rng, folder = monkey.dock_widget, monkey.rng, monkey.folder
    model, tree = folder / "m.aeseg.safetensors", folder / "t.aeseg.zarr"
    shape = widget.hierarchy.axes.space_shape if widget.hierarchy is not None else (1, 1)
    places = [tuple(int(rng.integers(n)) for n in shape) for _ in range(2)]
    (folder / "images").mkdir(exist_ok=True)
    tifffile.imwrite(folder / "images" / "a.tif", make_image(rng, "grey")[0])
    monkey.was_edited = True
    full = len(monkey.viewer.layers) >= _MOST_LAYERS
    monkey.any(
        [
            lambda: widget.merge(*places),
            lambda: widget.split(places[0]),
            widget.undo,
            widget.redo,
            *[lambda: None if full else widget.look(monkey.any(DIAGNOSTICS))] * 4,
            lambda: widget.save_model(model),
            lambda: widget.load_model(monkey.any([model, "base"])),
            lambda: widget.save_hierarchy(tree),
            lambda: widget.open_hierarchy(tree),
            lambda: widget.export_table(folder / "t.csv"),
            lambda: widget.color_by(monkey.any(["area", "class", "label", "nothing"])),
            lambda: widget.script,
            lambda: widget.segment_folder(folder / "images", existing="replace"),
        ]
    )()


@action(4)
def paint_strokes(monkey: Monkey) -> None:
    """Paint strokes, or undo them; their layer is the user's."""
    layer = monkey.dock_widget.paint()
    place = [int(monkey.rng.integers(n)) for n in layer.data.shape]
    label = int(monkey.rng.integers(0, 5))
    monkey.any([lambda: layer.paint(place, label)] * 2 + [layer.undo, layer.redo])()
    monkey.keep_watch(layer)


@action(5)
def dock(monkey: Monkey) -> str:
    """Close the dock or open it, or take it out of the window."""
    if monkey.widget is None:
        monkey.open()
        return "opened"
    if monkey.rng.random() < 0.4:
        monkey.dock.destroyOnClose()
        monkey.dock = monkey.widget = None
        return "closed"
    monkey.dock.setFloating(not monkey.dock.isFloating())
    return "floating or not"


# Layers


@action(3)
def add_a_layer(monkey: Monkey) -> str:
    """Add an image or labels."""
    if len(monkey.viewer.layers) >= _MOST_LAYERS:
        remove_a_layer(monkey)
    kind = monkey.any([*IMAGES, "labels"])
    if kind == "labels":
        labels = (make_image(monkey.rng, "grey")[0] > 0.4).astype(int)
        monkey.keep_watch(monkey.viewer.add_labels(labels, name="mine"))
    else:
        monkey.add(kind)
    return kind


@action(3)
def remove_a_layer(monkey: Monkey) -> str:
    """Remove a layer."""
    layer = monkey.layer()
    monkey.expected.pop(layer, None)
    monkey.viewer.layers.remove(layer)
    return layer.name


@action(9)
def arrange_layers(monkey: Monkey) -> None:
    """Rename, select, move or scale layers, look at them from elsewhere."""
    viewer, rng, layer = monkey.viewer, monkey.rng, monkey.layer()
    number = len(viewer.layers)
    chosen = {one for one in viewer.layers if rng.random() < 0.3}
    monkey.any(
        [
            lambda: setattr(layer, "name", monkey.any(["other", "grey preview", "a/b:c", "", "ü"])),
            lambda: setattr(viewer.layers, "selection", chosen),
            lambda: viewer.layers.move(int(rng.integers(number)), int(rng.integers(number))),
            lambda: setattr(layer, "scale", rng.uniform(0.3, 4, layer.ndim)),
            lambda: setattr(layer, "translate", rng.uniform(-9, 9, layer.ndim)),
            lambda: setattr(layer, "units", (monkey.any(["um", "nm", "pixel"]),) * layer.ndim),
            lambda: setattr(viewer.dims, "ndisplay", 5 - viewer.dims.ndisplay),
            lambda: viewer.dims.set_current_step(0, int(rng.integers(4))),
            viewer.dims.roll,
            viewer.reset_view,
            lambda: setattr(viewer.grid, "enabled", not viewer.grid.enabled),
        ]
    )()


@action(4)
def replace_data(monkey: Monkey) -> str:
    """Give an image of the user other data."""
    layer = monkey.layer(Image)
    if layer.multiscale or not isinstance(layer.data, np.ndarray) or layer not in monkey.expected:
        raise InputError("not in memory")
    way = monkey.any(["in place", "moved", "kind", "shape", "the same"])
    if way == "in place":
        layer.data[:2] = layer.data[-2:]
        layer.refresh()
    elif way == "moved":
        layer.data = np.roll(layer.data, 3, axis=0)
    elif way == "kind" and not layer.rgb:
        layer.data = (np.nan_to_num(layer.data) * 50).clip(0, 255).astype(np.uint8)
    elif way == "shape":
        layer.data = np.repeat(layer.data, 2, axis=0)[:80]
    else:
        layer.data = layer.data  # napari sends events all the same
    monkey.keep_watch(layer)
    return f"{layer.name}: {way}"


@action(9)
def edit_labels(monkey: Monkey) -> str:
    """Paint on labels, fill, undo, give them other data, or take a brush in hand."""
    layer, rng = monkey.layer(Labels), monkey.rng
    if layer.multiscale or not isinstance(layer.data, np.ndarray):
        raise InputError("cannot be painted on")
    place = [int(rng.integers(n)) for n in layer.data.shape]
    brush = monkey.any(["paint", "fill", "erase", "pick", "pan_zoom", "polygon"])
    before, data = layer.data, layer.data.copy()
    monkey.viewer.layers.selection.active = layer
    ways = {
        "paint": lambda: layer.paint(place, int(rng.integers(0, 200))),
        "fill": lambda: layer.fill(place, int(rng.integers(1, 200))),
        "undo": layer.undo,
        "redo": layer.redo,
        "other data": lambda: setattr(layer, "data", np.flip(layer.data, 0).copy()),
        "other shape": lambda: setattr(layer, "data", np.ones((5,) * layer.data.ndim, int)),
        "brush": lambda: setattr(layer, "mode", brush),
    }
    way = monkey.any(ways)
    ways[way]()
    # A preview that is painted on is the user's from then on.
    if layer.data is not before or not np.array_equal(layer.data, data):
        monkey.keep_watch(layer)
    return f"{way} on {layer.name}"


SHARES = np.array(list(WEIGHTS.values())) / sum(WEIGHTS.values())


# Windows


@contextlib.contextmanager
def collected_problems(problems: list[str]) -> Iterator[None]:
    """Collect exceptions in Qt's loop and in places that cannot raise, and warnings of Qt."""

    def on_exception(kind: Any, error: BaseException, trace: Any) -> None:
        files = [frame.filename for frame in traceback.extract_tb(trace)]
        is_of_napari = files and "napari/layers/" in files[-1]  # strokes outside of a layer
        if not is_of_napari or any("napari_aeseg" in file for file in files):
            problems.append("".join(traceback.format_exception(kind, error, trace)))

    def on_unraisable(unraisable: Any) -> None:
        on_exception(type(unraisable.exc_value), unraisable.exc_value, unraisable.exc_traceback)

    def on_message(kind: Any, context: Any, text: str) -> None:
        is_bad = kind in (QtMsgType.QtWarningMsg, QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)
        if is_bad and not any(words in text for words in _NOISE):
            problems.append(f"Qt: {text}")

    handler = qInstallMessageHandler(on_message)
    with (
        patch.object(sys, "excepthook", on_exception),
        patch.object(sys, "unraisablehook", on_unraisable),
        patch.object(notification_manager, "dispatch", lambda notification: None),
    ):
        yield
    qInstallMessageHandler(handler)


def run(seed: int, number: int) -> dict[str, Any]:
    """Do random actions in one window; return counts, and all problems."""
    logging.getLogger("napari_aeseg").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="aeseg-monkey-") as name, contextlib.chdir(name):
        monkey = Monkey(seed, Path(name))
        with collected_problems(monkey.problems):
            for count in range(1, number + 1):
                faulthandler.dump_traceback_later(_SECONDS_TO_HANG, exit=True)
                monkey.act()
                if count % 40 == 0:
                    monkey.rest()
                if len(monkey.problems) > 20:
                    break
            monkey.rest()
            monkey.close()
            faulthandler.cancel_dump_traceback_later()
    return {
        "seed": seed, "actions": monkey.done.total(), "refused": monkey.refused.total(),
        "done": monkey.done, "texts": monkey.refused,
        "last": list(monkey.last), "problems": monkey.problems,
    }  # fmt: skip


def run_apart(seed: int, number: int) -> dict[str, Any] | None:
    """Run one window in a process of its own; None if that crashed, as graphics drivers do."""
    with tempfile.TemporaryDirectory(prefix="aeseg-monkey-") as home:
        row = Path(home) / "row.json"
        command = [sys.executable, __file__, "--here", "--json", str(row)]
        command += ["--seed", str(seed), "--number", str(number)]
        folders = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
        environment = {**os.environ, **dict.fromkeys(folders, home)}
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        if row.exists():
            return json.loads(row.read_text())
        print(f"seed {seed} crashed: {done.stderr[-3000:]}", flush=True)
        return None


def main() -> int:
    """Run windows until there were enough actions; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=5000, help="of actions")
    parser.add_argument("--seed", type=int, default=0, help="of the first window")
    parser.add_argument("--each", type=int, default=300, help="actions in one window")
    parser.add_argument("--json", type=Path, help="file for the counts")
    parser.add_argument("--here", action="store_true", help="one window, in this process")
    options = parser.parse_args()
    if options.here:
        faulthandler.enable()
        options.json.write_text(json.dumps(run(options.seed, options.number)))
        return 0
    rows: list[dict[str, Any]] = []
    for seed in range(options.seed, options.seed + -(-options.number // options.each)):
        row = run_apart(seed, options.each)
        if row is None:
            continue
        rows.append(row)
        for problem in row["problems"]:
            print(f"seed {seed}, after {row['last']}:\n{problem}", flush=True)
        counts = f"{row['actions']} actions, {row['refused']} refused"
        print(f"seed {seed}: {counts}, {len(row['problems'])} problems", flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps(rows, indent=1))
    actions, bad = sum(row["actions"] for row in rows), sum(bool(r["problems"]) for r in rows)
    print(f"{actions} actions in {len(rows)} windows, {bad} with problems")
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
