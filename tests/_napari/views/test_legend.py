"""The legend of a layer that is coloured by its table."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QLabel


def test_numbers_have_ends_and_words_have_swatches(segmented):
    segmented.n_regions = 4
    segmented.keep()
    legend = segmented._dock.legend

    def texts():
        labels = [legend._grid.itemAt(i).widget() for i in range(legend._grid.count())]
        return [label.text() for label in labels if isinstance(label, QLabel) and label.text()]

    segmented.color_by("area_share")
    shares = segmented.viewer_model.layers["halves regions 4"].features["area_share"][1:]
    assert [float(text) for text in texts()] == pytest.approx([shares.min(), shares.max()], 1e-3)
    segmented.color_by("class")
    assert texts()[0].startswith("class ")
    segmented.color_by("label")
    assert legend.isHidden()
