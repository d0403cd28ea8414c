"""Locked segments keep pixels and labels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_aeseg.errors import InputError
from napari_aeseg.regions.cuts.locked_segments import with_locked


def test_locked_pixels_stay_and_others_of_their_label_get_a_new_one():
    labels = np.array([[1, 1, 2], [2, 3, 3]], np.uint8)
    locked = np.array([[2, 0, 0], [0, 0, 5]], np.int32)

    result = with_locked(labels, locked)

    assert result.tolist() == [[2, 1, 6], [6, 3, 5]]
    with pytest.raises(InputError, match="shape"):
        with_locked(labels[:1], locked)
