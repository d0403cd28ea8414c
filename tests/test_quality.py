"""What the whole is for: textures that brightness cannot tell apart."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

import napari_aeseg as aeseg
from napari_aeseg.regions.tree.ward import ward_tree

SIDE = 192


def covering(truth: np.ndarray, labels: np.ndarray) -> float:
    """Sum over the true regions of their share of the image times their best overlap (IoU)."""
    total = 0.0
    for true in np.unique(truth):
        inside = truth == true
        best = max(
            (inside & (labels == found)).sum() / (inside | (labels == found)).sum()
            for found in np.unique(labels[inside])
        )
        total += inside.mean() * best
    return total


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return 1 + (x + 30 * np.sin(y / 40) > SIDE / 2)


@pytest.fixture(scope="module")
def mosaic(truth) -> np.ndarray:
    """Brick on the left, grass on the right, with equal mean and contrast."""
    sheets = []
    for number, sheet in enumerate((data.brick(), data.grass()), 1):
        sheet = sheet[:SIDE, :SIDE].astype(float)
        inside = sheet[truth == number]
        sheets.append(128 + 40 * (sheet - inside.mean()) / inside.std())
    mosaic = np.clip(np.rint(np.where(truth == 1, *sheets)), 0, 255)
    return mosaic.astype(np.uint8)


@pytest.fixture(scope="module")
def tree(mosaic) -> aeseg.Hierarchy:
    params = aeseg.TrainingParams(steps=60, batch_size=2)
    return aeseg.build_hierarchy(mosaic, aeseg.train(mosaic, params, device="cpu"), device="cpu")


def test_covering_by_hand():
    truth = np.array([[1, 1, 1, 2]])
    assert covering(truth, truth) == 1
    assert covering(truth, np.ones((1, 4))) == 0.75 * 0.75 + 0.25 * 0.25
    assert covering(truth, np.array([[1, 1, 2, 2]])) == pytest.approx(0.75 * 2 / 3 + 0.25 / 2)


def test_the_textures_are_equally_bright(mosaic, truth):
    assert abs(mosaic[truth == 1].mean() - mosaic[truth == 2].mean()) < 2


def test_a_cut_in_two_finds_two_textures(tree, truth):
    assert covering(truth, tree.regions(n_regions=2)) >= 0.85


def test_a_cut_in_two_on_intensity_does_not(tree, truth, mosaic):
    # The same patches and the same way of merging, on mean intensity alone.
    merged = ward_tree(tree.graph.edges, tree.statistics.intensity, tree.statistics.count)
    assert covering(truth, tree.map_to_pixels(merged.cut(2))) < 0.6
    # The pieces above and below the mean grey, smoothed or not.
    for sigma in (0, 4):
        bright = ndimage.gaussian_filter(mosaic.astype(float), sigma) > 128
        assert covering(truth, bright) < 0.6


def test_two_classes_find_two_textures_as_well(tree, truth):
    assert covering(truth, tree.classes(n_classes=2)) >= 0.8
