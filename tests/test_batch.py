"""Many files segmented alike: results, report, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Event
from uuid import uuid4

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

import napari_aeseg as aeseg
from napari_aeseg import Cut, InputError, Merge
from napari_aeseg.io.images import open_file


@pytest.fixture
def files(tmp_path, stripes) -> list[Path]:
    """Three images, as they are in a folder."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in (("a", stripes), ("b", stripes[:, ::-1]), ("c", stripes[::-1])):
        tifffile.imwrite(folder / f"{name}.tif", image)
    return sorted(folder.iterdir())


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "results"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(files, output, model, cut=None, **more):
    return aeseg.segment_files(files, output, model, cut or Cut(n_regions=4), device="cpu", **more)


def test_labels_of_each_file_are_those_of_the_single_image(files, output, model):
    report = run(files, output, model)

    assert report.summary == "3 files: 3 done"
    assert names(output) == [f"{stem}_{kind}" for stem in "abc" for kind in
                             ("labels.tif", "overlay.png", "table.csv")]  # fmt: skip
    for path, outcome in zip(files, report.files, strict=True):
        tree = aeseg.build_hierarchy(tifffile.imread(path), model, device="cpu")
        labels = tifffile.imread(output / f"{path.stem}_labels.tif")
        assert np.array_equal(labels, tree.regions(4))
        assert len(pd.read_csv(output / f"{path.stem}_table.csv")) == 4
        assert (outcome.path, outcome.status, outcome.labels) == (path, "done", 4)
        assert set(outcome.written) == {output / n for n in names(output) if n[0] == path.stem}
        assert outcome.seconds > 0


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "YX", "YXZ"])
def test_labels_in_a_folder_have_axes_and_pixel_size_of_the_image(tmp_path, output, stripes, axes):
    """Five time points came back as five channels without a pixel size."""
    image = stripes if axes == "YX" else np.stack([stripes] * 5, axis=axes.index(axes.strip("YX")))
    size = (0.5, 0.25) if "Z" not in axes else tuple({"Z": 2, "Y": 0.5, "X": 0.25}[a] for a in axes)
    path = tmp_path / "a.npy"
    np.save(path, image)
    run([path], output, "base", axes=axes, voxel_size=size)
    opened = open_file(output / "a_labels.tif")
    assert opened.axes == "".join(a for a in "TZYX" if a in axes)
    assert opened.spacing("YX") == (0.5, 0.25)
    assert opened.spacing("Z") == ((2,) if "Z" in axes else None)
    assert np.moveaxis(opened.array, 0, -1 if axes == "YXZ" else 0).shape == image.shape


@pytest.mark.parametrize("unit", ["inch", "angstrom"])
@pytest.mark.parametrize("name", ["labels.tif", "labels.ome.zarr", ""])
def test_the_unit_of_the_image_is_that_of_its_labels(tmp_path, stripes, unit, name):
    """Inches, centimeters and angstroms were lost."""
    labels = tmp_path / "out" / name
    space = [{"name": a, "type": "space", "unit": unit} for a in "yx"]
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=stripes)
    scale = {"coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.25]}]}
    group.attrs["multiscales"] = [{"axes": space, "datasets": [{"path": "0", **scale}]}]
    run([tmp_path / "a.zarr"], labels, "base")
    opened = open_file(labels if name else labels / "a_labels.tif")
    assert (opened.spacing("YX"), opened.unit) == ((0.5, 0.25), unit)


def test_the_files_of_a_set_are_one_image(tmp_path, output, stripes):
    ids = [str(uuid4()) for _ in range(2)]
    planes = "".join(
        f'<TiffData FirstC="{i}" IFD="0"><UUID FileName="c{i}.ome.tif">urn:uuid:{ids[i]}</UUID>'
        "</TiffData>"
        for i in range(2)
    )
    rows, columns = stripes.shape
    for i in range(2):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{ids[i]}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYCZT" Type="uint8" SizeX="{columns}" SizeY="{rows}" SizeC="2" '
            f'SizeZ="1" SizeT="1">{planes}</Pixels></Image></OME>'
        )
        pixels = stripes.astype(np.uint8)
        tifffile.imwrite(tmp_path / f"c{i}.ome.tif", pixels, description=xml, metadata=None)
    files = [tmp_path / "c0.ome.tif", tmp_path / "c1.ome.tif"]
    for existing in ("refuse", "skip"):
        report = run(files, output, "base", existing=existing)
        assert [f.status for f in report.files][1] == "skipped"
        assert report.files[1].text == "it is a part of the image of c0.ome.tif"
    assert "c1.ome_labels.tif" not in names(output)


def test_what_was_not_taken_of_a_file_is_in_the_report(tmp_path, output, stripes):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(stripes)
        file.write(stripes[:9])
    report = run([tmp_path / "a.tif"], output, "base")
    assert report.files[0].notes[0].startswith("Series 0 of 2 was taken (48 x 40)")


def test_a_resolution_is_chosen_for_all_files(tmp_path, output, stripes):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=stripes)
    group.create_array("1", data=stripes[::2, ::2])
    datasets = [{"path": "0"}, {"path": "1"}]
    group.attrs["multiscales"] = [{"axes": ["y", "x"], "datasets": datasets}]
    run([tmp_path / "a.zarr"], output, "base", resolution=1)
    assert tifffile.imread(output / "a_labels.tif").shape == stripes[::2, ::2].shape
    report = run([tmp_path / "a.zarr"], tmp_path / "other", "base", resolution=2)
    assert "a.zarr has resolutions 0 to 1" in report.failed[0].text


def test_existing_labels_are_the_start_of_each_file(files, output, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    segments = np.zeros((48, 40), np.uint16)
    segments[5:20, 7:30] = 3
    for name in ("a_labels.tif", "b_cp_masks.png", "c.tif"):
        imageio.imwrite(given / name, segments)
    assert run(files, output, "base", labels=given).summary == "3 files: 3 done"
    for stem in "abc":
        labels = tifffile.imread(output / f"{stem}_labels.tif")
        assert len(np.unique(labels[segments == 3])) == 1
    (given / "c.tif").unlink()
    report = run(files, tmp_path / "more", "base", labels=given)
    assert "has no labels of c.tif: c.tif, c_labels.tif" in report.failed[0].text
    assert run(files[:1], tmp_path / "one", "base", labels=given / "a_labels.tif").files[0].labels


def test_existing_labels_that_cannot_be_used_are_refused_before_any_work(files, output, tmp_path):
    labels = tmp_path / "a_labels.tif"
    tifffile.imwrite(labels, np.ones((48, 40), np.uint8))
    with pytest.raises(InputError, match="is one file, but there are 3 images"):
        run(files, output, "base", labels=labels)
    with pytest.raises(InputError, match="There are no labels"):
        run(files, output, "base", labels=tmp_path / "lost")
    for existing in ("refuse", "replace"):
        with pytest.raises(InputError, match=r"a_labels\.tif' would be read and written"):
            run(files, tmp_path, "base", labels=tmp_path, existing=existing)
    with pytest.raises(InputError, match="a saved hierarchy has its patches"):
        run([tmp_path / "a.aeseg.zarr"], output, None, labels=labels)


def test_a_file_that_fails_does_not_stop_the_others(files, output, model):
    files[1].write_bytes(b"no image")
    files.append(files[0].with_name("missing.tif"))
    tifffile.imwrite(files[0].with_name("rgb.tif"), np.ones((48, 40, 3), np.uint8) * 7)
    files.append(files[0].with_name("rgb.tif"))

    report = run(files, output, model)

    assert [f.status for f in report.files] == ["done", "failed", "done", "failed", "failed"]
    assert report.summary == "5 files: 2 done, 3 failed"
    assert [f.path.name for f in report.failed] == ["b.tif", "missing.tif", "rgb.tif"]
    assert report.failed[0].text.startswith("b.tif is damaged or no image (")
    assert "\nb.tif: failed, is damaged or no image (" in str(report)
    assert ", b.tif" not in str(report)
    assert {name[0] for name in names(output)} == {"a", "c"}


def test_existing_results_are_refused_before_any_work(files, output, model):
    output.mkdir()
    (output / "c_table.csv").write_text("mine")
    events = []

    with pytest.raises(InputError, match=r"c_table\.csv exists already"):
        run(files, output, model, progress=events.append)

    assert events == []
    assert names(output) == ["c_table.csv"]


def test_skip_leaves_existing_results_unchanged(files, output, model):
    run(files[:1], output, model)
    before = (output / "a_labels.tif").read_bytes()
    report = run(files, output, model, Cut(n_regions=7), existing="skip")

    assert [f.status for f in report.files] == ["skipped", "done", "done"]
    assert (output / "a_labels.tif").read_bytes() == before
    assert tifffile.imread(output / "b_labels.tif").max() == 7


def test_replace_writes_existing_results_again(files, output, model):
    run(files, output, model)
    report = run(files, output, model, Cut(n_regions=7), existing="replace")

    assert report.summary == "3 files: 3 done"
    assert [tifffile.imread(output / f"{s}_labels.tif").max() for s in "abc"] == [7, 7, 7]


def test_replaced_labels_leave_nothing_that_fits_only_those_before(files, output, model):
    run(files[:1], output, model, alternatives=2, save_hierarchy=True)
    assert len(names(output)) == 5
    run(files[:1], output, model, table=False, existing="replace")

    assert names(output) == ["a.aeseg.zarr", "a_labels.tif", "a_overlay.png"]


def test_skip_segments_files_without_labels(files, output, model):
    run(files, output, model)
    (output / "b_labels.tif").unlink()  # written last

    report = run(files, output, model, existing="skip")

    assert [f.status for f in report.files] == ["skipped", "done", "skipped"]


def test_stop_keeps_finished_files(files, output, model):
    stop = Event()

    def look(event):
        if event.stage == "file" and event.done == 2:
            stop.set()

    report = run(files, output, model, progress=look, stop=stop)

    assert [f.status for f in report.files] == ["done", "stopped", "stopped"]
    assert {name[0] for name in names(output)} == {"a"}
    assert run(files, output, model, existing="skip").summary == "3 files: 2 done, 1 skipped"


def test_a_full_disk_leaves_no_partial_file(files, output, model, monkeypatch):
    def full(labels, path, axes):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_aeseg.batch.write_label_image", full)

    report = run(files, output, model)

    assert report.summary == "3 files: 3 failed"
    assert "No space left" in report.failed[0].text
    assert [name for name in names(output) if "labels" in name or "part" in name] == []


def test_a_file_is_replaced_only_by_a_complete_one(files, output, model, monkeypatch):
    run(files, output, model)
    before = (output / "a_labels.tif").read_bytes()

    def full(labels, path, axes):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_aeseg.batch.write_label_image", full)
    run(files, output, model, existing="replace")

    assert (output / "a_labels.tif").read_bytes() == before


def test_prototypes_give_equal_ids_in_all_files(files, output, model, stripes):
    kinds = aeseg.build_hierarchy(stripes, model, device="cpu").prototypes(2)
    cut = Cut("classes", n_classes=5)  # passed over

    run(files, output, model, cut, prototypes=kinds)

    labels = {s: tifffile.imread(output / f"{s}_labels.tif") for s in "abc"}
    for stem, image in (("b", stripes[:, ::-1]), ("c", stripes[::-1])):
        tree = aeseg.build_hierarchy(image, model, device="cpu")
        assert np.array_equal(labels[stem], tree.classes(prototypes=kinds))
    # Mirrored, the stripes are on the left.
    assert (labels["a"] == labels["b"][:, ::-1]).mean() > 0.8


def test_classes_are_learned_from_strokes_of_several_images(files, output, model, stripes):
    strokes = np.zeros((2, *stripes.shape), int)
    strokes[0, 4:12, 4], strokes[1, 4:12, 4] = 1, 2
    run(files[:2], output, model, Cut("classes"), strokes=list(strokes))

    one, two = (
        aeseg.build_hierarchy(image, model, device="cpu") for image in (stripes, stripes[:, ::-1])
    )
    learned = two.prototypes_from(strokes[1], others=one.prototypes_from(strokes[0]))
    for stem, tree in (("a", one), ("b", two)):
        labels = tifffile.imread(output / f"{stem}_labels.tif")
        assert np.array_equal(labels, tree.classes(prototypes=learned))


def test_strokes_are_of_classes(files, output, model, stripes):
    with pytest.raises(InputError, match="not of regions"):
        run(files, output, model, Cut("regions"), strokes=[np.ones_like(stripes)])
    with pytest.raises(InputError, match=r"strokes on a\.tif .* \(3, 3\)"):
        run(files, output, model, Cut("classes"), strokes=[np.ones((3, 3), int)])


@pytest.mark.parametrize("cut", [Cut("classes"), Cut("objects", class_ids=(2,), min_size=4)])
@pytest.mark.parametrize("names", [(), ("ground", "stripe")])
def test_tables_name_the_class(files, output, model, stripes, cut, names):
    kinds = aeseg.build_hierarchy(stripes, model, device="cpu").prototypes(2)

    run(files, output, model, cut, prototypes=replace(kinds, names=names))

    table = pd.read_csv(output / "b_table.csv")
    expected = table["index"] if cut.mode == "classes" else [2] * len(table)
    assert len(table)
    assert table["class"].tolist() == [names[i - 1] if names else i for i in expected]


def test_tables_of_regions_have_no_class(files, output, model):
    run(files[:1], output, model)
    assert "class" not in pd.read_csv(output / "a_table.csv")


def test_classes_stored_in_the_model_are_used(files, output, make_model, stripes):
    kept = make_model()
    kept.prototypes = aeseg.build_hierarchy(stripes, kept, device="cpu").prototypes(2)

    run(files[1:2], output, kept, Cut("classes"))

    tree = aeseg.build_hierarchy(stripes[:, ::-1], kept, device="cpu")
    expected = tree.classes(prototypes=kept.prototypes)
    assert np.array_equal(tifffile.imread(output / "b_labels.tif"), expected)


def test_files_with_colliding_results_are_refused(files, output, model, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    tifffile.imwrite(other / "a.tif", np.eye(40))

    with pytest.raises(InputError, match="called a: their results would collide"):
        run([*files, other / "a.tif"], output, model)

    assert not output.exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"cut": Cut("markers")}, "belong to one image"),
        ({"cut": Cut(edits=(Merge((0, 1)),))}, "belong to one image"),
        ({"existing": "ask"}, "existing = 'ask'"),
        ({"files": []}, "the list is empty"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(files, output, model, more, words):
    with pytest.raises(InputError, match=words):
        run(more.pop("files", files), output, model, **more)
    assert not output.exists()


def test_tables_can_be_left_out(files, output, model):
    run(files[:1], output, model, table=False)

    assert names(output) == ["a_labels.tif", "a_overlay.png"]


def test_a_volume_has_no_overlay(tmp_path, output, model, stripes):
    tifffile.imwrite(tmp_path / "z.tif", np.stack([stripes] * 3), photometric="minisblack")

    report = run([tmp_path / "z.tif"], output, model, axes="ZYX")

    assert report.summary == "1 file: 1 done"
    assert names(output) == ["z_labels.tif", "z_table.csv"]
    assert tifffile.imread(output / "z_labels.tif").shape == (3, 48, 40)


def test_axes_are_used_for_files_with_as_many_dimensions(files, output, model, stripes):
    tifffile.imwrite(files[0].with_name("z.tif"), stripes[None], photometric="minisblack")
    files = [files[0], files[0].with_name("z.tif")]

    strict = run(files, output, model, axes="ZYX")
    assert [f.status for f in strict.files] == ["failed", "done"]
    assert "axes='ZYX' does not fit" in strict.failed[0].text

    report = run(files, output, model, axes="ZYX", axes_must_fit=False, existing="replace")
    assert [f.text for f in report.files] == [
        "48 x 40 pixels (YX, from the file)",
        "1 slice, 48 x 40 pixels (ZYX, as given)",
    ]


def test_wrong_axes_letters_fail_for_all_files(files, output, model):
    report = run(files, output, model, axes="QX", axes_must_fit=False)
    assert report.summary == "3 files: 3 failed"


def test_image_files_of_a_folder_are_without_results(files):
    folder = files[0].parent
    for name in ("B.PNG", "x_labels.tif", "x_overlay.png", ".hidden.tif", "notes.txt"):
        (folder / name).write_bytes(b"")
    (folder / "sub.tif").mkdir()

    assert [path.name for path in aeseg.image_files(folder)] == ["B.PNG", "a.tif", "b.tif", "c.tif"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image"):
        aeseg.image_files(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        aeseg.image_files(tmp_path / "nowhere")


def volume_file(folder: Path, name: str, **more) -> Path:
    volume = np.random.default_rng(0).random((6, 24, 24)).astype(np.float32)
    options = {"imagej": True, "metadata": {"axes": "ZYX", **more}, "resolution": (2, 2)}
    tifffile.imwrite(folder / name, volume, **options)
    return folder / name


def test_tables_are_in_the_unit_of_the_file(tmp_path, output):
    path = volume_file(tmp_path, "a.tif", spacing=3, unit="um")
    report = run([path], output, "base")
    assert report.files[0].text.endswith("from the file), voxels of 3 x 0.5 x 0.5 micrometer")
    table = pd.read_csv(output / "a_table.csv")
    assert table["area"].sum() == pytest.approx(6 * 24 * 24 * 3 * 0.25)
    assert set(table["unit"]) == {"micrometer"}
    tree = aeseg.build_hierarchy(
        tifffile.imread(path), "base", axes="ZYX", device="cpu", voxel_size=(3, 0.5, 0.5)
    )
    assert np.array_equal(tifffile.imread(output / "a_labels.tif"), tree.regions(4))


def test_given_voxel_sizes_override_those_of_files_and_must_fit(tmp_path, files, output, model):
    path = volume_file(tmp_path, "volume.tif", spacing=3, unit="um")
    report = run([path, files[0]], output, "base", voxel_size=(2, 1, 1))
    assert [file.status for file in report.files] == ["done", "failed"]
    assert "read as YX: give 2 numbers" in report.files[1].text
    assert pd.read_csv(output / "volume_table.csv")["area"].sum() == 6 * 24 * 24 * 2
    with pytest.raises(InputError, match=r"voxel_size = .*above 0"):
        run(files, output.with_name("other"), model, voxel_size=(0, 1))
    assert not output.with_name("other").exists()


def test_tables_are_in_pixels_without_voxel_size(files, output, model):
    run(files, output, model)
    table = pd.read_csv(output / "a_table.csv")
    assert not {"unit", "area_pixels"} & set(table)


@pytest.mark.parametrize("name", ["labels.tif", "labels.ome.zarr"])
def test_labels_of_one_file_may_get_a_name(files, output, model, stripes, name):
    report = run(files[:1], output / name, model, save_hierarchy=True)

    assert report.summary == "1 file: 1 done"
    assert names(output) == sorted(["labels.aeseg.zarr", "labels_table.csv", name])
    tree = aeseg.build_hierarchy(stripes, model, device="cpu")
    assert np.array_equal(open_file(output / name).array, tree.regions(4))
    again = run(files[:1], output / name, model, existing="skip")
    assert again.summary == "1 file: 1 skipped"
    with pytest.raises(InputError, match="never replaced"):
        run(files[:1], output / name, model, existing="replace")


def test_unfinished_labels_are_continued(files, output, model, stripes):
    path = output / "labels.zarr"
    run(files[:1], path, model, table=False)
    header = json.loads((path / "zarr.json").read_text())
    header["attributes"]["napari-aeseg"]["complete"] = False
    (path / "zarr.json").write_text(json.dumps(header))

    assert run(files[:1], path, model, table=False).summary == "1 file: 1 done"
    assert json.loads((path / "zarr.json").read_text())["attributes"]["napari-aeseg"]["complete"]


@pytest.mark.parametrize("existing", ["refuse", "skip", "replace"])
def test_other_data_under_the_name_of_labels_is_refused(files, output, model, existing):
    zarr.create_array(output / "a_labels.ome.zarr", data=np.arange(4))

    with pytest.raises(InputError, match=r"a_labels\.ome\.zarr (exists already|holds other data)"):
        run(files, output, model, existing=existing)

    assert zarr.open_array(output / "a_labels.ome.zarr")[:].tolist() == [0, 1, 2, 3]
