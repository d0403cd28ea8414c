"""The scale of the threshold: Ward's cost brought to 0 .. 1, alike in every image of one model."""

from __future__ import annotations

import numpy as np

# Square root of Ward's cost, in units of the features, at which the threshold is 0.5.
_HALF_WAY = 2.0
#: Above 0. Costs of 0 have none between: the square of the next number after 0 is 0 again.
SMALLEST_THRESHOLD = 1e-9
# No image is first looked at in more pieces than this.
_MOST_SUGGESTED = 64


def threshold_of(cost: np.ndarray, unit: float) -> np.ndarray:
    """Return the thresholds up to which merges of such costs are not done yet.

    Examples
    --------
    >>> threshold_of(np.array([0.0, 4.0, 36.0]), unit=1.0)
    array([0.  , 0.5 , 0.75])
    """
    root = np.sqrt(cost) * unit
    return root / (root + _HALF_WAY)


def cost_of(threshold: float, unit: float) -> float:
    """Return the cost below which merges are done at a threshold; the inverse of `threshold_of`.

    Examples
    --------
    >>> cost_of(0.5, unit=1.0)
    4.0
    """
    return float("inf") if threshold == 1 else (threshold / (1 - threshold) * _HALF_WAY / unit) ** 2


def suggested_number(cost: np.ndarray) -> int:
    """Return the number of regions where the cost of merging jumps, 64 at most.

    Parameters
    ----------
    cost : ndarray of float
        Of all merges, never decreasing.

    Examples
    --------
    >>> suggested_number(np.array([0.1, 0.2, 0.3, 9.0, 10.0]))
    3
    """
    cost = cost[::-1][:_MOST_SUGGESTED]
    if len(cost) < 2 or cost[0] <= 0:
        return 1
    ratio = cost[:-1] / np.maximum(cost[1:], cost[0] * 1e-12)
    return int(np.argmax(ratio)) + 2


def threshold_of_merges(thresholds: np.ndarray, merges: np.ndarray) -> np.ndarray:
    """Return the threshold of each merge, 1 where there is none.

    Parameters
    ----------
    thresholds : ndarray of float, shape (P - 1,)
        Of all merges.
    merges : ndarray of int
        P - 1 for none.

    Examples
    --------
    >>> threshold_of_merges(np.array([0.25]), np.array([0, 1]))
    array([0.25, 1.  ])
    """
    return np.append(thresholds, 1.0)[merges]
