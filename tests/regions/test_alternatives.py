"""Alternatives: what they promise, whatever is chosen."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from napari_aeseg.errors import InputError, StoppedError
from napari_aeseg.regions.alternatives import labels_distance


@pytest.fixture(scope="module")
def tree(hierarchy_of):
    """Two greys, each smooth and grained: brightness and texture give different halves."""
    y, x = np.mgrid[:48, :48]
    grain = np.random.default_rng(0).normal(0, 1, (48, 48)) * np.where(y < 24, 0.02, 0.2)
    image = np.where(x < 24, 0.3, 0.6) + grain
    return hierarchy_of(np.stack([image, grain]), 4, levels=[0, 1])


@pytest.fixture(scope="module")
def lazy(tree):
    import dask.array as da

    return replace(tree, patches=da.from_array(tree.patches, chunks=24))


MODES = [("classes", {"n_classes": 4}), ("classes", {}), ("regions", {"n_regions": 12}),
         ("regions", {})]  # fmt: skip


@pytest.mark.parametrize(("mode", "number"), MODES)
def test_the_first_is_the_hierarchy_as_it_is_compared(tree, mode, number):
    changed = tree.reweighted(balance=0.3, scale=2)
    first = changed.alternatives(n=2, mode=mode, **number)[0]
    assert first.settings.comparison == changed.comparison
    count = {"classes": 3, "regions": changed.suggest_n_regions()}[mode]
    count = next(iter(number.values()), count)
    assert first.settings.number == count
    assert np.array_equal(first.labels, getattr(changed, mode)(count))


@pytest.mark.parametrize(("mode", "number"), MODES[::2])
def test_settings_make_the_same_labels_again(tree, mode, number):
    alternatives = tree.alternatives(mode=mode, **number)
    assert len(alternatives) > 2
    for alternative in alternatives:
        settings = alternative.settings
        count = settings.n_classes if mode == "classes" else settings.n_regions
        again = getattr(tree.compared_by(settings.comparison), mode)(count)
        assert alternative.labels.dtype == np.int32
        assert np.array_equal(alternative.labels, again)
        assert settings.mode == mode


@pytest.mark.parametrize(("mode", "number"), MODES[::2])
def test_all_differ_visibly(tree, mode, number):
    alternatives = tree.alternatives(n=20, mode=mode, **number)
    for one, other in combinations(alternatives, 2):
        labels = one.label_of_patch, other.label_of_patch
        weight, count = tree.statistics.count, one.settings.number
        assert labels_distance(*labels, weight, count) >= 0.05
    comparisons = [alternative.settings.comparison for alternative in alternatives]
    assert len(set(map(repr, comparisons))) == len(comparisons)


def test_regions_leave_the_whitening_of_classes_as_it_is(tree):
    alternatives = tree.reweighted(whitening="regions").alternatives(mode="regions", n_regions=12)
    assert {a.settings.comparison.whitening for a in alternatives} == {"regions"}
    assert len(alternatives) == len(tree.alternatives(mode="regions", n_regions=12))


def test_there_are_at_most_n_and_more_only_add_to_fewer(tree):
    settings = [a.settings for a in tree.alternatives(n=20, n_classes=4)]
    assert len(settings) > 3
    for n in (1, len(settings) // 2, len(settings) - 1):
        assert [a.settings for a in tree.alternatives(n=n, n_classes=4)] == settings[:n]


def test_one_class_and_one_region_have_no_alternative(tree):
    assert len(tree.alternatives(n_classes=1)) == 1
    assert len(tree.alternatives(mode="regions", n_regions=1)) == 1


def test_a_constant_image_has_no_alternative(hierarchy_of):
    tree = hierarchy_of(np.full((16, 16), 3.0), 4)
    (only,) = tree.alternatives(mode="regions")
    assert (only.labels == 1).all()


def test_without_the_image_none_compares_by_it_alone(hierarchy_of):
    tree = hierarchy_of(np.random.default_rng(0).random((2, 48, 48)), 4, levels=[1, 2])
    with pytest.raises(InputError, match="balance = 0"):
        tree.reweighted(balance=0).classes(4)
    assert all(a.settings.comparison.balance > 0 for a in tree.alternatives(n=20, n_classes=4))


def test_the_same_again_and_with_any_number_of_threads(tree, monkeypatch):
    first = tree.alternatives(n_classes=4)
    monkeypatch.setattr("napari_aeseg.regions.alternatives.cores", lambda: 1)
    again = replace(tree, _moments=None).alternatives(n_classes=4)
    assert [a.settings for a in first] == [a.settings for a in again]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.labels, other.labels)


def test_labels_of_lazy_hierarchies_are_lazy(tree, lazy):
    import dask.array as da

    alternatives = lazy.alternatives(n=3, n_classes=4)
    for one, other in zip(alternatives, tree.alternatives(n=3, n_classes=4), strict=True):
        assert isinstance(one.labels, da.Array)
        assert np.array_equal(one.labels.compute(), other.labels)


def test_labels_can_be_written_to_without_harm(tree):
    alternative = tree.alternatives(n=1)[0]
    before = alternative.labels
    alternative.labels[:] = 0
    assert np.array_equal(alternative.labels, before)


def test_it_stops_at_the_first_look_and_at_later_ones(tree, counted_stop):
    free = counted_stop()
    replace(tree, _moments=None).alternatives(n_classes=4, stop=free)
    assert free.looks > 30
    for at in (1, free.looks // 2, free.looks):
        with pytest.raises(StoppedError):
            replace(tree, _moments=None).alternatives(n_classes=4, stop=counted_stop(at))


def test_progress_goes_up_to_its_end(tree):
    events = []
    tree.alternatives(n_classes=4, progress=events.append)
    assert {event.stage for event in events} == {"alternatives"}
    assert [event.done for event in events] == list(range(1, events[0].total + 1))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n": 0}, "n = 0: give a whole number"),
        ({"mode": "objects"}, "mode = 'objects': choose one of classes, regions"),
        ({"n_classes": 0}, "n_classes = 0: give a whole number from 1 to"),
        ({"mode": "regions", "n_regions": 10**6}, "n_regions = 1000000: .* patches"),
        ({"n_regions": 5}, "n_regions = 5 is not of mode = 'classes'"),
        ({"mode": "regions", "n_classes": 5}, "n_classes = 5 is not of mode = 'regions'"),
    ],
)
def test_wrong_values_are_refused_by_name(tree, given, words):
    with pytest.raises(InputError, match=words):
        tree.alternatives(**given)


def test_distance_is_that_of_the_partitions_counted_in_pixels():
    halves, quarters = np.array([1, 1, 2, 2]), np.array([1, 2, 3, 4])
    assert labels_distance(halves, 3 - halves, np.ones(4), 2) == 0
    # Each half is cut in two: one bit, of two bits for each of the two.
    assert labels_distance(halves, quarters, np.ones(4), 4) == pytest.approx(0.25)
    # The last two patches have no pixels to speak of.
    small = np.array([1, 1, 1e-9, 1e-9])
    assert labels_distance(halves, np.array([1, 1, 1, 2]), small, 2) < 1e-6
