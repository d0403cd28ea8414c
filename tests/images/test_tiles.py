import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_aeseg.images.tiles import plan_tiles, planes, read_tile

plans = {
    "shape": st.tuples(st.integers(1, 40), st.integers(1, 40)),
    "tile": st.integers(1, 24),
    "margin": st.integers(0, 30),
    "align": st.sampled_from([1, 2, 4, 8]),
}


@given(**plans)
def test_inner_parts_cover_the_plane_exactly_once(shape, tile, margin, align):
    covered = np.zeros(shape, int)
    for part in plan_tiles(shape, tile, margin, align):
        covered[part.inner] += 1
    assert (covered == 1).all()


@given(**plans)
def test_keep_is_the_place_of_the_inner_part(shape, tile, margin, align):
    plane = np.arange(np.prod(shape)).reshape(1, *shape)
    for part in plan_tiles(shape, tile, margin, align):
        read = read_tile(plane, part)
        assert read.shape[1:] == part.size
        assert np.array_equal(read[:, *part.keep], plane[:, *part.inner])


@given(**plans)
def test_tiles_are_aligned_and_have_their_margin(shape, tile, margin, align):
    for part in plan_tiles(shape, tile, margin, align):
        assert all(n % align == 0 for n in (*part.start, *part.size))
        for keep, size in zip(part.keep, part.size, strict=True):
            assert keep.start >= margin
            assert size - keep.stop >= margin


@given(**plans)
def test_tiles_are_mirrored_at_borders(shape, tile, margin, align):
    plane = np.random.default_rng(0).random((2, *shape))
    for part in plan_tiles(shape, tile, margin, align):
        before = [-s for s in part.start]
        after = [s + n - m for s, n, m in zip(part.start, part.size, shape, strict=True)]
        around = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
        padded = np.pad(plane, [(0, 0), *around], mode="reflect")
        window = tuple(
            slice(s + b, s + b + n)
            for s, n, (b, _) in zip(part.start, part.size, around, strict=True)
        )
        assert np.array_equal(read_tile(plane, part), padded[:, *window])


def test_a_plane_that_fits_is_one_tile():
    (tile,) = plan_tiles((9, 10), tile=16, margin=0, align=4)
    assert (tile.inner, tile.size) == ((slice(0, 9), slice(0, 10)), (12, 12))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((9, 10), [()]), ((2, 9, 10), [(0,), (1,)]), ((2, 1, 9, 10), [(0, 0), (1, 0)])],
)
def test_every_plane_of_a_stack_is_visited(shape, expected):
    assert list(planes(shape)) == expected
