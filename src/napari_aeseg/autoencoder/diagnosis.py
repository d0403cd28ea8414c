"""What the losses of a training show: warnings for the user, with a likely cause and a remedy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_aeseg.params import TrainingParams

# Fewer steps show nothing.
_MIN_STEPS = 50
# Final loss, in units of the variance, above which nothing was learned. Measured: samples and other
# photographs 0.05 - 0.6, noise of all kinds and almost constant images 0.96 - 1.3.
_FLAT = 0.8
# Variance below which an image, scaled to its percentiles, is almost constant.
_CONSTANT = 0.005
# Third to last quarter of the losses: above the first, more steps can make a flat loss fall; above
# the second, they are sure to help. Measured: 0.8 - 1.05 for trainings that were long enough.
_FALLING, _STEEP = 1.1, 2.0


def training_warnings(losses: Sequence[float], variance: float, learning_rate: float) -> list[str]:
    """Return what looks wrong with a training that has ended, its likely cause, and what to do.

    `variance` is the baseline: the loss of a network that predicts the mean.
    """
    if len(losses) < _MIN_STEPS:
        return []
    values = np.asarray(losses)
    tenths = [float(part.mean()) for part in np.array_split(values, 10)]
    fall = _fall(values)
    if tenths[-1] > _FLAT * variance:
        flat = (
            f"The network did not learn: its loss, {tenths[-1]:.2g}, is close to the baseline of "
            f"predicting the mean, {variance:.2g}."
        )
        return [f"{flat} {_cause(tenths, fall, variance, learning_rate)}"]
    if fall >= _STEEP:
        return ["The loss was still falling steeply at the end: more steps would help."]
    return []


def _cause(tenths: Sequence[float], fall: float, variance: float, learning_rate: float) -> str:
    """Return the most likely reason for a flat loss, and what to do."""
    rose = min(tenths) < tenths[-1] / 2
    if rose or (fall <= _FALLING and tenths[-1] > 2 * variance):
        how = "rose in the end" if rose else "stayed far above it"
        return f"The loss {how}: choose a learning rate below {learning_rate:g}."
    if variance < _CONSTANT:
        return (
            "The images are almost constant: crop them to where there is something to see, or "
            "choose others."
        )
    if fall > _FALLING:
        return "It was still falling: take more steps, or a higher learning rate."
    default: float = TrainingParams.model_fields["learning_rate"].default
    other = default if learning_rate < default / 4 else learning_rate / 3
    return (
        "Either neighbouring pixels have nothing in common, as in noise: then smooth or bin the "
        f"images; or the learning rate, {learning_rate:g}, does not suit: then try {other:.2g}."
    )


def _fall(losses: np.ndarray) -> float:
    """Third quarter of the losses over the last; by mean or median, whichever is less."""
    third, last = np.array_split(losses, 4)[2:]
    # Rare bright crops move the mean, and nothing else.
    pairs = [(float(average(third)), float(average(last))) for average in (np.mean, np.median)]
    return min(a / b if b > 0 else np.inf for a, b in pairs)
