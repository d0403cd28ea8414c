"""Reading of TIFF files: axes, voxel sizes and units, damage."""

import pickle
import re
import struct
import sys
from importlib.util import find_spec
from uuid import uuid4

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
        (TWO, "a.tif", {"metadata": {"axes": "tyx"}, "photometric": "minisblack"}, "TYX"),
        (TWO.astype(np.float32), "a.TIF", {"photometric": "minisblack"}, None),
    ],
    ids=["grey", "rgb", "ome channels", "ome time", "imagej", "lower case", "unnamed"],
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
        ("a.ome.tif", ome(PhysicalSizeX=0, PhysicalSizeY=-1), {}, ""),
        (
            "a.ome.tif",
            ome(PhysicalSizeX=2, PhysicalSizeXUnit="reference frame", PhysicalSizeZ=1),
            {},
            "",
        ),
        ("a.ome.tif", ome(), {}, ""),
        ("a.tif", imagej(spacing=2, unit="um"), {"Z": 2, "Y": 0.5, "X": 0.25}, "micrometer"),
        ("a.tif", imagej(spacing=2), {"Z": 2, "Y": 0.5, "X": 0.25}, ""),
        ("a.tif", imagej(unit="furlong"), {"Y": 0.5, "X": 0.25}, ""),
        ("a.tif", imagej(unit="\\u00B5m"), {"Y": 0.5, "X": 0.25}, "micrometer"),
        ("a.tif", imagej(unit="inch"), {"Y": 0.5, "X": 0.25}, "inch"),
        ("a.tif", imagej(), {}, ""),
        ("a.tif", {"resolution": (300, 300), "photometric": "minisblack"}, {}, ""),
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


@pytest.mark.parametrize("spacing", [1e-5, 0, -2, float("nan"), 1e9])
def test_voxel_sizes_beyond_reason_are_ignored_with_a_note(tmp_path, spacing):
    stack = np.zeros((4, 9, 10), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, **imagej(spacing=spacing, unit="um"))
    opened = open_file(tmp_path / "a.tif")
    assert opened.voxel_size == {}
    assert re.search(r"pixel sizes in the file \(Z .* um.*\) make no sense", opened.notes[0])
    assert opened.read_axes().voxel_size is None


def test_a_slice_distance_beyond_reason_does_not_matter_to_a_plane(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        GREY,
        imagej=True,
        resolution=(4, 2),
        metadata={"spacing": 1e-5, "unit": "um"},
    )
    opened = open_file(tmp_path / "a.tif")
    assert (opened.spacing("YX"), opened.notes) == ((0.5, 0.25), ())


@pytest.mark.parametrize(
    "name", ["a.lsm", "a.stk", "a.tf8", "a.btf", "a.ome.tf2", "a.dat", "a", "a.png"]
)
@pytest.mark.parametrize("largest", [0, float("inf")], ids=["lazy", "loaded"])
def test_tiff_is_known_by_its_content(tmp_path, name, largest):
    """Its axes were inferred if its name ended otherwise."""
    stack = np.arange(360, dtype=np.uint8).reshape(4, 9, 10)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "TYX", "unit": "um"},
    )
    (tmp_path / "a.tif").rename(tmp_path / name)
    opened = open_file(tmp_path / name, largest)
    assert (opened.axes, opened.voxel_size, opened.unit) == (
        "TYX",
        {"Y": 0.5, "X": 0.25},
        "micrometer",
    )
    assert np.array_equal(np.asarray(opened.array), stack)


@pytest.mark.parametrize("largest", [0, float("inf")], ids=["lazy", "loaded"])
def test_transparency_of_tiff_is_left_out(tmp_path, largest):
    """It was taken for a channel."""
    rgba = np.random.default_rng(0).integers(0, 255, (9, 10, 4), np.uint8)
    alpha = {"extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", **alpha)
    tifffile.imwrite(
        tmp_path / "b.tif", rgba[..., :2], photometric="minisblack", planarconfig="contig", **alpha
    )
    tifffile.imwrite(tmp_path / "c.tif", rgba, photometric="minisblack", planarconfig="contig")
    found = [open_file(tmp_path / name, largest) for name in ("a.tif", "b.tif", "c.tif")]
    assert [image.axes for image in found] == ["YXC", "YX", "YXC"]
    expected = rgba[..., :3], rgba[..., 0], rgba  # the last are four channels
    assert all(np.array_equal(np.asarray(f.array), e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize("largest", [0, float("inf")], ids=["lazy", "loaded"])
def test_colours_of_each_channel_become_channels(tmp_path, largest):
    """The error was about axes that nobody gave."""
    image = np.random.default_rng(0).integers(0, 255, (3, 2, 9, 10, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, metadata={"axes": "ZCYXS"})
    opened = open_file(tmp_path / "a.tif", largest)
    assert opened.axes == "CZYX"
    assert np.array_equal(np.asarray(opened.array)[4], image[:, 1, :, :, 1])


def ome_set(folder):
    """Two files, each with a channel of one image."""
    ids = [str(uuid4()) for _ in range(2)]
    planes = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstC="{i}" FirstZ="0" FirstT="0">'
        f'<UUID FileName="c{i}.ome.tif">urn:uuid:{ids[i]}</UUID></TiffData>'
        for i in range(2)
    )
    for i in range(2):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{ids[i]}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYCZT" Type="uint16" SizeX="10" SizeY="9" SizeC="2" SizeZ="1" '
            f'SizeT="1">{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / f"c{i}.ome.tif",
            TWO[i],
            description=xml,
            metadata=None,
            photometric="minisblack",
        )


def test_each_file_of_a_set_has_the_whole_image_and_names_all_files(tmp_path):
    ome_set(tmp_path)
    for name in ("c0.ome.tif", "c1.ome.tif"):
        opened = open_file(tmp_path / name)
        assert opened.axes == "CYX"
        assert np.array_equal(opened.array, TWO)
        assert [file.name for file in opened.files] == ["c0.ome.tif", "c1.ome.tif"]


@pytest.mark.parametrize("is_there", [False, True], ids=["missing", "empty"])
@pytest.mark.filterwarnings("ignore")
def test_a_set_without_one_of_its_files_is_refused(tmp_path, is_there):
    """The channel was zero."""
    ome_set(tmp_path)
    (tmp_path / "c1.ome.tif").unlink()
    if is_there:
        (tmp_path / "c1.ome.tif").touch()
    for largest in (0, float("inf")):
        with pytest.raises(InputError, match=r"c0\.ome\.tif: 1 of the 2 planes .*\(c1\.ome\.tif\)"):
            open_file(tmp_path / "c0.ome.tif", largest)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs reads these")
@pytest.mark.parametrize(("code", "name"), [(5, "LZW"), (7, "JPEG"), (50000, "ZSTD")])
def test_compression_that_needs_imagecodecs_is_named(tmp_path, code, name):
    """The file was called damaged."""
    if code == 50000 and sys.version_info >= (3, 14):
        pytest.skip("Python has Zstd")
    tifffile.imwrite(tmp_path / "a.tif", GREY, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(code)
    for largest in (0, float("inf")):
        with pytest.raises(InputError, match=rf"compressed \({name}\).*pip install imagecodecs"):
            open_file(tmp_path / "a.tif", largest)


def test_what_was_not_taken_of_a_file_with_several_images_is_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY)
        file.write(GREY[:4, :5])
    assert open_file(tmp_path / "a.tif").notes == (
        "Series 0 of 2 was taken (9 x 10), not 1 (4 x 5).",
    )
    for largest in (0, float("inf")):
        second = open_file(tmp_path / "a.tif", largest, series=1)
        assert np.array_equal(np.asarray(second.array), GREY[:4, :5])
    with pytest.raises(InputError, match=r"series = 2: a\.tif has series 0 to 1"):
        open_file(tmp_path / "a.tif", series=2)


def test_each_file_of_a_set_of_images_gives_its_own(tmp_path):
    """tifffile lists the image of the other file too, and reads this file's pixels for it."""
    ids = [str(uuid4()) for _ in range(2)]
    images = "".join(
        f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYCZT" Type="uint8" '
        f'SizeX="10" SizeY="9" SizeC="1" SizeZ="1" SizeT="1" PhysicalSizeX="{i + 1}"><TiffData '
        f'IFD="0" PlaneCount="1"><UUID FileName="p{i}.ome.tif">urn:uuid:{ids[i]}</UUID></TiffData>'
        "</Pixels></Image>"
        for i in range(2)
    )
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    for i in range(2):
        xml = f'<OME xmlns="{space}" UUID="urn:uuid:{ids[i]}">{images}</OME>'
        tifffile.imwrite(tmp_path / f"p{i}.ome.tif", GREY + i, description=xml, metadata=None)
    for largest in (0, float("inf")):
        for i in range(2):
            opened = open_file(tmp_path / f"p{i}.ome.tif", largest)
            assert np.array_equal(np.asarray(opened.array), GREY + i)
            assert (opened.voxel_size, opened.notes) == ({"X": i + 1}, ())


@pytest.mark.parametrize("positions", [0, 2])
def test_voxel_size_of_lsm_is_read_and_each_position_is_a_series(tmp_path, positions):
    info = np.zeros(1, tifffile.TIFF.CZ_LSMINFO)
    info["MagicNumber"], info["StructureSize"] = 0x0400494C, info.nbytes
    info["DimensionX"], info["DimensionY"], info["DimensionZ"] = 10, 9, 3
    info["DimensionChannels"] = info["DimensionTime"] = 1
    info["VoxelSizeX"], info["VoxelSizeY"], info["VoxelSizeZ"] = 2.5e-7, 2.5e-7, 1e-6  # metres
    info["DimensionP"] = positions
    stacks = [np.stack([GREY, GREY + 1, GREY + 2]) + 3 * i for i in range(max(positions, 1))]
    planes = np.concatenate(stacks)
    tags = [[(34412, 1, info.nbytes, info.tobytes(), True)], *[()] * (len(planes) - 1)]
    plain = {"photometric": "minisblack", "metadata": None, "contiguous": False}
    with tifffile.TiffWriter(tmp_path / "a.lsm") as file:
        for plane, extra in zip(planes, tags, strict=True):
            file.write(plane, extratags=extra, **plain)
            file.write(plane[::4, ::4], subfiletype=1, **plain)
    for largest in (0, float("inf")):
        for number, stack in enumerate(stacks):
            opened = open_file(tmp_path / "a.lsm", largest, series=number)
            assert np.array_equal(np.asarray(opened.array), stack)
            assert (opened.axes, opened.unit) == ("ZYX", "micrometer")
            assert opened.voxel_size == pytest.approx({"Z": 1, "Y": 0.25, "X": 0.25})
    if not positions:
        assert opened.notes == ("Series 0 of 2 was taken (3 x 9 x 10), not 1 (3 x 3 x 3).",)


def test_a_file_that_is_described_by_another_says_so(tmp_path):
    about = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">{}</OME>'
    )
    text = about.format('<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:b"/>')
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, description=text, metadata=None)
    (note,) = open_file(tmp_path / "a.ome.tif").notes
    assert (
        note
        == "It is a part of the image that a.companion.ome describes: its own planes were taken."
    )


def test_axes_of_metadata_that_do_not_fit_the_pages_are_not_used_and_it_is_said(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", TWO, imagej=True, metadata={"axes": "TYX"})
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(
        content.replace(b"images=2", b"images=9").replace(b"frames=2", b"frames=9")
    )
    opened = open_file(tmp_path / "a.tif")
    assert (opened.axes, opened.array.shape) == (None, TWO.shape)
    assert opened.notes == ("The ImageJ metadata do not fit the pages: their axes were not used.",)


def stk_of(planes, step, calibrated=True):
    """A MetaMorph stack of 8 bits: its planes lie one after the other, in a single page."""
    number, rows, columns = planes.shape
    values, where = bytearray(), 8 + 2 + 11 * 12 + 4

    def put(data):
        at = where + len(values)
        values.extend(data)
        return at

    length, unit = put(struct.pack("<2I", 325, 1000)), put(struct.pack("<I", 3) + b"um\0")
    details = (3, calibrated, 4, length, 5, length, 6, unit)  # number and value of each
    first = put(struct.pack("<8I", *details))
    times = [struct.pack("<6I", *step, 2450000, i, 2450000, i) for i in range(number)]
    tags = [(256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, put(planes.tobytes())), (277, 3, 1, 1), (278, 4, 1, rows)]
    tags += [
        (279, 4, 1, rows * columns),
        (33628, 4, 4, first),
        (33629, 5, number, put(b"".join(times))),
    ]
    page = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + page + bytes(4) + values


@pytest.mark.parametrize(
    ("step", "calibrated", "axes", "size"),
    [
        ((1, 2), True, "ZYX", {"Z": 0.5, "Y": 0.325, "X": 0.325}),
        ((0, 1), True, "TYX", {"Y": 0.325, "X": 0.325}),
        ((1, 2), False, "ZYX", {}),
    ],
)
def test_voxel_size_of_stk_is_read(tmp_path, step, calibrated, axes, size):
    stack = np.stack([GREY, GREY + 1, GREY + 2])
    (tmp_path / "a.stk").write_bytes(stk_of(stack, step, calibrated))
    for largest in (0, float("inf")):
        opened = open_file(tmp_path / "a.stk", largest)
        assert np.array_equal(np.asarray(opened.array), stack)
        assert (opened.axes, opened.voxel_size) == (axes, pytest.approx(size))


def test_pixel_size_of_aperio_slides_is_read(tmp_path):
    text = "Aperio Image Library v11\n10x9|AppMag = 20|MPP = 0.499"
    tifffile.imwrite(tmp_path / "a.svs", RGB, description=text, metadata=None, photometric="rgb")
    opened = open_file(tmp_path / "a.svs")
    assert (opened.axes, opened.voxel_size) == ("YXC", {"Y": 0.499, "X": 0.499})


@pytest.mark.parametrize("largest", [0, float("inf")], ids=["lazy", "loaded"])
def test_a_resolution_can_be_chosen(tmp_path, largest):
    image = np.random.default_rng(0).integers(0, 255, (64, 96), np.uint8)
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        file.write(image, subifds=1, tile=(16, 16), metadata={"axes": "YX", **size})
        file.write(image[::2, ::2], subfiletype=1, tile=(16, 16))
    finest, coarse = (open_file(tmp_path / "a.ome.tif", largest, n) for n in (0, 1))
    assert np.array_equal(np.asarray(finest.array), image)
    assert np.array_equal(np.asarray(coarse.array), image[::2, ::2])
    assert (finest.spacing("YX"), coarse.spacing("YX")) == ((0.5, 0.5), (1, 1))
    assert finest.notes == ("Resolution 0 of 0 (the finest) to 1 was taken: 64 x 96 pixels.",)
    with pytest.raises(InputError, match=r"resolution = 2: a\.ome\.tif has resolutions 0 to 1"):
        open_file(tmp_path / "a.ome.tif", largest, 2)


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
