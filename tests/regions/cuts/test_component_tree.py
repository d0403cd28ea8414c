from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_aeseg.regions.cuts import component_tree as module
from napari_aeseg.regions.cuts.component_tree import component_tree, subtree_sums
from napari_aeseg.regions.cuts.objects import ObjectSearch

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


@given(IMAGES)
def test_sums_are_those_of_nodes_and_what_is_below(levels):
    parents, node = component_tree(levels)
    (area,) = subtree_sums(parents, node, [np.ones(levels.shape)])
    parts = sorted(len(p) for p in parts_of(levels, parents, node))
    assert sorted(area.astype(int).tolist()) == parts


def test_a_search_is_made_once_for_all_sizes_and_foregrounds(monkeypatch):
    y, x = np.indices((96, 96))
    image = np.zeros((96, 96), np.float32)
    for centre, radius in (((20, 20), 4), ((60, 30), 9), ((40, 70), 12)):
        image[np.hypot(y - centre[0], x - centre[1]) < radius] = 1
    search = ObjectSearch(image)
    expected = {size: ObjectSearch(image).find(min_size=size) for size in (None, 20, 100, 300)}
    search.find()

    def again(*_: object) -> None:
        pytest.fail("the tree was built again")

    monkeypatch.setattr("napari_aeseg.regions.cuts.objects.component_tree", again)
    for size, labels in expected.items():
        assert np.array_equal(search.find(min_size=size), labels)
    assert expected[300].max() == 1 < expected[None].max() == 3
    inside = search.find((image > 0) & (x < 48))
    assert inside.max() == 2
