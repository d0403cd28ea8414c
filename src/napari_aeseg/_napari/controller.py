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
from napari_aeseg._napari.keeping import Keeper
from napari_aeseg._napari.layers import unwrapped
from napari_aeseg._napari.memory import Memory, recall, remember
from napari_aeseg._napari.session import Origin, Session
from napari_aeseg._napari.settings import read_settings
from napari_aeseg._napari.steering import Steering
from napari_aeseg._napari.tables import columns_of
from napari_aeseg._napari.watching import Watching
from napari_aeseg._napari.worker import Done, Job, JobRunner
from napari_aeseg.errors import AesegError
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
# After the dock has opened, torch is imported: it takes seconds, which the first click would wait.
_MILLISECONDS_TO_TORCH = 700


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
        self.viewer = viewer
        self.session = Session(viewer)
        self.results = self.session.results
        self.keeper = Keeper(viewer, self.results)
        self.steering = Steering(viewer, self.results)
        self.watching = Watching(viewer)
        self.dock = Dock(viewer)
        self.error: Exception | None = None
        self._popups = True
        self._new_curve = False
        self._closed = False
        self._finder = JobRunner()
        self._finder.ended.connect(self._on_devices)
        self._timer = QTimer(self.dock)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MILLISECONDS_TO_PREVIEW)
        self._timer.timeout.connect(self._update_previews)
        self._warm_up = QTimer(self.dock)
        self._warm_up.setSingleShot(True)
        self._warm_up.timeout.connect(self._find_devices)
        self._warm_up.start(_MILLISECONDS_TO_TORCH)
        settings = read_settings()
        self.dock.model.device = settings.device
        self.dock.model.preset = settings.preset
        self._listen_to_session()
        self._listen_to_dock()
        if (memory := recall(viewer)) is not None:
            self._restore(memory)
        self.refresh()

    def _restore(self, memory: Memory) -> None:
        """Go on where the dock of this viewer was when it was closed."""
        self.session.take_model(memory.model, memory.origin)
        self.results.classes = memory.classes
        for image, result in memory.results.items():
            self.results.of[image] = result
            if result.preview.layer is not None:
                self.results.shown.emit(image, result.preview.layer)
        self.results.forget_removed()
        dock = self.dock
        dock.model.params, dock.model.device = memory.training, memory.device
        dock.segments.params, dock.segments.cut = memory.segmentation, memory.cut
        dock.images.axes = memory.axes
        there = [image for image in memory.images if image in dock.images.all]
        if there:
            dock.images.images = there
        self.steering.take_over(memory.model)
        self.show_model()

    def _remember(self) -> None:
        dock = self.dock
        memory = Memory(
            self.session.model,
            self.session.origin,
            self.results.of,
            self.results.classes,
            dock.segments.cut,
            dock.model.params,
            dock.segments.params,
            dock.images.images,
            dock.images.axes,
            dock.model.device,
        )
        remember(self.viewer, memory)

    def _listen_to_session(self) -> None:
        session = self.session
        session.began.connect(self._on_began)
        session.progressed.connect(self._on_progress)
        session.ended.connect(self._on_ended)
        session.trained.connect(self._on_model)
        session.loaded.connect(self._on_model)
        session.segmented.connect(self._on_segmented)
        self.results.changed.connect(self._on_changed_results)
        self.steering.changed.connect(self.want_previews)
        self.steering.said.connect(self.dock.status.say)
        self.keeper.completed.connect(lambda _: self.refresh())
        for part in (session, self.results, self.keeper):
            part.failed.connect(self.report)

    def _listen_to_dock(self) -> None:
        dock, model, segments = self.dock, self.dock.model, self.dock.segments
        for button, action in (
            (model.train_button, self.train),
            (model.resume_button, self.resume),
            (model.load_button, self._ask_and_load),
            (model.save_button, self._ask_and_save),
            (segments.segment_button, self.segment),
            (segments.keep_button, self.keep),
            (dock.status.stop_button, self.stop),
        ):
            button.clicked.connect(self.reporting(action))
        dock.images.changed.connect(self.refresh)
        model.device_box.opened.connect(self._find_devices)
        segments.cut_changed.connect(self._want_cut)
        segments.weights_changed.connect(self.results.reweight)

    # What buttons and scripts do

    def train(self) -> None:
        """Begin to train on the chosen images."""
        self.error = None
        view, images = self.dock.model, self.dock.images
        shots = images.snapshots()
        self.watching.begin(images.images[0], shots[0])
        path = read_settings().autosave_path(shots[0].name)
        watch = view.watch_box.isChecked()
        self.session.train(shots, view.params, view.device, view.start_from, watch, path)

    def resume(self) -> None:
        """Go on with a training that was stopped."""
        self.error = None
        view, images = self.dock.model, self.dock.images
        shots = images.snapshots()
        self.watching.begin(images.images[0], shots[0])
        path = read_settings().autosave_path(shots[0].name)
        self.session.resume(shots, view.device, view.watch_box.isChecked(), path)

    def segment(self) -> None:
        """Begin to segment the chosen images."""
        self.error = None
        images = self.dock.images
        pairs = list(zip(images.images, images.snapshots(), strict=True))
        self.session.segment(pairs, self.dock.segments.params, self.dock.model.device)

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

    def take_model(self, model: Model | None) -> None:
        """Use a model that a script has."""
        self.session.take_model(model, Origin("Model of a script"))
        self._on_model(model)
        self.show_model()

    def keep(self) -> list[Labels]:
        """Copy what the previews show to layers of their own."""
        self.keeper.device = self.dock.model.device
        kept = self.keeper.keep(self.dock.images.images, self.dock.segments.cut)
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
        self.steering.style(cut.n_classes)
        self.results.show(self.dock.images.images, cut)
        self._timer.stop()
        self.show_cut(cut)

    def show_cut(self, cut: Cut) -> None:
        """Bring the controls in line with a cut."""
        hierarchies = list(self.hierarchies.values())
        self.steering.style(cut.n_classes)
        classes, image = self.results.classes, next(iter(self.hierarchies), None)
        fixed = classes.prototypes is not None
        number = len(classes.prototypes.centres) if fixed else cut.n_classes
        checked = cut.class_ids if cut.mode == "objects" else None
        self.dock.segments.classes.show_classes(
            classes.names[:number], classes.colors[:number], fixed, checked
        )
        self.dock.segments.show_cut(cut, hierarchies)
        result = self.results.of.get(image)
        done, undone = (0, 0) if result is None else (len(result.edits), len(result.undone))
        self.dock.segments.regions.show_edits(done, undone)

    @property
    def hierarchies(self) -> dict[Image, Hierarchy]:
        """The hierarchy of each chosen image that has one."""
        known = self.results.hierarchies
        return {image: known[image] for image in self.dock.images.images if image in known}

    def close(self) -> None:
        """Leave everything that runs, and be silent from now on."""
        if isalive(self.dock) and not self._closed:
            self._remember()
        self._closed = True
        if isalive(self._warm_up):
            self._warm_up.stop()
        self._finder.leave()
        self.keeper.leave()
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
        if self.session.busy or self.results.busy or self.keeper.busy:
            return False
        return not isalive(self.dock) or not self._timer.isActive()

    # What is shown

    def refresh(self) -> None:
        """Bring the controls in line with what there is."""
        self.show_cut(self.dock.segments.cut)
        self.dock.refresh(
            self.session.busy,
            self.session.model is not None,
            bool(self.hierarchies),
            columns_of(unwrapped(self.viewer.layers.selection.active)),
        )

    def show_model(self) -> None:
        """Say which model is in use."""
        self.dock.model.show_model(self.session.model, self.session.origin.text)
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

    def reporting(self, action: Callable[..., object]) -> Callable[..., None]:
        """Return a slot that does the action, without what the signal sends, and reports."""

        def slot(*_: object) -> None:
            with self.reported():
                action()

        return slot

    def want_previews(self) -> None:
        """Have the previews shown anew in a moment."""
        if not self._timer.isActive():
            self._timer.start()

    def show_now(self) -> None:
        """Show what `want_previews` asked for without waiting, and raise what goes wrong."""
        if self._timer.isActive():
            self._timer.stop()
            self.results.show(self.dock.images.images, self.dock.segments.cut)
        self.refresh()

    def _want_cut(self, cut: Cut) -> None:
        self.show_cut(cut)
        self.want_previews()

    def _update_previews(self) -> None:
        with self.reported():
            self.results.show(self.dock.images.images, self.dock.segments.cut)
            self.show_cut(self.dock.segments.cut)

    def _ask_and_load(self) -> None:
        if path := self.dock.ask_model_to_load():
            self.load(path)

    def _ask_and_save(self) -> None:
        if path := self.dock.ask_where_to_save():
            self.save(path)

    def _find_devices(self) -> None:
        # In a thread: it may have to import torch.
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
            self.watching.show(event)
            self._new_curve = False
        if event.message and event.stage != "file":
            show_warning(event.message)

    def _on_ended(self, text: str) -> None:
        self.dock.status.end(text)
        self.show_model()

    def _on_model(self, model: Model | None) -> None:
        self.steering.take_over(model)
        self.show_model()

    def _on_segmented(self, image: Image, hierarchy: Hierarchy) -> None:
        segments = self.dock.segments
        chosen = self.dock.images.images
        with self.reported():
            # Whoever unchecked the image meanwhile still wants to see what came out.
            shown = chosen if image in chosen else [image]
            self.results.show(shown, segments.cut, place=True)
        self.results.reweight(segments.params.balance, segments.params.scale)
        self.refresh()
        self.segmented.emit(hierarchy)

    def _on_changed_results(self) -> None:
        self._update_previews()
        self.refresh()
