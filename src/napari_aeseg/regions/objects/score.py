"""How likely a candidate is an object: from its looks, and from agreement with the others.

Both scores are logistic regressions on features, and in images on their squares. They were fitted
by tools/fit_object_score.py to the overlap of candidates with labelled objects: in images, and in
volumes drawn by this tool.
"""

from __future__ import annotations

import numpy as np

#: How a candidate differs from the typical object of the image.
AGREEMENT = (
    "log_radius",  # log(radius / that of the typical object)
    "size_difference",  # its absolute value
    "log_contrast",  # log(contrast / that of the typical object)
    "fainter",  # the same where it is fainter, else 0
)
# Features are limited to these values.
_LIMIT = 8.0

# Weights of the features (`candidates.FEATURES`), in images of their squares too, and a constant.
FROM_LOOKS = {
    2: np.array(
        [
            *[1.91, -0.951, -1.62, -1.1, -18.9, -0.464, 2.14, -1.58, 1.58, 2.04],
            *[-0.311, 0.0765, -0.762, -0.162, 24.1, 0.00083, -2.43, -0.117, 11.5, -0.0149],
            -7.49,
        ]
    ),
    3: np.array([0, 0.985, -0.882, 0.00699, -14.6, -0.888, 4.82, 0, 10.9, 0, -0.421]),
}
# The same with the agreement after the features.
FROM_BOTH = {
    2: np.array(
        [
            *[0.762, -0.369, -3.43, -0.989, -18.7, -0.304, 3.19, -0.562, 4.52, 1.21],
            *[-0.479, -2.44, -0.348, 0.99],
            *[-0.148, -0.0294, 1.83, 0.115, 23.7, -0.137, -1.87, 0.0804, 9.1, 0.0396],
            *[0.174, 0.174, 0.0526, -0.0824],
            -2.54,
        ]
    ),
    3: np.array(
        [0, 0.471, -0.441, -0.287, -8.35, -1.17, 1.69, 0, 6.78, 0, 1.4, -3.44, 0.0768, 0.665, 1.18]
    ),
}


def regressors(features: np.ndarray, ndim: int) -> np.ndarray:
    """What the score is a weighted sum of: features (N, F), their squares in 2D, and 1."""
    limited = np.clip(features, -_LIMIT, _LIMIT)
    squares = limited[:, : limited.shape[1] * (ndim == 2)] ** 2
    return np.concatenate([limited, squares, np.ones((len(features), 1))], axis=1)


def score_of(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the score of each candidate, 0 to 1, shape (N,)."""
    ndim = 2 if len(weights) > features.shape[1] + 1 else 3
    return 1 / (1 + np.exp(-(regressors(features, ndim) @ weights).clip(-50, 50)))


def agreement_of(
    radius: np.ndarray, contrast: np.ndarray, typical_radius: float, typical_contrast: float
) -> np.ndarray:
    """Return how candidates agree with the typical object, shape (N, len(AGREEMENT))."""
    larger = np.clip(np.log(np.maximum(radius, 1e-3) / typical_radius), -2, 2)
    clearer = np.clip(contrast - typical_contrast, -3, 3)
    return np.stack([larger, np.abs(larger), clearer, np.minimum(clearer, 0)], axis=1)
