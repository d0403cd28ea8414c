"""The training loop, and how it reports."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_aeseg.autoencoder.device import precision_used, unless_out_of_memory
from napari_aeseg.autoencoder.preview import TrainingPreviewer
from napari_aeseg.errors import DeviceError, InputError
from napari_aeseg.progress import (
    Pace,
    StopFlag,
    TrainingPreview,
    TrainingProgress,
    raise_if_stopped,
)

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.autoencoder.trainer import Trainer

_SECONDS_BETWEEN_EVENTS = 0.1


def training_steps(
    trainer: Trainer,
    stop: StopFlag | None = None,
    *,
    snapshot_seconds: float | None = None,
    preview_seconds: float | None = None,
) -> Generator[TrainingProgress, None, Model]:
    """Train an autoencoder; a generator of events that returns the model, on the CPU.

    Each step draws random crops from random images (an image is drawn as often as its size says),
    flips and turns them, adds noise, and takes one AdamW step on the mean squared difference
    between the reconstruction and the clean crop. The learning rate warms up over the first tenth
    and then follows a cosine to zero. Now and then, an event carries a `snapshot` of the model, or
    a `preview`: the reconstruction of the middle of the first image.

    When memory runs out, batches are halved, then the CPU takes over; when that has none either, or
    when asked to stop, the model so far is returned, and can be resumed. If the loss is no longer
    finite, the weights are the best before. What looks wrong with the training is said in the last
    event's message and in the notes of the record.

    Before there is anything to return: InputError if the loss is not finite, StoppedError if asked
    to stop, DeviceError if there is no memory for a single step.

    References
    ----------
    .. [1] P. Vincent et al., Extracting and composing robust features with denoising autoencoders,
           ICML 2008.
    .. [2] I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    reporter = _Reporter(trainer, snapshot_seconds, preview_seconds)
    if trainer.done == 0:  # later, a stop returns the model so far
        raise_if_stopped(stop, "train")
    while not trainer.ended:
        if stop is not None and stop.is_set():
            trainer.note(f"Stopped after {trainer.done} of {trainer.params.steps} steps.")
            break
        try:
            trainer.step()
        except DeviceError as error:
            if trainer.done == 0:
                raise
            trainer.note(f"{error} The model is that of step {trainer.done}.")
            yield reporter.event()  # the last event gives the reason
            break
        if reporter.timer.is_due() or trainer.ended or trainer.pending_messages:
            yield reporter.event()
    return trainer.result()


class _Reporter:
    """Makes the events: at most ten a second, some with a snapshot or a preview."""

    def __init__(
        self, trainer: Trainer, snapshot_seconds: float | None, preview_seconds: float | None
    ) -> None:
        self._trainer = trainer
        self._pace = Pace(trainer.params.steps, trainer.done)
        self._snapshots = _Timer(snapshot_seconds)
        self._previews = _Timer(preview_seconds)
        self._previewer = TrainingPreviewer(trainer.images[0], trainer.network.architecture)
        self.timer = _Timer(_SECONDS_BETWEEN_EVENTS)
        self._reported = trainer.done  # losses of a resumed training are known

    def event(self) -> TrainingProgress:
        """Return the news since the last event."""
        trainer = self._trainer
        self._pace.mark(trainer.done)
        speed = self._pace.per_second
        messages, trainer.pending_messages = trainer.pending_messages, []
        event = TrainingProgress(
            "train",
            trainer.done,
            trainer.params.steps,
            str(trainer.device),
            self._pace.seconds_left,
            loss=trainer.losses[-1],
            losses=tuple(trainer.losses[self._reported :]),
            steps_per_second=speed,
            images_per_second=None if speed is None else speed * trainer.batch_size,
            precision=precision_used(trainer.device),
            preview=self._preview(messages),
            snapshot=self._snapshot(messages),
            message=" ".join(messages),  # last: preview and snapshot may add to them
        )
        self._reported = trainer.done
        return event

    def _preview(self, messages: list[str]) -> TrainingPreview | None:
        """Return a preview if one is due; add to the messages why there will be none."""
        # The last preview shows the finished model.
        if not (
            self._previews.is_due() or (self._trainer.ended and self._previews.seconds is not None)
        ):
            return None
        try:
            preview = unless_out_of_memory(lambda: self._previewer.preview(self._trainer.network))
            problem = f"{self._trainer.device} has no memory for previews."
        except InputError as error:  # of an image that is not loaded
            preview, problem = None, str(error)
        if preview is None:
            messages.append(f"{problem} Training continues without previews.")
            self._previews = _Timer(None)
        return preview

    def _snapshot(self, messages: list[str]) -> Model | None:
        """Return a copy of the model if one is due; add to the messages why there is none."""
        # The last model is what training returns.
        if not self._snapshots.is_due() or self._trainer.ended:
            return None
        snapshot = unless_out_of_memory(self._trainer.snapshot)
        if snapshot is None:
            messages.append("There is no memory for a copy of the model; training continues.")
        return snapshot


class _Timer:
    """Is due when so many seconds have gone by; None means never."""

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not seconds >= 0:
            raise InputError(f"Every {seconds} seconds: give a number of 0 or more, or None.")
        self.seconds = seconds
        self._last = time.perf_counter()

    def is_due(self) -> bool:
        """Return whether the time has come, and start again if so."""
        now = time.perf_counter()
        if self.seconds is None or now - self._last < self.seconds:
            return False
        self._last = now
        return True
