"""What the losses of a training say about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.params import TrainingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

# Fewer steps than this tell nothing.
_ENOUGH_STEPS = 50
# Final loss in units of the variance above which nothing was learnt. Measured: samples and other
# photographs 0.05 - 0.6, noise of all kinds and all but constant images 0.96 - 1.3.
_FLAT = 0.8
# Variance below which an image, scaled to its percentiles, is all but constant.
_CONSTANT = 0.005
# Third to last quarter of the losses: above the first, more steps can make a flat loss fall; above
# the second, they are sure to help. Measured: 0.8 - 1.05 for trainings that were long enough.
_FALLING, _STEEP = 1.1, 2.0


def running_mean(losses: Sequence[float], number: int) -> float:
    """Return the mean of the last losses."""
    return float(np.mean(losses[-number:]))


def warnings_about(losses: Sequence[float], variance: float, learning_rate: float) -> list[str]:
    """Return what looks wrong with a training, its likely cause, and what to do.

    Parameters
    ----------
    losses : sequence of float
        Of every step of a training that came to its end.
    variance : float
        The loss of predicting nothing but the mean.
    learning_rate : float

    Returns
    -------
    list of str
        Sentences for the user; mostly none.

    Examples
    --------
    >>> warnings_about(np.linspace(0.2, 0.01, 100), 0.1, 0.004)[0][:34]
    'The loss was still falling steeply'
    >>> warnings_about([0.01] * 100, 0.1, 0.004)
    []
    """
    if len(losses) < _ENOUGH_STEPS:
        return []
    values = np.asarray(losses)
    tenths = [float(part.mean()) for part in np.array_split(values, 10)]
    fall = _fall(values)
    if tenths[-1] <= _FLAT * variance:
        if fall < _STEEP:
            return []
        return ["The loss was still falling steeply at the end: more steps would help."]
    nothing = (
        f"The network has learnt next to nothing: its loss, {tenths[-1]:.2g}, is hardly better "
        f"than that of predicting the mean, {variance:.2g}."
    )
    return [f"{nothing} {_cause(tenths, fall, variance, learning_rate)}"]


def _cause(tenths: Sequence[float], fall: float, variance: float, learning_rate: float) -> str:
    """Return why nothing was learnt, most likely, and what to do."""
    rose = min(tenths) < tenths[-1] / 2
    if rose or (fall <= _FALLING and tenths[-1] > 2 * variance):
        how = "rose in the end" if rose else "stayed far above it"
        return f"The loss {how}: choose a learning rate below {learning_rate:g}."
    if variance < _CONSTANT:
        return (
            "The images are all but constant: crop them to where there is something to see, or "
            "choose others."
        )
    if fall > _FALLING:
        return "It was still falling: take more steps, or a higher learning rate."
    usual: float = TrainingParams.model_fields["learning_rate"].default
    other = usual if learning_rate < usual / 4 else learning_rate / 3
    return (
        "Either neighbouring pixels have nothing in common, as in noise: then smooth or bin the "
        f"images; or the learning rate, {learning_rate:g}, does not suit: then try {other:.2g}."
    )


def _fall(values: np.ndarray) -> float:
    """Third quarter of the losses over the last; by mean or median, whichever says less."""
    third, last = np.array_split(values, 4)[2:]
    # Rare bright crops move the mean, and nothing else.
    pairs = [(float(of(third)), float(of(last))) for of in (np.mean, np.median)]
    return min(a / b if b > 0 else np.inf for a, b in pairs)
