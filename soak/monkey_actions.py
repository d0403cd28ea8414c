"""What the monkey can do, and what it knows of its viewer."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import dask.array as da
import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QListWidget,
    QScrollBar,
    QWidget,
)

import napari_aeseg as aeseg
from napari_aeseg._napari.layers.adapter import OWN, unwrapped
from napari_aeseg._napari.layers.diagnostics import LOOKS
from napari_aeseg._napari.tuning import MODES
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari.layers import Layer

    from napari_aeseg._napari.widget import AESegWidget

QUICK = aeseg.TrainingParams(steps=8, width=4, levels=2, batch_size=2, crop_size=16)
_MOST_LAYERS = 14
_KINDS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QListWidget)
_TEXTS = ("", "YX", "CYX", "ZYX", "TYX", "all", "0, 1", "nonsense", "12", "auto", "../x", "é")


def picture(rng: np.random.Generator, kind: str) -> tuple[Any, dict[str, Any]]:
    """Return a small image of some kind, and how it is to be added."""
    side = int(rng.integers(24, 90))
    y, x = np.mgrid[:side, :side]
    plane = rng.normal(0.2, 0.05, (side, side))
    plane[:, side // 2 :] += 0.5 * ((y[:, side // 2 :] // 3) % 2)
    for row, column in rng.uniform(0, side, (5, 2)):
        plane[(y - row) ** 2 + (x - column) ** 2 <= 20] += 0.6
    grey = plane.astype(np.float32)
    if kind == "rgb":
        photo = (np.stack([plane, plane.T, 1 - plane], -1) * 150).clip(0, 255).astype(np.uint8)
        return photo, {"rgb": True}
    if kind == "stack":
        return np.stack([grey] * 4), {"axis_labels": ("z", "y", "x"), "scale": (4, 1, 1)}
    if kind == "movie":
        return np.stack([grey] * 3), {"axis_labels": ("t", "y", "x")}
    if kind == "channels":
        return np.stack([grey, grey.T]), {"axis_labels": ("c", "y", "x")}
    if kind == "lazy":
        return da.from_array(grey, chunks=16), {}
    if kind == "calibrated":
        return (1000 * plane).clip(0, 65535).astype(np.uint16), {
            "scale": (2, 0.5),
            "units": ("um", "um"),
        }
    if kind == "holes":
        grey[3:5] = np.nan
        return grey, {"contrast_limits": (0, 1)}
    if kind == "constant":
        return np.ones((side, side), np.uint8), {}
    if kind == "mask":
        return plane > 0.4, {}
    if kind == "tiny":
        return grey[:3, :3], {}
    return grey, {}


IMAGES = ("grey", "grey", "grey", "rgb", "stack", "movie", "channels", "lazy", "calibrated",
          "holes", "constant", "mask", "tiny")  # fmt: skip


class Hand:
    """The viewer, its dock, and what must stay as it is.

    Parameters
    ----------
    rng : Generator
    folder : Path
        For files.
    failed : callable
        Gets what the widget tells of.
    with_dock : bool
        Without, it is napari alone that is tried, to know whose fault something is.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        folder: Path,
        failed: Callable[[Exception], object],
        with_dock: bool = True,
    ) -> None:
        import napari

        self.rng, self.folder, self._failed = rng, folder, failed
        self._with_dock = with_dock
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1200, 900)
        self.widget: AESegWidget | None = None
        self.dock: Any = None
        self._known: dict[Layer, np.ndarray | None] = {}  # layers, and what the user's must hold
        self._previews: set[Layer] = set()
        for kind in ("grey", "rgb", "stack", "lazy"):
            self.add(kind)
        self.open()
        self.record()

    def add(self, kind: str) -> Image:
        """Add an image."""
        data, more = picture(self.rng, kind)
        return unwrapped(self.viewer.add_image(data, name=kind, **more))

    def open(self) -> None:
        """Open the dock, or show the one that is there."""
        if not self._with_dock:
            return
        dock, widget = self.viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
        if widget is not self.widget:
            widget.training_params = QUICK
            widget.device = "cpu"
            widget.failed.connect(self._failed)
        self.dock, self.widget = dock, widget

    def close(self) -> None:
        """Close the dock for good."""
        if self.widget is not None:
            self.dock.destroyOnClose()
            self.dock = self.widget = None

    def one(self, *kinds: type) -> Any:
        """Return any layer of some kinds; InputError if there is none."""
        layers = [layer for layer in self.layers if isinstance(layer, kinds or object)]
        if not layers:
            raise InputError("no such layer")
        return layers[int(self.rng.integers(len(layers)))]

    def any(self, values: Any) -> Any:
        """Return any of some values; InputError if there is none."""
        values = list(values)
        if not values:
            raise InputError("nothing to choose from")
        return values[int(self.rng.integers(len(values)))]

    @property
    def layers(self) -> list[Any]:
        """All layers of the viewer."""
        return [unwrapped(layer) for layer in self.viewer.layers]

    @property
    def dock_or_refuse(self) -> AESegWidget:
        """The widget; InputError while the dock is closed."""
        if self.widget is None:
            raise InputError("the dock is closed")
        return self.widget

    # What must stay as it is

    def _is_ours(self, layer: Layer) -> bool:
        """Whether the plugin may change a layer's data."""
        ours = isinstance(layer, Image) and (OWN in layer.metadata or "brightness" in layer.name)
        return ours or layer in self._previews

    def record(self, *changed: Layer) -> None:
        """Know the layers there are; take those for changed by the user that are given."""
        if self.widget is not None:
            results = self.widget._session.results.of.values()
            self._previews |= {r.preview.layer for r in results if r.preview.layer is not None}
        there = self.layers
        for layer in there:
            if layer not in self._known or layer in changed:
                self._known[layer] = None if self._is_ours(layer) else _copy(layer)
            elif self._is_ours(layer):
                self._known[layer] = None

    def painted(self, layer: Layer) -> None:
        """Note that the user has changed the data of a layer: it is theirs from now on."""
        self._previews.discard(layer)
        self._known[layer] = _copy(layer)

    def removed(self) -> None:
        """Note that the user has removed layers."""
        there = self.layers
        self._known = {layer: data for layer, data in self._known.items() if layer in there}
        self._previews &= set(there)

    def lost(self) -> list[str]:
        """Return what was lost or overwritten since, and know it no more."""
        there, wrong = self.layers, []
        for layer, data in list(self._known.items()):
            if layer not in there:
                wrong.append(f"{layer.name} is gone")
                del self._known[layer]
            elif data is not None and not np.array_equal(_copy(layer), data, equal_nan=_nan(data)):
                wrong.append(f"{layer.name} was overwritten")
                self._known[layer] = _copy(layer)
        return wrong

    def tasks(self) -> list[str]:
        """Return what the viewer says that the dock is at."""
        manager = self.viewer.window._qt_window._window._task_status_manager
        if self.widget is None or not manager.is_busy():
            return []
        return [text for text in manager.get_status() if "looking for dev" not in text]

    def wrong_at_rest(self) -> list[str]:
        """Return what is not as it has to be while nothing goes on."""
        wrong = [f"a task is left: {text}" for text in self.tasks()]
        widget = self.widget
        if widget is None:
            return wrong
        dock, controller = widget._dock, widget._controller
        if not dock.status.bar.isHidden() or not dock.status.stop_button.isHidden():
            wrong.append("the progress bar is left")
        free = (dock.model.load_button, dock.segments.open_button, dock.batch.button)
        wrong += [f"{b.text()} cannot be pressed" for b in free if not b.isEnabled()]
        if dock.segments.segment_button.isEnabled() != bool(widget.images):
            wrong.append("Segment can be pressed without an image, or cannot with one")
        for image, result in widget._session.results.of.items():
            if image not in self.layers:
                wrong.append(f"a result of {image.name}, which is gone")
            preview = result.preview.layer
            if preview is not None and preview.data.shape != result.hierarchy.axes.space_shape:
                wrong.append(f"{preview.name} has shape {preview.data.shape}")
            if not result.shot.fits(image):
                wrong.append(f"a result of {image.name} as it was with another shape")
        first = next(iter(controller.hierarchies), None)
        if first is not None and widget.mode == "regions" and first in widget.previews:
            result = widget._session.results.of[first]
            number = len(np.unique(np.asarray(widget.previews[first].data)))
            if not result.edits and number != widget.n_regions:
                wrong.append(f"{number} regions are shown, the dock says {widget.n_regions}")
        return wrong


def _copy(layer: Any) -> np.ndarray:
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return np.array(data)


def _nan(data: np.ndarray) -> bool:
    return data.dtype.kind == "f"


@dataclass(frozen=True)
class Action:
    """One thing to do, and how often."""

    do: Callable[[Hand], object]
    weight: float


ACTIONS: dict[str, Action] = {}


def action(weight: float = 1.0) -> Callable[[Callable[[Hand], object]], Callable[[Hand], object]]:
    """Have a function among the actions."""

    def register(do: Callable[[Hand], object]) -> Callable[[Hand], object]:
        ACTIONS[do.__name__] = Action(do, weight)
        return do

    return register


# The dock's controls


@action(30)
def control(hand: Hand) -> str:
    """Use any control of the dock that can be used."""
    widget = hand.dock_or_refuse
    found = {c for kind in _KINDS for c in widget.native.findChildren(kind)}
    usable = [
        c
        for c in found
        if c.isVisible()
        and c.isEnabled()
        and not c.objectName().startswith("qt_")
        and type(c) is not QScrollBar
    ]
    # The order of a set differs from run to run.
    usable.sort(key=lambda c: (c.mapTo(widget.native, c.rect().topLeft()).y(), c.x()))
    chosen = hand.any(usable)
    with dialogs(hand):
        use(hand, chosen)
    if not hand.dock:
        return ""
    quick(widget)
    hand.removed()
    return f"{type(chosen).__name__} {chosen.accessibleName() or getattr(chosen, 'text', str)()}"


def use(hand: Hand, chosen: QWidget) -> None:
    """Do what one does to a control of this kind."""
    rng = hand.rng
    if isinstance(chosen, QAbstractButton):
        chosen.click()
    elif isinstance(chosen, QAbstractSlider):
        chosen.setValue(int(rng.integers(chosen.minimum(), chosen.maximum() + 1)))
    elif isinstance(chosen, QAbstractSpinBox):
        chosen.stepBy(int(rng.integers(-3, 4)))
    elif isinstance(chosen, QComboBox):
        if chosen.count():
            index = int(rng.integers(chosen.count()))
            chosen.setCurrentIndex(index)
            chosen.activated.emit(index)
    elif isinstance(chosen, QLineEdit):
        if chosen.accessibleName().startswith(("Folder", "Results", "Images in", "Write")):
            return
        text = hand.any(_TEXTS)
        chosen.setText(text if rng.random() < 0.4 else "")
        chosen.editingFinished.emit()
    elif isinstance(chosen, QListWidget) and chosen.count():
        item = chosen.item(int(rng.integers(chosen.count())))
        states = (Qt.CheckState.Checked, Qt.CheckState.Unchecked)
        item.setCheckState(hand.any(states))


def quick(widget: AESegWidget) -> None:
    """Keep what a training and a segmentation would take down to a second."""
    params = widget.training_params
    widget.training_params = params.updated(
        steps=min(params.steps, 40),
        width=min(params.width, 8),
        levels=min(params.levels, 3),
        convolutions=min(params.convolutions, 2),
        batch_size=min(params.batch_size, 4),
        crop_size=min(params.crop_size, 32),
    )
    widget.device = "cpu"


@contextmanager
def dialogs(hand: Hand) -> Iterator[None]:
    """Answer all dialogs by chance."""
    stamp = int(hand.rng.integers(4))
    files = [str(hand.folder / f"file{stamp}"), ""]
    folders = [str(p) for p in hand.folder.glob("*.zarr")] + [str(hand.folder), ""]
    models = [str(p) for p in hand.folder.glob("**/*.safetensors")] + [""]
    answers = {
        "getOpenFileName": (hand.any(models), ""),
        "getSaveFileName": (hand.any(files), ""),
        "getExistingDirectory": hand.any(folders),
    }
    color = QColor(hand.any(["#123456", "#ff8800", "#00ff00"]))
    picker = "napari_aeseg._napari.views.classes.QColorDialog.getColor"
    with ExitStack() as stack:
        for name, answer in answers.items():
            given = patch.object(QFileDialog, name, lambda *_, answer=answer: answer)
            stack.enter_context(given)
        stack.enter_context(patch(picker, lambda *_: color))
        yield


# The widget's methods


@action(4)
def train(hand: Hand) -> None:
    """Train."""
    hand.dock_or_refuse.train()


@action(8)
def segment(hand: Hand) -> None:
    """Segment."""
    hand.dock_or_refuse.segment()


@action(3)
def stop(hand: Hand) -> None:
    """Stop."""
    hand.dock_or_refuse.stop()


@action(3)
def resume(hand: Hand) -> None:
    """Go on with a training."""
    hand.dock_or_refuse.resume()


@action(6)
def keep(hand: Hand) -> None:
    """Keep what is shown."""
    if len(hand.layers) < _MOST_LAYERS:
        hand.dock_or_refuse.keep()


@action(8)
def mode(hand: Hand) -> str:
    """Choose another mode."""
    chosen = hand.any(MODES)
    hand.dock_or_refuse.mode = chosen
    return chosen


@action(8)
def cut(hand: Hand) -> str:
    """Give a part of the cut another value."""
    widget, rng = hand.dock_or_refuse, hand.rng
    name, value = hand.any(
        [
            ("n_regions", hand.any([None, 1, 2, 7, 10**6])),
            ("threshold", float(rng.random())),
            ("n_classes", int(rng.integers(1, 8))),
            ("min_size", hand.any([None, 1, 20])),
            ("class_ids", hand.any([None, (1,), (1, 3), (9,)])),
        ]
    )
    setattr(widget, name, value)
    return f"{name} = {value}"


@action(5)
def weights(hand: Hand) -> None:
    """Compare patches differently."""
    widget, rng = hand.dock_or_refuse, hand.rng
    if rng.random() < 0.5:
        widget.balance = float(rng.random())
    else:
        widget.scale = hand.any(["auto", 1, 2.5, 40])


@action(3)
def merge(hand: Hand) -> None:
    """Merge two regions, or split one, or take that back."""
    widget, rng = hand.dock_or_refuse, hand.rng
    tree = widget.hierarchy
    if tree is None:
        raise InputError("nothing to merge")
    places = [tuple(int(rng.integers(n)) for n in tree.patches.shape) for _ in range(2)]
    hand.any(
        [
            lambda: widget.merge(*places),
            lambda: widget.split(places[0]),
            widget.undo,
            widget.redo,
        ]
    )()


@action(3)
def tool(hand: Hand) -> None:
    """Take a tool in hand."""
    hand.dock_or_refuse.tool = hand.any(["merge", "split", None])


@action(4)
def strokes(hand: Hand) -> None:
    """Paint strokes, undo or redo them."""
    layer = hand.dock_or_refuse.paint()
    hand.record()
    place = [int(hand.rng.integers(n)) for n in layer.data.shape]
    hand.any(
        [
            lambda: layer.paint(place, int(hand.rng.integers(0, 5))),
            lambda: layer.paint(place, int(hand.rng.integers(1, 5))),
            layer.undo,
            layer.redo,
        ]
    )()
    hand.painted(layer)


@action(3)
def classes(hand: Hand) -> None:
    """Name, colour, keep or give up classes."""
    widget = hand.dock_or_refuse
    number = len(widget.class_names)
    hand.any(
        [
            lambda: setattr(widget, "class_names", [f"kind {i}" for i in range(number)]),
            lambda: setattr(widget, "class_colors", ["#ff8800"] * number),
            lambda: setattr(widget, "classes_fixed", True),
            lambda: setattr(widget, "classes_fixed", False),
        ]
    )()


@action(5)
def look(hand: Hand) -> str:
    """Look inside."""
    what = hand.any(LOOKS)
    if len(hand.layers) < _MOST_LAYERS:
        hand.dock_or_refuse.look(what)
    return what


@action(3)
def images(hand: Hand) -> None:
    """Choose other images."""
    widget = hand.dock_or_refuse
    there = widget._dock.images.all
    widget.images = [image for image in there if hand.rng.random() < 0.5]


@action(2)
def axes(hand: Hand) -> None:
    """Say how axes are read."""
    hand.dock_or_refuse.axes = hand.any([None, None, "YX", "ZYX", "CYX", "x"])


@action(2)
def params(hand: Hand) -> None:
    """Have images cut into other patches, and models trained otherwise."""
    widget, rng = hand.dock_or_refuse, hand.rng
    widget.segmentation_params = aeseg.SegmentationParams(
        patch_size=int(rng.integers(2, 12)),
        patches=hand.any(["grid", "watershed"]),
    )
    widget.balance = float(rng.random())
    widget.training_params = QUICK.updated(
        steps=int(rng.integers(1, 60)), seed=int(rng.integers(9))
    )
    widget.watch = bool(rng.random() < 0.5)
    widget.start_from = hand.any(["new", "base", "current"])


@action(2)
def apply_to_all(hand: Hand) -> None:
    """Segment all open images."""
    hand.dock_or_refuse.apply_to_all()


@action(1)
def batch(hand: Hand) -> None:
    """Segment a folder."""
    import tifffile

    folder = hand.folder / "images"
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / "a.tif", picture(hand.rng, "grey")[0])
    hand.dock_or_refuse.segment_folder(folder, existing=hand.any(["skip", "replace", "refuse"]))


@action(2)
def files(hand: Hand) -> None:
    """Save or load a model or a hierarchy, export a table, copy the script."""
    widget = hand.dock_or_refuse
    model, tree = hand.folder / "m.aeseg.safetensors", hand.folder / "t.aeseg.zarr"
    hand.any(
        [
            lambda: widget.save_model(model),
            lambda: widget.load_model(hand.any([model, "base"])),
            lambda: widget.save_hierarchy(tree),
            lambda: widget.open_hierarchy(tree),
            lambda: widget.export_table(hand.folder / "t.csv"),
            lambda: widget.color_by(hand.any(["area", "class", "label", "nothing"])),
            lambda: widget.script,
            lambda: hand.viewer.open(model, plugin="napari-aeseg") if model.exists() else None,
        ]
    )()


@action(5)
def dock(hand: Hand) -> str:
    """Close the dock or open it, hide it, or take it out of the window."""
    if hand.widget is None:
        hand.open()
        return "opened" if hand.widget else ""
    what = hand.any(["close", "hide", "float", "fold", "fold", "fold"])
    if what == "close":
        hand.record()
        hand.close()
    elif what == "hide":
        hand.dock.setVisible(not hand.dock.isVisible())
    elif what == "float":
        hand.dock.setFloating(not hand.dock.isFloating())
    else:
        hand.any(hand.widget._dock.folds.values()).button.click()
    return what


# Layers


@action(3)
def add(hand: Hand) -> str:
    """Add an image or labels."""
    if len(hand.layers) >= _MOST_LAYERS:
        hand.viewer.layers.remove(hand.one())
        hand.removed()
    kind = hand.any([*IMAGES, "labels"])
    if kind == "labels":
        hand.viewer.add_labels((picture(hand.rng, "grey")[0] > 0.4).astype(int), name="mine")
    else:
        hand.add(kind)
    return kind


@action(3)
def remove(hand: Hand) -> str:
    """Remove a layer."""
    layer = hand.one()
    hand.viewer.layers.remove(layer)
    hand.removed()
    return layer.name


@action(0.2)
def remove_all(hand: Hand) -> None:
    """Remove all layers, and begin anew."""
    hand.viewer.layers.clear()
    hand.removed()
    hand.add("grey")


@action(2)
def rename(hand: Hand) -> None:
    """Rename a layer."""
    hand.one().name = hand.any(["other", "cells preview", "a/b:c", "", "brightness of day", "ü"])


@action(3)
def select(hand: Hand) -> None:
    """Select a layer, several or none."""
    layers = hand.viewer.layers
    layers.selection = {layer for layer in layers if hand.rng.random() < 0.3}


@action(2)
def reorder(hand: Hand) -> None:
    """Put layers in another order."""
    layers = hand.viewer.layers
    if len(layers) > 1:
        layers.move(int(hand.rng.integers(len(layers))), int(hand.rng.integers(len(layers))))


@action(4)
def replace_data(hand: Hand) -> str:
    """Give an image other data, or change it in place."""
    layer = hand.one(Image)
    if layer.multiscale or isinstance(layer.data, da.Array):
        raise InputError("not in memory")
    what = hand.any(["in place", "noise", "kind", "shape", "the same"])
    if what == "in place":
        if layer.data.flags.writeable:
            layer.data[:2] = layer.data[2:4] if len(layer.data) > 4 else 0
            layer.refresh()
    elif what == "noise":
        layer.data = np.roll(layer.data, 3, axis=0)
    elif what == "kind" and not layer.rgb:
        layer.data = (np.nan_to_num(layer.data) * 50).clip(0, 255).astype(np.uint8)
    elif what == "shape":
        layer.data = np.repeat(layer.data, 2, axis=0)[:80]
    else:
        layer.data = layer.data  # events are sent all the same
    hand.painted(layer)
    return f"{layer.name} {what}"


@action(2)
def place(hand: Hand) -> None:
    """Move, scale or turn a layer."""
    layer, rng = hand.one(), hand.rng
    hand.any(
        [
            lambda: setattr(layer, "scale", rng.uniform(0.3, 4, layer.ndim)),
            lambda: setattr(layer, "translate", rng.uniform(-9, 9, layer.ndim)),
            lambda: setattr(layer, "units", (hand.any(["um", "nm", "pixel"]),) * layer.ndim),
            lambda: setattr(layer, "rotate", float(rng.uniform(0, 90)) if layer.ndim == 2 else 0),
        ]
    )()


@action(6)
def paint(hand: Hand) -> str:
    """Paint on labels, fill, undo or redo, give them other data."""
    layer = hand.one(Labels)
    if layer.multiscale or not isinstance(layer.data, np.ndarray):
        raise InputError("cannot be painted on")
    rng = hand.rng
    at = [int(rng.integers(n)) for n in layer.data.shape]
    what = hand.any(["paint", "fill", "undo", "redo", "erase", "data", "other shape"])
    before = layer.data
    copy = before.copy()
    {
        "paint": lambda: layer.paint(at, int(rng.integers(1, 200))),
        "fill": lambda: layer.fill(at, int(rng.integers(1, 200))),
        "undo": layer.undo,
        "redo": layer.redo,
        "erase": lambda: layer.paint(at, 0),
        "data": lambda: setattr(layer, "data", np.flip(layer.data, 0).copy()),
        "other shape": lambda: setattr(layer, "data", np.ones((5,) * layer.data.ndim, int)),
    }[what]()
    changed = layer.data is not before or not np.array_equal(layer.data, copy)
    if changed or layer not in hand._previews:
        hand.painted(layer)
    return f"{what} on {layer.name}"


@action(3)
def brush(hand: Hand) -> None:
    """Take a brush in hand, on a layer that is selected then."""
    layer = hand.one(Labels)
    hand.viewer.layers.selection.active = layer
    layer.mode = hand.any(["paint", "fill", "erase", "pick", "pan_zoom", "polygon"])


@action(2)
def menu(hand: Hand) -> str:
    """Do what the menus on layers do."""
    from napari.layers import _layer_actions as actions

    layers = hand.viewer.layers
    if len(layers) >= _MOST_LAYERS or not layers.selection:
        raise InputError("nothing to do")
    name, do = hand.any(
        [
            ("duplicate", actions._duplicate_layer),
            ("toggle", actions._toggle_visibility),
            ("to image", actions._convert_to_image),
            ("link", actions._link_selected_layers),
            ("unlink", actions._unlink_selected_layers),
            ("box", actions._toggle_bounding_box),
        ]
    )
    if name == "to image" and not all(type(layer) is Labels for layer in layers.selection):
        raise InputError("no labels")
    do(layers)
    hand.removed()
    return name


# The canvas


@action(5)
def drag(hand: Hand) -> None:
    """Press, move and release the mouse on the canvas."""
    canvas = hand.viewer.window._qt_viewer.canvas.native
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    wide, high = canvas.width(), canvas.height()
    ends = [QPoint(int(hand.rng.integers(wide)), int(hand.rng.integers(high))) for _ in range(2)]
    QTest.mousePress(canvas, left, none, ends[0])
    QTest.mouseMove(canvas, ends[1])
    QTest.mouseRelease(canvas, left, none, ends[1])
    active = unwrapped(hand.viewer.layers.selection.active)
    brushed = isinstance(active, Labels) and active.mode != "pan_zoom" and active in hand._known
    if brushed and (active not in hand._previews or _is_let_go(hand, active)):
        hand.painted(active)


def _is_let_go(hand: Hand, layer: Labels) -> bool:
    """Whether a preview is the user's by now."""
    if hand.widget is None:
        return True
    return all(r.preview.layer is not layer for r in hand.widget._session.results.of.values())


@action(3)
def key(hand: Hand) -> str:
    """Press a key on the canvas."""
    canvas = hand.viewer.window._qt_viewer.canvas.native
    none = Qt.KeyboardModifier.NoModifier
    control = Qt.KeyboardModifier.ControlModifier
    name, modifiers = hand.any(
        [("Z", control), ("Z", control | Qt.KeyboardModifier.ShiftModifier), ("M", none),
         ("1", none), ("2", none), ("V", none)]
    )  # fmt: skip
    canvas.setFocus()
    QTest.keyClick(canvas, getattr(Qt.Key, f"Key_{name}"), modifiers)
    active = unwrapped(hand.viewer.layers.selection.active)
    if isinstance(active, Labels) and active not in hand._previews:
        hand.painted(active)
    return name


@action(3)
def dims(hand: Hand) -> None:
    """Look from elsewhere."""
    viewer, rng = hand.viewer, hand.rng
    hand.any(
        [
            lambda: setattr(viewer.dims, "ndisplay", 5 - viewer.dims.ndisplay),
            lambda: setattr(viewer.dims, "ndisplay", 2),
            lambda: viewer.dims.set_current_step(0, int(rng.integers(4))),
            viewer.dims.roll,
            viewer.dims.transpose,
            viewer.reset_view,
            lambda: setattr(viewer.camera, "zoom", float(rng.uniform(0.5, 8))),
            lambda: setattr(viewer.grid, "enabled", not viewer.grid.enabled),
        ]
    )()


@action(0.5)
def theme(hand: Hand) -> None:
    """Choose other colours for the window."""
    hand.viewer.theme = "light" if hand.viewer.theme == "dark" else "dark"
