"""The files under examples/ run, and write what they say."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_aeseg import load_model, samples

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a file in an empty folder and returns what it printed."""
    # Not the settings and models of whoever runs the tests
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def run(file, *arguments, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", [str(file), *map(str, arguments)])
        runpy.run_path(str(file), run_name="__main__")
        return capsys.readouterr().out

    return run


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_example_is_run_here_and_listed():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    files = [path.name for path in EXAMPLES.glob("*.py")]
    assert len(files) == 4
    for name in files:
        assert f"({name})" in listed
        assert f'EXAMPLES / "{name}"' in tests


def test_without_a_window(run, tmp_path):
    printed = run(EXAMPLES / "without_a_window.py", "--steps", 5, "--output", tmp_path / "out")
    assert "trained 5 steps" in printed
    kinds = ("regions", "classes", "objects", "markers")
    written = [f"{kind}{ending}" for kind in kinds for ending in (".png", ".tif")]
    model = "coins.aeseg.safetensors"
    assert names_in(tmp_path / "out") == sorted([*written, "objects.csv", model])
    labels = {kind: tifffile.imread(tmp_path / "out" / f"{kind}.tif") for kind in kinds}
    assert [labels[kind].max() for kind in ("regions", "classes", "markers")] == [40, 2, 2]
    table = pd.read_csv(tmp_path / "out" / "objects.csv")
    assert len(table) == labels["objects"].max() > 1
    assert table["area_pixels"].sum() == (labels["objects"] > 0).sum()
    assert load_model(tmp_path / "out" / model).record.params["seed"] == 1


def test_notebook(run, tmp_path):
    printed = run(EXAMPLES / "notebook.py", STEPS="2", OUTPUT=str(tmp_path / "out"))
    assert "(384, 384) uint8" in printed
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    assert len(pd.read_csv(tmp_path / "out" / "regions.csv")) == 7


def test_batch(run, tmp_path):
    command = [EXAMPLES / "batch.py", "--steps", 2, "--output", tmp_path / "out"]
    printed = run(*command)
    assert "5 files: 4 done, 1 failed" in printed
    assert "failed: " in printed.splitlines()[-1]
    assert "scan_5.tif" in printed.splitlines()[-1]
    labels = [path for path in names_in(tmp_path / "out" / "results") if path.endswith(".tif")]
    assert labels == [f"scan_{number}_labels.tif" for number in (1, 2, 3, 4)]
    model = load_model(tmp_path / "out" / "tissue.aeseg.safetensors")
    assert model.prototypes.names == ("gland", "edge", "stroma")
    assert "5 files: 4 skipped, 1 failed" in run(*command)


@pytest.mark.viewer
def test_drive_the_widget(run, tmp_path, monkeypatch, make_napari_viewer):
    tissue = samples.tissue()[:160, :160]
    monkeypatch.setitem(samples.SAMPLES, "tissue", lambda: tissue)
    out = tmp_path / "out"
    printed = run(EXAMPLES / "drive_the_widget.py", "--close", "--output", out)
    assert "3 channels, 160 x 160 pixels" in printed
    table = pd.read_csv(out / "regions.csv")
    assert len(table) == 11  # 12, two of them merged
    assert table["reconstruction_error"].notna().all()
    # The code that it wrote makes the same regions.
    run(out / "again.py")
    labels, areas = np.unique(tifffile.imread(tmp_path / "tissue_labels.tif"), return_counts=True)
    assert labels.tolist() == table["index"].tolist()
    assert areas.tolist() == table["area"].tolist()
