"""Random actions in a real napari window: no traceback, no frozen loop, nothing of the user's lost.

    python tools/with_display python soak/monkey.py --number 5000 --seed 0

Opens a viewer with small images of several kinds and the dock, and does what users do, in random
order: every control of the dock and every method of the widget, layers added, removed, renamed,
painted, replaced and moved, strokes, clicks and keys on the canvas, work begun and stopped, the
dock closed and opened again. Every so often it waits until all is at rest and looks.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from monkey_actions import ACTIONS, Hand
from napari_aeseg._napari.waiting import wait_until
from napari_aeseg.errors import AesegError
from troubles import Troubles, troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_TICK = 10  # milliseconds
_LOOK = 0.25  # seconds
DRAWING = "drawing"
_SECONDS_TO_HANG = 900  # then all threads are printed, and it ends


class Pulse:
    """A timer on the GUI thread, and the longest time that it did not tick, by what went on.

    Of each gap, the time on the clock is known, that in which the thread itself was at work (on a
    machine that is shared, the others take the rest), and where it was most of the time.
    """

    def __init__(self) -> None:
        self.longest: dict[str, tuple[float, float, str]] = {}
        self.doing = "nothing"
        self._places: Counter[str] = Counter()
        self.skip()
        self._ended = threading.Event()
        threading.Thread(target=self._look, daemon=True, name="pulse").start()
        self._timer = QTimer()
        self._timer.setInterval(_TICK)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        before, at_work = self._last
        self.skip()
        where = max(self._places, key=self._places.__getitem__, default="")
        self._places.clear()
        gap = self._last[0] - before, self._last[1] - at_work, where
        self.longest[self.doing] = max(gap, self.longest.get(self.doing, (0.0, 0.0, "")))

    def _look(self) -> None:
        """Note now and then where the GUI thread is while it does not tick."""
        main = threading.main_thread().ident
        while not self._ended.wait(_LOOK):
            if time.perf_counter() - self._last[0] > 2 * _LOOK:
                self._places[place_of(sys._current_frames().get(main))] += 1

    def skip(self) -> None:
        """Leave out what came before: a window that opens, say."""
        self._last = time.perf_counter(), time.thread_time()

    def stop(self) -> None:
        """Tick no more."""
        self._timer.stop()
        self._ended.set()


def place_of(frame: FrameType | None) -> str:
    """Return what a thread is at: drawing, a line of the package, or the innermost line."""
    innermost, ours = "", ""
    while frame is not None:
        name = frame.f_code.co_filename
        if "/vispy/" in name or "/_vispy/" in name:
            return DRAWING
        line = f"{'/'.join(Path(name).parts[-2:])}:{frame.f_lineno}"
        innermost = innermost or line
        if not ours and "/napari_aeseg/" in name:
            ours = line
        frame = frame.f_back
    return ours or innermost


class Monkey:
    """Acts on one viewer from its opening to its closing.

    Parameters
    ----------
    seed : int
    folder : Path
        For all that is written.
    found : Troubles
        What went wrong; more is added here.
    pulse : Pulse
    trace : Path, optional
        A file for what is done, as it is done.
    with_dock : bool
        See `Hand`.
    """

    def __init__(
        self,
        seed: int,
        folder: Path,
        found: Troubles,
        pulse: Pulse,
        trace: Path | None = None,
        with_dock: bool = True,
    ) -> None:
        self.found, self.pulse = found, pulse
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.rests = 0
        self.trace = trace
        self.last: deque[str] = deque(maxlen=25)
        rng = np.random.default_rng(seed)
        self.hand = Hand(rng, folder, self._on_failed, with_dock)
        pulse.skip()

    def _on_failed(self, error: Exception) -> None:
        self.refused[f"{type(error).__name__}: {str(error)[:60]}"] += 1
        if not isinstance(error, AesegError | OSError):
            self.found.append(f"told: {error!r}")

    def act(self) -> None:
        """Do one thing, and let the window work for a moment."""
        names, weights = zip(*((n, a.weight) for n, a in ACTIONS.items()), strict=True)
        share = np.array(weights, float)
        name = str(self.hand.rng.choice(names, p=share / share.sum()))
        self.last.append(name)
        self.pulse.doing = name
        self._trace(name)
        try:
            self.last[-1] += f" {ACTIONS[name].do(self.hand) or ''}"
            self.done[name] += 1
        except (AesegError, OSError) as error:
            self.refused[f"{type(error).__name__}: {str(error)[:60]}"] += 1
        except Exception:
            self.found.append(f"{name} raised\n{traceback.format_exc()}")
        live(float(self.hand.rng.choice([0, 0, 0.02, 0.1])))
        self.hand.record()
        self.found += self.hand.lost()

    def _trace(self, name: str) -> None:
        """Write down what was done last: of a crash there is nothing else."""
        before = f"{self.last[-2]}\n" if len(self.last) > 1 else ""
        if self.trace is not None:
            with self.trace.open("a") as file:
                file.write(f"{before}about to {name}\n")

    def rest(self, seconds: float = 120.0) -> None:
        """Wait until all is at rest, stopping what takes long, and look."""
        self.rests += 1
        self.pulse.doing = "coming to rest"
        widget = self.hand.widget
        if widget is None:
            live(0.2)
        else:
            controller = widget._controller
            if not wait_until(lambda: controller._at_rest, 3.0):
                widget.stop()
            if not wait_until(lambda: controller._at_rest, seconds):
                self.found.append(f"busy with {widget._session.subject} for {seconds} s")
                return
            live(0.05)
            # What was left for other work ends when it next looks whether to stop.
            wait_until(lambda: not self.hand.tasks(), seconds)
        self.found += self.hand.lost() + self.hand.wrong_at_rest()

    def close(self) -> None:
        """Close the window, whatever goes on in it."""
        from napari.qt.threading import WorkerBase

        self.pulse.doing = "closing"
        self.hand.viewer.close()
        live(0.1)
        WorkerBase.await_workers(60_000)
        self.pulse.skip()  # that was waiting for threads
        live(0.1)
        if WorkerBase._worker_set:
            self.found.append(f"workers are left: {WorkerBase._worker_set}")


def live(seconds: float) -> None:
    """Let the window work."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end)


@contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """Answer dialogs by chance and write to the folder only; messages are not shown."""
    from napari_aeseg._napari.manifest.settings import Settings
    from napari_aeseg._napari.work import worker

    logging.getLogger(worker.__name__).setLevel(logging.CRITICAL)
    settings = Settings(autosave_folder=str(folder / "models"), device="cpu")
    with (
        patch("napari_aeseg._napari.controller.read_settings", lambda: settings),
        patch("napari_aeseg._napari.actions.read_settings", lambda: settings),
        patch("napari_aeseg._napari.work.errors.show_error", lambda text: None),
        patch("napari_aeseg._napari.controller.show_warning", lambda text: None),
    ):
        yield


def run(
    seed: int,
    number: int,
    seconds: float = float("inf"),
    limit: float = 3.0,
    every: int = 40,
    say: Callable[[str], object] = lambda text: None,
    trace: Path | None = None,
    with_dock: bool = True,
    at_work: float = 3.0,
    rest: float = 120.0,
) -> dict[str, Any]:
    """Do random actions in one window; return what was done, and what went wrong.

    Parameters
    ----------
    seed : int
    number : int
        Of actions.
    seconds : float
        After which no further action is begun.
    limit, at_work : float
        Seconds that the loop may stand still: on the clock, and at work itself, without what other
        processes took.
    rest : float
        Seconds that work may go on after Stop.
    every : int
        Actions from one rest to the next.
    say : callable
        Gets a line for each thing that went wrong.
    trace : Path, optional
        A file for what is done, as it is done.
    with_dock : bool
        See `Hand`.
    """
    end = time.monotonic() + seconds
    with (
        tempfile.TemporaryDirectory(prefix="aeseg-monkey-") as path,
        troubles() as found,
        quiet(Path(path)),
    ):
        pulse = Pulse()
        monkey = Monkey(seed, Path(path), found, pulse, trace, with_dock)
        told = 0
        for count in range(number):
            if time.monotonic() > end:
                break
            faulthandler.dump_traceback_later(_SECONDS_TO_HANG, exit=True)
            monkey.act()
            if count % every == every - 1:
                monkey.rest(rest)
            for text in found[told:]:
                say(f"seed {seed}, after {list(monkey.last)[-8:]}:\n{text}")
            told = len(found)
            if told > 20:
                break
        monkey.rest(rest)
        monkey.close()
        faulthandler.cancel_dump_traceback_later()
        for text in found[told:]:
            say(f"seed {seed}, at the end:\n{text}")
        pulse.stop()
    gaps = sorted(pulse.longest.items(), key=lambda item: item[1], reverse=True)
    shown = {name: [*(round(seconds, 2) for seconds in gap[:2]), gap[2]] for name, gap in gaps}
    # Without a GPU, a driver may draw for seconds.
    frozen = {
        name: gap
        for name, gap in shown.items()
        if gap[2] != DRAWING and (gap[0] > limit or gap[1] > at_work)
    }
    if frozen:
        found.append(f"the loop stood still: {frozen}")
        say(f"seed {seed}: {found[-1]}")
    return {
        "seed": seed,
        "actions": sum(monkey.done.values()),
        "refused": sum(monkey.refused.values()),
        "rests": monkey.rests,
        "done": dict(monkey.done),
        "texts": dict(monkey.refused),
        "gaps": shown,
        "found": list(found),
    }


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run until there were enough actions; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=5000, help="actions")
    parser.add_argument("--seed", type=int, default=0, help="of the first window")
    parser.add_argument("--each", type=int, default=300, help="actions in one window")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after these")
    parser.add_argument("--limit", type=float, default=3.0, help="seconds the loop may stand still")
    parser.add_argument("--at-work", type=float, default=3.0, help="the same, of its own CPU time")
    parser.add_argument("--rest", type=float, default=120.0, help="seconds to stop in")
    parser.add_argument("--no-dock", action="store_true", help="try napari alone, to compare")
    parser.add_argument("--trace", type=Path, help="write each action here before it is done")
    parser.add_argument("--here", action="store_true", help="one window, in this process")
    parser.add_argument("--json", type=Path, help="write what was done here")
    asked = parser.parse_args()
    return _here(asked) if asked.here else _windows(asked)


def _here(asked: argparse.Namespace) -> int:
    """Run one window in this process."""
    faulthandler.enable()
    application = QApplication.instance() or QApplication(sys.argv[:1])
    row = run(
        asked.seed,
        min(asked.each, asked.number),
        asked.seconds,
        asked.limit,
        say=_say,
        trace=asked.trace,
        with_dock=not asked.no_dock,
        at_work=asked.at_work,
        rest=asked.rest,
    )
    asked.json.write_text(json.dumps(row))
    del application
    return 1 if row["found"] else 0


def _windows(asked: argparse.Namespace) -> int:
    """Run windows one after the other, each in a process of its own: a driver may crash."""
    start, rows, crashes = time.monotonic(), [], 0
    for seed in range(asked.seed, asked.seed + asked.number):
        left = asked.seconds - (time.monotonic() - start)
        done = sum(row["actions"] + row["refused"] for row in rows)
        if left <= 0 or done >= asked.number:
            break
        row = _window(asked, seed, asked.number - done, left)
        crashes += row is None
        rows += [] if row is None else [row]
        if asked.json is not None:
            asked.json.write_text(json.dumps(rows, indent=1))
        if row is not None:
            numbers = ", ".join(f"{row[name]} {name}" for name in ("actions", "refused", "rests"))
            gap = next(iter(row["gaps"].items()), None)
            _say(f"seed {seed}: {numbers}, longest gap {gap}, {len(row['found'])} found")
    actions, bad = sum(r["actions"] for r in rows), sum(bool(r["found"]) for r in rows)
    seconds = time.monotonic() - start
    _say(
        f"{actions} actions in {len(rows)} windows, {bad} with faults, {crashes} ended by the "
        f"drawing of napari, {seconds:.0f} s"
    )
    return 1 if bad or not rows else 0


def _window(
    asked: argparse.Namespace, seed: int, number: int, seconds: float
) -> dict[str, Any] | None:
    """Run one window in a process of its own; None if the driver of the display crashed in it.

    napari alone, without the dock, ends so as well (`--no-dock`): Mesa's software driver, in the
    midst of drawing.
    """
    with tempfile.TemporaryDirectory(prefix="aeseg-monkey-row-") as folder:
        path = Path(folder) / "row.json"
        options = {
            "--seed": seed, "--number": number, "--each": asked.each, "--seconds": seconds,
            "--limit": asked.limit, "--at-work": asked.at_work, "--rest": asked.rest,
            "--json": path, "--trace": asked.trace,
        }  # fmt: skip
        words = [str(w) for o, v in options.items() if v is not None for w in (o, v)]
        more = ["--no-dock"] if asked.no_dock else []
        command = [sys.executable, __file__, "--here", *more, *words]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if path.exists():
            return json.loads(path.read_text())
    stack = done.stderr.partition("Current thread")[2].splitlines()[1:]
    if done.returncode < 0 and stack and "/vispy/gloo/gl/" in stack[0]:
        _say(f"seed {seed}: ended in {stack[0].strip()}")
        return None
    _say(f"seed {seed}: ended with {done.returncode}\n{done.stderr[-4000:]}")
    return {"seed": seed, "actions": 0, "refused": 0, "rests": 0, "gaps": {}, "found": ["ended"]}


if __name__ == "__main__":
    sys.exit(main())
