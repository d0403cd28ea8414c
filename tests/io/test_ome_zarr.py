"""Reading of zarr arrays and OME-Zarr images; they are never loaded."""

import pickle

import numpy as np
import pytest
import zarr

from napari_aeseg.errors import InputError
from napari_aeseg.io.images import open_file
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


def test_a_resolution_can_be_chosen_and_the_default_is_said(tmp_path):
    path = ome(tmp_path / "a.ome.zarr", VALUES, "0.5", scale=[1, 0.5, 0.25])
    assert open_file(path).notes == (
        "Resolution 0 of 0 (the finest) to 1 was taken: 40 x 50 pixels.",
    )
    assert np.array_equal(open_file(path, resolution=1).array, VALUES[..., ::2, ::2])
    for wrong in (2, -1, True, 1.0):
        with pytest.raises(
            InputError, match=rf"resolution = {wrong}: a\.ome\.zarr has resolutions 0 to 1"
        ):
            open_file(path, resolution=wrong)


@pytest.mark.parametrize(
    ("units", "size", "unit"),
    [
        (("micrometer", "nanometer", "nanometer"), {"Z": 1000, "Y": 250, "X": 250}, "nanometer"),
        (("um", "micrometer", "micron"), {"Z": 1, "Y": 250, "X": 250}, "micrometer"),
        (("", "", ""), {"Z": 1, "Y": 250, "X": 250}, ""),
        (("", "nanometer", "nanometer"), {}, ""),
        ((" ", " ", " "), {"Z": 1, "Y": 250, "X": 250}, ""),  # some programs write so
    ],
)
def test_sizes_of_axes_are_brought_to_one_unit(tmp_path, units, size, unit):
    """Numbers in different units were taken as they were."""
    axes = [{"name": a, "type": "space", "unit": u} for a, u in zip("zyx", units, strict=True)]
    opened = open_file(ome(tmp_path / "a.zarr", VALUES, "0.4", axes, [1, 250, 250]))
    assert (opened.voxel_size, opened.unit) == (size, unit)
    assert bool(opened.notes[1:]) == (not size)


def test_units_of_axes_are_understood_as_some_programs_call_them(tmp_path):
    axes = [{"name": a, "type": "space", "units": "micrometer"} for a in "zyx"]
    assert open_file(ome(tmp_path / "a.zarr", VALUES, "0.4", axes, [1, 2, 2])).unit == "micrometer"


@pytest.mark.parametrize("scale", [[0, 1, 1], [1, -1, 1], [1, 1, 1e9]])
def test_scales_beyond_reason_are_ignored_with_a_note(tmp_path, scale):
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    opened = open_file(ome(tmp_path / "a.zarr", VALUES, "0.4", axes, scale))
    assert opened.read_axes().voxel_size is None
    assert "make no sense" in opened.notes[1]


def test_axes_of_size_1_of_old_ome_zarr_are_dropped(tmp_path):
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


def test_series_of_bioformats2raw_can_be_chosen(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    group.create_group("OME")
    for name in ("10", "9"):
        ome(tmp_path / "a.zarr" / name, VALUES + int(name), "0.5", [{"name": a} for a in "zyx"])
    opened = open_file(tmp_path / "a.zarr")
    assert np.array_equal(opened.array, VALUES + 9)
    assert opened.notes[-1] == "Series 0 of 2 was taken (9), not 1 (10)."
    assert np.array_equal(open_file(tmp_path / "a.zarr", series=1).array, VALUES + 10)


def test_damaged_zarr_is_refused(tmp_path):
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.zarr is damaged or no image"):
        open_file(path)


@pytest.mark.parametrize("where", ["../other.zarr", "/other.zarr", "0/../../other.zarr"])
def test_ome_zarr_that_names_an_array_outside_of_it_is_refused(tmp_path, where):
    zarr.create_array(store=str(tmp_path / "other.zarr"), data=VALUES)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.attrs.update({"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": where}]}]})
    with pytest.raises(InputError, match=r"a\.zarr names an array outside of it"):
        open_file(tmp_path / "a.zarr")


@pytest.mark.parametrize("text", ["[1]", "7", '{"attributes": [1]}', "[" * 100_000, "\xff"])
def test_metadata_of_other_programs_are_not_taken_for_our_attributes(tmp_path, text):
    (tmp_path / "zarr.json").write_bytes(text.encode("latin-1"))
    assert aeseg_attributes(tmp_path) is None
