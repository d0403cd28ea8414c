import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import zarr

from napari_aeseg.errors import InputError
from napari_aeseg.images import memory
from napari_aeseg.io.images import (
    open_file,
    overlay,
    read_file,
    write_picture,
)

GREY = np.arange(90, dtype=np.uint8).reshape(9, 10)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
TWO = np.stack([GREY, GREY[:, ::-1]]).astype(np.uint16)


@pytest.mark.parametrize("image", [GREY, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize("name", ["a.png", "a", "a.dat"])
def test_png_has_pixels_but_no_axes(tmp_path, image, name):
    (tmp_path / name).write_bytes(imageio.imwrite("<bytes>", image, extension=".png"))
    found, axes = read_file(tmp_path / name)
    assert np.array_equal(found, image)
    assert axes is None


@pytest.mark.parametrize(
    ("image", "name", "options", "axes"),
    [
        (GREY, "a.tif", {}, "YX"),
        (RGB, "a.tiff", {"photometric": "rgb"}, "YXC"),
        (TWO, "a.ome.tif", {"metadata": {"axes": "CYX"}}, "CYX"),
        (TWO, "a.ome.tif", {"metadata": {"axes": "TYX"}}, "TYX"),
        (TWO, "a.tif", {"imagej": True, "metadata": {"axes": "ZYX"}}, "ZYX"),
        (TWO.astype(np.float32), "a.TIF", {"photometric": "minisblack"}, None),
    ],
    ids=["grey", "rgb", "ome channels", "ome time", "imagej", "unnamed"],
)
def test_tiff_says_its_axes(tmp_path, image, name, options, axes):
    tifffile.imwrite(tmp_path / name, image, **options)
    found, found_axes = read_file(str(tmp_path / name))
    assert np.array_equal(found, image)
    assert found.dtype == image.dtype
    assert found_axes == axes


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no image file.*lost\.png"):
        read_file(tmp_path / "lost.png")
    with pytest.raises(InputError, match="no image file"):
        read_file(tmp_path)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"no image at all"], ids=["empty", "text"])
def test_file_that_is_no_image_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is damaged or no image \(.*\)\.$"):
        read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("image", "axes"), [(GREY, "YX"), (RGB, "YXC"), (TWO, "CYX"), (GREY / 7 - 3, "YX")]
)
def test_overlay_tints_each_label_in_its_own_colour(image, axes):
    labels = np.repeat([[0, 1, 2, 3, 3]], 9, axis=0).repeat(2, axis=1)
    before = image.copy()
    picture = overlay(np.zeros_like(image), labels, axes)
    assert (picture.shape, picture.dtype) == ((9, 10, 3), np.uint8)
    assert np.array_equal(overlay(image, labels, axes).shape, (9, 10, 3))
    assert np.array_equal(image, before)
    # Away from outlines: unlabelled stays black, labels differ in colour.
    inside = picture[4, [0, 9]]
    assert inside[0].tolist() == [0, 0, 0]
    assert inside[1].max() > 50


def test_overlay_shows_the_image_and_the_outlines():
    labels = np.ones((9, 10), int)
    labels[:, 5:] = 2
    picture = overlay(GREY, labels, "YX").astype(int)
    assert picture[8, 1].sum() > picture[0, 1].sum()  # the image gets brighter downwards
    assert (picture[:, 4:6, :2] == 255).all()  # yellow along the border
    assert not (picture[:, :3, :2] == 255).all()


def test_picture_file_holds_what_was_written(tmp_path):
    write_picture(RGB, tmp_path / "a.png")
    assert np.array_equal(imageio.imread(tmp_path / "a.png"), RGB)


def ome(**sizes):
    return {"photometric": "minisblack", "metadata": {"axes": "ZYX", **sizes}}


def imagej(resolution=(4, 2), **metadata):
    return {
        "imagej": True,
        "resolution": resolution,
        "metadata": {"axes": "ZYX", **metadata},
    }


@pytest.mark.parametrize(
    ("name", "options", "size", "unit"),
    [
        (
            "a.ome.tif",
            ome(PhysicalSizeX=0.25, PhysicalSizeY=0.5, PhysicalSizeZ=2),
            {"Z": 2, "Y": 0.5, "X": 0.25},
            "micrometer",
        ),
        (
            "a.ome.tif",
            ome(PhysicalSizeX=0.5, PhysicalSizeY=0.5, PhysicalSizeZ=900, PhysicalSizeZUnit="nm"),
            {"Z": 0.9, "Y": 0.5, "X": 0.5},
            "micrometer",
        ),
        ("a.ome.tif", ome(PhysicalSizeX=0.5), {"X": 0.5}, "micrometer"),
        ("a.ome.tif", ome(PhysicalSizeX=0, PhysicalSizeY=-1), {}, "pixel"),
        (
            "a.ome.tif",
            ome(PhysicalSizeX=2, PhysicalSizeXUnit="reference frame", PhysicalSizeZ=1),
            {},
            "pixel",
        ),
        ("a.ome.tif", ome(), {}, "pixel"),
        ("a.tif", imagej(spacing=2, unit="um"), {"Z": 2, "Y": 0.5, "X": 0.25}, "micrometer"),
        ("a.tif", imagej(spacing=2), {"Z": 2, "Y": 0.5, "X": 0.25}, "pixel"),
        ("a.tif", imagej(unit="furlong"), {"Y": 0.5, "X": 0.25}, "furlong"),
        ("a.tif", imagej(), {}, "pixel"),
        ("a.tif", {"resolution": (300, 300), "photometric": "minisblack"}, {}, "pixel"),
    ],
)
def test_files_tell_the_size_of_a_voxel(tmp_path, name, options, size, unit):
    tifffile.imwrite(tmp_path / name, np.zeros((4, 9, 10), np.uint8), **options)
    opened = open_file(tmp_path / name)
    assert opened.voxel_size == pytest.approx(size)
    assert opened.unit == unit


def test_pictures_have_no_voxels(tmp_path):
    write_picture(RGB, tmp_path / "a.png")
    assert open_file(tmp_path / "a.png").voxel_size == {}


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"metadata": {"axes": "ZYX"}, "ome": True},
    ],
    ids=["compressed", "imagej", "ome"],
)
def test_pages_that_were_cut_off_are_missed_instead_of_leaving_fewer(tmp_path, options):
    path = tmp_path / "a.tif"
    stack = np.stack([GREY] * 6).astype(np.uint16)
    tifffile.imwrite(path, stack, photometric="minisblack", **options)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        end = file.pages[3].offset
    path.write_bytes(content[:end])
    for largest in (0, float("inf")):
        with pytest.raises(InputError, match=r"a\.tif is cut off: pages are missing after \d"):
            open_file(path, largest)


def test_sizes_of_voxels_that_make_no_sense_do_not_cost_the_pixels(tmp_path):
    for name, options in (
        ("a.ome.tif", ome(PhysicalSizeX="wide")),
        ("b.tif", imagej(spacing="wide")),
    ):
        tifffile.imwrite(tmp_path / name, np.zeros((4, 9, 10), np.uint8), **options)
        opened = open_file(tmp_path / name)
        assert (opened.array.shape, opened.voxel_size) == ((4, 9, 10), {})


def test_an_image_that_is_said_to_be_larger_than_memory_is_not_loaded(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", GREY, compression="zlib")
    zarr.create_array(store=str(tmp_path / "a.zarr"), data=GREY)
    monkeypatch.setattr(memory, "free_memory", lambda: 10)
    for name in ("a.tif", "a.zarr"):
        with pytest.raises(InputError, match=rf"{name} claims to hold \(9, 10\) uint8"):
            read_file(tmp_path / name)
    assert open_file(tmp_path / "a.tif", largest=0).array.shape == (9, 10)


def test_a_damaged_chunk_of_zarr_is_told_when_it_is_read(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(store=str(path), data=GREY, chunks=(9, 10))
    chunk = next(p for p in path.rglob("*") if p.is_file() and p.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"a\.zarr cannot be read"):
        read_file(path)


def test_a_tiff_without_pages_is_said_to_hold_no_image(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0\0\0\0\0")
    with pytest.raises(InputError, match=r"a\.tif"):
        read_file(tmp_path / "a.tif")


def test_a_tiff_whose_strip_is_said_to_be_endless_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, compression="zlib", bigtiff=True)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripByteCounts"].overwrite([2**62])
    with pytest.raises(InputError, match=r"a\.tif is damaged, or there is too little memory"):
        read_file(path)


def test_transparency_of_a_picture_is_left_out(tmp_path):
    """It was taken for a channel."""
    colours = np.random.default_rng(0).integers(0, 255, (9, 10, 4), np.uint8)
    imageio.imwrite(tmp_path / "a.png", colours)
    imageio.imwrite(tmp_path / "b.png", colours[..., :2])
    assert np.array_equal(read_file(tmp_path / "a.png")[0], colours[..., :3])
    assert np.array_equal(read_file(tmp_path / "b.png")[0], colours[..., :1])


def test_long_values_of_a_damaged_file_are_cut_in_its_error(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(f'{{"zarr_format": {[0] * 5000}}}')
    with pytest.raises(InputError, match=r"a\.zarr is damaged or no image \(.*\)\.$") as error:
        read_file(tmp_path / "a.zarr")
    assert len(str(error.value)) < 500
