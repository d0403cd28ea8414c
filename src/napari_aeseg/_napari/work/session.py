"""What the dock works on: the model, the results, and which job follows which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_aeseg._napari.layers.adapter import other_pixels, other_shape
from napari_aeseg._napari.state import Results
from napari_aeseg._napari.work import jobs
from napari_aeseg._napari.work.errors import said
from napari_aeseg._napari.work.worker import Done, Failed, Job, JobRunner, Stopped, noted
from napari_aeseg.errors import AesegError, InputError
from napari_aeseg.params import TrainingParams
from napari_aeseg.progress import TrainingProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg._napari.layers.adapter import Snapshot
    from napari_aeseg._napari.work.worker import Work
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.params import ComparisonParams, SegmentationParams
    from napari_aeseg.progress import Progress
    from napari_aeseg.regions.hierarchy import Hierarchy

BASE = "base"


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, for the user and for a script that makes it again.

    Parameters
    ----------
    text : str
        For the user.
    path : Path or "base" or None
        The file that holds it.
    images : tuple of Snapshot
        What it was trained on in this session, from beginning to end.
    device : str
    params : TrainingParams or None
        What it was trained with, to the end; None when it was stopped.
    init : Origin or None
        Where the weights come from that it started from.
    """

    text: str = ""
    path: Path | str | None = None
    images: tuple[Snapshot, ...] = ()
    device: str = "auto"
    params: TrainingParams | None = None
    init: Origin | None = None

    def starts_from(self, path: Path) -> bool:
        """Whether a file is needed to train it again."""
        return self.init is not None and (self.init.path == path or self.init.starts_from(path))


class Session:
    """Trains, loads and segments, one job after the other; knows no controls.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Attributes
    ----------
    began, ended : psygnal.Signal(str)
        A line for the user. `busy` is True from the one to the other.
    progressed : psygnal.Signal(Progress)
    trained, loaded : psygnal.Signal(Model)
    segmented : psygnal.Signal(Image layer, Hierarchy)
    stopped : psygnal.Signal(str)
    failed : psygnal.Signal(Exception)
    """

    began = Signal(str)
    ended = Signal(str)
    progressed = Signal(object)
    trained = Signal(object)
    loaded = Signal(object)
    segmented = Signal(object, object)
    stopped = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.model: Model | None = None
        self.origin = Origin()
        self.subject = ""  # what is being worked on
        self.results = Results(viewer)
        self._runner = JobRunner()
        self._runner.progressed.connect(self._on_progress)
        self._runner.ended.connect(self._on_ended)
        self._then: Callable[[Any, bool], str] = lambda result, stopped: ""
        self._queue: list[tuple[Image, Snapshot]] = []
        self._queued = 0
        self._encoder: Model | None = None  # that a queue is segmented with
        self._lines: list[str] = []  # what there is to say of a queue when it ends
        self._steps = 0  # of the training that goes on
        self._settings: tuple[SegmentationParams, ComparisonParams, str] | None = None

    @property
    def busy(self) -> bool:
        """Whether training, segmenting, loading or the like is going on."""
        return self._runner.busy

    @property
    def autosaving(self) -> Path | None:
        """The file that the training that goes on is saved to; None if there will be none."""
        training = self.busy and self._then == self._on_trained and self._steps > 0
        return self._after.path if training else None

    def train(
        self,
        images: Sequence[Snapshot],
        params: TrainingParams,
        device: str,
        start: str = "new",
        watch: bool = False,
        autosave: Path | None = None,
    ) -> None:
        """Begin to train on images, from "new" weights, those of the "base" model or "current"."""
        self._prepare()
        init: Any = {"new": None, "base": BASE, "current": self.model or BASE}[start]
        before = self.origin if init is self.model and init is not None else Origin(path=BASE)
        names = _listed(images)
        self._after = Origin(
            f"Trained on {names}",
            autosave,
            tuple(images),
            device,
            init=None if init is None else before,
        )
        work = jobs.training(images, params, device, init, False, watch, autosave)
        self._start(names, f"Training on {names}", work, self._on_trained)

    def resume(
        self, images: Sequence[Snapshot], device: str, watch: bool, autosave: Path | None
    ) -> None:
        """Go on with a training that was stopped."""
        self._prepare()
        if self.model is None or not self.model.unfinished:
            raise InputError("There is no training to go on with: the model is finished, or none.")
        names = _listed(images)
        # Resuming gives what training without a stop gives; how that began, a file does not tell.
        known = tuple(images) if self.origin.images else ()
        before = self.origin.init
        self._after = Origin(f"Trained on {names}", autosave, known, device, init=before)
        work = jobs.training(images, None, device, self.model, True, watch, autosave)
        self._start(names, f"Training on {names}", work, self._on_trained)

    def segment(
        self,
        images: Sequence[tuple[Image, Snapshot]],
        params: SegmentationParams,
        comparison: ComparisonParams,
        device: str,
    ) -> None:
        """Begin to segment images; without a model, with the base model."""
        self._prepare(images)
        self._settings, self._encoder = (params, comparison, device), self.model
        if self.model is not None:
            self._segment_next()
            return
        self._after = Origin("Base model", BASE)
        self._start("the base model", "Loading the base model", jobs.loading(BASE), self._on_loaded)

    def load(self, path: str | PathLike[str]) -> None:
        """Begin to load a model file, or "base"."""
        self._prepare()
        name = "the base model" if path == BASE else Path(path).name
        self._after = Origin(
            "Base model" if path == BASE else f"Loaded {name}",
            BASE if path == BASE else Path(path).absolute(),
        )
        self._start(name, f"Loading {name}", jobs.loading(path), self._on_loaded)

    def run(self, subject: str, title: str, work: Work, then: Callable[[Any, bool], str]) -> None:
        """Begin any other work; `then` gets its result and whether it was stopped, says a line."""
        self._prepare()
        self._start(
            subject, title, work, lambda r, stopped: self._finish(then(r, stopped), stopped)
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file."""
        if self.model is None:
            raise InputError("There is no model to save: train or load one first.")
        self.model.save(path)
        path = Path(path).absolute()
        self.origin = replace(self.origin, text=f"Saved as {path.name}", path=path)
        if self.origin.starts_from(path):  # that file is no more: it cannot be trained again
            self.origin = replace(self.origin, params=None)

    def take_model(self, model: Model | None, origin: Origin) -> None:
        """Use a model from now on."""
        self.model, self.origin = model, origin

    def stop(self) -> None:
        """Ask what is running to stop."""
        self._runner.stop()

    def close(self, *_: object) -> None:
        """Stop everything and be silent from now on; safe to call when Qt is going down."""
        self._queue.clear()
        self._runner.leave()
        self.results.leave()

    def check_free(self) -> None:
        """Raise InputError if something is going on."""
        if self.busy:
            raise InputError(
                f"Still busy with {self.subject}: wait until it is done, or stop it first."
            )

    def _prepare(self, queue: Sequence[tuple[Image, Snapshot]] = ()) -> None:
        self.check_free()
        self._queue, self._queued, self._lines = list(queue), len(queue), []

    def _start(
        self, subject: str, title: str, work: Work, then: Callable[[Any, bool], Any]
    ) -> None:
        self.subject, self._then, self._steps = subject, then, 0
        self._runner.start(Job(title, work))
        self.began.emit(title)

    def _segment_next(self) -> None:
        assert self._settings is not None and self._encoder is not None  # noqa: S101
        params, comparison, device = self._settings
        self._layer, self._shot = self._queue.pop(0)
        number = self._queued - len(self._queue)
        subject = self._shot.name
        if self._queued > 1:
            subject += f" ({number} of {self._queued})"
        work = jobs.segmenting(self._shot, self._encoder, params, comparison, device)
        self._start(subject, f"Segmenting {subject}", work, self._on_segmented)

    def _on_progress(self, event: Progress) -> None:
        if isinstance(event, TrainingProgress):
            self._steps = event.done
        self.progressed.emit(event)

    def _on_ended(self, outcome: Done | Stopped | Failed) -> None:
        if isinstance(outcome, Failed):
            self._on_failed(outcome.error)
            return
        if isinstance(outcome, Stopped) or outcome.stopped:
            self._queue.clear()
        if isinstance(outcome, Stopped):
            self._finish("\n".join([*self._lines, outcome.text]), stopped=True)
            return
        try:
            self._then(outcome.result, outcome.stopped)
        except Exception as error:  # noqa: BLE001 - nobody else would end what was begun
            self._on_failed(noted(error, self.subject))

    def _finish(self, text: str, stopped: bool = False) -> None:
        self.ended.emit(text)
        if stopped:
            self.stopped.emit(text)

    def _on_failed(self, error: Exception) -> None:
        self._lines.append(said(error))
        # One bad image does not keep the others from being segmented; a bad model does.
        if self._queue and self._encoder is not None and isinstance(error, AesegError):
            if not self.busy:
                self._segment_next()
        elif not self.busy:
            self._queue.clear()
            self.ended.emit("\n".join(self._lines))
        self.failed.emit(error)

    def _on_loaded(self, model: Model, stopped: bool) -> None:
        self.take_model(model, self._after)
        # The next job begins first, so that `busy` does not flicker for those who listen.
        if self._queue:
            self._encoder = model
            self._segment_next()
        elif stopped and self._queued:
            self._finish("Stopped before the first image was segmented.", stopped=True)
        else:
            self.ended.emit("")
        self.loaded.emit(model)

    def _on_trained(self, model: Model, stopped: bool) -> None:
        params = None if model.unfinished else TrainingParams(**model.record.params)
        self.take_model(model, replace(self._after, params=params))
        steps = model.record.steps
        text = f"Trained, {steps} steps. Press Segment to use the new model."
        if model.unfinished:
            text = (
                f"Stopped after {steps} steps. The model so far is kept: Resume goes on, Segment "
                "uses it as it is."
            )
        # Of a training that is not finished, the last note says so, as the text does.
        notes = model.record.notes[:-1] if model.unfinished else model.record.notes
        self.ended.emit("\n".join([*notes, text]))
        self.trained.emit(model)
        if stopped:
            self.stopped.emit(text)

    def _on_segmented(self, hierarchy: Hierarchy, stopped: bool) -> None:
        layer, shot = self._layer, self._shot
        known = layer in self._viewer.layers
        if known and not shot.fits(layer):
            self._on_failed(InputError(other_shape(layer)))
            return
        notes = list(hierarchy.notes)
        if known and not self.results.add(layer, hierarchy, self._encoder, shot):
            notes.append("What was merged and split by hand is gone: the patches are others now.")
        if known and not shot.is_of(layer):
            notes.append(other_pixels(layer))
        self._lines += [f"{layer.name}: {note}" for note in notes] if self._queued > 1 else notes
        if self._queue:
            self._segment_next()
        else:
            self.ended.emit("\n".join(self._lines))
        self.segmented.emit(layer, hierarchy)
        if stopped:
            self.stopped.emit(f"Stopped after {layer.name}; its segmentation is kept.")


def _listed(images: Sequence[Snapshot]) -> str:
    """Name images in a few words."""
    return " and ".join(i.name for i in images) if len(images) < 3 else f"{len(images)} images"
