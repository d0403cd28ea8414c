"""`napari-aeseg demo`."""

import sys
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from cli.conftest import names_in
from napari_aeseg import (
    load_model,
)
from napari_aeseg.cli import demo


@pytest.fixture
def tiny_samples(monkeypatch, stripes, quick_training):
    from napari_aeseg.samples import SAMPLES

    rgb = np.stack([stripes] * 3, axis=-1)
    discs = np.hypot(*(np.indices((96, 80)) % 24 - 12)) < 7
    for name in SAMPLES:
        image = np.tile(rgb, (2, 2, 1)) if SAMPLES[name]().ndim == 3 else np.tile(stripes, (2, 2))
        if name == "coins":  # objects are detected there
            image = discs + np.random.default_rng(0).normal(0, 0.05, discs.shape)
        monkeypatch.setitem(SAMPLES, name, lambda image=image: image)
    return list(SAMPLES)


def assert_demo_is_complete(folder, samples):
    for name in samples:
        labels = tifffile.imread(folder / f"{name}_labels.tif")
        assert labels.shape == (96, 80)
        assert labels.max() >= 2
        assert imageio.imread(folder / f"{name}_overlay.png").shape == (96, 80, 3)
        assert load_model(folder / f"{name}.aeseg.safetensors").record.images[0]["name"] == name
    assert len(names_in(folder)) == 3 * len(samples)


def test_demo_writes_labels_overlay_and_model_of_each_sample(run, tmp_path, tiny_samples):
    done = run("demo", "--output", tmp_path / "demo", "--no-window", "--device=cpu")
    assert done.code == 0, done.err
    assert_demo_is_complete(tmp_path / "demo", tiny_samples)
    for name in tiny_samples:
        assert f"{name}: " in done.out
    assert "on cpu" in done.out
    assert str(tmp_path / "demo") in done.out
    # Again: the demo's results may be replaced.
    assert run("demo", "--output", tmp_path / "demo", "--no-window", "--device=cpu").code == 0


def test_demo_without_a_display_says_so(run, tmp_path, tiny_samples, monkeypatch):
    monkeypatch.setattr(demo, "_has_display", lambda: False)
    done = run("demo", "--output", tmp_path / "demo", "--device=cpu")
    assert done.code == 0
    assert "no display" in done.out
    assert_demo_is_complete(tmp_path / "demo", tiny_samples)


def test_demo_with_a_display_shows_the_results(run, tmp_path, tiny_samples, monkeypatch):
    shown = []
    window = SimpleNamespace(show=lambda folder, names: shown.append((folder, names)))
    monkeypatch.setitem(sys.modules, "napari_aeseg._napari.manifest.demo_window", window)
    monkeypatch.setattr(demo, "_has_display", lambda: True)
    assert run("demo", "--output", tmp_path / "demo", "--device=cpu").code == 0
    assert shown == [(tmp_path / "demo", tiny_samples)]


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there is always a display")
@pytest.mark.parametrize("variable", [None, "DISPLAY", "WAYLAND_DISPLAY"])
def test_a_display_is_recognised_by_the_environment(monkeypatch, variable):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, ":0")
    assert demo._has_display() is (variable is not None)
