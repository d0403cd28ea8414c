"""Pictures of the real window, driven by the widget's public methods; see make_pictures.py."""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

os.environ["NAPARI_CONFIG"] = ""  # default settings of napari; nothing is stored

import napari
import numpy as np
from napari.settings import get_plugin_settings
from PIL import Image, ImageDraw
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QDockWidget, QScrollArea, QSlider, QWidget
from skimage.draw import line
from skimage.morphology import dilation, disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = (1200, 800)
SMALL = (1130, 530)  # the GIF shows all of it except the layer list
# (row, column) corners of strokes on the tissue, by label
STROKES = {
    1: [[(60, 30), (150, 60)], [(250, 30), (380, 90)], [(60, 400), (220, 440)]],
    2: [[(220, 255), (290, 300), (300, 400)], [(60, 495), (300, 480)]],
    3: [[(330, 6), (500, 20)], [(30, 290), (150, 350)]],
}


@contextmanager
def window(sample: str, size: tuple[int, int] = SIZE) -> Iterator[tuple[Any, Any, Any]]:
    """Open a viewer with a sample and the dock; gives the viewer, the dock and the widget."""
    get_plugin_settings("napari-aeseg").saving.autosave = False
    viewer = napari.Viewer()
    viewer.window.resize(*size)
    viewer.open_sample("napari-aeseg", sample)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    widget.device = "cpu"
    QTest.qWait(500)
    viewer.reset_view()
    yield viewer, dock, widget
    viewer.close()


def grab(viewer: Any) -> Image.Image:
    """Take the whole window as an RGB picture."""
    QTest.qWait(500)
    pixels = viewer.window.screenshot(flash=False, canvas_only=False)
    return Image.fromarray(np.asarray(pixels)[..., :3])


def save(viewer: Any, path: Path) -> None:
    """Write a screenshot with 256 colours, which is a third of the size."""
    QTest.qWait(3000)  # until the thumbnails of alternatives are there
    grab(viewer).quantize(256).save(path, optimize=True)


def tissue_step_by_step(folder: Path) -> None:
    """Open, segment, classes, objects made of a class, strokes, features."""
    with window("tissue") as (viewer, _, widget):
        save(viewer, folder / "walk_1_open.png")
        widget.segment()
        widget.wait(300)
        widget.n_regions = 7
        widget.wait(60)
        save(viewer, folder / "walk_2_segment.png")
        widget.mode = "classes"
        widget.n_classes = 2
        widget.wait(60)
        widget.class_names = ("gland", "stroma")
        widget.class_colors = ("#d55e00", "#56b4e9")
        save(viewer, folder / "walk_3_classes.png")
        widget.mode = "objects"
        widget.class_ids = [1]
        widget.wait(60)
        save(viewer, folder / "guide_objects.png")
        widget.mode, widget.markers_are = "markers", "classes"
        paint(widget.paint())
        widget.wait(60)
        save(viewer, folder / "walk_4_strokes.png")
        for layer in viewer.layers[1:]:
            layer.visible = False
        widget.look("features")
        widget.wait(60)
        find(widget, "Diagnostic layers").click()
        scroll_to(widget, "Diagnostic layers")
        save(viewer, folder / "guide_features.png")


def paint(strokes: Any) -> None:
    """Put STROKES on a Labels layer."""
    for label, lines in STROKES.items():
        for corners in lines:
            drawn = np.zeros(strokes.data.shape, bool)
            for start, end in pairwise(corners):
                drawn[line(*start, *end)] = True
            strokes.data[dilation(drawn, disk(3))] = label
    strokes.data = strokes.data  # emits the change


def coins_in_a_table(folder: Path) -> None:
    """Kept objects, their table, and their colours by one of its columns."""
    with window("coins") as (viewer, dock, widget):
        widget.mode = "objects"
        widget.segment()
        widget.wait(300)
        kept = widget.keep()[0]
        widget.wait(300)  # for the last column
        kept.visible, widget.preview.visible = True, False
        viewer.layers.selection.active = kept
        widget.color_by("area")
        find(widget, "Tables and script").click()
        find(widget, "Show features table").click()
        table = viewer.window.dock_widgets["Features table widget (napari)"]
        give_room(dock, table)
        scroll_to(widget, "Tables and script")
        viewer.reset_view()
        save(viewer, folder / "walk_5_table.png")


def textures_in_training(folder: Path) -> None:
    """A training after more than half of its steps, with loss and reconstruction."""
    with window("textures") as (viewer, _, widget):
        widget.watch = True
        widget.train()
        seen = []
        widget.progressed.connect(lambda event: seen.append(event.done))
        while not seen or seen[-1] < 250:
            QTest.qWait(100)
        save(viewer, folder / "walk_6_training.png")
        widget.stop()
        widget.wait(60)


def give_room(dock: QDockWidget, below: QWidget) -> None:
    """Give most of the height to the dock, as by dragging the border."""
    while not isinstance(below, QDockWidget):
        below = below.parent()
    dock.parent().resizeDocks([dock, below], [400, 340], Qt.Orientation.Vertical)


def scroll_to(widget: Any, text: str) -> None:
    """Scroll the dock so that the button with a text is near the top."""
    QTest.qWait(300)
    scroll = widget.native.findChild(QScrollArea)
    top = find(widget, text).mapTo(scroll.widget(), QPoint(0, 0)).y()
    scroll.verticalScrollBar().setValue(top - 36)


def find(widget: Any, text: str) -> Any:
    """Return the button of the dock with a text."""
    buttons = widget.native.findChildren(QAbstractButton)
    return next(b for b in buttons if b.text().strip("▸▾ ") == text)


def regions_slider(path: Path) -> None:
    """Drag from 2 regions to some 40 and back to 7."""
    with window("tissue", SMALL) as (viewer, dock, widget):
        widget.segment()
        widget.wait(300)
        control = slider_of(widget, "Regions")
        widget.n_regions = 7
        widget.wait(60)
        end = control.value()
        scroll_to(widget, "Segment")
        viewer.reset_view()
        main = dock.parent()
        left = main.centralWidget().geometry().left()
        frames = []
        right, left_again = range(80, 460, 16), range(460, end, -20)
        for value in (*right, *left_again, end):
            control.setValue(value)  # the same as a drag
            widget.wait(30)
            frames.append(frame(grab(viewer), left, main, control))
        write_gif(frames, path)


def slider_of(widget: Any, name: str) -> Any:
    """Return the slider with a name."""
    sliders = (c for c in widget.native.findChildren(QSlider) if c.accessibleName() == name)
    return next(sliders)


def frame(shot: Image.Image, left: int, main: QWidget, control: QWidget) -> Image.Image:
    """Cut the layer list and the menu off, and draw a pointer on the slider's handle."""
    share = (control.value() - control.minimum()) / (control.maximum() - control.minimum())
    place = QPoint(round(8 + share * (control.width() - 16)), control.height() // 2)
    at = control.mapTo(main, place)
    arrow = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]
    draw = ImageDraw.Draw(shot)
    draw.polygon([(at.x() + x, at.y() + y) for x, y in arrow], fill="white", outline="black")
    return shot.crop((left, 22, shot.width, shot.height - 24))


def write_gif(frames: list[Image.Image], path: Path) -> None:
    """Write the frames with one palette; the first and the last are shown longer."""
    samples = np.concatenate([np.asarray(f) for f in frames[:: len(frames) // 5]])
    palette = Image.fromarray(samples).quantize(255, kmeans=1)
    first, *rest = (f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    times = [900, *[130] * (len(rest) - 1), 2000]
    first.save(path, save_all=True, append_images=rest, duration=times, loop=0, optimize=True)
