"""Tools for clicks on the preview: correct regions by hand, find what looks like examples."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QPushButton, QShortcut, QWidget

from napari_aeseg._napari.layers.edit_tools import MODES_OF_TOOL
from napari_aeseg._napari.state import DockState, Tool, edits_of
from napari_aeseg._napari.views.widgets import (
    Form,
    NumberSlider,
    fill_column,
    in_a_row,
    push_button,
)

_TOOLS: dict[Tool, tuple[str, str]] = {
    "add": (
        "Add",
        "Click an object that was missed: the most likely outline around this place is taken.",
    ),
    "delete": ("Delete", "Click an object to remove it."),
    "larger": (
        "Larger",
        "Click an object to take the next larger outline around this place, such as the cell "
        "around a nucleus (Shift+Up at the pointer).",
    ),
    "smaller": (
        "Smaller",
        "Click an object to take the next smaller outline around this place, such as the nucleus "
        "in a cell (Shift+Down at the pointer).",
    ),
    "merge": (
        "Merge",
        "Drag from one region or object to another, or click the one and then the other, to "
        "merge them. They stay merged while the sliders move.",
    ),
    "split": (
        "Split",
        "Click a region to split it where its two halves were merged last. Click an object to "
        "split it at its neck, or drag from one part of it to the other.",
    ),
    "lock": (
        "Lock",
        "Click a finished region to lock it: it keeps its pixels while sliders move and others "
        "are merged, split and smoothed. A second click unlocks it.",
    ),
    "similar": (
        "Find similar",
        "Click an example: all that looks like it is shown, the rest is hidden. Click what is "
        "missing, and what is not meant; a second click takes this back.",
    ),
}
_SIMILARITY_TIP = "How much a segment has to look like an example: 1 shows the examples alone."


class ToolsPanel(QWidget):
    """A button for each tool, undo and redo, and the similarity to examples."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.buttons: dict[Tool, QPushButton] = {}
        for tool, (text, tip) in _TOOLS.items():
            button = self.buttons[tool] = push_button(text, tip)
            button.setCheckable(True)
            button.clicked.connect(
                lambda chosen, tool=tool: setattr(state, "tool", tool if chosen else None)
            )
        leave = QShortcut(QKeySequence(Qt.Key.Key_Escape), self)
        leave.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        leave.activated.connect(lambda: setattr(state, "tool", None))
        self.undo_button = push_button("Undo", "Undo the last correction (Ctrl+Z on the preview).")
        self.redo_button = push_button(
            "Redo", "Redo what was undone (Ctrl+Shift+Z on the preview)."
        )
        self.forget_button = push_button("Show all", "Forget the examples and show all segments.")
        self.similarity = NumberSlider(0, 1, decimals=2, logarithmic=False)
        self.similarity.changed.connect(lambda value: setattr(state, "similarity", value))
        self._slider = QWidget()
        form = Form()
        form.add("Similarity", self.similarity, _SIMILARITY_TIP)
        self._slider.setLayout(form)
        add, delete, larger, smaller, merge, split, lock, similar = self.buttons.values()
        fill_column(
            self,
            in_a_row(add, delete, larger, smaller),
            in_a_row(merge, split, self.undo_button, self.redo_button),
            in_a_row(lock, similar, self.forget_button),
            self._slider,
        ).setSpacing(3)
        state.on("cut", "images", "shown", "results", "similarity", draw=self._draw)
        state.on("tool", draw=self._draw_tool)

    def _draw(self) -> None:
        state, result = self._state, self._state.first_result
        mode = state.cut.mode
        for tool, button in self.buttons.items():
            button.setVisible(mode in MODES_OF_TOOL[tool])
            button.setEnabled(result is not None)
        edits, undone = ((), ()) if result is None else (result.edits, result.undone)
        n_edits, n_undone = len(edits_of(edits, mode)), len(edits_of(undone, mode))
        self.undo_button.setEnabled(n_edits > 0 or bool(result and result.earlier))
        self.undo_button.setText(f"Undo ({n_edits})" if n_edits else "Undo")
        self.redo_button.setEnabled(n_undone > 0)
        examples = [r.examples for r in state.results.values() if r.examples is not None]
        has_examples = any(e.mode == mode for e in examples)
        self.forget_button.setVisible(has_examples)
        self._slider.setVisible(has_examples)
        self.similarity.value = state.similarity

    def _draw_tool(self) -> None:
        for tool, button in self.buttons.items():
            button.setChecked(tool == self._state.tool)
