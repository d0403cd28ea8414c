"""Labels written part by part."""

import threading

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_aeseg.errors import InputError, StoppedError
from napari_aeseg.io import ome_zarr
from napari_aeseg.io import tiff as tiled_tiff
from napari_aeseg.io.images import open_file, read_file
from napari_aeseg.io.labels import WRITERS, write_label_image, write_labels
from napari_aeseg.progress import Progress

LABELS = np.random.default_rng(0).integers(0, 99, (300, 410)).astype(np.int32)
LAZY = da.from_array(LABELS, chunks=(100, 90))


@pytest.fixture
def small_parts(monkeypatch):
    """Let an image of a few hundred pixels have many parts, and levels."""
    monkeypatch.setattr(ome_zarr, "_CHUNK", {2: 32, 3: 16})
    monkeypatch.setattr(ome_zarr, "_SHARD", {2: 2, 3: 2})
    monkeypatch.setattr(ome_zarr, "_COARSEST", 64)
    monkeypatch.setattr(tiled_tiff, "_TILE", 64)
    monkeypatch.setattr(tiled_tiff, "_BYTES", 2**16)


class After:
    """Says stop after a few looks."""

    def __init__(self, looks):
        self.looks = looks

    def is_set(self):
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize("labels", [LABELS, LAZY], ids=["numpy", "dask"])
def test_ome_zarr_has_a_pyramid_of_labels_that_never_mix(tmp_path, small_parts, labels):
    path = write_labels(labels, tmp_path / "a.ome.zarr", "YX", (0.5, 0.25), "micrometer")
    group = zarr.open_group(str(path), mode="r")
    assert sorted(group.array_keys()) == ["0", "1", "2", "3"]
    for level in range(4):
        found = group[str(level)]
        assert found.dtype == np.int32
        assert np.array_equal(found, LABELS[:: 2**level, :: 2**level])
    opened = open_file(path)
    assert (opened.axes, opened.unit) == ("YX", "micrometer")
    assert opened.spacing("YX") == (0.5, 0.25)


def test_ome_zarr_is_valid_and_readers_open_it(tmp_path, small_parts):
    path = write_labels(LAZY, tmp_path / "a.ome.zarr", "YX", (0.5, 0.25), "micrometer")
    models = pytest.importorskip("ome_zarr_models.v05")
    model = models.ImageLabel.from_zarr(zarr.open_group(str(path), mode="r"))
    scales = [d.coordinateTransformations[0].scale for d in
              model.ome_attributes.multiscales[0].datasets]  # fmt: skip
    assert scales == [[0.5 * f, 0.25 * f] for f in (1, 2, 4, 8)]
    reader = pytest.importorskip("ome_zarr.reader")
    location = pytest.importorskip("ome_zarr.io").parse_url(str(path))
    (node,) = reader.Reader(location)()
    assert np.array_equal(node.data[0].compute(), LABELS)
    assert len(node.data) == 4


@pytest.mark.parametrize("kind", [np.asarray, da.from_array, zarr.array], ids=lambda k: k.__name__)
@pytest.mark.parametrize("name", ["a.ome.zarr", "a.tif"])
def test_labels_with_axes_in_another_order_are_transposed(tmp_path, kind, name):
    """They were refused, after all had been encoded."""
    stack = np.random.default_rng(1).integers(0, 9, (40, 3, 30, 5)).astype(np.int32)
    path = write_labels(kind(stack), tmp_path / name, "XTYZ", (0.5, 0.25, 2.0), "micrometer")
    opened = open_file(path)
    assert opened.axes == "TZYX"
    assert np.array_equal(opened.array, stack.transpose(1, 3, 2, 0))
    assert opened.spacing("ZYX") == (2.0, 0.25, 0.5)


@pytest.mark.parametrize(
    ("shape", "axes"), [((5, 70, 90), "ZYX"), ((3, 70, 90), "TYX"), ((2, 3, 70, 90), "TZYX")]
)
@pytest.mark.parametrize("name", ["a.ome.zarr", "a.tif"])
def test_stacks_are_written_in_their_order_of_axes(tmp_path, small_parts, shape, axes, name):
    labels = np.random.default_rng(1).integers(0, 2**30, shape).astype(np.int32)
    size = tuple(range(2, 2 + len(shape)))
    lazy = da.from_array(labels, chunks=(2,) * (len(shape) - 2) + (50, 64))
    opened = open_file(write_labels(lazy, tmp_path / name, axes, size, "micrometer"))
    assert np.array_equal(opened.array, labels)
    assert opened.axes == axes
    assert opened.spacing("YX") == size[-2:]


def test_ome_zarr_is_continued_after_a_stop(tmp_path, small_parts):
    path, told = tmp_path / "a.zarr", []
    with pytest.raises(StoppedError, match="write"):
        write_labels(LAZY, path, stop=After(12))
    done = {f: f.stat().st_mtime_ns for f in (path / "0" / "c").rglob("*") if f.is_file()}
    assert len(done) == 12
    write_labels(LAZY, path, progress=told.append)
    assert {f: f.stat().st_mtime_ns for f in done} == done
    assert np.array_equal(open_file(path).array, LABELS)
    assert told[0].done == 13
    assert told[-1].done == told[-1].total
    assert {event.stage for event in told} == {"write"}


def test_parts_of_background_only_are_not_written_again(tmp_path, small_parts):
    path, nothing = tmp_path / "a.zarr", da.zeros((300, 410), dtype=int, chunks=64)
    with pytest.raises(StoppedError):
        write_labels(nothing, path, stop=After(5))
    told = []
    write_labels(nothing, path, progress=told.append)
    assert told[0].done == 6
    assert sorted(p.name for p in path.iterdir()) == ["0", "1", "2", "3", "zarr.json"]


def test_existing_files_are_never_replaced(tmp_path, small_parts):
    path = tmp_path / "a.zarr"
    with pytest.raises(StoppedError):
        write_labels(LAZY, path, stop=After(12))
    with pytest.raises(InputError, match=r"other labels \(at 0 to 64"):
        write_labels(LAZY + 1, path)
    with pytest.raises(InputError, match=r"shape: \[300, 410\] saved, \[410, 300\] now"):
        write_labels(LAZY.T, path)
    write_labels(LAZY, path)
    with pytest.raises(InputError, match="complete"):
        write_labels(LAZY, path)
    zarr.create_array(store=str(tmp_path / "mine.zarr"), data=np.eye(3))
    with pytest.raises(InputError, match=r"mine\.zarr exists already and is not"):
        write_labels(LAZY, tmp_path / "mine.zarr")
    assert np.array_equal(zarr.open_array(str(tmp_path / "mine.zarr")), np.eye(3))
    (tmp_path / "mine.tif").write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"):
        write_labels(LAZY, tmp_path / "mine.tif")
    assert (tmp_path / "mine.tif").read_bytes() == b"precious"


@pytest.mark.parametrize("labels", [LABELS, LAZY], ids=["numpy", "dask"])
def test_labels_are_written_as_tiled_bigtiff(tmp_path, small_parts, labels):
    told = []
    path = write_labels(
        labels, tmp_path / "a.tif", "YX", (0.5, 0.25), "micrometer", progress=told.append
    )
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert file.pages[0].tile == (64, 64)
        assert np.array_equal(file.asarray(), LABELS)
    assert open_file(path).spacing("YX") == (0.5, 0.25)
    assert [e.done for e in told] == sorted(e.done for e in told)
    assert told[-1].done == told[-1].total


def test_tiff_that_was_stopped_leaves_no_file(tmp_path, small_parts):
    before = threading.active_count()
    with pytest.raises(StoppedError):
        write_labels(LAZY, tmp_path / "a.tif", stop=After(2))
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def test_error_in_the_writing_thread_is_raised(tmp_path, small_parts, monkeypatch):
    def full(path, tiles, **options):
        next(tiles)
        raise OSError("No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    many = da.zeros((4000, 700), dtype=np.int32, chunks=100)
    with pytest.raises(OSError, match="No space left"):
        write_labels(many, tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"labels": LABELS / 2}, "dtype float64"),
        ({"axes": "ZX"}, "axes = 'ZX'"),
        ({"voxel_size": (1, 0)}, "voxel_size"),
        ({"voxel_size": (1, 1, 1)}, "2 numbers"),
        ({"path": "a.png"}, "zarr, .tif, .tiff"),
    ],
)
def test_labels_that_cannot_be_written_are_refused_before_a_file_is_made(tmp_path, options, match):
    given = {"labels": LABELS, "path": "a.zarr", **options}
    given["path"] = tmp_path / given["path"]
    with pytest.raises(InputError, match=match):
        write_labels(**given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["i8", "u8", ">i8", "list"])
def test_labels_of_64_bits_are_written_as_tiff_which_has_32(tmp_path, dtype):
    labels = LABELS.tolist() if dtype == "list" else LABELS.astype(dtype)
    found = tifffile.imread(write_labels(labels, tmp_path / "a.tif"))
    assert (found.dtype, np.array_equal(found, LABELS)) == (np.int32, True)
    if dtype != "list":
        labels[7, 8] = 2**31
        with pytest.raises(InputError, match=r"to 2147483648, .*\.zarr"):
            write_labels(labels, tmp_path / "b.tif")
        assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"axes": 5}, "axes = 5"),
        ({"voxel_size": "ab"}, "voxel_size = 'ab'"),
        ({"voxel_size": 2.0}, "number above 0"),
        ({"unit": {}}, "unit = {}"),
        ({"labels": [[1, 2], [3]]}, "different shapes"),
        ({"labels": np.ma.masked_array(LABELS, LABELS > 0)}, "masked"),
    ],
)
def test_invalid_arguments_are_refused_with_their_values(tmp_path, options, match):
    with pytest.raises(InputError, match=match):
        write_labels(**{"labels": LABELS, "path": tmp_path / "a.zarr", **options})
    assert list(tmp_path.iterdir()) == []


def test_voxel_size_may_leave_out_time(tmp_path):
    import zarr

    labels = np.ones((2, 3, 4), np.int32)
    write_labels(labels, tmp_path / "a.ome.zarr", "TYX", (0.5, 0.25), "micrometer")
    about = zarr.open_group(str(tmp_path / "a.ome.zarr")).attrs["ome"]["multiscales"][0]
    assert about["datasets"][0]["coordinateTransformations"][0]["scale"] == [1, 0.5, 0.25]


def test_labels_and_path_in_the_wrong_order_are_refused(tmp_path):
    with pytest.raises(InputError, match="give the labels first"):
        write_labels(str(tmp_path / "a.tif"), LABELS)


@pytest.mark.parametrize(("most", "dtype"), [(5, np.uint16), (65535, np.uint16), (65536, np.int32)])
def test_label_image_has_the_smallest_dtype_that_holds_the_labels(tmp_path, most, dtype):
    labels = np.array([[0, 1], [2, most]], np.int32)
    write_label_image(labels, tmp_path / "labels.tif")
    found, _ = read_file(tmp_path / "labels.tif")
    assert found.dtype == dtype
    assert np.array_equal(found, labels)


def test_a_file_format_is_one_entry_of_the_writers(tmp_path, monkeypatch):
    def text_steps(labels, path, description, stop):
        np.savetxt(path, np.asarray(labels), "%d", header=description["axes"])
        yield Progress("write", 1, 1)

    monkeypatch.setitem(WRITERS, ".txt", text_steps)
    write_labels(np.eye(2, dtype=np.int32), tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "# YX\n1 0\n0 1\n"
