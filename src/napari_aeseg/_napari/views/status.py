"""Last line of the dock: what is going on, how long it will take, and a way to stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_aeseg._napari.views.widgets import WrappedLabel
from napari_aeseg.progress import TrainingProgress

if TYPE_CHECKING:
    from napari_aeseg.progress import Progress

_STAGES = {
    "read": "Reading",
    "train": "Training on",
    "patches": "Cutting patches of",
    "encode": "Encoding",
    "graph": "Comparing patches of",
    "tree": "Merging patches of",
    "error": "Reconstructing",
}


class StatusView(QWidget):
    """A progress bar, a line of text, and Stop; bar and button are there while work goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.text = WrappedLabel()
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip(
            "Stop what is running. A training that is stopped leaves the model as far as it got."
        )
        row = QHBoxLayout()
        row.addWidget(self.bar, stretch=1)
        row.addWidget(self.stop_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.text)
        self._file = ""
        self.end("")

    def begin(self, text: str) -> None:
        """Show that work has begun."""
        self._file = ""
        self.bar.setRange(0, 0)
        self.text.setText(f"{text} …")
        self.text.show()
        self.bar.show()
        self.stop_button.show()
        self.stop_button.setEnabled(True)

    def show_event(self, event: Progress, title: str) -> None:
        """Show how far work has got; `title` says on what."""
        if event.stage == "file":  # the stages that follow are those of this file
            self._file = event.message
        # A stage of one step has nothing to show but that it goes on.
        self.bar.setRange(0, event.total if event.total > 1 else 0)
        self.bar.setValue(event.done)
        self.text.setText(described(event, self._file or title))

    def stopping(self) -> None:
        """Show that Stop was heard."""
        self.stop_button.setEnabled(False)
        self.text.setText("Stopping …")

    def end(self, text: str) -> None:
        """Show how work ended."""
        self.say(text)
        self.bar.hide()
        self.stop_button.hide()

    def say(self, text: str) -> None:
        """Show a line of text, or none."""
        self.text.setText(text)
        self.text.setVisible(bool(text))


def described(event: Progress, title: str) -> str:
    """Return an event as a line for the user.

    Examples
    --------
    >>> from napari_aeseg.progress import Progress
    >>> described(Progress("encode", 2, 8, "cpu", 90.0), "tissue")
    'Encoding tissue: 2 of 8, about 2 min left, cpu'
    """
    if event.message:
        return event.message
    training = isinstance(event, TrainingProgress)
    parts = [f"{event.done} of {event.total}"] if event.total > 1 else []
    if training:
        parts.append(f"loss {event.loss:.4f}")
    if event.seconds_left is not None and event.done < event.total:
        parts.append(f"{time_text(event.seconds_left)} left")
    if training and event.steps_per_second is not None:
        parts.append(
            f"{event.steps_per_second:.1f} steps/s ({event.images_per_second:.0f} crops/s)"
        )
    if event.device:
        parts.append(f"{event.device}, {event.precision}" if training else event.device)
    return f"{_STAGES.get(event.stage, event.stage)} {title}: {', '.join(parts)}".rstrip(": ")


def time_text(seconds: float) -> str:
    """Return a time as one would say it.

    Examples
    --------
    >>> time_text(4.6), time_text(200), time_text(7300)
    ('5 s', 'about 3 min', 'about 2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
