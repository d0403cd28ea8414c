"""Every stage looks at the stop flag more than once, and stops at whichever look."""

import numpy as np
import pytest

from napari_aeseg.errors import StoppedError
from napari_aeseg.regions.compare import moments
from napari_aeseg.regions.hierarchy import Hierarchy
from napari_aeseg.regions.objects.detection import ObjectSearch
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.superpixels import make_patches
from napari_aeseg.regions.tree import ward

MOST_LOOKS = 12  # that a test stops at, from the first to the last
IMAGE = np.random.default_rng(0).random((2, 64, 64)).astype(np.float32)


def looks_to_stop_at(free):
    return np.unique(np.linspace(1, free.looks, MOST_LOOKS).astype(int))


def discs():
    y, x = np.indices((64, 64))
    return (np.hypot(y % 32 - 16, x % 32 - 16) < 9).astype(np.float32)


@pytest.mark.parametrize(
    ("work", "least"),
    [
        (lambda stop: make_patches(IMAGE, 8, stop=stop), 4),
        (lambda stop: region_graph(np.arange(64).reshape(8, 8), stop), 2),
        (lambda stop: ObjectSearch(discs()).find(stop=stop), 20),
        (
            lambda stop: ObjectSearch(discs()).find(foreground=np.ones((64, 64), bool), stop=stop),
            4,
        ),
    ],
    ids=["patches", "graph", "objects", "objects inside"],
)
def test_a_stage_stops_at_any_of_its_looks(counted_stop, work, least):
    free = counted_stop()
    work(free)
    assert free.looks >= least
    for at in looks_to_stop_at(free):
        with pytest.raises(StoppedError):
            work(counted_stop(at))


@pytest.mark.parametrize("scale", [1, 16, "auto"])
def test_the_tree_stops_at_any_look_and_goes_on_where_it_was(
    hierarchy_of, counted_stop, monkeypatch, scale
):
    for module in (ward, moments):
        monkeypatch.setattr(module, "MAX_EXACT_NODES", 100)
        monkeypatch.setattr(module, "REGIONS_AFTER_ROUNDS", 50)
    tree = hierarchy_of(IMAGE, 4, levels=[0, 1], scale=scale)
    parts = [tree.patches, tree.statistics, tree.graph, tree.axes, tree.params, tree.comparison]
    parts += [tree.brightness]
    free = counted_stop()
    expected = Hierarchy(*parts).prepare(free).regions(20)
    assert free.looks > 10
    for at in looks_to_stop_at(free):
        stopped = Hierarchy(*parts)
        with pytest.raises(StoppedError):
            stopped.prepare(counted_stop(at))
        assert np.array_equal(stopped.regions(20), expected)
