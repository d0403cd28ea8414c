"""What is looked for: a button for each mode, with a picture of what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QWidget

from napari_aeseg._napari.layers.colors import colors_of_labels
from napari_aeseg._napari.views.choices.thumbnails import (
    GAP,
    STYLE,
    ThumbnailButton,
    fit_thumbnails,
)
from napari_aeseg.regions.cuts.cut import MODES, Mode

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent

    from napari_aeseg._napari.state import DockState

_TIPS = {
    "regions": "Connected segments: every connected part of the image has its own label.",
    "classes": "The same texture has the same label wherever it is in the image.",
    "objects": "Separate objects such as nuclei, cells or particles that differ from their "
    "surroundings, each with its own label; 0 is background.",
    "markers": "Paint a few strokes: all that looks like them gets their class, or every colour "
    "grows into one segment.",
}
_SIDES = 50, 120  # pixels: smallest and largest width of a picture
_TEXT = 4  # pixels around the text


class ModesView(QWidget):
    """The modes side by side; a click on the picture that looks right chooses one."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.buttons: dict[Mode, ThumbnailButton] = {}
        self._group = QButtonGroup(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GAP)
        for mode in MODES:
            button = ThumbnailButton(_SIDES[0])
            button.setText(mode.capitalize())
            button.setToolTip(_TIPS[mode])
            button.clicked.connect(lambda *_, mode=mode: self._choose(mode))
            self._group.addButton(button)
            self.buttons[mode] = button
            row.addWidget(button, stretch=1)
        self.setStyleSheet(STYLE)
        state.on("cut", draw=self._draw_chosen)
        state.on("mode_pictures", "classes", draw=self._draw_pictures)
        state.on("images", "shown", "results", draw=self._fit)

    def _choose(self, mode: Mode) -> None:
        self._state.mode_is_open = False  # also where it is shown already
        self._state.change_cut(mode=mode)

    def _draw_chosen(self) -> None:
        self.buttons[self._state.cut.mode].setChecked(True)

    def _draw_pictures(self) -> None:
        """Draw what each mode shows; strokes have nothing to show, nor have unknown objects."""
        pictures = self._state.mode_pictures
        if pictures is None:
            for button in self.buttons.values():
                button.show_nothing()
            self._fit()
            return
        for mode, button in self.buttons.items():
            labels = pictures.labels.get(mode, np.zeros(pictures.picture.shape[:2], int))
            number = int(labels.max(initial=0))
            colors = self._state.classes.colors_of(number) if mode == "classes" else None
            button.show_labels(pictures.picture, labels, colors_of_labels(number, colors))
        self._fit()

    def resizeEvent(self, event: QEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Give pictures their room as soon as there is a result: nothing moves when they come."""
        if (hierarchy := self._state.hierarchy) is not None:
            line, shape = self.fontMetrics().height() + _TEXT, hierarchy.axes.space_shape[-2:]
            buttons = list(self.buttons.values())
            fit_thumbnails(buttons, shape, self.width(), len(buttons), _SIDES, line)
