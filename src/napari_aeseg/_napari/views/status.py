"""Last line of the dock: what is going on, how long it will take, and a way to stop it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QWidget

from napari_aeseg._napari.manifest.settings import times_of
from napari_aeseg._napari.views.widgets import WrappedLabel, fill_column, in_a_row, push_button
from napari_aeseg.progress import Progress, TrainingProgress

if TYPE_CHECKING:
    from napari_aeseg._napari.state import DockState

_STAGES = {
    "read": "Reading",
    "train": "Training on",
    "patches": "Cutting patches of",
    "encode": "Encoding",
    "graph": "Comparing patches of",
    "tree": "Merging patches of",
    "error": "Reconstructing",
}
# Where the bar is at the beginning and the end of each stage, in percent, as their times are.
_PERCENT = {
    "read": (0, 8),
    "patches": (8, 20),
    "encode": (20, 70),
    "graph": (70, 80),
    "tree": (80, 100),
    "train": (8, 100),
    "file": (0, 0),  # of several, each with the stages above
    "classes": (0, 0),
    "write": (100, 100),
}
_UNKNOWN_AFTER = 1000  # milliseconds without news, until the bar says only that work goes on


class StatusView(QWidget):
    """A progress bar, a line of text, and Stop; bar and button are shown while a job runs."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        # A bar that runs to and fro has the whole window drawn again 25 times a second, which costs
        # more than the work itself where OpenGL has no GPU.
        self._unknown = QTimer(self, singleShot=True, interval=_UNKNOWN_AFTER)
        self._unknown.timeout.connect(lambda: self.bar.setRange(0, 0))
        self.text = WrappedLabel(least_lines=1)
        self.stop_button = push_button(
            "Stop", "Stop what is running. A training that is stopped keeps the model so far."
        )
        row = QHBoxLayout()
        row.addWidget(self.bar, stretch=1)
        row.addWidget(self.stop_button)
        fill_column(self, row, self.text)
        self.bring_button = push_button(
            "",
            "Segment the image as it was, with the strokes, merges, splits and locks of then.",
            "Bring back earlier work",
        )
        self.dismiss_button = push_button("×", "Leave the earlier work.", "Leave the earlier work")
        self.dismiss_button.setFixedWidth(28)
        self.offer = in_a_row(self.bring_button, self.dismiss_button)
        self.layout().insertWidget(0, self.offer)
        state.on("drafts", "busy", draw=self._draw_offer)
        state.on("message", draw=lambda: self.text.setText(state.message))
        state.on("busy", draw=self._draw_busy)
        state.on("progress", draw=self._draw_progress)

    def _draw_offer(self) -> None:
        """Offer to bring back the work that was saved last."""
        times = times_of(self._state.drafts.values())
        self.offer.setVisible(bool(times))
        self.offer.setEnabled(not self._state.busy)
        if times:
            saved = datetime.fromtimestamp(max(times.values()))
            is_today = saved.date() == datetime.now().date()
            self.bring_button.setText(
                f"Bring back work of {saved:{'%H:%M' if is_today else '%b %d, %H:%M'}}"
            )

    def show_stopping(self) -> None:
        """Show that Stop was pressed."""
        self.stop_button.setEnabled(False)
        self._state.message = "Stopping …"

    def _draw_busy(self) -> None:
        is_busy = bool(self._state.busy)
        self._file, self._files_done, self._files = "", 0, 1
        self.bar.setRange(0, 100)
        self.bar.setValue(0)
        self.bar.setVisible(is_busy)
        self._unknown.start() if is_busy else self._unknown.stop()
        self.stop_button.setVisible(is_busy)
        self.stop_button.setEnabled(is_busy)

    def _draw_progress(self) -> None:
        event = self._state.progress
        if event is None:
            return
        if event.stage == "file":  # the stages that follow are those of this file
            self._file, self._files_done, self._files = event.message, event.done - 1, event.total
        self._unknown.stop()
        self.bar.setRange(0, 100)
        start, end = _PERCENT.get(event.stage, (0, 100))
        percent = start + (end - start) * event.done / max(event.total, 1)
        self.bar.setValue(round((100 * self._files_done + percent) / self._files))
        self.text.setText(progress_text(event, self._file or self._state.busy))


def progress_text(event: Progress, subject: str) -> str:
    """Return an event as a line for the user.

    Examples
    --------
    >>> from napari_aeseg.progress import Progress
    >>> progress_text(Progress("encode", 2, 8, "cpu", 90.0), "tissue")
    'Encoding tissue: 2 of 8, about 2 min left in this step, cpu'
    """
    if event.message:
        return event.message
    parts = [f"{event.done} of {event.total}"] if event.total > 1 else []
    if isinstance(event, TrainingProgress):
        parts.append(f"loss {event.loss:.4f}")
    if event.seconds_left is not None and event.done < event.total:
        left = f"{time_text(event.seconds_left)} left"
        # Of an image, other steps follow, which are not in the estimate.
        parts.append(left if isinstance(event, TrainingProgress) else f"{left} in this step")
    if isinstance(event, TrainingProgress) and event.steps_per_second is not None:
        speed = f"{event.steps_per_second:.1f} steps/s ({event.images_per_second:.0f} crops/s)"
        parts.append(speed)
    if event.device:
        parts.append(event.device)
    if isinstance(event, TrainingProgress) and event.precision:
        parts.append(event.precision)
    return f"{_STAGES.get(event.stage, event.stage)} {subject}: {', '.join(parts)}".rstrip(": ")


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
