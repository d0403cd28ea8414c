"""Progress bars and Ctrl-C of running work; results of a training, printed and saved."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from napari_aeseg.errors import InputError
from napari_aeseg.progress import Progress, drain

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.model import Model

_T = TypeVar("_T")


class Bars:
    """Progress bars on stderr, one per stage."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bar: Any = None
        self._stage = ""

    def __call__(self, event: Progress) -> None:
        """Show an event."""
        if event.message:
            self.write(event.message)
        if event.total == 1 or event.stage == "file":  # a bar of one step is noise
            return
        if event.stage != self._stage:
            self.close()
            self._stage = event.stage
            self._bar = self._tqdm(
                total=event.total,
                desc=f"{event.stage} ({event.device})" if event.device else event.stage,
                # In a log file every refresh is a line of its own.
                mininterval=0.1 if sys.stderr.isatty() else 10,
            )
        loss = getattr(event, "loss", None)
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self._bar.update(event.done - self._bar.n)

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        self._tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """End the current bar."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""


def run_with_progress(work: Generator[Progress, None, _T]) -> _T:
    """Do the work with progress bars."""
    bars = Bars()
    try:
        return drain(work, bars)
    finally:
        bars.close()


@contextmanager
def stop_at_interrupt(message: str) -> Iterator[Event]:
    """Let Ctrl-C set an event and print a message; a second Ctrl-C interrupts."""
    stop = Event()

    def on_interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print(f"stopping; {message} (Ctrl-C again to end at once)", file=sys.stderr)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def print_training(model: Model, names: list[str]) -> None:
    """Print steps, time and loss of a training."""
    record = model.record
    print(
        f"trained {record.steps} steps on {', '.join(names)} in {record.seconds:.1f} s "
        f"on {record.device}; loss {record.losses[-1]:.4f}"
    )


def save_trained(model: Model, path: Path) -> None:
    """Save a trained model; if that fails, save it to a temporary folder and raise InputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    except OSError as error:
        other = Path(tempfile.mkdtemp(prefix="aeseg-model-")) / path.name
        model.save(other)
        raise InputError(f"{error}. The model is not lost, it is in {other}.") from error
    print(f"wrote {path}")
