"""Both engines of watershed and distances agree."""

import numpy as np
import pytest

from napari_aeseg.regions import flooding


@pytest.mark.skipif(flooding.fast_watershed is None, reason="bioimage-cpp is not installed")
def test_engines_agree(monkeypatch):
    y, x = np.indices((40, 60))
    mask = np.minimum(np.hypot(y - 20, x - 20), np.hypot(y - 20, x - 40)) < 13
    markers = np.zeros(mask.shape, np.int32)
    markers[20, 20], markers[20, 40] = 1, 2

    stretched = flooding.distance_inside(mask, (1.0, 0.5))
    distance = flooding.distance_inside(mask, (1.0, 1.0))
    basins = flooding.flood(-distance, markers, mask)
    monkeypatch.setattr(flooding, "fast_distance", None)
    monkeypatch.setattr(flooding, "fast_watershed", None)

    np.testing.assert_allclose(stretched, flooding.distance_inside(mask, (1.0, 0.5)), atol=1e-5)
    assert np.array_equal(basins > 0, mask)
    # Ties may move a border by a pixel.
    assert np.mean(basins == flooding.flood(-distance, markers, mask)) > 0.98
