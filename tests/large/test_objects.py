"""Objects of images in blocks: whole on the borders of blocks, each found once."""

from __future__ import annotations

import numpy as np
import pytest

from napari_aeseg.errors import InputError
from napari_aeseg.images.blocks import BlockImage
from napari_aeseg.large import objects
from napari_aeseg.large.objects import ObjectSearchInBlocks
from napari_aeseg.regions.objects.detection import ObjectSearch
from napari_aeseg.regions.objects.edits import DeleteObject
from napari_aeseg.regions.objects.maps import brightness_of
from napari_aeseg.regions.objects.settings import ObjectSettings


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(objects, "_BLOCK", {2: 64, 3: 32})
    monkeypatch.setattr(objects, "_MARGIN", {2: 16, 3: 8})


def discs(shape, pitch, radius):
    """Bright discs (balls), some of which lie on the borders of blocks."""
    at = np.indices(shape).astype(float)
    image = np.hypot.reduce(at % pitch - pitch / 2) < radius
    return image + np.random.default_rng(0).normal(0, 0.1, shape)


@pytest.mark.parametrize(
    ("shape", "pitch", "radius"), [((192, 160), 20, 7), ((16, 64, 64), 16, 5.5)]
)
def test_blocks_find_the_objects_of_the_whole_image(small_blocks, shape, pitch, radius):
    axes = "ZYX"[-len(shape) :]
    read = BlockImage.of(discs(shape, pitch, radius), axes)
    inside = np.asarray(ObjectSearchInBlocks(read).find(ObjectSettings()))
    pixels = read.scaled(read.raw(tuple(slice(n) for n in shape))).pixels
    whole = ObjectSearch(brightness_of(pixels)).find()
    overlap = np.zeros((whole.max() + 1, inside.max() + 1))
    np.add.at(overlap, (whole.ravel(), inside.ravel()), 1)
    either = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0) - overlap
    matched = (overlap / np.maximum(either, 1))[1:, 1:].max(axis=1) > 0.7
    assert matched.mean() > 0.95
    assert abs(int(inside.max()) - int(whole.max())) <= 0.05 * whole.max()


def test_an_object_larger_than_the_margin_is_whole(small_blocks):
    y, x = np.indices((160, 160))
    large = np.hypot(y - 66, x - 66) < 32
    image = large + np.random.default_rng(0).normal(0, 0.05, large.shape)
    labels = np.asarray(ObjectSearchInBlocks(BlockImage.of(image, "YX")).find(ObjectSettings()))
    assert ((labels == labels[66, 66]) & large).sum() > 0.95 * large.sum()


def test_corrections_by_hand_are_refused(small_blocks):
    search = ObjectSearchInBlocks(BlockImage.of(discs((64, 64), 20, 7), "YX"))
    with pytest.raises(InputError, match="cannot be corrected"):
        search.find(ObjectSettings(), edits=[DeleteObject((10, 10))])
