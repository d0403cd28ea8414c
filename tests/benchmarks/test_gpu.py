import json

import numpy as np
import pytest

import gpu
from napari_aeseg.autoencoder.architecture import Architecture

KNOWN = {
    "float32": 60e12,
    "memory": 4.8e12,
    "to the device": 50e9,
    "from the device": 50e9,
}


def test_the_floor_is_that_of_the_default_network():
    network = Architecture(channels=3)
    assert gpu.operations(network) == 9648
    # 3 of the image; two layers each of 16, 32 / 4 and 64 / 16, written and read.
    assert gpu.values_moved(network) == 3 + 2 * 2 * (16 + 8 + 4)
    least = gpu.floor(network, KNOWN)
    assert least["operations"] == pytest.approx(2 * 9648 / 60e12)
    assert least["memory"] == pytest.approx(4 * 115 / 4.8e12)
    assert least["to the device"] == pytest.approx(16 / 50e9)
    assert least["from the device"] == pytest.approx(8 * 115 / 64 / 50e9)


def test_names_of_labels_do_not_count_and_moved_pixels_do():
    labels = np.repeat([1, 2, 3], 10)
    assert gpu.same_pixels(labels, 4 - labels) == 1
    moved = np.repeat([3, 1, 2], [10, 13, 7])
    assert gpu.same_pixels(labels, moved) == pytest.approx(0.9)


def test_everything_is_measured_without_a_gpu_too(tmp_path, capsys, monkeypatch):
    picture, textures = gpu.picture, gpu.samples.textures
    monkeypatch.setattr(gpu, "picture", lambda side: picture(min(side, 128)))
    monkeypatch.setattr(gpu.samples, "textures", lambda seed: textures(seed)[:128, :128])
    path = tmp_path / "out" / "gpu.json"
    options = ["--sides", "64", "72", "--runs", "1", "--steps", "2", "--mosaics", "1"]
    gpu.main(["--device", "cpu", *options, "--json", str(path)])
    found = json.loads(path.read_text())
    rows = {row["what"]: row for row in found["rows"]}
    assert len(rows) == len(found["rows"]) == 2 + 1 + 1
    assert all(rate > 0 for rate in found["rates, per second"].values())
    for side in (64, 72):
        row = rows[f"encoding + sums, {side} x {side} RGB"]
        assert row["seconds"] > 0
        assert row["times the floor on the device"] == pytest.approx(
            row["seconds"] / row["floor on the device, s"]
        )
    assert rows["training, 2 steps"]["precision reported"] == "float32"
    same = rows["pixels as on the CPU, 1 texture mosaic(s)"]
    assert same["each"]["12 regions"] == [1]
    assert same["means of features differ by"] == 0
    assert "training, 2 steps" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("napari_aeseg.autoencoder.device.available_devices", lambda: ["cpu"])
    args = gpu.parse([])
    assert "No GPU that torch can use" in capsys.readouterr().out
    assert args.device.type == "cpu"
    assert args.sides == [512]
