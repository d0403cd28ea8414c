"""Preferences of the plugin: napari shows them, and a new dock follows them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import napari.settings
import platformdirs
import pytest
from napari.components import ViewerModel
from npe2 import PluginManifest

from _napari.conftest import join_workers
from napari_aeseg import InputError
from napari_aeseg._napari.manifest import settings
from napari_aeseg._napari.manifest.settings import PLUGIN, Settings, new_path, read_settings
from napari_aeseg._napari.widget import AESegWidget
from napari_aeseg.params import MODEL_SUFFIX, PRESETS, TrainingParams

MANIFEST = PluginManifest.from_file(str(files("napari_aeseg") / "napari.yaml"))


def properties() -> dict[str, object]:
    """The manifest's preferences by name."""
    return {
        name: value
        for configuration in MANIFEST.contributions.configurations.values()
        for name, value in configuration.properties.items()
    }


def test_the_defaults_are_those_of_the_manifest():
    found = {name: value.default for name, value in properties().items()}

    assert Settings(**found) == Settings()


def test_all_presets_are_offered():
    assert list(properties()["preset"].enum) == list(PRESETS)


def test_napari_before_0_9_has_the_defaults(monkeypatch):
    monkeypatch.delattr(napari.settings, "get_plugin_settings", raising=False)

    assert read_settings() == Settings()


def test_a_napari_that_does_not_know_the_manifest_has_the_defaults(monkeypatch):
    def unknown(name):
        raise KeyError(name)

    monkeypatch.setattr(napari.settings, "get_plugin_settings", unknown, raising=False)

    assert read_settings() == Settings()


@pytest.fixture
def preferences(request, npe2pm):
    """What napari keeps of this plugin's preferences, in a folder of the test."""
    if not hasattr(napari.settings, "get_plugin_settings"):
        pytest.skip("this napari has no preferences for plugins")
    request.getfixturevalue("plugin_settings")
    npe2pm.register(MANIFEST)
    return napari.settings.get_plugin_settings(PLUGIN)


@pytest.fixture
def new_dock(qtbot, monkeypatch):
    """Return a function that opens a dock, which reads the preferences as they are."""
    monkeypatch.setattr("napari_aeseg._napari.controller.read_settings", settings.read_settings)
    docks = []

    def open_dock() -> AESegWidget:
        docks.append(AESegWidget(ViewerModel()))
        qtbot.addWidget(docks[-1].native)
        return docks[-1]

    yield open_dock
    for dock in docks:
        dock._controller.close()
    join_workers(qtbot)


def test_preferences_reach_a_new_dock(preferences, new_dock, tmp_path):
    assert read_settings() == Settings()
    first = new_dock()
    assert (first.device, first.preset) == ("auto", "balanced")

    preferences.training.device = "cpu"
    preferences.training.preset = "thorough"
    preferences.saving.autosave_folder = str(tmp_path / "models")

    assert read_settings() == Settings("cpu", "thorough", True, str(tmp_path / "models"))
    second = new_dock()
    assert (second.device, second.preset) == ("cpu", "thorough")
    assert second.training_params == TrainingParams.preset("thorough")
    assert first.preset == "balanced"


def test_where_models_are_saved(preferences, tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name, **_: tmp_path / name)
    assert read_settings().folder == tmp_path / "napari-aeseg"
    preferences.saving.autosave_folder = "~/models"
    assert read_settings().folder == Path.home() / "models"
    path = read_settings().autosave_path("my image")
    assert path.parent == Path.home() / "models"
    assert path.name.startswith("my_image ")
    assert path.name.endswith(MODEL_SUFFIX)

    preferences.saving.autosave = False

    assert read_settings().autosave_path("my image") is None


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a/b:c", "a_b_c "), ("...", "image "), ("é", "é "), ("x" * 200, "x" * 60 + " ")],
)
def test_file_names(tmp_path, name, plain):
    path = new_path(tmp_path, name, ".npy")

    assert path.name.startswith(plain)
    path.touch()
    assert new_path(tmp_path, name, ".npy") != path


def test_a_folder_is_made(tmp_path):
    settings.prepare_folder(tmp_path / "a" / "b")

    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"Nothing can be saved in .*file"):
        settings.prepare_folder(tmp_path / "file")
