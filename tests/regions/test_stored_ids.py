import dask.array as da
import numpy as np
import pytest

from napari_aeseg.regions.lazy_labels import (
    ids_array,
    look_up_lazily,
    map_to_pixels_lazily,
    values_by_patch,
)

NUMBERS = np.array([[0, 1, 1, 2, 2], [1, 1, 2, 2, 0], [3, 3, 1, 1, 1]])
IDS = np.array([-1, 7, 2, 5], np.int32)


class Stored:
    """Numbers in chunks of 2 x 3; ids in the second column of chunks are one larger."""

    chunks = ((2, 1), (3, 2))

    def read(self, part):
        return NUMBERS[part], np.where(IDS < 0, -1, IDS + (part[1].start > 0))

    def __dask_tokenize__(self):
        return "stored in a test"


EXPECTED = IDS[NUMBERS] + np.where(NUMBERS > 0, np.arange(5) > 2, 0)


def test_ids_are_looked_up_chunk_by_chunk():
    ids = ids_array(Stored())
    assert ids.dtype == np.int32
    assert ids.chunks == Stored.chunks
    assert np.array_equal(np.asarray(ids), EXPECTED)


@pytest.mark.parametrize("values", [np.arange(9) * 10, np.arange(27.0).reshape(9, 3)])
def test_values_are_the_same_with_and_without_what_is_stored(values):
    painted = [
        map_to_pixels_lazily(ids, values)
        for ids in (ids_array(Stored()), da.from_array(EXPECTED, 2))
    ]
    nothing = np.zeros_like(values[:1])
    for labels in painted:
        assert labels.dtype == values.dtype
        assert labels.shape == NUMBERS.shape + values.shape[1:]
        assert np.array_equal(np.asarray(labels), np.concatenate([values, nothing])[EXPECTED])


def test_values_are_looked_up_once_per_number_and_not_per_pixel():
    asked = []
    kept = ids_array(Stored())

    def look_up(ids):
        asked.append(ids.size)
        return ids

    np.asarray(look_up_lazily(kept, look_up, np.zeros(1, np.int32)))
    assert asked == [len(IDS)] * 4


def test_names_tell_values_apart():
    ids = ids_array(Stored())
    one, same, other = (map_to_pixels_lazily(ids, np.full(9, n)) for n in (1, 1, 2))
    assert one.name == same.name != other.name
    assert values_by_patch(other, ids)[0] == 2
