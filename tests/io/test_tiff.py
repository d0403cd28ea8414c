"""Reading of TIFF files: axes, voxel sizes and units, damage."""

import pickle

import numpy as np
import pytest
import tifffile

from napari_aeseg.errors import InputError
from napari_aeseg.io.file_array import FileArray
from napari_aeseg.io.images import open_file, read_file

GREY = np.arange(90, dtype=np.uint8).reshape(9, 10)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
TWO = np.stack([GREY, GREY[:, ::-1]]).astype(np.uint16)
VALUES = np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50)


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
def test_axes_of_tiff_are_those_of_its_metadata(tmp_path, image, name, options, axes):
    tifffile.imwrite(tmp_path / name, image, **options)
    found, found_axes = read_file(str(tmp_path / name))
    assert np.array_equal(found, image)
    assert found.dtype == image.dtype
    assert found_axes == axes


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
def test_voxel_size_and_unit_of_tiff_are_those_of_its_metadata(tmp_path, name, options, size, unit):
    tifffile.imwrite(tmp_path / name, np.zeros((4, 9, 10), np.uint8), **options)
    opened = open_file(tmp_path / name)
    assert opened.voxel_size == pytest.approx(size)
    assert opened.unit == unit


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"metadata": {"axes": "ZYX"}, "ome": True},
    ],
    ids=["compressed", "imagej", "ome"],
)
def test_tiff_that_is_cut_off_is_refused(tmp_path, options):
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


def test_tiff_with_invalid_voxel_sizes_is_read_without_them(tmp_path):
    for name, options in (
        ("a.ome.tif", ome(PhysicalSizeX="wide")),
        ("b.tif", imagej(spacing="wide")),
    ):
        tifffile.imwrite(tmp_path / name, np.zeros((4, 9, 10), np.uint8), **options)
        opened = open_file(tmp_path / name)
        assert (opened.array.shape, opened.voxel_size) == ((4, 9, 10), {})


def test_tiff_without_pages_is_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0\0\0\0\0")
    with pytest.raises(InputError, match=r"a\.tif"):
        read_file(tmp_path / "a.tif")


def test_tiff_with_a_strip_of_impossible_length_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, compression="zlib", bigtiff=True)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripByteCounts"].overwrite([2**62])
    with pytest.raises(InputError, match=r"a\.tif is damaged, or there is too little memory"):
        read_file(path)


@pytest.mark.parametrize(
    "options",
    [{}, {"tile": (16, 16)}, {"compression": "zlib"}, {"bigtiff": True, "tile": (16, 32)}],
    ids=["plain", "tiled", "compressed", "big"],
)
def test_only_indexed_parts_of_a_large_tiff_are_read(tmp_path, options):
    path = tmp_path / "a.ome.tif"
    size = {"PhysicalSizeX": 0.3, "PhysicalSizeY": 0.2, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(path, VALUES, metadata={"axes": "CYX", **size}, **options)
    opened = open_file(path, largest=100)
    assert isinstance(opened.array, FileArray)
    assert opened.axes == "CYX"
    assert opened.spacing("YX") == (0.2, 0.3)
    assert opened.unit == "micrometer"
    assert np.array_equal(opened.array[2, 17:30, 3:], VALUES[2, 17:30, 3:])
    assert np.array_equal(pickle.loads(pickle.dumps(opened.array)), VALUES)
    assert isinstance(open_file(path).array, np.ndarray)
