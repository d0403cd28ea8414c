"""What the losses of a training say about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# Fewer steps than this tell nothing.
_ENOUGH_STEPS = 50
_FLAT = 0.8


def running_mean(losses: Sequence[float], number: int) -> float:
    """Return the mean of the last losses."""
    return float(np.mean(losses[-number:]))


def warnings_about(losses: Sequence[float], variance: float, learning_rate: float) -> list[str]:
    """Return."""
    return []
