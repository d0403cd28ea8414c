from __future__ import annotations

import numpy as np
import pytest
from skimage.io import imsave

import quality


def write(data, name: str, image: np.ndarray, truth: np.ndarray) -> None:
    for folder, array in (("images", image), ("labels", truth)):
        path = data / name / folder / "a.tif"
        path.parent.mkdir(parents=True)
        imsave(path, array, check_contrast=False)


def test_larger_images_are_brought_down_with_their_labels(tmp_path) -> None:
    truth = np.repeat([[3, 7]], 20, axis=0).repeat(20, axis=1).astype(np.uint16)
    image = np.stack([truth, truth, truth], axis=-1).astype(np.uint8)
    write(tmp_path, "wbc_small", image, truth)
    (whole,) = quality.load(tmp_path, "wbc_small", None, 40)
    assert whole.image.shape == (20, 40, 3)
    (small,) = quality.load(tmp_path, "wbc_small", None, 10)
    assert small.image.shape == (5, 10, 3)
    assert small.image.dtype == np.uint8
    assert np.unique(small.truths[0]).tolist() == [3, 7]
    assert small.n == 2


def test_volumes_keep_their_size(tmp_path) -> None:
    volume = np.zeros((8, 20, 20), np.uint8)
    write(tmp_path, "stardist_3d", volume, volume)
    (sample,) = quality.load(tmp_path, "stardist_3d", None, 10)
    assert sample.image.shape == volume.shape


def test_glands_are_one_class_beside_the_rest(tmp_path) -> None:
    truth = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write(tmp_path, "glas", truth, truth)
    (sample,) = quality.load(tmp_path, "glas", None)
    assert sample.n == 2
    assert sample.truths[0].sum() == 63


@pytest.mark.parametrize("name", quality.SETS)
def test_every_set_has_a_kind_with_scores_and_peers(name) -> None:
    assert quality.SETS[name].kind in quality.SCORES
    assert quality.SETS[name].kind in quality.PEERS


def test_disturbances_change_the_image_and_not_the_truth() -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[5:10, 5:10] = 1
    sample = quality.Sample("a", np.where(truth, 200, 100).astype(np.uint8), [truth], ())
    light, pure, noise = (
        quality.disturbed([sample], name)[0].image
        for name in ("uneven-light", "pure-colours", "noisy-background")
    )
    assert light[0, 0] == 100
    assert light[-1, -1] == pytest.approx(20)
    assert pure.shape == (20, 30, 3)
    assert len(np.unique(pure.reshape(-1, 3), axis=0)) == 2
    assert np.array_equal(noise[truth > 0], sample.image[truth > 0])
    assert noise[truth == 0].std() == pytest.approx(100, rel=0.1)
