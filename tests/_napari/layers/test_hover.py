from __future__ import annotations

import numpy as np
import pytest

from napari_aeseg._napari.layers.hover import hover_table
from napari_aeseg.images.axes import Axes


@pytest.mark.parametrize(
    ("axes", "column"),
    [
        (Axes("YX", (4, 6)), "area in pixels"),
        (Axes("ZYX", (2, 4, 3)), "volume in voxels"),
        (Axes("ZYX", (2, 4, 3), "given", (2.0, 0.5, 0.5), "µm"), "volume in µm³"),
    ],
)
def test_size_is_an_area_or_a_volume_in_the_unit_of_the_image(axes, column):
    labels = np.repeat([1, 2], 12).reshape(axes.space_shape)
    table = hover_table(labels, "region", (), axes)
    assert list(table.columns) == ["region", column, "share"]
    assert table[column][1] == (12 if axes.spacing is None else 6)


def test_locked_segments_are_called_so():
    labels = np.repeat([1, 2, 3], 4)[np.newaxis]
    table = hover_table(labels, "region", (), Axes("YX", (1, 12)), np.where(labels == 2, 2, 0))
    assert list(table["region"]) == ["", "region 1", "region 2, locked", "region 3"]
