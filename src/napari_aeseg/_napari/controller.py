"""Joins the dock and the session: what the user does goes down, what happens comes up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from napari_aeseg._napari.corrections import Steering
from napari_aeseg._napari.export.tables import columns_of, measured_layer
from napari_aeseg._napari.layers.adapter import other_pixels, other_shape, unwrapped
from napari_aeseg._napari.layers.kept import Keeper
from napari_aeseg._napari.layers.training import Watching
from napari_aeseg._napari.manifest.settings import read_settings
from napari_aeseg._napari.memory import remember, restore
from napari_aeseg._napari.tree_files import TreeFiles
from napari_aeseg._napari.views.dock import Dock
from napari_aeseg._napari.waiting import wait_until
from napari_aeseg._napari.work.devices import DeviceFinder
from napari_aeseg._napari.work.errors import Reporter
from napari_aeseg._napari.work.session import Origin, Session
from napari_aeseg.errors import InputError
from napari_aeseg.progress import TrainingProgress

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_aeseg._napari.layers.adapter import Snapshot
    from napari_aeseg._napari.tuning import Cut
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.progress import Progress
    from napari_aeseg.regions.hierarchy import Hierarchy

_MILLISECONDS_TO_PREVIEW = 15  # moves that come faster are shown together: the newest wins


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
    closed : psygnal.Signal()
        The dock is gone: nothing of napari is to be listened to any more.
    """

    segmented = Signal(object)
    failed = Signal(object)
    closed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.session = Session(viewer)
        self.results = self.session.results
        self.keeper = Keeper(viewer, self.results)
        self.steering = Steering(viewer, self.results)
        self.watching = Watching(viewer)
        self.dock = Dock(viewer)
        self.reporter = Reporter()
        self.reporter.failed.connect(self._on_failed)
        self._new_curve = False
        self.is_closed = False
        self._finder = DeviceFinder(self.dock)
        self._timer = QTimer(self.dock)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MILLISECONDS_TO_PREVIEW)
        self._timer.timeout.connect(self._update_previews)
        settings = read_settings()
        self.dock.model.device = settings.device
        self.dock.model.preset = settings.preset
        self._listen_to_session()
        self._listen_to_dock()
        self.trees = TreeFiles(self)
        restore(self)
        self.refresh()

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
        self.results.touched.connect(self._on_touched)
        for part in (session, self.results, self.keeper):
            part.failed.connect(self.reporter.report)
        self.results.failed.connect(self._on_not_compared)

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
            button.clicked.connect(self.reporter.reporting(action))
        dock.images.changed.connect(self.refresh)
        dock.images.replaced.connect(self.follow_data)
        model.device_box.opened.connect(self._finder.look)
        self._finder.found.connect(model.add_devices)
        segments.cut_changed.connect(self.want_cut)
        segments.comparison_changed.connect(self.results.compare)

    # What buttons and scripts do

    def train(self) -> None:
        """Begin to train on the chosen images."""
        view, (image, shots, watch, path) = self.dock.model, self._to_train_on()
        self.session.train(shots, view.params, view.device, view.start_from, watch, path)
        self.watching.begin(image, shots[0])

    def resume(self) -> None:
        """Go on with a training that was stopped."""
        image, shots, watch, path = self._to_train_on()
        self.session.resume(shots, self.dock.model.device, watch, path)
        self.watching.begin(image, shots[0])

    def _to_train_on(self) -> tuple[Image, list[Snapshot], bool, Path | None]:
        """Read what training needs: the images, whether to watch the first, and where to save."""
        self.reporter.clear()
        self.dock.model.form.check()
        images = self.dock.images
        shots = images.snapshots()
        path = read_settings().autosave_path(shots[0].name)
        return images.images[0], shots, self.dock.model.watch_box.isChecked(), path

    def segment(self) -> None:
        """Begin to segment the chosen images."""
        self.reporter.clear()
        images = self.dock.images
        self.dock.segments.form.check()
        pairs = list(zip(images.images, images.snapshots(), strict=True))
        segments = self.dock.segments
        self.session.segment(pairs, segments.params, segments.comparison, self.dock.model.device)

    def load(self, path: str | PathLike[str]) -> None:
        """Begin to load a model."""
        self.reporter.clear()
        self.session.load(path)

    def load_now(self, path: str | PathLike[str]) -> None:
        """Load a model before returning; what goes wrong is raised instead of popping up."""
        self.do_now(self.load, path)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file."""
        self.session.save(path)
        self.show_model()
        self.dock.status.say(f"Saved as {Path(path).name}.")

    def do_now(self, action: Callable[..., object], *arguments: Any) -> None:
        """Begin something and wait for it; what goes wrong is raised instead of popping up."""
        with self.reporter.quiet():
            action(*arguments)
            self.wait()

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
        self.steering.show_strokes(cut.mode)
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
        if cut.mode == "objects":
            self.dock.segments.objects.show_number(self.results.number_of_objects(image, cut))
        done, undone = (0, 0) if result is None else (len(result.edits), len(result.undone))
        self.dock.segments.regions.show_edits(done, undone)

    @property
    def hierarchies(self) -> dict[Image, Hierarchy]:
        """The hierarchy of each chosen image that has one."""
        known = self.results.hierarchies
        return {image: known[image] for image in self.dock.images.images if image in known}

    def image_in_hand(self, image: Image | None = None) -> Image:
        """Return the image given, else that of the active preview, else the first segmented."""
        if image is not None:
            return unwrapped(image)
        images = list(self.hierarchies)
        if not images:
            raise InputError("No chosen image is segmented yet: press Segment first.")
        active = self.viewer.layers.selection.active
        return next((i for i in images if self.results.preview_of(i) is active), images[0])

    def close(self) -> None:
        """Leave everything that runs and all layers to napari, and be silent from now on."""
        if self.is_closed:
            return
        self.is_closed = True
        if isalive(self.dock):
            remember(self)
            self._timer.stop()
        self._finder.leave()
        self.keeper.leave()
        self.steering.leave()
        self.session.close()
        self.dock.images.leave()
        self.closed.emit()

    def wait(self, timeout: float | None = None) -> None:
        """Let Qt work until nothing runs and nothing waits; then raise the last error."""
        if not wait_until(lambda: self._at_rest, timeout):
            raise TimeoutError(f"Still busy with {self.session.subject} after {timeout} s.")
        self.reporter.raise_last()

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
            columns_of(measured_layer(self.viewer)),
        )

    def show_model(self) -> None:
        """Say which model is in use."""
        self.dock.model.show_model(self.session.model, self.session.origin.text)
        self.refresh()

    def _on_failed(self, error: Exception, text: str) -> None:
        if not self.session.busy and text not in self.dock.status.text.text():
            self.dock.status.say(text)
        self.failed.emit(error)

    def _on_not_compared(self, *_: object) -> None:
        """Show how patches are compared after all, when they could not be compared as asked."""
        hierarchy = next(iter(self.hierarchies.values()), None)
        if hierarchy is not None and not self.results.runner.busy:
            self.dock.segments.show_comparison(hierarchy.comparison)
            self.refresh()

    def follow_data(self, image: Image) -> None:
        """Give up what no longer fits an image that was given other data; say what is not of it."""
        result = self.results.of.get(image)
        if result is None or result.shot.is_of(image):
            return
        text = other_pixels(image)
        if not result.shot.fits(image):
            self.results.give_up(image)
            text = other_shape(image)
        if not self.session.busy:
            self.dock.status.say(text)

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

    def want_cut(self, cut: Cut) -> None:
        """Have another cut shown in a moment."""
        for image in self.dock.images.images:  # whoever moves a control wants to see what it does
            preview = self.results.preview_of(image)
            if preview is not None and not preview.visible:
                preview.visible = True
        self.show_cut(cut)
        self.want_previews()

    def _update_previews(self) -> None:
        with self.reporter.reported():
            self.results.show(self.dock.images.images, self.dock.segments.cut)
            self.show_cut(self.dock.segments.cut)

    def _ask_and_load(self) -> None:
        if path := self.dock.ask_model_to_load():
            self.load(path)

    def _ask_and_save(self) -> None:
        if path := self.dock.ask_where_to_save():
            self.save(path)

    # What the session tells

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
        self.results.know(model)
        self.steering.take_over(model)
        self.show_model()

    def _on_segmented(self, image: Image, hierarchy: Hierarchy) -> None:
        segments = self.dock.segments
        chosen = self.dock.images.images
        with self.reporter.reported():
            # Whoever unchecked the image meanwhile still wants to see what came out.
            shown = chosen if image in chosen else [image]
            self.results.show(shown, segments.cut, place=True)
        self.results.compare(segments.comparison)
        self.refresh()
        self.segmented.emit(hierarchy)

    def _on_touched(self, image: Image, layer: Labels) -> None:
        self.dock.status.say(
            f"You painted on the preview: it is yours now, as '{layer.name}'. The next change of a "
            "control makes a new preview."
        )

    def _on_changed_results(self) -> None:
        with self.reporter.reported():
            self.results.show(self.dock.images.images, self.dock.segments.cut)
        self.refresh()
