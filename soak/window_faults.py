"""Faults in the middle of work in the dock: every kind of work, every stage, every event.

    python tools/with_display python soak/window_faults.py

Work is held up at a stage, something happens to the layers, the dock or the work itself, and it
goes on. Afterwards nothing may be lost, left running or left disabled, and nothing may be shown
that is of another image.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from qtpy.compat import isalive

import napari_aeseg as aeseg
from napari_aeseg.errors import AesegError
from troubles import troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.layers import Layer

    from napari_aeseg._napari.widget import AESegWidget

SIDE = 48
QUICK = aeseg.TrainingParams(steps=3, width=2, levels=2, batch_size=2, crop_size=16)
BROKEN = "it broke in the middle"
_SECONDS = 60  # to wait for anything; only what hangs takes as long


def picture(side: int = SIDE, seed: int = 0) -> np.ndarray:
    """A dark left half, a bright right half with discs, and noise: float32, shape (side, side)."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.05, (side, side))
    image[:, side // 2 :] += 1
    y, x = np.mgrid[:side, :side]
    for row, column in ((10, 10), (30, 12)):
        image[(y - row) ** 2 + (x - column) ** 2 <= 16] += 2
    return image.astype(np.float32)


@cache
def trained() -> Any:
    """A model."""
    return aeseg.train(picture(), QUICK, device="cpu")


@cache
def segmented() -> Any:
    """The hierarchy of the picture."""
    return aeseg.build_hierarchy(picture(), trained(), device="cpu")


class Gate:
    """Holds one job up at one stage until it is let through, or has it fail there.

    Parameters
    ----------
    work : str
        Name of the function in `napari_aeseg._napari` that made the work.
    stage : str
        "start", "end", or a stage of its events.
    """

    def __init__(self, work: str, stage: str) -> None:
        from napari_aeseg._napari.work import worker

        self._work, self._stage = work, stage
        self._throttled = worker.throttled
        self._taken = False
        self.reached, self.go = Event(), Event()
        self.error: Exception | None = None

    def throttled(self, events: Any) -> Any:
        """Take the place of the function of the same name."""
        if self._taken or not events.__qualname__.startswith(self._work):
            return self._throttled(events)
        self._taken = True
        return self._held(self._throttled(events, seconds=0))

    def _held(self, events: Any) -> Generator[Any, None, Any]:
        self._pass("start")
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                self._pass("end")
                return end.value
            self._pass(event.stage)
            yield event

    def _pass(self, stage: str) -> None:
        if stage != self._stage or self.reached.is_set():
            return
        self.reached.set()
        self.go.wait(_SECONDS)
        if self.error is not None:
            raise self.error


@dataclass
class Scene:
    """A viewer without a window, with a segmented image, layers of the user's, and the dock."""

    folder: Path
    viewer: Any = None
    widget: Any = None
    image: Any = None
    kept: Any = None
    mine: Any = None
    gate: Any = None
    dock: Any = None
    widgets: list[AESegWidget] = field(default_factory=list)
    told: list[Exception] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    expected: dict[Layer, np.ndarray] = field(default_factory=dict)  # what layers must hold
    removed: list[Layer] = field(default_factory=list)
    painted: Any = None

    def open(self, another: bool = False) -> AESegWidget:
        """Open a dock on the viewer; of a real window, `another` is not in it."""
        from napari_aeseg._napari.widget import AESegWidget

        if self.has_window and not another:
            window = self.viewer.window
            self.dock, widget = window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
        else:
            widget = AESegWidget(self.viewer)
            for event in ("inserted", "removed", "reordered", "renamed"):  # as napari does
                getattr(self.viewer.layers.events, event).connect(widget.reset_choices)
        widget.failed.connect(self.told.append)
        widget.device = "cpu"
        self.widgets.append(widget)
        return widget

    def close(self, widget: AESegWidget) -> None:
        """Close a dock as napari does: its widget loses its parent."""
        if self.dock is None or widget is not self.widget:
            widget._controller.close()
        elif not widget._controller.is_closed:
            self.dock.destroyOnClose()

    @property
    def has_window(self) -> bool:
        """Whether it is a real viewer."""
        return hasattr(self.viewer, "window")

    def remove(self, layer: Layer) -> None:
        """Remove a layer as the user does."""
        self.viewer.layers.remove(layer)
        self.removed.append(layer)
        self.expected.pop(layer, None)

    def give(self, data: np.ndarray) -> None:
        """Give the image other data."""
        self.image.data = data
        self.expected[self.image] = data.copy()


def scene(folder: Path, viewer: Any = None) -> Scene:
    """Make a scene whose image is segmented, with a kept layer that is measured."""
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    made = Scene(folder)
    made.viewer = ViewerModel() if viewer is None else viewer
    made.image = Image(picture(), name="cells", scale=(2, 0.5))
    made.mine = Labels(np.eye(SIDE, dtype=int), name="mine")
    for layer in (made.image, made.mine):
        made.viewer.add_layer(layer)
    made.widget = widget = made.open()
    widget.training_params = QUICK
    widget.model = trained()
    shot = widget._dock.images.snapshots()[0]
    widget._session.results.add(made.image, segmented(), trained(), shot)
    widget._session.segmented.emit(made.image, segmented())
    result = widget._session.results.of[made.image]
    result.error = np.zeros((SIDE, SIDE), np.float32)
    (made.kept,) = widget.keep()
    result.error = None
    for layer in (made.image, made.mine, made.kept):
        made.expected[layer] = np.array(layer.data)
    return made


# Kinds of work: the function that makes it, what begins it, and its stages.


def _save(s: Scene) -> None:
    s.widget._controller.trees.save(s.folder / "saved.aeseg.zarr", s.image)


def _open(s: Scene) -> None:
    path = s.folder / "there.aeseg.zarr"
    if not path.exists():
        segmented().save(path)
    s.widget._controller.trees.open(path)


def _load(s: Scene) -> None:
    path = s.folder / "there.aeseg.safetensors"
    trained().save(path)
    s.widget._controller.load(path)


def _batch(s: Scene) -> None:
    import tifffile

    images = s.folder / "images"
    images.mkdir(exist_ok=True)
    tifffile.imwrite(images / "a.tif", picture())
    s.widget.segment_folder(images, existing="replace")


ENDS = ("start", "end")
KINDS: dict[str, tuple[str, Callable[[Scene], Any], tuple[str, ...]]] = {
    "train": ("training", lambda s: s.widget.train(), ("start", "read", "train", "end")),
    "segment": (
        "segmenting.",
        lambda s: s.widget.segment(),
        ("start", "read", "patches", "encode", "graph", "tree", "end"),
    ),
    "compare": ("comparing", lambda s: setattr(s.widget, "balance", 0.9), ENDS),
    "objects": ("finding_objects", lambda s: setattr(s.widget, "mode", "objects"), ENDS),
    "measure": ("measuring_error", lambda s: s.widget.keep(), ("start", "error", "end")),
    "error": (
        "Inside.work",
        lambda s: s.widget.look("reconstruction error"),
        ("start", "error", "end"),
    ),
    "features": ("Inside.work", lambda s: s.widget.look("features"), ENDS),
    "reconstruction": ("Inside.work", lambda s: s.widget.look("reconstruction"), ENDS),
    "batch": ("segmenting_files", _batch, ("start", "file", "encode", "end")),
    "save": ("saving_hierarchy", _save, ENDS),
    "open": ("opening_hierarchy", _open, ENDS),
    "load": ("loading", _load, ENDS),
}
_IN_SESSION = set(KINDS) - {"compare", "objects", "measure"}


# Events: what happens while work goes on.


def nothing(s: Scene) -> None:
    """Only the work itself."""


def fails(s: Scene) -> None:
    """The core raises what workers would swallow."""
    s.gate.error = RuntimeError(BROKEN)


def out_of_memory(s: Scene) -> None:
    """The computer has no memory left."""
    s.gate.error = MemoryError()


def stop(s: Scene) -> None:
    """Stop is pressed."""
    s.widget.stop()


def image_removed(s: Scene) -> None:
    """The image is removed."""
    s.remove(s.image)


def all_removed(s: Scene) -> None:
    """All layers are removed."""
    for layer in list(s.viewer.layers):
        s.remove(layer)


def image_renamed(s: Scene) -> None:
    """The image has another name."""
    s.image.name = "renamed"


def image_edited(s: Scene) -> None:
    """Pixels are written to in place."""
    s.image.data[:4] += 1
    s.image.refresh()
    s.expected[s.image] = s.image.data.copy()


def image_replaced(s: Scene) -> None:
    """The layer is given other pixels."""
    s.give(picture(seed=3))


def dtype_changed(s: Scene) -> None:
    """The layer is given numbers of another kind."""
    s.give((100 * picture()).clip(0, 255).astype(np.uint8))


def shape_changed(s: Scene) -> None:
    """The layer is given an image of another size."""
    s.give(picture(60))


def axis_added(s: Scene) -> None:
    """The layer is given a stack."""
    s.give(np.stack([picture()] * 3))


def image_rescaled(s: Scene) -> None:
    """The image is given another size of a pixel."""
    s.image.scale = (4, 4)


def second_dock(s: Scene) -> None:
    """A second dock is opened, and used."""
    other = s.open(another=True)
    other.model = trained()
    other.images = [s.image]


def other_runs(s: Scene) -> None:
    """All else that can be begun is begun."""
    before = len(s.told)
    with s.widget._controller.reporter.reported():
        s.widget.train()
        s.widget.segment()
        s.widget.look("features")
        s.widget.apply_to_all()
        _load(s)
    allowed = len(s.told) - before
    assert allowed >= 4, f"only {allowed} of 5 were refused"


def window_closed(s: Scene) -> None:
    """The window is closed."""
    s.viewer.close()
    s.expected.clear()  # layers are gone with it
    _live(0.05)
    if not s.widget._controller.is_closed:
        s.told.append(AssertionError("the dock does not know that its window is closed"))


def dock_closed(s: Scene) -> None:
    """The dock is closed."""
    s.close(s.widget)


def dock_reopened(s: Scene) -> None:
    """The dock is closed and opened again."""
    s.close(s.widget)
    s.widget = s.open()


def preview_removed(s: Scene) -> None:
    """The preview is removed."""
    for preview in list(s.widget.previews.values()):
        s.remove(preview)


def preview_painted(s: Scene) -> None:
    """The user paints on the preview."""
    preview = s.widget.preview
    preview.paint((5, 5), 40000)
    s.painted = preview
    s.expected[preview] = np.array(preview.data)


def preview_renamed(s: Scene) -> None:
    """The preview has another name."""
    s.widget.preview.name = "other"


def kept_removed(s: Scene) -> None:
    """All kept layers are removed."""
    for layer in [one for one in s.viewer.layers if "regions" in one.name]:
        s.remove(layer)


def kept_painted(s: Scene) -> None:
    """The user paints on a kept layer and exports its table."""
    s.kept.paint((5, 5), 40000)
    s.expected[s.kept] = np.array(s.kept.data)
    s.widget.export_table(s.folder / "table.csv", s.kept)


def controls_moved(s: Scene) -> None:
    """Sliders and modes are moved."""
    s.widget.n_regions = 5
    s.widget.mode = "classes"
    s.widget.balance = 0.2
    s.widget.mode = "regions"
    s.widget.balance = 0.6


def strokes_painted(s: Scene) -> None:
    """Strokes are painted."""
    s.widget.mode = "markers"
    s.widget.paint().paint((20, 20), 2)


def model_taken_away(s: Scene) -> None:
    """A script takes the model away."""
    s.widget.model = None


def layers_moved(s: Scene) -> None:
    """Layers are put in another order, and another one is selected."""
    s.viewer.layers.reverse()
    s.viewer.layers.selection = {s.mine}


EVENTS: dict[str, Callable[[Scene], None]] = {
    event.__name__: event
    for event in (
        nothing, fails, out_of_memory, stop, image_removed, all_removed, image_renamed,
        image_edited, image_replaced, dtype_changed, shape_changed, axis_added, image_rescaled,
        second_dock, other_runs, dock_closed, dock_reopened, preview_removed, preview_painted,
        preview_renamed, kept_removed, kept_painted, controls_moved, strokes_painted,
        model_taken_away, layers_moved, window_closed,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One event at one stage of one kind of work."""

    kind: str
    stage: str
    event: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.stage}-{self.event}"


_ANYWHERE = [event for event in EVENTS if event != "window_closed"]


def all_cases(window: bool = False) -> list[Case]:
    """Return every event at every stage of every kind of work."""
    return [
        Case(kind, stage, event)
        for kind, (_, _, stages) in KINDS.items()
        for stage, event in product(stages, EVENTS if window else _ANYWHERE)
    ]


def few_cases() -> list[Case]:
    """Return a case for every event, the kinds of work and their stages in turn."""
    kinds = [(kind, stages) for kind, (_, _, stages) in KINDS.items()]
    drawn = [kinds[i % len(kinds)] for i in range(len(_ANYWHERE))]
    return [
        Case(kind, stages[(1 + i // len(kinds)) % len(stages)], event)
        for i, ((kind, stages), event) in enumerate(zip(drawn, _ANYWHERE, strict=True))
    ]


def run(case: Case, folder: Path, viewer: Any = None) -> list[str]:
    """Let an event happen in the middle of work; return what is not as it is promised.

    Without a viewer, in one that has no window.
    """
    from napari_aeseg._napari.manifest.settings import Settings
    from napari_aeseg._napari.work import errors as reporting
    from napari_aeseg._napari.work import worker

    settings = Settings(autosave_folder=str(folder / "models"))
    logging.getLogger(worker.__name__).setLevel(logging.CRITICAL)  # faults are meant here
    with troubles() as found:
        s = scene(folder, viewer)
        work, begin, _ = KINDS[case.kind]
        s.gate = Gate(work, case.stage)
        with (
            patch.object(worker, "throttled", s.gate.throttled),
            patch.object(reporting, "show_error", s.shown.append),
            patch("napari_aeseg._napari.controller.read_settings", lambda: settings),
            patch("napari_aeseg._napari.actions.read_settings", lambda: settings),
        ):
            before = _enabled(s.widget)
            begin(s)
            try:
                _let(s.gate.reached.is_set, f"{case} never came to that stage")
                EVENTS[case.event](s)
                _live(0.02)
            finally:
                s.gate.go.set()
            _let(lambda: _at_rest(s), f"{case} never ended")
            _live(0.03)
            wrong = _broken(s, case, before)
            for widget in s.widgets:
                s.close(widget)
                if isalive(widget.native):
                    widget.native.deleteLater()
            _join()
        return [*found, *wrong]


def in_window(case: Case, folder: Path) -> list[str]:
    """Run a case in a window of its own."""
    import napari

    viewer = napari.Viewer()
    try:
        return run(case, folder, viewer)
    finally:
        viewer.close()
        _live(0.05)


def _at_rest(s: Scene) -> bool:
    return all(w._controller._at_rest for w in s.widgets if not w._controller.is_closed)


def _enabled(widget: AESegWidget) -> dict[str, bool]:
    """Which controls can be used."""
    dock = widget._dock
    model, segments = dock.model, dock.segments
    return {
        "train": model.train_button.isEnabled(),
        "load": model.load_button.isEnabled(),
        "save": model.save_button.isEnabled(),
        "device": model.device_box.isEnabled(),
        "segment": segments.segment_button.isEnabled(),
        "keep": segments.keep_button.isEnabled(),
        "open": segments.open_button.isEnabled(),
        "save segmentation": segments.save_button.isEnabled(),
        "look": dock.looks.isEnabled(),
        "batch": dock.batch.button.isEnabled(),
        "export": dock.export_button.isEnabled(),
        "no bar": dock.status.bar.isHidden(),
        "no stop": dock.status.stop_button.isHidden(),
    }


def _broken(s: Scene, case: Case, before: dict[str, bool]) -> list[str]:
    """Return what is not as it is promised, now that all is at rest."""
    return [
        *_lost(s),
        *_stale(s),
        *_left(s, case, before),
        *_untold(s, case),
    ]


def _lost(s: Scene) -> list[str]:
    """Nothing of the user's is lost or overwritten."""
    wrong = []
    for layer, data in s.expected.items():
        if layer not in s.viewer.layers:
            wrong.append(f"{layer.name} is gone")
        elif not np.array_equal(layer.data, data):
            wrong.append(f"{layer.name} is overwritten")
    wrong += [f"{layer.name} came back" for layer in s.removed if layer in s.viewer.layers]
    for widget in s.widgets:
        if s.painted is not None and s.painted in widget.previews.values():
            wrong.append("what was painted is still a preview")
    return wrong


def _stale(s: Scene) -> list[str]:
    """No result is shown on an image that it is not of."""
    wrong = []
    for widget in s.widgets:
        if widget._controller.is_closed:
            continue
        for image, preview in widget.previews.items():
            if preview.data.shape != image.data.shape:
                wrong.append(f"a preview of {preview.data.shape} on {image.data.shape}")
        for image in widget._session.results.of:
            if image not in s.viewer.layers:
                wrong.append("a result of an image that is gone")
    if s.image in s.removed:
        names = [layer.name for layer in s.viewer.layers if layer.name.startswith("cells")]
        made = [n for n in names if any(w in n for w in ("error", "features", "reconstruction"))]
        wrong += [f"{name} is shown although its image is gone" for name in made]
    return wrong


def _left(s: Scene, case: Case, before: dict[str, bool]) -> list[str]:
    """No worker, timer or progress bar is left, and all controls can be used as before."""
    from napari.qt.threading import WorkerBase

    from napari_aeseg._napari.export.tables import measured_layer

    wrong = []
    _join()
    if WorkerBase._worker_set:
        wrong.append(f"workers left: {WorkerBase._worker_set}")
    if s.has_window and (tasks := s.viewer.window._task_status_manager.get_status()):
        wrong.append(f"tasks left: {tasks}")
    widget = s.widget
    if widget._controller.is_closed:
        return wrong
    if widget._controller._timer.isActive():
        wrong.append("a timer is left")
    after = _enabled(widget)
    depends = set() if widget.hierarchies else {"keep", "save segmentation", "look"}
    depends |= {"train", "segment"} if not widget.images else set()
    depends |= {"save"} if widget.model is None else set()
    depends |= {"export"} if measured_layer(s.viewer) is None else set()
    for name, was in before.items():
        if after[name] != was and name not in depends:
            wrong.append(f"{name!r} was {was} and is {after[name]}")
        if name in depends and after[name]:
            wrong.append(f"{name!r} can be used, and there is nothing to use it on")
    return wrong


def _untold(s: Scene, case: Case) -> list[str]:
    """What failed was told once, with its text; nothing else was told."""
    wrong = []
    closed = case.event in ("dock_closed", "dock_reopened", "window_closed")
    for error in s.told:
        planned = isinstance(error, AesegError) or BROKEN in str(error)
        if not planned:
            wrong.append(f"told: {error!r}")
    injected = {"fails": BROKEN, "out_of_memory": "Out of memory"}.get(case.event)
    if injected and not closed:
        heard = [error for error in s.told if injected in str(error)]
        text = s.widget._dock.status.text
        if len(heard) != 1 or len([t for t in s.shown if injected in t]) != 1:
            wrong.append(f"{injected!r} was told {len(heard)} times, shown {s.shown}")
        if injected not in text.text() or text.isHidden():
            wrong.append(f"the status line says {text.text()!r}")
    elif not injected and len(s.told) != len(s.shown):
        wrong.append(f"told {s.told}, shown {s.shown}")
    return wrong


def _let(done: Callable[[], bool], otherwise: str) -> None:
    from napari_aeseg._napari.waiting import wait_until

    if not wait_until(done, _SECONDS):
        raise TimeoutError(otherwise)


def _live(seconds: float) -> None:
    from napari_aeseg._napari.waiting import wait_until

    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end)


def _join() -> None:
    from napari.qt.threading import WorkerBase

    WorkerBase.await_workers(10_000)
    _live(0.01)
    end = time.monotonic() + 10  # on a busy machine, the loop hears of an end later
    while WorkerBase._worker_set and time.monotonic() < end:
        _live(0.05)


def main() -> int:
    """Run cases; return 1 if one of them broke what is promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, help="so many cases, drawn; all by default")
    parser.add_argument(
        "--window", action="store_true", help="in a real window, several times slower"
    )
    parser.add_argument("--only", default="", help="cases whose names hold this, as train-end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts here")
    asked = parser.parse_args()
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance() or QApplication(sys.argv[:1])
    cases = [case for case in all_cases(asked.window) if asked.only in str(case)]
    if asked.number is not None and asked.number < len(cases):
        chosen = np.random.default_rng(asked.seed).permutation(len(cases))[: asked.number]
        cases = [cases[i] for i in sorted(chosen)]
    start, failures = time.monotonic(), {}
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="aeseg-faults-") as folder:
            wrong = in_window(case, Path(folder)) if asked.window else run(case, Path(folder))
        if wrong:
            failures[str(case)] = wrong
            print(f"{case}:", *wrong, sep="\n    ", flush=True)
    seconds = time.monotonic() - start
    counts = {"cases": len(cases), "kinds": len(KINDS), "events": len(EVENTS)}
    print(f"{counts}, {len(failures)} failed, {seconds:.0f} s", flush=True)
    if asked.json is not None:
        report = {**counts, "seconds": round(seconds), "failures": failures}
        asked.json.write_text(json.dumps(report, indent=1))
    del application
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
