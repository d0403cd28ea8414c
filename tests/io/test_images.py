import struct
import zlib
from importlib.util import find_spec

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import zarr

from napari_aeseg.errors import InputError
from napari_aeseg.images import memory
from napari_aeseg.io.file_array import ImageFile
from napari_aeseg.io.images import (
    READERS,
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


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no image file.*lost\.png"):
        read_file(tmp_path / "lost.png")
    with pytest.raises(InputError, match="no image file"):
        read_file(tmp_path)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
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


def test_picture_file_has_the_pixels_that_were_written(tmp_path):
    write_picture(RGB, tmp_path / "a.png")
    assert np.array_equal(imageio.imread(tmp_path / "a.png"), RGB)


def test_png_has_no_voxel_size(tmp_path):
    write_picture(RGB, tmp_path / "a.png")
    assert open_file(tmp_path / "a.png").voxel_size == {}


def test_file_larger_than_free_memory_is_not_loaded(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", GREY, compression="zlib")
    zarr.create_array(store=str(tmp_path / "a.zarr"), data=GREY)
    monkeypatch.setattr(memory, "free_memory", lambda: 10)
    for name in ("a.tif", "a.zarr"):
        with pytest.raises(InputError, match=rf"{name} claims to hold \(9, 10\) uint8"):
            read_file(tmp_path / name)
    assert open_file(tmp_path / "a.tif", largest=0).array.shape == (9, 10)


def test_damaged_chunk_of_zarr_is_an_error_when_it_is_read(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(store=str(path), data=GREY, chunks=(9, 10))
    chunk = next(p for p in path.rglob("*") if p.is_file() and p.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"a\.zarr cannot be read"):
        read_file(path)


def test_transparency_of_png_is_left_out(tmp_path):
    """It was taken for a channel."""
    colours = np.random.default_rng(0).integers(0, 255, (9, 10, 4), np.uint8)
    imageio.imwrite(tmp_path / "a.png", colours)
    imageio.imwrite(tmp_path / "b.png", colours[..., :2])
    assert np.array_equal(read_file(tmp_path / "a.png")[0], colours[..., :3])
    assert np.array_equal(read_file(tmp_path / "b.png")[0], colours[..., 0])


def png_of(pixels):
    """A PNG file of (Y, X, channels) pixels of 16 bits, which Pillow does not write."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows, columns, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", columns, rows, 16, colour_type, 0, 0, 0)
    content = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_of_png_are_read_or_refused(tmp_path, channels):
    """12-bit colours became 0 to 15."""
    pixels = np.random.default_rng(0).integers(0, 4096, (9, 10, channels), np.uint16)
    (tmp_path / "a.png").write_bytes(png_of(pixels))
    if channels > 1 and find_spec("imagecodecs") is None:
        with pytest.raises(InputError, match=r"a\.png has colours of 16 bits.*imagecodecs"):
            open_file(tmp_path / "a.png")
        return
    found = open_file(tmp_path / "a.png").array
    assert np.array_equal(found, pixels[..., 0] if channels < 3 else pixels[..., :3])


def test_16_bits_of_ppm_are_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 2 1 65535\n" + bytes(12))
    with pytest.raises(InputError, match=r"a\.ppm has colours of 16 bits"):
        open_file(tmp_path / "a.ppm")


@pytest.mark.parametrize(
    "suffix", [".czi", ".nd2", ".lif", ".h5", ".zarr.zip", ".nii", ".fits", ""]
)
def test_formats_that_are_not_supported_say_what_to_do(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("napari_aeseg.io.bioio_reader.find_spec", lambda _name: None)
    (tmp_path / f"a{suffix}").write_bytes(b"ZISRAWFILE" + bytes(range(200)))
    with pytest.raises(InputError, match=r"not supported\. Open it in napari with a reader plugin"):
        open_file(tmp_path / f"a{suffix}")


def test_arrays_of_numpy_are_read(tmp_path):
    np.save(tmp_path / "a.npy", TWO)
    np.savez(tmp_path / "a.npz", TWO)
    assert isinstance(open_file(tmp_path / "a.npy").array, np.memmap)
    for name in ("a.npy", "a.npz"):
        assert np.array_equal(read_file(tmp_path / name)[0], TWO)
    np.savez(tmp_path / "b.npz", first=TWO, second=GREY)
    with pytest.raises(InputError, match=r"b\.npz holds 2 arrays \(first, second\)"):
        open_file(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"c\.npy is damaged or no image"):
        open_file(tmp_path / "c.npy")


def test_frames_of_gif_are_time_points_and_one_is_a_plane(tmp_path):
    imageio.imwrite(tmp_path / "a.gif", [GREY, 89 - GREY, GREY // 2])
    imageio.imwrite(tmp_path / "b.gif", GREY)
    assert (open_file(tmp_path / "a.gif").axes, open_file(tmp_path / "a.gif").array.shape) == (
        "TYXC",
        (3, 9, 10, 3),
    )
    assert open_file(tmp_path / "b.gif").array.shape == (9, 10, 3)


def test_long_values_of_a_damaged_file_are_cut_in_its_error(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(f'{{"zarr_format": {[0] * 5000}}}')
    with pytest.raises(InputError, match=r"a\.zarr is damaged or no image \(.*\)\.$") as error:
        read_file(tmp_path / "a.zarr")
    assert len(str(error.value)) < 500


def test_a_file_format_is_one_entry_of_the_readers(tmp_path, monkeypatch):
    def open_text(path, largest, resolution, series):
        return ImageFile(np.loadtxt(path), "YX", {"Y": 2.0, "X": 2.0})

    monkeypatch.setitem(READERS, ".txt", open_text)
    (tmp_path / "a.TXT").write_text("1 2\n3 4")
    opened = open_file(tmp_path / "a.TXT")
    assert opened.array.tolist() == [[1, 2], [3, 4]]
    assert opened.spacing("YX") == (2, 2)
