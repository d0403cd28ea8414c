"""Cells that fill an image and touch at walls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_aeseg.regions.objects.detection import ObjectSearch
from napari_aeseg.regions.objects.settings import ObjectSettings
from napari_aeseg.regions.objects.walls import cells_between_walls


def foam(shape: tuple[int, ...], spacing: tuple[float, ...], number: int):
    """Cells around random points, 1 .. n, and bright walls between them."""
    rng = np.random.default_rng(0)
    at = np.stack(np.indices(shape), axis=-1) * spacing
    points = rng.uniform(0, 1, (number, len(shape))) * at.reshape(-1, len(shape)).max(axis=0)
    distance, nearest = cKDTree(points).query(at, 2)
    image = (np.diff(distance, axis=-1)[..., 0] < 2.5).astype(np.float32)
    image = ndimage.gaussian_filter(image, [0.7 / side for side in spacing])
    return nearest[..., 0] + 1, image + rng.normal(0, 0.05, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((160, 160), (1.0, 1.0)), ((20, 60, 60), (3.0, 1.0, 1.0))]
)
def test_cells_between_bright_walls_are_the_objects(shape, spacing):
    cells, image = foam(shape, spacing, 30)
    labels = ObjectSearch(image, spacing).find()
    overlap = np.zeros((cells.max() + 1, labels.max() + 1))
    np.add.at(overlap, (cells.ravel(), labels.ravel()), 1)
    either = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0) - overlap
    assert ((overlap / np.maximum(either, 1)).max(axis=1)[1:] > 0.5).mean() > 0.8
    bright = ObjectSearch(image, spacing).find(ObjectSettings(polarity="bright"))
    assert bright.max() != labels.max()


def test_nuclei_on_a_background_have_no_walls():
    y, x = np.mgrid[:128, :128]
    nuclei = (np.hypot(y % 16 - 8, x % 16 - 8) < 5).astype(np.float32)
    nuclei += np.random.default_rng(0).normal(0, 0.1, nuclei.shape).astype(np.float32)
    assert cells_between_walls(nuclei, (1.0, 1.0)) is None
    assert cells_between_walls(-nuclei, (1.0, 1.0)) is None
