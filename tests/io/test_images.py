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
    assert np.array_equal(read_file(tmp_path / "b.png")[0], colours[..., :1])


def test_long_values_of_a_damaged_file_are_cut_in_its_error(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(f'{{"zarr_format": {[0] * 5000}}}')
    with pytest.raises(InputError, match=r"a\.zarr is damaged or no image \(.*\)\.$") as error:
        read_file(tmp_path / "a.zarr")
    assert len(str(error.value)) < 500


def test_a_file_format_is_one_entry_of_the_readers(tmp_path, monkeypatch):
    def open_text(path, largest):
        return ImageFile(np.loadtxt(path), "YX", {"Y": 2.0, "X": 2.0})

    monkeypatch.setitem(READERS, ".txt", open_text)
    (tmp_path / "a.TXT").write_text("1 2\n3 4")
    opened = open_file(tmp_path / "a.TXT")
    assert opened.array.tolist() == [[1, 2], [3, 4]]
    assert opened.spacing("YX") == (2, 2)
