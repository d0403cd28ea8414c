"""First section of the dock: which images, and how their axes are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_aeseg._napari.layers.adapter import OWN, Snapshot, snapshot, unwrapped
from napari_aeseg._napari.listening import Listening
from napari_aeseg._napari.views.widgets import WrappedLabel, heading
from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.viewer import Viewer

_MOST_ROWS = 5
_AXES_TIP = (
    "What the dimensions of the images are, one letter each: T time, C channel, Z slice, Y row, "
    "X column, for example CYX. Leave it empty to have it read from the layer (RGB, axis labels) "
    "or, where that says nothing, from the shape. The line below shows how, and how large voxels "
    "are where the layer has a scale."
)


class ImagesView(QWidget):
    """A list of the viewer's Image layers to check, and the axes.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    changed = Signal()
    replaced = Signal(object)  # Image layer that was given other data

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Image] = []
        self._listening = Listening()
        self.list = QListWidget()
        self.list.setToolTip(
            "The images to learn from and to segment. Check several to train one model on all."
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
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("1  Images"))
        layout.addWidget(self.list)
        layout.addLayout(row)
        layout.addWidget(self.reading)
        self.list.itemChanged.connect(self._refresh)
        self.axes_field.textChanged.connect(self._refresh)
        self.reset()

    @property
    def images(self) -> list[Image]:
        """The checked layers, in the order of the layer list."""
        return [layer for layer, item in self._rows() if item.checkState() == _CHECKED]

    @images.setter
    def images(self, images: Sequence[Image]) -> None:
        wanted = [unwrapped(image) for image in images]
        for image in wanted:
            if image not in self._layers:
                raise InputError(f"{image!r} is not an Image layer of this viewer.")
        self._check(wanted)

    @property
    def all(self) -> list[Image]:
        """All layers of the list, checked or not."""
        return list(self._layers)

    @property
    def others(self) -> list[Image]:
        """The layers that are not checked."""
        return [layer for layer, item in self._rows() if item.checkState() != _CHECKED]

    @property
    def axes(self) -> str | None:
        """What is typed in the axes field; None when it is left to the images."""
        return self.axes_field.text().strip() or None

    @axes.setter
    def axes(self, axes: str | None) -> None:
        self.axes_field.setText(axes or "")

    def snapshots(self) -> list[Snapshot]:
        """Read the checked layers; raise `InputError` when one cannot be used or none is there."""
        if not self.images:
            raise InputError(
                "No image is chosen: open an image and check it in the list of images."
            )
        return [snapshot(image, self.axes) for image in self.images]

    def reset(self) -> None:
        """Follow the layers of the viewer; what was checked stays checked."""
        checked = self.images
        layers = [unwrapped(layer) for layer in self._viewer.layers]
        self._layers = [
            layer for layer in layers if isinstance(layer, Image) and OWN not in layer.metadata
        ]
        self.list.blockSignals(True)
        self.list.clear()
        for layer in self._layers:
            item = QListWidgetItem(layer.name)
            item.setToolTip(layer.name)
            item.setSizeHint(QSize(0, self._row_height))
            item.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
            self.list.addItem(item)
        self.list.blockSignals(False)
        self._listen()
        self._fit_height()
        if any(layer in self._layers for layer in checked):
            self._check(checked)
        else:
            self._choose_first()

    def leave(self) -> None:
        """Hear no more of the layers."""
        self._listening.leave()

    def _listen(self) -> None:
        """Follow what the layers say of themselves: the line below the list tells it."""
        self._listening.leave()
        for layer in self._layers:
            events = layer.events
            self._listening.to(events.scale, events.units, events.axis_labels, then=self._refresh)
            self._listening.to(events.data, then=self._on_data)

    def _on_data(self, event: Any) -> None:
        self.replaced.emit(event.source)
        self._refresh()

    def _rows(self) -> list[tuple[Image, QListWidgetItem]]:
        return [(layer, self.list.item(i)) for i, layer in enumerate(self._layers)]

    def _check(self, wanted: Sequence[Image]) -> None:
        self.list.blockSignals(True)
        for layer, item in self._rows():
            item.setCheckState(_CHECKED if layer in wanted else Qt.CheckState.Unchecked)
        self.list.blockSignals(False)
        self._refresh()

    def _choose_first(self) -> None:
        """Check the selected images, or the topmost: a newcomer has one and wants to use it."""
        selected = [unwrapped(layer) for layer in self._viewer.layers.selection]
        self._check([layer for layer in self._layers if layer in selected] or self._layers[-1:])

    @property
    def _row_height(self) -> int:
        return self.list.fontMetrics().height() + 8

    def _fit_height(self) -> None:
        rows = min(len(self._layers), _MOST_ROWS)
        self.list.setFixedHeight(rows * self._row_height + 2 * self.list.frameWidth() + 2)
        self.list.setVisible(rows > 0)

    def _refresh(self, *_: object) -> None:
        self.reading.setText(self._read())
        self.changed.emit()

    def _read(self) -> str:
        if not self._layers:
            return "Open an image: drop a file on the canvas, or take one from File > Open Sample."
        lines = []
        for image in self.images:
            try:
                text = str(snapshot(image, self.axes).axes)
                lines.append(text if len(self.images) == 1 else f"{image.name}: {text}")
            except InputError as error:
                lines.append(str(error))
        return "\n".join(lines) or "Check the images to use."


_CHECKED = Qt.CheckState.Checked
