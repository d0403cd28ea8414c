import json

import numpy as np
import pytest
from scipy import ndimage

from napari_aeseg import DeleteObject, InputError, MergeObjects, SplitObject, TakeObject
from napari_aeseg.regions.cuts.edits import edit_of
from napari_aeseg.regions.objects.detection import ObjectSearch, ObjectSearchInTime
from napari_aeseg.regions.objects.edits import object_edit_of
from napari_aeseg.regions.objects.settings import ObjectSettings

SHAPE = (96, 128)
CELLS = [(24, 24), (24, 64), (24, 104), (70, 24), (70, 64), (70, 104)]
FAINT = (70, 104)  # the last one: missed at a low sensitivity


def discs(places, radius, shape=SHAPE):
    index = np.indices(shape)
    return np.min([np.hypot(index[0] - y, index[1] - x) for y, x in places], axis=0) < radius


def cells():
    """Cells of radius 15 with nuclei of radius 7; the last one is faint."""
    image = discs(CELLS[:-1], 15) * 1.0 + discs(CELLS[:-1], 7) + 0.08 * discs([FAINT], 15)
    noise = np.random.default_rng(0).normal(0, 0.02, SHAPE)
    return (0.1 + ndimage.gaussian_filter(image, 1) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def search():
    return ObjectSearch(cells())


def found(search, *edits, **settings):
    return search.find(ObjectSettings(**{"diameter": 30, **settings}), edits=edits)


def overlap(labels, place, mask):
    here = labels == labels[place]
    return (here & mask).sum() / (here | mask).sum()


def test_delete_takes_one_object_away_and_leaves_the_other_labels(search):
    before = found(search)
    after = found(search, DeleteObject((24, 64)))

    assert np.array_equal(after, np.where(before == before[24, 64], 0, before))
    assert np.array_equal(found(search), before)  # edits change nothing that is kept


def test_a_missed_object_is_added_by_a_pixel_of_it(search):
    assert found(search, sensitivity=0)[FAINT] == 0

    labels = found(search, TakeObject(FAINT), sensitivity=0)

    assert overlap(labels, FAINT, discs([FAINT], 15)) > 0.8
    # Once it is found by itself, there is nothing to add.
    assert found(search)[FAINT] > 0
    assert np.array_equal(found(search, TakeObject(FAINT)), found(search))


def test_nothing_is_added_where_nothing_stands_out(search):
    assert np.array_equal(found(search, TakeObject((46, 84))), found(search))


def test_a_dark_object_is_added_among_bright_ones():
    hole = discs([(70, 104)], 8)
    image = discs(CELLS[:-1], 12) * 0.5 - 0.4 * hole
    search = ObjectSearch((0.5 + ndimage.gaussian_filter(image, 1)).astype(np.float32))
    assert found(search, diameter=24)[70, 104] == 0

    labels = found(search, TakeObject((70, 104)), diameter=24)

    assert overlap(labels, (70, 104), hole) > 0.7


def test_cells_and_nuclei_are_one_step_apart(search):
    sizes = search.sizes_at((24, 24), ObjectSettings(diameter=30))
    nucleus, cell = (min(sizes, key=lambda s: abs(s - np.pi * r**2)) for r in (7, 15))
    assert (nucleus / 49 / np.pi, cell / 225 / np.pi) == pytest.approx((1, 1), rel=0.2)

    smaller = found(search, TakeObject((24, 24), nucleus))
    again = found(search, TakeObject((24, 24), nucleus), TakeObject((24, 24), cell))

    assert overlap(smaller, (24, 24), discs(CELLS[:1], 7)) > 0.8
    assert overlap(again, (24, 24), discs(CELLS[:1], 15)) > 0.8
    other = found(search)[24, 64]
    assert np.array_equal(smaller == other, found(search) == other)
    # It survives other settings.
    moved = found(search, TakeObject((24, 24), nucleus), diameter=None, sensitivity=0.8)
    assert overlap(moved, (24, 24), discs(CELLS[:1], 7)) > 0.8


def test_a_candidate_that_holds_others_replaces_them():
    truth = discs([(48, 50), (48, 78)], 15)
    search = ObjectSearch((ndimage.gaussian_filter(truth * 1.0, 1)).astype(np.float32))
    labels = search.find()
    assert labels.max() == 2

    sizes = search.sizes_at((48, 50))
    whole = search.find(edits=[TakeObject((48, 50), sizes[-1])])

    assert overlap(whole, (48, 50), truth) > 0.9
    assert len(np.unique(whole)) == 2


def test_merged_objects_are_one_connected_object(search):
    labels = found(search)
    merged = found(search, MergeObjects(((24, 64), (24, 24))))

    label = min(labels[24, 24], labels[24, 64])
    assert merged[24, 24] == merged[24, 64] == merged[24, 44] == label
    assert ndimage.label(merged == label)[1] == 1
    others = (labels > 0) & ~np.isin(labels, labels[24, [24, 64]])
    assert np.array_equal(merged[others], labels[others])
    assert np.array_equal(found(search, MergeObjects(((24, 64), (5, 5)))), labels)


def test_a_split_parts_at_the_neck_or_around_the_pixels_that_are_named(search):
    labels = found(search)
    merge = MergeObjects(((24, 24), (24, 64)))

    apart = found(search, merge, SplitObject(((24, 24), (24, 64))))
    assert apart[24, 24] != apart[24, 64]
    assert abs((apart == apart[24, 24]).sum() - (apart == apart[24, 64]).sum()) < 200

    halves = found(search, SplitObject(((24, 24),)))
    sizes = np.bincount(halves[labels == labels[24, 24]])
    assert abs(np.diff(sizes[sizes > 0])[0]) < 30
    assert np.array_equal(halves > 0, labels > 0)

    two = discs([(48, 46), (48, 80)], 18)
    search = ObjectSearch((ndimage.gaussian_filter(two * 1.0, 1)).astype(np.float32))
    whole = TakeObject((48, 46), search.sizes_at((48, 46))[-1])
    parts = search.find(edits=[whole, SplitObject(((48, 46),))])
    assert parts[48, 46] != parts[48, 80]
    assert parts[48, 61] != parts[48, 65]


def test_edits_are_of_one_frame_and_objects_keep_their_labels():
    frames = np.stack([cells()] * 2)
    search = ObjectSearchInTime(frames, 0)
    settings = ObjectSettings(diameter=30)
    labels = search.find(settings)

    edited = search.find(settings, edits=[DeleteObject((1, 24, 24))])

    assert edited[0, 24, 24] > 0
    assert edited[1, 24, 24] == 0
    assert np.array_equal(edited[0], labels[0])
    assert search.sizes_at((1, 24, 24), settings)
    with pytest.raises(InputError, match=r"frames \[0, 1\]"):
        search.find(settings, edits=[MergeObjects(((0, 24, 24), (1, 24, 64)))])


def test_volumes_of_one_slice_are_edited_as_images():
    search = ObjectSearch(cells()[np.newaxis])
    labels = search.find(ObjectSettings(diameter=30), edits=[DeleteObject((0, 24, 24))])
    assert labels[0, 24, 24] == 0
    assert search.sizes_at((0, 24, 64))


@pytest.mark.parametrize("place", [(96, 0), (3,), (1, 2, 3)])
def test_places_outside_are_refused(search, place):
    with pytest.raises(InputError, match="give a pixel of an image of shape"):
        found(search, DeleteObject(place))
    with pytest.raises(InputError, match="give a pixel of an image of shape"):
        search.sizes_at(place)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DeleteObject((1.5, 2)),
        lambda: DeleteObject((-1, 2)),
        lambda: TakeObject(3),
        lambda: TakeObject((1, 2), 0),
        lambda: MergeObjects(((1, 2),)),
        lambda: MergeObjects(5),
        lambda: SplitObject(()),
    ],
)
def test_values_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InputError, match=r"place|size"):
        wrong()


@pytest.mark.parametrize(
    "edit",
    [
        DeleteObject((3, np.int64(8))),
        TakeObject((3, 8)),
        TakeObject((3, 8), 70),
        MergeObjects(((3, 8), (4, 9))),
        SplitObject(((3, 8),)),
    ],
)
def test_edits_survive_a_file(edit):
    record = json.loads(json.dumps(edit.record))
    assert object_edit_of(record) == edit
    with pytest.raises(InputError, match="not an edit"):
        edit_of(record)
