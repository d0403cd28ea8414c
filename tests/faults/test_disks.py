"""Disks that are full, names that cannot be: an error says so, the old file is whole."""

import time
from contextlib import contextmanager, suppress
from threading import Thread

import pytest
from injected import nothing_left_behind

import napari_aeseg as aeseg
from napari_aeseg.errors import InputError
from napari_aeseg.io.atomic_write import atomic_write
from napari_aeseg.io.labels import write_labels
from napari_aeseg.io.zarr_folder import ZarrFolderWriter
from napari_aeseg.large.block_store import BlockStore
from outputs import GOES_ON, LABELS, OUTPUTS, model, tree

resource = pytest.importorskip("resource")  # limits of POSIX


@contextmanager
def no_file_larger_than(size):
    """Let no file grow beyond some bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


KINDS = ["model", "hierarchy", "labels.zarr", "labels.tif", "batch", "blocks"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 3000])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, kind, size):
    output = OUTPUTS[kind]
    path = tmp_path / output.name
    if output.put_old is not None:
        output.put_old(path)
    before = output.state(path)
    with nothing_left_behind(tmp_path):
        try:
            with no_file_larger_than(size):
                output.write(path)
        except (OSError, aeseg.AesegError) as error:
            assert str(error).strip()
            expected = {before}
        else:
            assert size == 3000
            expected = {"new"}
    assert output.state(path) in expected | ({"begun", "none"} if kind in GOES_ON else set())
    output.write(path)  # with room again
    assert output.state(path) in ("new", "begun")


def writers():
    return {
        "a.aeseg.safetensors": model().save,
        "a.aeseg.zarr": tree().save,
        "a.ome.zarr": lambda path: write_labels(LABELS, path),
        "a.tif": lambda path: write_labels(LABELS, path),
    }


@pytest.mark.parametrize("name", ["a.aeseg.safetensors", "a.aeseg.zarr", "a.ome.zarr", "a.tif"])
def test_names_that_cannot_be_written_are_told_and_nothing_is_left(tmp_path, name):
    write = writers()[name]
    (tmp_path / "file").write_text("mine")
    suffix = name[1:]
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    for path in (folder, tmp_path / "file" / name, tmp_path / ("n" * 300 + suffix)):
        with pytest.raises((OSError, aeseg.AesegError)) as error:
            write(path)
        assert path.name[:50] in str(error.value) or "file" in str(error.value)
    assert (folder / "mine.txt").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["file", folder.name])
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["a.aeseg.safetensors", "a.aeseg.zarr", "a.ome.zarr", "a.tif"])
def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path, name):
    """A model took the place of the link, and what it led to stayed old."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / name
    link.symlink_to(tmp_path / "elsewhere" / name)  # broken so far
    writers()[name](link)
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [name]
    lost = tmp_path / f"lost{name[1:]}"
    lost.symlink_to(tmp_path / "nowhere" / name)
    with pytest.raises(OSError, match="nowhere"):
        writers()[name](lost)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["elsewhere", name, lost.name]
    )


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    def full():
        raise OSError(28, "No space left on device")

    match = r"No space left on device: .*a\.txt"
    with pytest.raises(OSError, match=match), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("half")
        full()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_temporary_folder_of_blocks(tmp_path, monkeypatch, stripes, model):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BlockStore, "_make", full)
    with pytest.raises(OSError, match="No space left"):
        aeseg.build_hierarchy(stripes, model, blocks=aeseg.BlockParams())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_the_name_of_the_hierarchy(tmp_path, monkeypatch, stripes, model):
    def full(*_):
        raise OSError(28, "No space left on device")

    tree = aeseg.build_hierarchy(stripes, model)
    monkeypatch.setattr(ZarrFolderWriter, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.aeseg\.zarr'"):
        tree.save(tmp_path / "a.aeseg.zarr")


def test_a_folder_in_place_of_a_file_is_told_by_its_own_name(tmp_path, model):
    (tmp_path / "a.aeseg.safetensors").mkdir()
    with pytest.raises(IsADirectoryError, match=r"'[^']*/a\.aeseg\.safetensors'$"):
        model.save(tmp_path / "a.aeseg.safetensors")


def test_a_full_disk_of_blocks_is_told_with_a_way_to_go_on(tmp_path, monkeypatch, stripes, model):
    def full(*_):
        raise OSError(28, "No space left on device")

    more = {"params": aeseg.SegmentationParams(patch_size=4), "blocks": aeseg.BlockParams()}
    with monkeypatch.context() as patched:
        patched.setattr(BlockStore, "put", full)
        with pytest.raises(OSError, match="No space left on device: give store a folder"):
            aeseg.build_hierarchy(stripes, model, **more)
        with pytest.raises(OSError, match=r"finished blocks are kept: '.*store'"):
            aeseg.build_hierarchy(stripes, model, **more, store=tmp_path / "store")
    assert aeseg.build_hierarchy(stripes, model, **more, store=tmp_path / "store").n_patches > 1


@pytest.mark.parametrize("place", ["a.txt/results", "a.txt"])
def test_a_file_where_a_folder_is_to_be_is_told_before_any_work(tmp_path, stripes, model, place):
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"a\.txt is no(t| folder)"):
        aeseg.build_hierarchy(stripes, model, store=tmp_path / place)
    with pytest.raises(InputError, match=r"a\.txt is no folder"):
        aeseg.segment_files([tmp_path / "b.png"], tmp_path / place, model)


def test_a_folder_that_may_not_be_written_to_is_told_before_any_work(
    tmp_path, monkeypatch, stripes, model
):
    """Labels were not written after hours of encoding."""
    monkeypatch.setattr("os.access", lambda path, _: str(path) != str(tmp_path))
    with pytest.raises(InputError, match="may not be written to"):
        aeseg.build_hierarchy(stripes, model, store=tmp_path / "store")
    with pytest.raises(InputError, match="may not be written to"):
        aeseg.segment_files([tmp_path / "b.png"], tmp_path / "results", model)


def test_a_folder_of_blocks_whose_making_was_cut_short_is_taken_up(
    tmp_path, monkeypatch, stripes, model
):
    """It was refused as somebody else's, and had to be removed by hand."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("napari_aeseg.large.block_store.atomic_write", killed)
        with pytest.raises(KeyboardInterrupt):
            aeseg.build_hierarchy(stripes, model, store=tmp_path / "store")
    assert (tmp_path / "store" / "patches").is_dir()
    tree = aeseg.build_hierarchy(stripes, model, store=tmp_path / "store")
    assert tree.n_patches > 1
    assert not (tmp_path / "store" / "run.begun").exists()


def test_labels_whose_making_was_cut_short_do_not_block_the_next(tmp_path, monkeypatch):
    """Half a group was taken for somebody else's, and had to be removed by hand."""
    from napari_aeseg.io import ome_zarr

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ome_zarr, "_attributes", killed)
        with pytest.raises(KeyboardInterrupt):
            write_labels(LABELS, tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []
    write_labels(LABELS, tmp_path / "a.zarr")
    (tmp_path / "file.zarr").write_text("mine")
    with pytest.raises(aeseg.InputError, match="exists already"):
        write_labels(LABELS, tmp_path / "file.zarr")


def test_what_zarr_writes_after_a_disk_was_full_is_removed_too(
    tmp_path, monkeypatch, stripes, model
):
    """A folder with one file of metadata was left."""
    late = []

    def full(writer, name, *_):
        def write():
            time.sleep(0.05)
            with suppress(FileNotFoundError):  # removed between one folder and the next
                (writer._temporary / name).mkdir(parents=True)

        late.append(Thread(target=write))
        late[0].start()
        raise OSError(28, "No space left on device")

    tree = aeseg.build_hierarchy(stripes, model)
    monkeypatch.setattr(ZarrFolderWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        tree.save(tmp_path / "a.aeseg.zarr")
    late[0].join()
    assert list(tmp_path.iterdir()) == []
