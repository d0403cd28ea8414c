"""The panel of strokes: what they are, and where another one helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from qtpy.QtWidgets import QButtonGroup, QRadioButton, QWidget

from napari_aeseg._napari.layers.diagnostics import UNCERTAINTY
from napari_aeseg._napari.views.widgets import WrappedLabel, fill_column, in_a_row, push_button
from napari_aeseg.regions.cuts.cut import MarkersAre

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState

_CHOICES: dict[MarkersAre, tuple[str, str, str]] = {
    "classes": (
        "Classes",
        "All that looks like a stroke gets its class, in every checked image.",
        "Paint a stroke on each class, in a colour of its own; more where the preview is wrong. "
        "Press M for a new colour, 1 to erase, 2 to paint.",
    ),
    "segments": (
        "Separate regions",
        "Each colour grows into one segment.",
        "Each colour becomes one segment: a few strokes in every part are enough. "
        "Press M for a new colour, 1 to erase, 2 to paint.",
    ),
}


class MarkersPanel(QWidget):
    """What strokes are, and the tools to paint them."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.choices: dict[MarkersAre, QRadioButton] = {}
        self._group = QButtonGroup(self)
        for choice in reversed(get_args(MarkersAre)):
            text, tip, _ = _CHOICES[choice]
            button = QRadioButton(text)
            button.setToolTip(tip)
            button.clicked.connect(lambda *_, choice=choice: state.change_cut(markers_are=choice))
            self._group.addButton(button)
            self.choices[choice] = button
        self.button = push_button(
            "Paint strokes",
            "Select the strokes layer of the current image, or make one: a separate Labels layer.",
        )
        self.next_button = push_button(
            "Where next?",
            "Show the place whose class is most uncertain: a stroke there helps most.",
        )
        self.uncertainty_button = push_button(
            "Uncertainty",
            "Add a layer that is bright where the class is uncertain, or remove it.",
        )
        self.uncertainty_button.setCheckable(True)
        self.keep_button = push_button(
            "Store classes",
            "Store the classes in the model, for other images and another day; go on in Classes, "
            "where they have names.",
        )
        self.hint = WrappedLabel("")
        fill_column(
            self,
            in_a_row(*self.choices.values()),
            self.button,
            in_a_row(self.next_button, self.uncertainty_button),
            self.keep_button,
            self.hint,
        )
        state.on(
            "cut", "images", "shown", "results", "learned", "diagnostics", "busy", draw=self._draw
        )

    def _draw(self) -> None:
        state, choice = self._state, self._state.cut.markers_are
        self.setEnabled(bool(state.hierarchies))
        self.choices[choice].setChecked(True)
        self.hint.setText(_CHOICES[choice][2])
        for button in (self.next_button, self.uncertainty_button, self.keep_button):
            button.setVisible(choice == "classes")
            button.setEnabled(state.learned_prototypes is not None)
        self.uncertainty_button.setChecked(UNCERTAINTY in state.diagnostics)
