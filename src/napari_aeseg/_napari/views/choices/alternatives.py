"""Thumbnails of alternatives: a click on the one that looks right sets the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_aeseg._napari.layers.colors import colors_of_labels
from napari_aeseg._napari.views.choices.thumbnails import (
    GAP,
    STYLE,
    ThumbnailButton,
    fit_thumbnails,
)
from napari_aeseg._napari.views.widgets import fill_column
from napari_aeseg.params import ComparisonParams

if TYPE_CHECKING:
    import numpy as np
    from qtpy.QtCore import QEvent

    from napari_aeseg._napari.state import DockState
    from napari_aeseg._napari.work_requests import Thumbnails
    from napari_aeseg.regions.alternatives import AlternativeSettings

_COLUMNS = 3
_SIDES = 60, 140  # pixels: smallest and largest width of a thumbnail; they share that of the dock


class AlternativesView(QWidget):
    """The question and the thumbnails; hidden while there is nothing to choose from."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self._drawn: tuple[Thumbnails, tuple[str, ...] | None] | None = None
        self.buttons: list[ThumbnailButton] = []
        self._grid = QGridLayout()
        self._grid.setSpacing(GAP)
        for column in range(_COLUMNS):
            self._grid.setColumnStretch(column, 1)
        fill_column(self, QLabel("Which looks right?"), self._grid)
        self.setStyleSheet(STYLE)
        state.on(
            "alternatives",
            "cut",
            "images",
            "shown",
            "results",
            "comparison",
            "classes",
            draw=self._draw,
        )

    def _draw(self) -> None:
        state, thumbnails = self._state, self._state.alternatives
        is_choice = thumbnails is not None and len(thumbnails.settings) > 1
        self.setVisible(is_choice)
        if thumbnails is None or not is_choice:
            self._drawn = None
            return
        # Those of another number or comparison are about to be replaced.
        self.setEnabled(state.alternatives_fit)
        are_classes = thumbnails.mode == "classes"
        colors = state.classes.colors_of(thumbnails.number) if are_classes else None
        if self._drawn is None or self._drawn[0] is not thumbnails or self._drawn[1] != colors:
            self._draw_thumbnails(thumbnails, colors_of_labels(thumbnails.number, colors))
            self._drawn = (thumbnails, colors)
        self._draw_chosen()

    def _draw_thumbnails(self, thumbnails: Thumbnails, colors: np.ndarray) -> None:
        while len(self.buttons) < len(thumbnails.settings):
            self._add_button()
        for i, button in enumerate(self.buttons):
            button.setVisible(i < len(thumbnails.settings))
            if i < len(thumbnails.settings):
                button.show_labels(thumbnails.picture, thumbnails.labels[i], colors)
                text = _text_of(thumbnails.settings[i])
                button.setToolTip(text)
                button.setAccessibleName(f"Alternative {i + 1}: {text}")
        self._fit()

    def resizeEvent(self, event: QEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Let the thumbnails fill the width of the dock."""
        if (thumbnails := self._state.alternatives) is not None:
            shape = thumbnails.picture.shape
            fit_thumbnails(self.buttons, shape, self.width(), _COLUMNS, _SIDES)

    def _add_button(self) -> None:
        number = len(self.buttons)
        button = ThumbnailButton(_SIDES[0])
        button.clicked.connect(lambda *_: self._choose(number))
        self.buttons.append(button)
        self._grid.addWidget(button, *divmod(number, _COLUMNS))

    def _choose(self, number: int) -> None:
        thumbnails = self._state.alternatives
        if thumbnails is not None:
            self._state.use_alternative(thumbnails.settings[number])
        self._draw_chosen()  # a click on the one in use has unchecked it

    def _draw_chosen(self) -> None:
        thumbnails = self._state.alternatives
        for button, settings in zip(
            self.buttons, thumbnails.settings if thumbnails else (), strict=False
        ):
            in_use = settings.comparison == self._state.comparison
            button.setChecked(in_use and self._state.alternatives_fit)


def _text_of(settings: AlternativeSettings) -> str:
    """The values of the controls, by their names in the dock."""
    fields = ComparisonParams.model_fields
    texts = {k: v if isinstance(v, str) else f"{v:g}" for k, v in settings.values.items()}
    text = ", ".join(f"{fields[k].title} {text}".lower() for k, text in texts.items())
    return text.capitalize()
