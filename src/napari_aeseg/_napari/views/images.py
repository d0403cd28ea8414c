"""First section of the dock: which images, and how their axes are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_aeseg._napari.layers.connections import Connections
from napari_aeseg._napari.layers.image_input import image_input
from napari_aeseg._napari.views.widgets import (
    WrappedLabel,
    fill_column,
    ignore_wheel,
)
from napari_aeseg.errors import InputError
from napari_aeseg.images.napari_layers import layer_levels

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState

_MOST_ROWS = 5
_AXES_TIP = (
    "What the dimensions of the images are, one letter each: T time, C channel, Z slice, Y row, "
    "X column, for example CYX. Leave it empty to have it read from the layer (RGB, axis labels) "
    "or, where the layer has none, from the shape. The line below shows how, and how large voxels "
    "are where the layer has a scale."
)
_RESOLUTION_TIP = (
    "The level of multiscale images that is learnt from and segmented. A coarser one is faster and "
    "sees larger structures. The finest is chosen at first."
)
_CHECKED = Qt.CheckState.Checked


class ImagesView(QWidget):
    """A list of the open images to check, and the axes."""

    looked_at = Signal(object)  # Image layer whose name was clicked, or reached with the arrow keys

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self._connections = Connections()
        self.list = QListWidget()
        self.list.setToolTip(
            "The images to learn from and to segment. Check several to train one model on all. A "
            "click on a name, or the arrow keys, show this image and its preview only."
        )
        self.list.setAccessibleName("Images")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.axes_field = QLineEdit()
        self.axes_field.setPlaceholderText("read from the image")
        self.axes_field.setToolTip(_AXES_TIP)
        self.axes_field.setAccessibleName("Axes")
        self.reading = WrappedLabel()
        self.reading.setToolTip("How the dimensions of the checked images are read.")
        axes_label = QLabel("Axes")
        axes_label.setToolTip(_AXES_TIP)
        row = QHBoxLayout()
        row.addWidget(axes_label)
        row.addWidget(self.axes_field, stretch=1)
        self.resolution_row = QWidget()
        self.resolution_box = QComboBox()
        self.resolution_box.setToolTip(_RESOLUTION_TIP)
        self.resolution_box.setAccessibleName("Resolution")
        self.resolution_box.activated.connect(lambda i: setattr(state, "resolution", i))
        ignore_wheel(self.resolution_box)
        line = QHBoxLayout(self.resolution_row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(QLabel("Resolution"))
        line.addWidget(self.resolution_box, stretch=1)
        fill_column(self, self.list, row, self.resolution_row, self.reading)
        self._was_checked = False
        self.list.itemChanged.connect(self._choose)
        self.list.itemPressed.connect(lambda *_: setattr(self, "_was_checked", False))
        self.list.itemClicked.connect(self._on_click)
        self.list.currentRowChanged.connect(self._on_row)
        self.axes_field.textChanged.connect(
            lambda text: setattr(state, "axes", text.strip() or None)
        )
        state.on("open_images", draw=self.draw_list)
        state.on("images", draw=self._draw_checks)
        state.on("axes", draw=self._draw_axes)
        state.on("images", "resolution", draw=self._draw_resolutions)

    def close_connections(self) -> None:
        """Leave the layers to napari."""
        self._connections.disconnect_all()

    def draw_list(self) -> None:
        """Show the names of the open images as they are now."""
        images = self._state.open_images
        with signals_blocked(self.list):
            self.list.clear()
            for image in images:
                item = QListWidgetItem(image.name)
                item.setToolTip(image.name)
                item.setSizeHint(QSize(0, self._row_height))
                item.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
                self.list.addItem(item)
        rows = min(len(images), _MOST_ROWS)
        self.list.setFixedHeight(rows * self._row_height + 2 * self.list.frameWidth() + 2)
        self.list.setVisible(rows > 0)
        self._connections.disconnect_all()
        for image in images:
            events = image.events
            self._connections.connect(
                self._draw_reading, events.data, events.scale, events.units, events.axis_labels
            )
        self._draw_checks()

    @property
    def _row_height(self) -> int:
        return int(self.list.fontMetrics().height()) + 8

    def _draw_checks(self) -> None:
        with signals_blocked(self.list):
            for i, image in enumerate(self._state.open_images):
                is_chosen = image in self._state.images
                self.list.item(i).setCheckState(_CHECKED if is_chosen else Qt.CheckState.Unchecked)
        self._draw_reading()

    def _draw_axes(self) -> None:
        axes = self._state.axes or ""
        if self.axes_field.text().strip() != axes:
            with signals_blocked(self.axes_field):
                self.axes_field.setText(axes)
        self._draw_reading()

    def _draw_resolutions(self) -> None:
        """Offer the levels of the chosen image that has most of them."""
        levels = max((layer_levels(i) for i in self._state.images), key=len, default=[])
        self.resolution_row.setVisible(len(levels) > 1)
        with signals_blocked(self.resolution_box):
            self.resolution_box.clear()
            for i, level in enumerate(levels):
                size = " x ".join(map(str, np.shape(level)))
                self.resolution_box.addItem(f"{i}{'' if i else ' (finest)'}: {size}")
            self.resolution_box.setCurrentIndex(min(self._state.resolution, len(levels) - 1))
        self._draw_reading()

    def _draw_reading(self, *_: Any) -> None:
        """Show how the axes of the chosen images are read, or why they cannot be."""
        state = self._state
        lines = [] if state.images else ["Check the images to use."]
        if not state.open_images:
            lines = [
                "Open an image: drop a file on the canvas, or take one from File > Open Sample."
            ]
        for image in state.images:
            try:
                text = str(image_input(image, state.axes, state.resolution).axes)
                lines.append(text if len(state.images) == 1 else f"{image.name}: {text}")
            except InputError as error:
                lines.append(str(error))
        self.reading.setText("\n".join(lines))

    def _on_click(self, item: QListWidgetItem) -> None:
        was_checked, self._was_checked = self._was_checked, False
        if not was_checked:  # the click was on the name
            self.looked_at.emit(self._state.open_images[self.list.row(item)])

    def _on_row(self, row: int) -> None:
        by_key = QApplication.mouseButtons() == Qt.MouseButton.NoButton and self.list.hasFocus()
        if by_key and row >= 0:
            self.looked_at.emit(self._state.open_images[row])

    def _choose(self, *_: Any) -> None:
        self._was_checked = True
        images = enumerate(self._state.open_images)
        self._state.images = tuple(
            image for i, image in images if self.list.item(i).checkState() == _CHECKED
        )
