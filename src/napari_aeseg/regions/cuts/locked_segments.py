"""Locked segments: they keep their pixels while everything else is segmented anew."""

from __future__ import annotations

import numpy as np

from napari_aeseg.errors import InputError


def with_locked(labels: np.ndarray, locked: np.ndarray) -> np.ndarray:
    """Return labels with locked segments on top, which keep pixels and label.

    Parameters
    ----------
    labels : ndarray of int
        0 or more.
    locked : ndarray of int, same shape
        Labels of the locked segments, 0 elsewhere.

    Returns
    -------
    ndarray of int
        Another segment that has the label of a locked one gets a new label, above all others.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> with_locked(np.array([1, 1, 2, 2, 3]), np.array([0, 3, 3, 0, 0]))
    array([1, 3, 3, 2, 4])
    """
    if labels.shape != locked.shape:
        raise InputError(f"labels have shape {labels.shape}, locked segments {locked.shape}.")
    largest = max(int(labels.max(initial=0)), int(locked.max(initial=0)))
    taken = np.flatnonzero(np.bincount(locked.ravel(), minlength=largest + 1)[1:]) + 1
    label_of = np.arange(largest + 1 + len(taken))
    label_of[taken] = largest + 1 + np.arange(len(taken))
    dtype = np.promote_types(labels.dtype, np.min_scalar_type(largest + len(taken)))
    result = label_of.astype(dtype)[labels]
    np.copyto(result, locked, where=locked != 0, casting="unsafe")
    return result
