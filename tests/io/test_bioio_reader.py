import numpy as np
import pytest
import tifffile

from napari_aeseg.batch import image_files
from napari_aeseg.errors import InputError
from napari_aeseg.io import bioio_reader
from napari_aeseg.io.bioio_reader import open_with_bioio
from napari_aeseg.io.images import open_file

# Warnings of the readers and of what they need are not ours.
of_readers = pytest.mark.filterwarnings("default")
STACK = np.random.default_rng(0).integers(0, 60000, (2, 3, 40, 50), np.uint16)


@pytest.mark.parametrize(("suffix", "reader"), [(".czi", "bioio-czi"), (".LIF", "bioio-lif")])
def test_without_its_reader_a_file_is_refused_with_what_to_install(
    tmp_path, monkeypatch, suffix, reader
):
    monkeypatch.setattr(bioio_reader, "find_spec", lambda _name: None)
    (tmp_path / f"a{suffix}").write_bytes(b"ZISRAWFILE" + bytes(range(200)))
    with pytest.raises(InputError, match=rf'pip install "napari-aeseg\[bioio\]" {reader}\.$'):
        open_file(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match="There is no image"):
        image_files(tmp_path)


@of_readers
def test_czi_has_the_pixels_axes_and_voxel_size_of_the_file_and_is_stitched(tmp_path):
    pytest.importorskip("bioio_czi")
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for c, z in np.ndindex(2, 3):
            file.write(STACK[c, z, ..., None], plane={"C": c, "Z": z, "T": 0})
        file.write_metadata("a", scale_x=0.25e-6, scale_y=0.25e-6, scale_z=1e-6)
    colours = np.moveaxis(STACK[0], 0, -1).astype(np.uint8)
    with czi.create_czi(str(tmp_path / "b.czi")) as file:
        file.write(colours, plane={"C": 0, "Z": 0, "T": 0})
    opened = open_file(tmp_path / "a.czi")
    assert np.array_equal(opened.array, STACK)
    assert (opened.axes, opened.notes) == ("CZYX", ())
    assert opened.spacing("ZYX") == pytest.approx((1, 0.25, 0.25))
    assert opened.unit == "micrometer"
    lazy = open_file(tmp_path / "a.czi", largest=0).array
    assert not isinstance(lazy, np.ndarray)
    assert np.array_equal(lazy, STACK)
    for largest in (0, 1e9):
        opened = open_file(tmp_path / "b.czi", largest)
        assert np.array_equal(opened.array, colours[..., ::-1])  # the file has blue first
    assert (opened.axes, opened.voxel_size) == ("YXC", {})
    with czi.create_czi(str(tmp_path / "m.czi")) as file:
        for y, x in ((0, 0), (0, 25), (20, 0), (20, 25)):
            tile = np.ascontiguousarray(STACK[0, 0, y : y + 20, x : x + 25, None])
            file.write(tile, plane={"C": 0, "Z": 0, "T": 0}, location=(x, y))
    opened = open_file(tmp_path / "m.czi")
    assert np.array_equal(opened.array, STACK[0, 0])
    assert (opened.axes, opened.notes) == ("YX", ())
    (tmp_path / "m.czi").unlink()
    assert [f.name for f in image_files(tmp_path)] == ["a.czi", "b.czi"]
    (tmp_path / "c.czi").write_bytes(b"ZISRAWFILE" + bytes(range(200)))
    with pytest.raises(InputError, match=r"c\.czi is damaged"):
        open_file(tmp_path / "c.czi")


@of_readers
def test_scenes_are_series(tmp_path):
    pytest.importorskip("bioio_ome_tiff")
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        file.write(STACK[:, 0], metadata={"axes": "TYX", "Name": "first", **sizes})
        file.write(STACK[0], metadata={"axes": "ZYX", "Name": "second", "PhysicalSizeZ": 2.0})
    first, second = (open_with_bioio(path, 0, series=i) for i in range(2))
    assert (first.axes, second.axes) == ("TYX", "ZYX")
    assert (first.voxel_size, second.voxel_size) == ({"Y": 0.5, "X": 0.5}, {"Z": 2.0})
    assert np.array_equal(first.array, STACK[:, 0])
    assert np.array_equal(second.array, STACK[0])
    assert second.notes[0].startswith("Series 1 of 2 was taken")
    with pytest.raises(InputError, match="series = 2"):
        open_with_bioio(path, 0, series=2)
    with pytest.raises(InputError, match="resolution = 1"):
        open_with_bioio(path, 0, resolution=1)
