"""Colours by a column, and tables as files."""

from __future__ import annotations

from importlib.resources import files

import npe2
import numpy as np
import pandas as pd
import pytest
from napari.layers import Image, Labels
from napari.utils.colormaps import ensure_colormap

from _napari.conftest import measured
from napari_aeseg import InputError
from napari_aeseg._napari.export.tables import color_by, columns_of, export_table, write_table
from napari_aeseg._napari.layers.colors import class_color, cyclic_colormap


@pytest.fixture
def layer():
    """Labels 1, 2, 3 and 5 with measurements."""
    table = pd.DataFrame(
        {
            "index": [1, 2, 3, 5],
            "area": [10, 20, 30, 40],
            "error": [0.5, np.nan, np.inf, 1.5],
            "same": [7.0] * 4,
            "class": ["b", "a", "b", "c"],
        }
    )
    return Labels(np.array([[0, 1, 2], [3, 5, 6]]), features=table, name="kept")


def hexed(color) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in color[:3])


def test_columns_are_offered_for_labels_with_measurements_only(layer):
    assert columns_of(layer) == ["area", "error", "same", "class"]
    assert columns_of(Labels(np.ones((2, 2), int))) is None
    assert columns_of(Image(np.ones((2, 2)))) is None
    assert columns_of(None) is None


def test_numbers_are_shown_in_viridis(layer):
    color_by(layer, "area")

    ends = ensure_colormap("viridis").map(np.array([0.0, 1.0]))
    assert np.allclose(layer.get_color(1), ends[0])
    assert np.allclose(layer.get_color(5), ends[1])
    assert len({tuple(layer.get_color(i)) for i in (1, 2, 3, 5)}) == 4


def test_what_is_not_known_is_grey(layer):
    color_by(layer, "error")

    for label in (2, 3):
        assert np.allclose(layer.get_color(label), (0.5, 0.5, 0.5, 1))
    assert not np.allclose(layer.get_color(1), layer.get_color(5))


def test_the_legend_says_where_there_are_numbers_beyond_its_ends():
    layer = Labels(np.arange(400).reshape(20, 20))
    area = np.arange(1000, 1400)
    layer.features = {"index": np.arange(400), "area": area, "two": area % 2}

    assert color_by(layer, "area").ends == ("≤ 1003", "≥ 1396")
    assert color_by(layer, "two").ends == ("0", "1")


def test_equal_numbers_have_one_color(layer):
    color_by(layer, "same")

    assert len({tuple(layer.get_color(i)) for i in (1, 2, 3, 5)}) == 1


def test_words_have_colors_of_their_own(layer):
    color_by(layer, "class")

    assert [hexed(layer.get_color(i)) for i in (2, 1, 5)] == [class_color(i) for i in (1, 2, 3)]
    assert np.array_equal(layer.get_color(1), layer.get_color(3))


def test_background_and_labels_without_a_row_are_transparent(layer):
    color_by(layer, "area")

    assert layer.get_color(6)[3] == 0
    assert layer.colormap.map(np.array([0]))[0, 3] == 0


def test_back_to_colors_by_label(layer):
    color_by(layer, "area")
    color_by(layer, "label")

    assert layer.colormap == cyclic_colormap()


def test_an_unknown_column_is_refused_with_a_list_of_columns(layer):
    with pytest.raises(InputError, match="column = 'volume': choose one of index, area"):
        color_by(layer, "volume")


def test_a_layer_without_measurements_is_refused(tmp_path):
    bare = Labels(np.ones((2, 2), int), name="bare")
    with pytest.raises(InputError, match="bare has no measurements: press Keep"):
        color_by(bare, "area")
    with pytest.raises(InputError, match="bare has no measurements: press Keep"):
        export_table(bare, tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


def test_export(layer, tmp_path):
    export_table(layer, tmp_path / "kept.csv")

    expected = layer.features.assign(unit="pixel")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "kept.csv"), expected)
    assert "unit" not in layer.features


@pytest.mark.parametrize(
    ("units", "unit"),
    [(("um", "um"), "micrometer"), (("um", "nm"), "pixel"), (None, "pixel")],
)
def test_files_tell_the_unit(layer, tmp_path, units, unit):
    layer.units = units
    npe2.PluginManager.instance().discover()
    export_table(layer, tmp_path / "kept.csv")
    layer.save(str(tmp_path / "saved.csv"), plugin="napari-aeseg")

    for name in ("kept.csv", "saved.csv"):
        table = pd.read_csv(tmp_path / name)
        assert list(table)[-1] == "unit"
        assert table["unit"].tolist() == [unit] * 4


def test_a_missing_folder_is_named(layer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^There is no folder '.*lost' to save in\.$"):
        export_table(layer, tmp_path / "lost" / "kept.csv")


def test_napari_saves_labels_as_csv(layer, tmp_path):
    npe2.PluginManager.instance().discover()  # as napari does when its window opens
    path = str(tmp_path / "kept.csv")

    assert layer.save(path, plugin="napari-aeseg") == [path]

    pd.testing.assert_frame_equal(pd.read_csv(path), layer.features.assign(unit="pixel"))


def test_labels_without_features_are_not_written(tmp_path):
    path, attributes = str(tmp_path / "bare.csv"), {"name": "bare", "features": pd.DataFrame()}
    with pytest.raises(InputError, match="bare has no features to write"):
        write_table(path, [(np.ones((2, 2), int), attributes, "labels")])
    assert not list(tmp_path.iterdir())


def test_a_table_is_not_written_to_an_image(layer, tmp_path):
    with pytest.raises(InputError, match=r"^kept.tif: tables are written as .csv"):
        write_table(str(tmp_path / "kept.tif"), [layer.as_layer_data_tuple()])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ours_first", [True, False])
def test_napari_saves_labels_as_images_before_it_offers_tables(ours_first):
    manifests = [
        npe2.PluginManifest.from_file(str(files(package) / name))
        for package, name in (("napari_aeseg", "napari.yaml"), ("napari_builtins", "builtins.yaml"))
    ]
    plugins = npe2.PluginManager()
    for manifest in manifests if ours_first else manifests[::-1]:
        plugins.register(manifest)

    writers = [writer.command for writer in plugins.iter_compatible_writers(["labels"])]
    assert writers.index("napari.write_labels") < writers.index("napari-aeseg.write_table")
    for name in ("a", "a.tif", "a.png", "a.csv"):
        writer, _ = plugins.get_writer(name, ["labels"])
        ours = writer is not None and writer.command == "napari-aeseg.write_table"
        assert ours == (name == "a.csv")
    for others in (["image"], ["labels", "image"], ["labels", "labels"], ["points"]):
        found = [writer.command for writer in plugins.iter_compatible_writers(others)]
        assert "napari-aeseg.write_table" not in found


# By the dock


@pytest.fixture
def kept(segmented):
    segmented.n_regions = 4
    (layer,) = segmented.keep()
    segmented.wait(30)
    return layer


def test_the_dock_offers_the_columns_of_the_active_layer(segmented, kept):
    dock, layers = segmented._dock, segmented.viewer_model.layers
    layers.selection.active = kept

    shown = [dock.color_box.itemText(i) for i in range(dock.color_box.count())]
    assert shown == ["label", *kept.features.columns[1:]]
    assert dock.color_box.isEnabled()
    assert dock.export_button.isEnabled()
    # Without a measured layer in hand, the newest is meant.
    layers.selection.active = segmented.preview
    assert dock.color_box.isEnabled()
    assert dock.table_button.isEnabled()
    layers.remove(kept)
    assert not dock.color_box.isEnabled()
    assert not dock.table_button.isEnabled()


def test_what_was_painted_is_measured_before_it_is_used(segmented, kept, tmp_path):
    before = kept.features.copy()
    kept.visible = True
    for column in range(20):
        kept.paint((5, column), 600)

    segmented.export_table(tmp_path / "table.csv", kept)

    assert 600 not in set(before["index"][before["area"] > 0])
    assert 600 in set(measured(kept)["index"])
    assert kept.features["area_pixels"].sum() == (kept.data > 0).sum()
    assert "600" in (tmp_path / "table.csv").read_text(encoding="utf-8")
    segmented.color_by("area", kept)
    assert kept.colormap.map(600)[3] > 0
    assert not segmented.preview.visible


def test_a_layer_that_came_back_keeps_its_table(segmented, kept, tmp_path):
    layers = segmented.viewer_model.layers
    layers.remove(kept)
    segmented.n_regions = 3
    segmented.keep()
    segmented.wait(30)
    layers.append(kept)
    kept.paint((5, 5), 600)

    segmented.export_table(tmp_path / "table.csv", kept)

    assert (tmp_path / "table.csv").exists()


def test_a_preview_that_was_painted_has_a_name_and_a_table(segmented):
    layer = segmented.preview
    for column in range(10):
        layer.paint((5, column), 900)

    assert layer.name == "halves painted"
    assert "edited preview was saved as" in segmented._dock.status.text.text()
    segmented.color_by("area", layer)
    assert 900 in set(measured(layer)["index"])
    segmented.n_regions = 7
    segmented.wait(10)
    assert segmented.preview is not layer


def test_the_column_that_comes_later_is_offered_when_it_has_come(segmented):
    (layer,) = segmented.keep()
    segmented.viewer_model.layers.selection.active = layer
    box = segmented._dock.color_box
    has_come = "reconstruction_error" in layer.features
    assert (box.findText("reconstruction_error") > 0) == has_come
    segmented.wait(30)

    assert box.findText("reconstruction_error") > 0


def test_coloring_by_the_dock(segmented, kept):
    box = segmented._dock.color_box
    segmented.viewer_model.layers.selection.active = kept
    box.setCurrentText("area_pixels")
    box.textActivated.emit("area_pixels")

    table = measured(kept).sort_values("area_pixels")
    small, large = (kept.get_color(int(label)) for label in table["index"].iloc[[0, -1]])
    assert small[2] > small[0]  # violet
    assert large[0] > large[2]  # yellow
    assert kept.visible


def test_coloring_and_exporting_by_method(segmented, kept, tmp_path):
    segmented.color_by("area")
    assert kept.colormap != cyclic_colormap()
    segmented.color_by("label", kept)
    assert kept.colormap == cyclic_colormap()
    segmented.export_table(tmp_path / "kept.csv")
    assert len(pd.read_csv(tmp_path / "kept.csv")) == 4
    kept.data[:2, :2] = kept.data[-2:, -2:] = 9
    segmented.export_table(tmp_path / "pieces.csv", kept, pieces=True)
    table = pd.read_csv(tmp_path / "pieces.csv")
    assert table.loc[table["label"] == 9, "area_pixels"].tolist() == [4, 4]
    assert list(kept.features["index"]) == list(range(5))  # its own table stays
    with pytest.raises(InputError, match="column = 'volume'"):
        segmented.color_by("volume")


def test_without_a_kept_layer_methods_ask_to_press_keep(segmented, tmp_path):
    with pytest.raises(InputError, match="press Keep"):
        segmented.color_by("area")
    with pytest.raises(InputError, match="press Keep"):
        segmented.export_table(tmp_path / "x.csv")


def test_the_export_button_asks_for_a_file(segmented, kept, tmp_path, monkeypatch):
    asked = []

    def answer(parent, title, name, kinds):
        asked.append(name)
        return answers.pop(0), kinds

    answers = [str(tmp_path / "table"), ""]
    monkeypatch.setattr("napari_aeseg._napari.views.dock.QFileDialog.getSaveFileName", answer)
    segmented.viewer_model.layers.selection.active = kept
    segmented._dock.export_button.click()
    segmented._dock.export_button.click()  # and thinks better of it

    name = f"{kept.name}.csv"
    assert asked == [name, str(tmp_path / name)]  # where one was last
    assert [path.name for path in tmp_path.glob("*.csv")] == ["table.csv"]
    assert "Wrote table.csv" in segmented._dock.status.text.text()


def test_segmenting_again_shows_its_result_instead_of_the_colours(segmented, kept):
    segmented.color_by("area", kept)
    assert not segmented.preview.visible
    segmented.segment()
    segmented.wait(30)

    assert segmented.preview.visible
    assert not kept.visible
    assert segmented._dock.status.text.text().startswith("4 regions, ")


def test_the_text_counts_what_is_shown(segmented):
    segmented.n_regions = 4
    segmented.merge((2, 2), (2, 45))
    segmented.segment()
    segmented.wait(30)

    assert segmented._dock.status.text.text().startswith("3 regions, ")
