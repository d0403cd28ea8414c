from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_aeseg.params import SegmentationParams
from napari_aeseg.regions import flooding
from napari_aeseg.regions.patches import superpixels as module
from napari_aeseg.regions.patches.superpixels import PATCHERS, edge_strength, make_patches

KINDS = ["watershed", "grid"]


@pytest.fixture(params=["fast", "fallback"])
def engine(request, monkeypatch):
    """Both watersheds: the fast one, and that of machines without it."""
    if request.param == "fallback":
        monkeypatch.setattr(flooding, "fast_watershed", None)
    elif flooding.fast_watershed is None:
        pytest.skip("there are no wheels of bioimage-cpp for this machine")


def assert_valid(patches: np.ndarray) -> None:
    """Ids 0 .. P-1, all there, each one piece."""
    assert patches.dtype == np.int32
    assert np.array_equal(np.unique(patches), np.arange(patches.max() + 1))
    pieces = sum(ndimage.label(patches == i)[1] for i in range(patches.max() + 1))
    assert pieces == patches.max() + 1


@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    size=st.integers(2, 12),
    channels=st.integers(1, 3),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
)
def test_every_patch_is_there_and_in_one_piece(engine, shape, size, channels, kind, seed):
    pixels = np.random.default_rng(seed).random((channels, *shape)).astype(np.float32)
    patches = make_patches(pixels, size, kind)
    assert patches.shape == shape
    assert_valid(patches)


@given(
    shape=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    size=st.integers(2, 20),
    kind=st.sampled_from(KINDS),
)
def test_average_patch_has_about_the_wanted_size(shape, size, kind):
    pixels = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    patches = make_patches(pixels, size, kind)
    # Sides are rounded to whole cells; an image narrower than a patch is one cell wide.
    area = patches.size / (patches.max() + 1)
    wanted = np.prod([min(n, size) for n in shape])
    assert wanted / 1.5**2 <= area <= wanted * 1.5**2


def test_cells_of_a_grid_are_nearly_equal_squares():
    patches = make_patches(np.zeros((1, 21, 30)), 4, "grid")
    areas = np.bincount(patches.ravel())
    assert len(areas) == 5 * 8  # 21 / 4 and 30 / 4, rounded
    assert areas.min() >= 4 * 3
    assert areas.max() <= 5 * 4


def test_watershed_follows_an_edge_that_a_grid_crosses(engine):
    # A step at column 13, in the middle of the cells of 8 pixels.
    pixels = np.zeros((1, 40, 40), np.float32)
    pixels[:, :, 13:] = 1
    pixels += np.random.default_rng(0).normal(0, 0.02, pixels.shape).astype(np.float32)
    crossing = {}
    for kind in KINDS:
        patches = make_patches(pixels, 8, kind)
        left = np.bincount(patches[:, :13].ravel(), minlength=patches.max() + 1)
        right = np.bincount(patches[:, 13:].ravel(), minlength=patches.max() + 1)
        crossing[kind] = np.minimum(left, right).sum()
    assert crossing["grid"] == 5 * 8 * 3
    assert crossing["watershed"] <= 0.05 * crossing["grid"]


def test_an_edge_in_any_channel_counts(engine):
    pixels = np.zeros((3, 40, 40), np.float32)
    pixels[2, :, 13:] = 1
    patches = make_patches(pixels, 8)
    assert not set(patches[:, 12].ravel()) & set(patches[:, 13].ravel())


def test_without_edges_patches_stay_compact(engine):
    patches = make_patches(np.zeros((1, 48, 48), np.float32), 8)
    assert_valid(patches)
    areas = np.bincount(patches.ravel())
    assert len(areas) == 36
    assert areas.min() >= 32
    assert areas.max() <= 128
    for i, (rows, columns) in enumerate(ndimage.find_objects(patches + 1)):
        assert rows.stop - rows.start <= 14, i
        assert columns.stop - columns.start <= 14, i


def test_stack_is_cut_into_blocks(engine):
    pixels = np.random.default_rng(0).random((1, 6, 12, 12)).astype(np.float32)
    patches = make_patches(pixels, 3)
    assert_valid(patches)
    assert patches.max() + 1 == 2 * 4 * 4


def test_both_watersheds_cut_alike(monkeypatch):
    pixels = np.random.default_rng(0).random((1, 40, 50)).astype(np.float32)
    fast = make_patches(pixels, 8)
    monkeypatch.setattr(flooding, "fast_watershed", None)
    # Ties and queue order may move a border by a pixel.
    assert np.mean(make_patches(pixels, 8) == fast) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_same_image_same_patches_and_nothing_written(kind):
    pixels = np.random.default_rng(0).random((2, 30, 30)).astype(np.float32)
    pixels.flags.writeable = False
    first = make_patches(pixels, 5, kind)
    assert np.array_equal(first, make_patches(np.asfortranarray(pixels), 5, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_image_smaller_than_a_patch_is_one_patch(kind):
    assert not make_patches(np.zeros((1, 3, 4), np.float32), 8, kind).any()


@pytest.mark.parametrize("shape", [(1, 60, 47), (3, 33, 64), (1, 5, 90)])
def test_patches_of_an_image_are_plain_waterpixels(engine, shape):
    # What they were before volumes had patches of their own shape: nothing may have moved.
    pixels = np.random.default_rng(0).random(shape).astype(np.float32)
    cells = [max(1, round(n / 8)) for n in shape[1:]]
    which = [np.arange(n) * c // n for n, c in zip(shape[1:], cells, strict=True)]
    edges = [ndimage.gaussian_gradient_magnitude(c, 1.0, output=np.float32) ** 2 for c in pixels]
    height = np.sqrt(sum(edges))
    distance = module._distance_to_centre(shape[1:], cells, slice(0, shape[1]))
    height += np.float32(float(np.median(height))) * distance
    markers = module._lowest_pixels(height, which, cells)
    expected = flooding.flood(height, markers) - 1
    np.testing.assert_array_equal(make_patches(pixels, 8), expected)


@pytest.mark.parametrize("distance", [0.5, 1, 2, 4, 10])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_edges_are_counted_by_length(distance, axis):
    z, y, x = np.indices((20, 24, 24)).astype(np.float32)
    ramp = (z * distance, y, x)[axis]
    slope = edge_strength(ramp[np.newaxis], density=(1 / distance, 1, 1))
    # A Gaussian's derivative of half a pixel or so falls a little short.
    np.testing.assert_allclose(slope[9:11, 11:13, 11:13], 1, rtol=0.03)


def test_frames_are_not_smoothed_into_each_other():
    pixels = np.zeros((1, 3, 20, 20), np.float32)
    pixels[:, 1, :, 10:] = 1
    strength = edge_strength(pixels, density=(0, 1, 1))
    assert not strength[[0, 2]].any()
    np.testing.assert_allclose(strength[1], edge_strength(pixels[:, 1]), atol=1e-6)


def test_edges_of_a_volume_do_not_depend_on_the_strips(monkeypatch):
    image = np.random.default_rng(0).random((2, 30, 9, 10)).astype(np.float32)
    expected = edge_strength(image, density=(0.25, 1, 1))
    monkeypatch.setattr(module, "_STRIP_PIXELS", 1)
    np.testing.assert_array_equal(edge_strength(image, density=(0.25, 1, 1)), expected)


def test_edge_strength_is_the_slope():
    ramp = np.arange(20.0)[np.newaxis] * np.ones((20, 1))
    inner = (slice(6, 14), slice(6, 14))
    np.testing.assert_allclose(edge_strength(ramp[np.newaxis])[inner], 1, rtol=1e-3)
    np.testing.assert_allclose(edge_strength(np.stack([3 * ramp, 4 * ramp.T]))[inner], 5, rtol=1e-3)
    assert not edge_strength(np.full((1, 9, 10), 7.0)).any()


@pytest.mark.parametrize("shape", [(40, 30), (1, 9), (9, 11, 7)])
def test_edges_do_not_depend_on_the_strips(monkeypatch, shape):
    image = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    squares = [ndimage.gaussian_gradient_magnitude(c, 1.0, output=np.float32) ** 2 for c in image]
    whole = edge_strength(image)
    np.testing.assert_allclose(whole, np.sqrt(sum(squares)), atol=1e-6)
    for pixels in (1, 200):
        monkeypatch.setattr(module, "_STRIP_PIXELS", pixels)
        np.testing.assert_array_equal(edge_strength(image), whole)


def test_every_patch_shape_of_the_params_has_a_function():
    choices = get_args(SegmentationParams.model_fields["patches"].annotation)
    assert set(PATCHERS) == set(choices)


def test_an_image_cut_in_strips_has_other_patches_only_at_their_ends(monkeypatch):
    pixels = np.random.default_rng(0).random((1, 144, 72), np.float32)
    whole = make_patches(pixels, 6)
    monkeypatch.setattr(module, "_WATERSHED_PIXELS", 144 * 72 // 2)
    strips = make_patches(pixels, 6)
    assert_valid(strips)
    assert strips[:72].max() < strips[72:].min()
    changed = np.flatnonzero((strips != whole).any(axis=1))
    assert 60 < changed.min() < 72 <= changed.max() < 84
