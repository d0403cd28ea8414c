"""Files that are opened without being loaded."""

import pickle

import numpy as np
import pytest
import tifffile
import zarr

import napari_aeseg as aeseg
from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import read_axes
from napari_aeseg.images.blocks import BlockImage
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.io.file_array import FileArray
from napari_aeseg.io.images import open_file, read_file
from napari_aeseg.io.ome_zarr import aeseg_attributes

VALUES = np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50)
AXES = [{"name": "c", "type": "channel"}] + [
    {"name": a, "type": "space", "unit": "micrometer"} for a in "yx"
]


def ome(path, values, version, axes=AXES, scale=None):
    """An OME-Zarr image with a second level that must not be taken."""
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    for name, level in (("0", values), ("1", values[..., ::2, ::2])):
        group.create_array(name, data=level, chunks=(1,) * (values.ndim - 2) + (16, 16))
    datasets = [{"path": "0"}, {"path": "1"}]
    if scale is not None:
        datasets[0]["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    about = {"version": version, "multiscales": [{"version": version, "datasets": datasets}]}
    if axes is not None:
        about["multiscales"][0]["axes"] = axes
    group.attrs.update({"ome": about} if version == "0.5" else about)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_arrays_are_opened_where_they_are(tmp_path, version):
    path = tmp_path / "a.zarr"
    zarr.create_array(store=str(path), data=VALUES, chunks=(1, 16, 16), zarr_format=version)
    opened = open_file(path)
    assert isinstance(opened.array, FileArray)
    assert (opened.array.shape, opened.array.dtype) == (VALUES.shape, VALUES.dtype)
    assert opened.array.chunks == (1, 16, 16)
    assert opened.axes is None
    assert np.array_equal(opened.array[1, 3:9, ::2], VALUES[1, 3:9, ::2])
    assert np.array_equal(opened.array[..., 4], VALUES[..., 4])
    assert np.array_equal(read_file(path)[0], VALUES)


def test_dimension_names_are_axes(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(
        store=str(path), data=VALUES, chunks=(1, 16, 16), dimension_names=("time", "y", "x")
    )
    assert open_file(path).axes == "TYX"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_finest_level_of_ome_zarr_is_taken(tmp_path, version):
    opened = open_file(ome(tmp_path / "a.ome.zarr", VALUES, version, scale=[1, 0.5, 0.25]))
    assert opened.axes == "CYX"
    assert opened.spacing("YX") == (0.5, 0.25)
    assert opened.spacing("ZYX") is None
    assert opened.unit == "micrometer"
    assert np.array_equal(opened.array, VALUES)


def test_old_ome_zarr_has_five_axes_of_which_single_ones_are_dropped(tmp_path):
    opened = open_file(ome(tmp_path / "a.zarr", VALUES[None, :, None], "0.2", axes=None))
    assert (opened.axes, opened.array.shape) == ("CYX", VALUES.shape)
    assert np.array_equal(opened.array[2, 5:9], VALUES[2, 5:9])
    again = pickle.loads(pickle.dumps(opened.array))
    assert np.array_equal(again, VALUES)
    assert open_file(ome(tmp_path / "b.zarr", VALUES, "0.3", axes=["z", "y", "x"])).axes == "ZYX"


def test_groups_of_several_images_are_refused_with_their_names(tmp_path):
    path = tmp_path / "many.zarr"
    group = zarr.open_group(str(path), mode="w")
    with pytest.raises(InputError, match="holds no image"):
        open_file(path)
    group.create_array("nuclei", data=VALUES)
    assert open_file(path).array.shape == VALUES.shape
    group.create_array("cells", data=VALUES)
    with pytest.raises(InputError, match=r"2 images or arrays \(cells, nuclei\).*many.zarr/cells"):
        open_file(path)
    assert open_file(path / "nuclei").array.shape == VALUES.shape


def test_damaged_zarr_is_refused(tmp_path):
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.zarr is damaged or no image"):
        open_file(path)


@pytest.mark.parametrize(
    "options",
    [{}, {"tile": (16, 16)}, {"compression": "zlib"}, {"bigtiff": True, "tile": (16, 32)}],
    ids=["plain", "tiled", "compressed", "big"],
)
def test_large_tiff_is_read_where_it_is_looked_at(tmp_path, options):
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


@pytest.mark.parametrize("axes", ["CYX", "XCY", "ZYX"])
def test_blocks_of_a_file_are_those_of_the_array(tmp_path, axes):
    path = tmp_path / "a.zarr"
    zarr.create_array(store=str(path), data=VALUES, chunks=(1, 16, 16))
    given = read_axes(VALUES.shape, axes)
    same = IntensityRange((0.0,) * 40, (1.0,) * 40)
    lazy, whole = (BlockImage.of(a, given, "a", same) for a in (open_file(path).array, VALUES))
    assert (lazy.shape, lazy.channels) == (whole.shape, whole.channels)
    part = (slice(1, 3),) * len(whole.shape)
    assert np.array_equal(lazy.raw(part), whole.raw(part))


def test_a_file_is_segmented_in_blocks(tmp_path, stripes):
    path = tmp_path / "a.zarr"
    zarr.create_array(store=str(path), data=stripes, chunks=(16, 16))
    params = aeseg.SegmentationParams(patches="grid", patch_size=4)
    blocks = aeseg.BlockParams(block_size=32)
    lazy, whole = (
        aeseg.build_hierarchy(image, "base", params, device="cpu", blocks=blocks)
        for image in (open_file(path).array, stripes)
    )
    assert np.array_equal(lazy.regions(4).compute(), whole.regions(4).compute())


@pytest.mark.parametrize("where", ["../other.zarr", "/other.zarr", "0/../../other.zarr"])
def test_ome_zarr_that_names_an_array_outside_of_it_is_refused(tmp_path, where):
    zarr.create_array(store=str(tmp_path / "other.zarr"), data=VALUES)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.attrs.update({"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": where}]}]})
    with pytest.raises(InputError, match=r"a\.zarr names an array outside of it"):
        open_file(tmp_path / "a.zarr")


@pytest.mark.parametrize("text", ["[1]", "7", '{"attributes": [1]}', "[" * 100_000, "\xff"])
def test_metadata_of_others_are_not_ours_whatever_they_are(tmp_path, text):
    (tmp_path / "zarr.json").write_bytes(text.encode("latin-1"))
    assert aeseg_attributes(tmp_path) is None
