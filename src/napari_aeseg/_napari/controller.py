"""Joins the dock and the session: what the user does goes down, what happens comes up."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QEventLoop, QTimer

from napari_aeseg._napari.dock import Dock
from napari_aeseg._napari.jobs import finding_devices
from napari_aeseg._napari.session import Session
from napari_aeseg._napari.tuning import MODES
from napari_aeseg._napari.worker import Done, Job, JobRunner
from napari_aeseg.errors import AesegError, InputError
from napari_aeseg.events import TrainingProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg._napari.worker import Failed, Stopped
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import Progress
    from napari_aeseg.regions.hierarchy import Hierarchy

_MILLISECONDS_TO_PREVIEW = 15  # moves that come faster are shown together: the newest wins
_MILLISECONDS_TO_LOOK = 10


class Controller:
    """Reacts to controls and to the session; `AESegWidget` is its public face.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Attributes
    ----------
    segmented : psygnal.Signal(Hierarchy)
        The preview is up to date by then.
    failed : psygnal.Signal(Exception)
        Whatever went wrong, in a thread or here; the user has seen it by then.
    """

    segmented = Signal(object)
    failed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        self.session = Session(viewer)
        self.dock = Dock(viewer)
        self.error: Exception | None = None
        self._popups = True
        self._new_curve = False
        self._finder = JobRunner()
        self._finder.ended.connect(self._on_devices)
        self._timer = QTimer(self.dock)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MILLISECONDS_TO_PREVIEW)
        self._timer.timeout.connect(self._update_previews)
        self._listen_to_session()
        self._listen_to_dock()
        self.refresh()

    def _listen_to_session(self) -> None:
        session = self.session
        session.began.connect(self._on_began)
        session.progressed.connect(self._on_progress)
        session.ended.connect(self._on_ended)
        session.trained.connect(self._on_model)
        session.loaded.connect(self._on_model)
        session.segmented.connect(self._on_segmented)
        session.failed.connect(self.report)
        session.results.changed.connect(self._on_changed_results)
        session.results.failed.connect(self.report)

    def _listen_to_dock(self) -> None:
        dock, model, segments = self.dock, self.dock.model, self.dock.segments
        for button, action in (
            (model.train_button, self.train),
            (model.load_button, self._ask_and_load),
            (model.save_button, self._ask_and_save),
            (segments.segment_button, self.segment),
            (segments.keep_button, self.keep),
            (dock.status.stop_button, self.stop),
        ):
            button.clicked.connect(self._reporting(action))
        dock.images.changed.connect(self.refresh)
        model.device_box.opened.connect(self._find_devices)
        segments.cut_changed.connect(self._want_cut)
        segments.weights_changed.connect(self.session.results.reweight)

    # What buttons and scripts do

    def train(self) -> None:
        """Begin to train on the chosen images."""
        self.error = None
        view = self.dock.model
        self.session.train(self.dock.images.snapshots(), view.form.value, view.device)

    def segment(self) -> None:
        """Begin to segment the chosen images, after training on them if there is no model."""
        self.error = None
        view, images = self.dock.model, self.dock.images
        pairs = list(zip(images.images, images.snapshots(), strict=True))
        self.session.segment(pairs, self.dock.segments.params, view.device, view.form.value)

    def load(self, path: str | PathLike[str]) -> None:
        """Begin to load a model."""
        self.error = None
        self.session.load(path)

    def load_now(self, path: str | PathLike[str]) -> None:
        """Load a model before returning; what goes wrong is raised instead of popping up."""
        self._popups = False
        try:
            self.load(path)
            self.wait()
        finally:
            self._popups = True

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file."""
        self.session.save(path)
        self.show_model()
        self.dock.status.say(f"Saved as {Path(path).name}.")

    def keep(self) -> list[Labels]:
        """Copy what the previews show to layers of their own."""
        kept = self.session.results.keep(self.dock.images.images, self.dock.segments.cut)
        names = " and ".join(f"'{layer.name}'" for layer in kept)
        self.dock.status.say(f"Kept as {names}, hidden for now.")
        return kept

    def stop(self) -> None:
        """Ask what is running to stop."""
        if self.session.busy:
            self.dock.status.stopping()
            self.session.stop()

    def set_cut(self, **changes: Any) -> None:
        """Show another cut at once; raise `InputError` and change nothing when it is refused."""
        cut = replace(self.dock.segments.cut, **changes)
        if cut.mode not in MODES:
            raise InputError(f"mode = {cut.mode!r}: the dock has {', '.join(MODES)}.")
        self.session.results.show(self.dock.images.images, cut)
        self._timer.stop()
        self.dock.segments.show_cut(cut, list(self.hierarchies.values()))

    @property
    def hierarchies(self) -> dict[Image, Hierarchy]:
        """The hierarchy of each chosen image that has one."""
        known = self.session.results.hierarchies
        return {image: known[image] for image in self.dock.images.images if image in known}

    def close(self) -> None:
        """Leave everything that runs, and be silent from now on."""
        self._finder.leave()
        self.session.close()

    def wait(self, timeout: float | None = None) -> None:
        """Let Qt work until nothing runs and nothing waits; then raise the last error."""
        loop, look, end = QEventLoop(), QTimer(), QTimer()
        look.timeout.connect(lambda: loop.quit() if self._at_rest else None)
        look.start(_MILLISECONDS_TO_LOOK)
        if timeout is not None:
            end.timeout.connect(loop.quit)
            end.start(int(1000 * timeout))
        if not self._at_rest:
            loop.exec_()
        for timer in (look, end):  # a traceback may keep them alive
            timer.stop()
        if not self._at_rest:
            raise TimeoutError(f"Still busy with {self.session.subject} after {timeout} s.")
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    @property
    def _at_rest(self) -> bool:
        if self.session.busy or self.session.results.busy:
            return False
        return not isalive(self.dock) or not self._timer.isActive()

    # What is shown

    def refresh(self) -> None:
        """Bring the controls in line with what there is."""
        hierarchies = list(self.hierarchies.values())
        self.dock.segments.show_cut(self.dock.segments.cut, hierarchies)
        self.dock.refresh(self.session.busy, self.session.model is not None, bool(hierarchies))

    def show_model(self) -> None:
        """Say which model is in use."""
        self.dock.model.show_model(self.session.model, self.session.model_source)
        self.refresh()

    def report(self, error: Exception) -> None:
        """Show an error to the user and to scripts."""
        self.error = error
        text = str(error) if isinstance(error, AesegError) else f"{type(error).__name__}: {error}"
        if not self.session.busy:
            self.dock.status.say(text)
        if self._popups:
            show_error(text)
        self.failed.emit(error)

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Report what goes wrong inside, instead of raising it."""
        try:
            yield
        except (AesegError, OSError) as error:
            self.report(error)

    def _reporting(self, action: Callable[[], object]) -> Callable[..., None]:
        def slot(*_: object) -> None:
            with self.reported():
                action()

        return slot

    def _want_cut(self, cut: Cut) -> None:
        self.dock.segments.show_cut(cut, list(self.hierarchies.values()))
        if not self._timer.isActive():
            self._timer.start()

    def _update_previews(self) -> None:
        with self.reported():
            self.session.results.show(self.dock.images.images, self.dock.segments.cut)

    def _ask_and_load(self) -> None:
        if path := self.dock.ask_model_to_load():
            self.load(path)

    def _ask_and_save(self) -> None:
        if path := self.dock.ask_where_to_save():
            self.save(path)

    def _find_devices(self) -> None:
        # In a thread: it may have to import torch, which takes seconds.
        if not self._finder.busy:
            self._finder.start(Job("looking for devices", finding_devices()), False)

    # What the session tells

    def _on_devices(self, outcome: Done | Stopped | Failed) -> None:
        if isinstance(outcome, Done) and isalive(self.dock):
            self.dock.model.add_devices(outcome.result)

    def _on_began(self, text: str) -> None:
        self._new_curve = True
        self.dock.status.begin(text)
        self.refresh()

    def _on_progress(self, event: Progress) -> None:
        self.dock.status.show_event(event, self.session.subject)
        if isinstance(event, TrainingProgress):
            self.dock.model.show_training(event, start=self._new_curve)
            self._new_curve = False
        if event.message:
            show_warning(event.message)

    def _on_ended(self, text: str) -> None:
        self.dock.status.end(text)
        self.show_model()

    def _on_model(self, _: Model) -> None:
        self.show_model()

    def _on_segmented(self, image: Image, hierarchy: Hierarchy) -> None:
        results, segments = self.session.results, self.dock.segments
        chosen = self.dock.images.images
        with self.reported():
            # Whoever unchecked the image meanwhile still wants to see what came out.
            shown = chosen if image in chosen else [image]
            results.show(shown, segments.cut, place=True)
        results.reweight(segments.params.balance, segments.params.scale)
        self.refresh()
        self.segmented.emit(hierarchy)

    def _on_changed_results(self) -> None:
        self._update_previews()
        self.refresh()
