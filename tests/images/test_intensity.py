import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_aeseg.errors import InputError
from napari_aeseg.images.blocks import BlockImage
from napari_aeseg.images.intensity import IntensityRange, read_image

GREY = np.random.default_rng(0).integers(0, 100, (9, 10))
DTYPES = [
    *(f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (1, 2, 4, 8)),
    *(f"{order}f{size}" for order in "<>" for size in (2, 4, 8)),
    "longdouble",
]


def pixels(image, axes=None):
    return read_image(image, axes).pixels


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_real_dtype_gives_the_same_pixels(dtype):
    found = pixels(GREY.astype(dtype))
    assert found.dtype == np.float32
    assert found.dtype.isnative
    np.testing.assert_allclose(found, pixels(GREY.astype(float)), atol=1e-6)


def test_bool_is_zero_and_one():
    image = GREY > 50
    assert np.array_equal(pixels(image)[0], image)


@pytest.mark.parametrize("dtype", [t for t in DTYPES if t[-1] in "48" or t == "longdouble"])
def test_small_differences_on_a_large_offset_survive(dtype):
    # 2**26 + 1 is no float32: such values must be scaled before they are narrowed.
    offset = 2**26 if not dtype.endswith("f4") else 2**16
    image = (offset + GREY.astype(float)).astype(dtype)
    np.testing.assert_allclose(pixels(image), pixels(GREY), atol=1e-5)


def test_uint64_beyond_int64_keeps_its_order():
    image = GREY.astype(np.uint64) * np.uint64(2**57)
    np.testing.assert_allclose(pixels(image), pixels(GREY), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        lambda a: dask.array.from_array(a, chunks=4),
        lambda a: a.tolist(),
    ],
    ids=["fortran", "strided", "reversed", "dask", "list"],
)
def test_memory_layout_does_not_matter(change):
    assert np.array_equal(pixels(change(GREY)), pixels(GREY))


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", "?"])
def test_input_is_never_written_to(dtype):
    image = GREY.astype(dtype)
    before = image.copy()
    found = pixels(image)
    assert not np.shares_memory(found, image)
    found += 1
    assert np.array_equal(image, before)
    image.flags.writeable = False
    pixels(image)


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        ("c8", r"np\.abs"),
        ("c16", r"np\.abs"),
        ("O", "object"),
        ("U3", "<U3"),
        ("M8[s]", "datetime"),
    ],
)
def test_other_dtypes_are_refused_with_what_to_do(dtype, hint):
    with pytest.raises(InputError, match=hint) as error:
        read_image(GREY.astype(dtype), name="tissue.tif")
    assert str(error.value).startswith("tissue.tif is ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_nan_and_infinity_are_refused_with_their_number(value, dtype):
    image = GREY.astype(dtype)
    image[2, 3:5] = value
    with pytest.raises(InputError, match=r"tissue has 2 NaN or infinite.* 90") as error:
        read_image(image, name="tissue")
    assert "np.nan_to_num" in str(error.value)


@pytest.mark.parametrize("shape", [(9, 10), (1, 1), (1, 7), (9, 10, 3)])
@pytest.mark.parametrize("value", [0, 7, -3.5, True])
def test_constant_image_becomes_zero(shape, value):
    read = read_image(np.full(shape, value))
    assert read.is_constant
    assert not read.pixels.any()


def test_image_with_one_constant_channel_is_not_constant():
    image = np.stack([GREY, np.full_like(GREY, 3)])
    read = read_image(image, "CYX")
    assert not read.is_constant
    assert not read.pixels[1].any()


def test_hot_pixel_does_not_drown_the_rest():
    image = GREY.astype(float).repeat(6, axis=0).repeat(6, axis=1)
    hot = image.copy()
    hot[20, 20] = 1e9
    hot[21, 40] = -1e9
    plain, found = pixels(image), pixels(hot)
    assert found.min() >= -1
    assert found.max() <= 2
    rest = hot == image
    np.testing.assert_allclose(found[0][rest], plain[0][rest], atol=0.05)


def test_rare_bright_spots_on_a_flat_ground_are_kept():
    image = np.zeros((40, 40))
    image[5, 5] = image[30, 31] = 200
    found = pixels(image)
    assert found[0, 5, 5] == 1
    assert found.sum() == 2


def test_rare_dark_spots_on_a_flat_ground_are_kept():
    image = np.full((40, 40), 200)
    image[5, 5] = 0
    found = pixels(image)
    assert found[0, 5, 5] == 0
    assert found.sum() == image.size - 1


def test_channel_that_was_constant_in_the_given_range_stays_zero():
    assert not IntensityRange((50.0,), (50.0,)).apply(GREY[np.newaxis]).any()


@given(
    factor=st.floats(1e-3, 1e4),
    offset=st.floats(-1e5, 1e5),
    channel=st.integers(0, 2),
)
def test_brightness_and_contrast_do_not_matter(factor, offset, channel):
    image = np.random.default_rng(1).normal(0, 10, (3, 9, 10))
    changed = image.copy()
    changed[channel] = factor * changed[channel] + offset
    np.testing.assert_allclose(pixels(changed, "CYX"), pixels(image, "CYX"), atol=1e-4)


def test_most_values_lie_between_zero_and_one():
    found = pixels(np.random.default_rng(0).normal(500, 100, (50, 50)))
    assert np.mean((found >= 0) & (found <= 1)) == pytest.approx(0.99, abs=0.005)


def test_channels_are_scaled_each_on_its_own():
    found = pixels(np.stack([GREY, GREY * 1000 + 5], axis=-1), "YXC")
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_given_range_is_used_instead_of_the_images_own():
    intensity = IntensityRange((10.0,), (60.0,))
    read = read_image(GREY, intensity=intensity)
    assert read.intensity is intensity
    inside = (GREY >= 10) & (GREY <= 60)
    np.testing.assert_allclose(read.pixels[0][inside], (GREY[inside] - 10) / 50, atol=1e-6)
    assert (read.pixels[0][GREY > 60] > 1).all()


def test_given_range_with_other_channels_is_refused():
    with pytest.raises(InputError, match=r"1 channel.*YX.*2 are expected"):
        read_image(GREY, intensity=IntensityRange((0.0, 0.0), (1.0, 1.0)))


def test_percentiles_of_a_large_image_come_from_the_whole_of_it():
    ramp = np.linspace(0, 1000, 1500 * 1500).reshape(1500, 1500)
    found = IntensityRange.of(ramp[np.newaxis])
    assert found.low[0] == pytest.approx(5, abs=0.1)
    assert found.high[0] == pytest.approx(995, abs=0.1)


@pytest.mark.parametrize("dtype", ["f4", "f8", "longdouble"])
def test_values_too_large_for_float32_are_refused(dtype):
    image = GREY.astype(dtype)
    image[3, 4] = np.finfo(dtype).max
    with pytest.raises(InputError, match=r"tissue has values beyond 1\.3e\+30.*divide"):
        read_image(image, name="tissue")
    image[3, 4] = -np.finfo(dtype).max
    with pytest.raises(InputError, match="values beyond"):
        read_image(image)


@pytest.mark.parametrize(("dtype", "factor"), [("f4", 1e-43), ("f4", 1e-36), ("f8", 1e-315)])
def test_range_too_narrow_for_float32_is_scaled(dtype, factor):
    image = (GREY * factor).astype(dtype)
    assert len(np.unique(image)) > 50
    np.testing.assert_allclose(pixels(image), pixels(image / np.float64(image.max())), atol=1e-6)


@pytest.mark.parametrize("factor", [1e30, 1e-30])
def test_illumination_is_measured_in_immense_and_tiny_float32(factor):
    rng = np.random.default_rng(0)
    light = np.exp(np.linspace(-1, 1, 128)) * np.ones((128, 1))
    image = (light * (rng.random((128, 128)) + 0.2) / 4).astype(np.float32)
    expected = read_image(image)
    found = read_image(image * np.float32(factor))
    assert expected.light is not None
    np.testing.assert_allclose(found.light, expected.light, rtol=1e-4)
    np.testing.assert_allclose(found.pixels, expected.pixels, atol=1e-4)


@pytest.mark.parametrize("blocks", [False, True])
def test_64_bit_integers_equal_in_double_precision_are_refused(blocks):
    read = BlockImage.of if blocks else read_image
    for image in (np.uint64(2**64 - 1) - GREY.astype("u8"), np.int64(-(2**63)) + GREY):
        with pytest.raises(InputError, match=r"differ too little.*image - image\.min"):
            read(image)
        read(image - image.min())


def test_a_dask_array_that_cannot_be_computed_is_named():
    def fails(block):
        raise OSError("the disk is gone")

    image = dask.array.from_array(GREY, chunks=5).map_blocks(fails, dtype=float)
    with pytest.raises(InputError, match=r"tissue cannot be read \(the disk is gone\)"):
        read_image(image, name="tissue")


def test_reconstructions_of_immense_images_are_finite():
    found = IntensityRange((0.0,), (1e30,)).undo(np.array([[0.5, 1e12]], np.float32))
    assert np.isfinite(found).all()
