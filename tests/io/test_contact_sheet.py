import numpy as np
import pytest

from napari_aeseg.io.contact_sheet import contact_sheet


@pytest.mark.parametrize(
    ("number", "grid"), [(1, (1, 1)), (2, (1, 2)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))]
)
def test_every_picture_is_on_the_page_in_reading_order(number, grid):
    pictures = [np.full((40, 200, 3), 10 * (k + 1), np.uint8) for k in range(number)]
    page = contact_sheet(pictures, [f"no. {k}" for k in range(number)])
    height, width = ((n - 12) // m for n, m in zip(page.shape, grid, strict=False))
    for k in range(number):
        row, column = divmod(k, grid[1])
        y, x = 12 + row * height, 12 + column * width
        assert np.array_equal(page[y : y + 40, x : x + 200], pictures[k])


def test_captions_are_written_below_and_are_never_cut():
    picture = np.zeros((40, 30, 3), np.uint8)
    short, long = (contact_sheet([picture], [text]) for text in ("a", "--balance 0.5 --scale 16"))
    assert (short[54:] < 128).any()
    assert long.shape[1] > short.shape[1] > 30
    assert (long[:, -6:] == 255).all()
