"""Laws of refined labels, for any labels and any evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.ndimage import distance_transform_cdt

from napari_aeseg.regions.refine import MOST_LABELS, Gaussians, band_of, refined

BAND = band_of((8, 8))


def blobs(shape, number, seed):
    """Labels 1 .. n: the nearest of some points; every one is connected."""
    rng = np.random.default_rng(seed)
    points = rng.random((number, len(shape))) * shape
    grid = np.stack(np.indices(shape), -1)
    distance = ((grid[..., np.newaxis, :] - points) ** 2).sum(-1)
    return np.unique(distance.argmin(-1), return_inverse=True)[1].reshape(shape) + 1


def noise(shape, step, seed, channels=3):
    cells = [-(-n // s) for n, s in zip(shape, step, strict=True)]
    values = np.random.default_rng(seed).normal(size=(*cells, channels)) * 40
    return values.clip(-127, 127).astype(np.int8)


def numbers_of_pieces(labels):
    return [ndimage.label(labels == label)[1] for label in np.unique(labels[labels > 0])]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(61, 80), (40, 33)])
def test_regions_stay_and_stay_connected(shape, seed):
    labels = blobs(shape, 9, seed)
    found = refined(labels, noise(shape, (2, 2), seed), BAND)
    assert found.dtype == labels.dtype
    assert np.array_equal(np.unique(found), np.unique(labels))
    before, after = numbers_of_pieces(labels), numbers_of_pieces(found)
    assert all(b == 1 for a, b in zip(before, after, strict=True) if a == 1)
    assert (found != labels).any()


@pytest.mark.parametrize("seed", range(4))
def test_pixels_far_from_a_border_stay(seed):
    labels = blobs((90, 90), 4, seed)
    found = refined(labels, noise((90, 90), (2, 2), seed), BAND)
    for label in np.unique(labels):
        depth = distance_transform_cdt(np.pad(labels == label, 40, mode="edge"), "chessboard")
        far = depth[40:-40, 40:-40] > BAND[0]
        assert (found[far] == label).all()


def test_the_same_input_gives_the_same_labels():
    labels, evidence = blobs((64, 64), 6, 0), noise((64, 64), (2, 2), 0)
    copies = labels.copy(), evidence.copy()
    assert np.array_equal(refined(labels, evidence, BAND), refined(labels, evidence, BAND))
    assert np.array_equal(labels, copies[0])
    assert np.array_equal(evidence, copies[1])


def test_pixels_without_a_label_stay_and_no_other_loses_its_label():
    labels = blobs((64, 64), 6, 1)
    labels[20:30, 15:50] = 0
    found = refined(labels, noise((64, 64), (2, 2), 1), BAND)
    assert np.array_equal(found == 0, labels == 0)


def test_a_staircase_becomes_the_straight_border_of_the_evidence():
    y, x = np.indices((96, 96))
    truth = np.where(x + 0.5 * y < 72, 1, 2)
    rows, columns = y // 8 * 8 + 4, x // 8 * 8 + 4
    coarse = truth[rows.clip(max=95), columns.clip(max=95)]
    share = (truth == 1).reshape(48, 2, 48, 2).mean(axis=(1, 3))
    evidence = 40 * share[..., np.newaxis] - 20
    evidence = (evidence + noise((96, 96), (2, 2), 2, 1) * 0.1).astype(np.int8)
    found = refined(coarse, evidence, BAND)
    assert (found != truth).mean() < 0.15 * (coarse != truth).mean()


def test_bumps_go_between_thick_parts_alone():
    labels = np.ones((256, 256), int)
    labels[128:] = 2
    labels[112:128, 120:136] = 2
    blind = np.zeros((128, 128, 1), np.int8)
    assert (refined(labels, blind, BAND)[:124] == 1).all()
    beside_thin = labels.copy()
    beside_thin[90:98] = 3
    assert (refined(beside_thin, blind, BAND)[112:124, 124:132] == 2).all()


def test_a_border_on_a_step_of_brightness_stays():
    labels = np.ones((96, 96), int)
    labels[40:56] = 2
    evidence = noise((96, 96), (2, 2), 0, 2) // 20
    evidence[20:28, :, 1] += 90  # brightness
    evidence[18:30, :, 0] += 90  # a feature that sees across the border
    ids = np.array([1, 2])
    gaussians = Gaussians.of_cells(ids, labels[::2, ::2] - 1, evidence, ids == 0)
    gaussians = replace(
        gaussians, weights=np.float32([[0, 0], [1, 0]]), offsets=np.float32([0, -45])
    )
    assert np.array_equal(refined(labels, evidence, BAND, gaussians=gaussians, channels=1), labels)
    assert (refined(labels, evidence, BAND, gaussians=gaussians)[36:60] == 2).all()


def test_thin_parts_stay_where_the_evidence_is_blind():
    labels = np.ones((64, 64), int)
    labels[30:34] = 2  # a line across the image
    labels[8:14, 8:14] = 3  # a dot
    found = refined(labels, np.zeros((32, 32, 1), np.int8), BAND)
    assert (found[30:34, 32] == 2).any()
    assert numbers_of_pieces(found == 2) == [1]
    assert (found == 3).sum() > 8


def test_frames_do_not_mix_and_slices_far_apart_hardly():
    labels = np.stack([blobs((48, 48), 4, 0)] * 5)
    labels[2] = labels[2, ::-1]
    evidence = noise((5, 48, 48), (1, 2, 2), 3)
    in_time = refined(labels, evidence, band_of((0, 8, 8)))
    assert np.array_equal(np.unique(in_time), np.unique(labels))
    inside = distance_transform_cdt(np.pad(labels[2] == 1, 40, mode="edge"), "chessboard")
    far = inside[40:-40, 40:-40] > BAND[0]
    assert (in_time[2][far] == 1).all()


@pytest.mark.parametrize("step", [(2, 2, 2), (1, 2, 2)])
def test_volumes(step):
    labels = blobs((20, 40, 40), 5, 0)
    found = refined(labels, noise(labels.shape, step, 0), band_of((2, 8, 8)))
    assert np.array_equal(np.unique(found), np.unique(labels))
    assert set(numbers_of_pieces(found)) == {1}
    assert (found != labels).any()


def test_one_label_and_very_many_are_returned_as_they_are():
    one = np.ones((16, 16), int)
    assert np.array_equal(refined(one, noise((16, 16), (2, 2), 0), BAND), one)
    side = int(MOST_LABELS**0.5) + 2
    many = np.kron(np.arange(side**2).reshape(side, side) + 1, np.ones((2, 2), int))
    assert np.array_equal(refined(many, noise(many.shape, (2, 2), 0), BAND), many)


def test_few_pixels_of_any_shape():
    for shape in [(1, 1), (1, 9), (3, 2), (9, 1)]:
        labels = np.arange(np.prod(shape)).reshape(shape) // 3 + 1
        found = refined(labels, noise(shape, (2, 2), 0), BAND)
        assert np.array_equal(np.unique(found), np.unique(labels))


def test_borders_move_as_far_with_patches_of_any_size():
    labels = np.repeat([[1] * 36 + [2] * 44], 32, axis=0)
    evidence = np.repeat([[[0.0]] * 20 + [[9.0]] * 20], 16, axis=0).reshape(16, 40, 1)
    found = refined(labels, evidence, band_of((256, 256)))  # depths are above 255
    assert np.array_equal(found, np.repeat([[1] * 40 + [2] * 40], 32, axis=0))


def test_slices_of_long_voxels_change_less_far():
    labels = blobs((24, 48, 48), 4, 0)
    evidence = noise(labels.shape, (1, 2, 2), 0)
    found = refined(labels, evidence, band_of((1, 8, 8)))  # voxels 8 times as long
    changed = np.flatnonzero((found != labels).any(axis=(1, 2)))
    assert len(changed)
    borders = np.pad(labels, ((3, 3), (16, 16), (16, 16)), mode="edge")
    for z, y, x in np.argwhere(found != labels)[::50]:
        around = borders[z + 3 - 2 : z + 3 + 3, y : y + 33, x : x + 33]
        assert (around == found[z, y, x]).any()


def test_a_frame_alone_is_refined_as_among_others():
    labels = np.stack([blobs((48, 48), 4, seed) for seed in range(3)])
    evidence, band = noise(labels.shape, (1, 2, 2), 0), band_of((0, 8, 8))
    ids = np.arange(1, 5)
    gaussians = Gaussians.of_cells(ids, labels[:, ::2, ::2] - 1, evidence, ids == 0)
    together = refined(labels, evidence, band, gaussians=gaussians)
    alone = refined(labels[1:2], evidence[1:2], band, gaussians=gaussians)
    assert (alone != labels[1:2]).any()
    assert np.array_equal(together[1:2], alone)
