"""Buttons with a small picture of what a click on them shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QSizePolicy, QToolButton

from napari_aeseg.io.images import tinted

_FRAME, GAP = 3, 2  # pixels around a thumbnail, and between two frames
_STRENGTH = 0.5  # of the colours, as on the preview
STYLE = """
QToolButton { margin: 0; padding: 1px; border: 2px solid transparent; background: transparent; }
QToolButton:hover { border-color: gray; }
QToolButton:checked { border-color: palette(highlight); }
QToolButton:focus { border-style: dashed; border-color: gray; }
QToolButton:checked:focus { border-color: palette(highlight); }
"""


class ThumbnailButton(QToolButton):
    """A button that can be checked, with a picture that it is never wider than."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.setCheckable(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        # Without a minimum of its own, a button is never narrower than its icon.
        self.setMinimumWidth(least + 2 * _FRAME)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def show_labels(self, picture: np.ndarray, labels: np.ndarray, colors: np.ndarray) -> None:
        """Show labels, shape (Y, X), over the picture of an image, from 0 to 1, (Y, X, 3)."""
        pixels = np.ascontiguousarray(tinted(picture, labels, colors, _STRENGTH))
        height, width, _ = pixels.shape
        image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self.setIcon(QIcon(QPixmap.fromImage(image)))  # which copies the pixels
        if self.text():
            self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)

    def show_nothing(self) -> None:
        """Show the text alone."""
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self.setFixedHeight(self.sizeHint().height())


def fit_thumbnails(
    buttons: Sequence[ThumbnailButton],
    shape: Sequence[int],
    width: int,
    columns: int,
    sides: tuple[int, int],
    text: int = 0,
) -> None:
    """Let thumbnails share a width; `text` is the height of a line below each of them.

    `shape` is (Y, X) of the picture or of its image, `sides` are the smallest and the largest width
    of one.
    """
    column = (width - (columns - 1) * GAP) // columns - 2 * _FRAME
    side = min(max(column, sides[0]), sides[1])
    size = QSize(shape[1], shape[0]).scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio)
    for button in buttons:
        button.setIconSize(size)
        button.setFixedHeight(size.height() + 2 * _FRAME + text)
