from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_aeseg.regions.objects import component_tree as module
from napari_aeseg.regions.objects.component_tree import component_tree, large_parts
from napari_aeseg.regions.objects.detection import ObjectSearch
from napari_aeseg.regions.objects.settings import ObjectSettings

IMAGES = arrays.arrays(
    np.int32,
    arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9),
    elements=st.integers(0, 4),
)


def parts_of(levels: np.ndarray, parents: np.ndarray, node: np.ndarray) -> set[frozenset[int]]:
    """The pixels of each node and all below it."""
    parts: dict[int, set[int]] = {n: set() for n in range(len(parents))}
    for pixel, own in enumerate(node.tolist()):
        while True:
            parts[own].add(pixel)
            if parents[own] == own:
                break
            own = int(parents[own])
    return {frozenset(p) for p in parts.values()}


def connected_parts(levels: np.ndarray) -> set[frozenset[int]]:
    """The connected parts at and above each level, by flooding: the definition."""
    from scipy import ndimage

    parts = set()
    for level in np.unique(levels):
        labels, number = ndimage.label(levels >= level)
        parts |= {frozenset(np.flatnonzero(labels.ravel() == i)) for i in range(1, number + 1)}
    return parts


@given(IMAGES, st.integers(1, 5))
def test_nodes_are_the_connected_parts_however_the_image_is_tiled(levels, side):
    before = dict(module._TILE)
    try:
        module._TILE.update({2: side, 3: side})
        parents, node = component_tree(levels)
    finally:
        module._TILE.update(before)
    assert parts_of(levels, parents, node) == connected_parts(levels)
    assert parents[0] == 0
    assert (parents[1:] < np.arange(1, len(parents))).all()


@given(IMAGES, st.integers(1, 6))
def test_large_parts_are_the_nodes_with_enough_pixels(levels, smallest):
    parents, node = component_tree(levels)
    parts = large_parts(parents, node, levels, smallest)
    every = sorted(len(p) for p in parts_of(levels, parents, node))
    expected = [n for n in every if n >= smallest or n == levels.size]
    assert sorted(parts.sums(np.ones(levels.shape)).astype(int).tolist()) == expected


def test_a_search_is_made_once_for_all_settings_and_foregrounds(monkeypatch):
    y, x = np.indices((96, 96))
    image = np.zeros((96, 96), np.float32)
    for centre, radius in (((20, 20), 4), ((60, 30), 9), ((40, 70), 12)):
        image[np.hypot(y - centre[0], x - centre[1]) < radius] = 1
    search = ObjectSearch(image)
    settings = [ObjectSettings(min_size=size) for size in (None, 20, 100, 300)]
    expected = [ObjectSearch(image).find(setting) for setting in settings]
    search.find()

    def again(*_: object) -> None:
        pytest.fail("candidates were searched again")

    monkeypatch.setattr("napari_aeseg.regions.objects.detection.candidates_of", again)
    for setting, labels in zip(settings, expected, strict=True):
        assert np.array_equal(search.find(setting), labels)
    assert expected[3].max() == 1 < expected[0].max() == 3
    inside = search.find(foreground=(image > 0) & (x < 48))
    assert inside.max() == 2
