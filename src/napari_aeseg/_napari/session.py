"""What the dock works on: the model, the results, and which job follows which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_aeseg._napari import jobs
from napari_aeseg._napari.results import Results
from napari_aeseg._napari.worker import Done, Job, JobRunner, Stopped
from napari_aeseg.errors import AesegError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_aeseg._napari.layers import Snapshot
    from napari_aeseg._napari.worker import Failed, Work
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import Progress
    from napari_aeseg.params import SegmentationParams, TrainingParams
    from napari_aeseg.regions.hierarchy import Hierarchy


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
        self.model_source = ""
        self.subject = ""  # what is being worked on
        self.results = Results(viewer)
        self._runner = JobRunner()
        self._runner.progressed.connect(self._on_progress)
        self._runner.ended.connect(self._on_ended)
        self._then: Callable[[Any, bool], None] = self._on_loaded
        self._queue: list[tuple[Image, Snapshot]] = []
        self._queued = 0
        self._settings: tuple[SegmentationParams, str] | None = None

    @property
    def busy(self) -> bool:
        """Whether training, segmenting or loading is going on."""
        return self._runner.busy

    def train(self, images: Sequence[Snapshot], params: TrainingParams, device: str) -> None:
        """Begin to train on images."""
        self._check_free()
        names = " and ".join(i.name for i in images) if len(images) < 3 else f"{len(images)} images"
        self._source_after = f"Trained on {names}"
        self._start(names, f"Training on {names}", jobs.training(images, params, device))
        self._then = self._on_trained

    def segment(
        self,
        images: Sequence[tuple[Image, Snapshot]],
        params: SegmentationParams,
        device: str,
        training_params: TrainingParams,
    ) -> None:
        """Begin to segment images, after training on them if there is no model."""
        self._check_free()
        self._settings = (params, device)
        if self.model is None:
            self.train([shot for _, shot in images], training_params, device)
        self._queue = list(images)
        self._queued = len(images)
        if self.model is not None:
            self._segment_next()

    def load(self, path: str | PathLike[str]) -> None:
        """Begin to load a model file."""
        self._check_free()
        name = Path(path).name
        self._source_after = f"Loaded {name}"
        self._start(name, f"Loading {name}", jobs.loading(path))
        self._then = self._on_loaded

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file."""
        if self.model is None:
            raise InputError("There is no model to save: train or load one first.")
        self.model.save(path)
        self.model_source = f"Saved as {Path(path).name}"

    def take_model(self, model: Model | None, source: str) -> None:
        """Use a model from now on."""
        self.model, self.model_source = model, source

    def stop(self) -> None:
        """Ask what is running to stop."""
        self._runner.stop()

    def close(self, *_: object) -> None:
        """Stop everything and be silent from now on; safe to call when Qt is going down."""
        self._queue.clear()
        self._runner.leave()
        self.results.leave()

    def _check_free(self) -> None:
        if self.busy:
            raise InputError(
                f"Still busy with {self.subject}: wait until it is done, or stop it first."
            )

    def _start(self, subject: str, title: str, work: Work) -> None:
        self.subject = subject
        self._runner.start(Job(title, work))
        self.began.emit(title)

    def _segment_next(self) -> None:
        assert self._settings is not None and self.model is not None  # noqa: S101
        params, device = self._settings
        self._layer, shot = self._queue.pop(0)
        number = self._queued - len(self._queue)
        subject = shot.name if self._queued == 1 else f"{shot.name} ({number} of {self._queued})"
        work = jobs.segmenting(shot, self.model, params, device)
        self._start(subject, f"Segmenting {subject}", work)
        self._then = self._on_segmented

    def _on_progress(self, event: Progress) -> None:
        self.progressed.emit(event)

    def _on_ended(self, outcome: Done | Stopped | Failed) -> None:
        if isinstance(outcome, Done):
            if outcome.stopped:
                self._queue.clear()
            self._then(outcome.result, outcome.stopped)
        elif isinstance(outcome, Stopped):
            self._queue.clear()
            self.ended.emit(outcome.text)
            self.stopped.emit(outcome.text)
        else:
            self._on_failed(outcome.error)

    def _on_failed(self, error: Exception) -> None:
        # One bad image does not keep the others from being segmented; a bad model does.
        if self._queue and self.model is not None and isinstance(error, AesegError):
            self._segment_next()
        else:
            self._queue.clear()
            self.ended.emit(str(error))
        self.failed.emit(error)

    def _on_loaded(self, model: Model, stopped: bool) -> None:
        self.take_model(model, self._source_after)
        self.ended.emit("")
        self.loaded.emit(model)

    def _on_trained(self, model: Model, stopped: bool) -> None:
        self.take_model(model, self._source_after)
        done = f"{'Stopped' if stopped else 'Trained'} after {model.record.steps} steps"
        text = f"{done}; the model so far is kept." if stopped else f"{done}."
        # The next job begins first, so that `busy` does not flicker for those who listen.
        if self._queue:
            self._segment_next()
        else:
            self.ended.emit(text)
        self.trained.emit(model)
        if stopped:
            self.stopped.emit(text)

    def _on_segmented(self, hierarchy: Hierarchy, stopped: bool) -> None:
        layer = self._layer
        if layer in self._viewer.layers:
            self.results.hierarchies[layer] = hierarchy
        if self._queue:
            self._segment_next()
        else:
            self.ended.emit("\n".join(hierarchy.notes))
        self.segmented.emit(layer, hierarchy)
        if stopped:
            self.stopped.emit(f"Stopped after {layer.name}; its segmentation is kept.")
