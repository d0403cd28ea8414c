import json
from pathlib import Path

import numpy as np
import pytest
import zarr

import scale


@pytest.mark.parametrize("shape", [(700, 600), (70, 90, 80)])
def test_images_are_written_in_16_bits_and_are_nowhere_flat(tmp_path, shape):
    scale.write_image(tmp_path / "image", shape)
    image = zarr.open_array(tmp_path / "image", mode="r")
    assert image.shape == shape
    assert image.dtype == np.uint16
    whole = image[...]
    assert whole[..., -20:].std() > 500
    assert whole[-20:].std() > 500
    scale.write_image(tmp_path / "again", shape)
    assert np.array_equal(zarr.open_array(tmp_path / "again", mode="r")[...], whole)


def test_growth_is_an_exponent():
    rows = [{"pixels": n, "seconds": 3 * n**1.5, "processor": 2 * n} for n in (1, 4, 16)]
    assert scale.growth(rows) == pytest.approx({"exponent": 1.5, "per_pixel": 4})
    assert scale.growth(rows, "processor") == pytest.approx({"exponent": 1, "per_pixel": 1})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are Linux's")
def test_rows_are_measured(tmp_path, capsys, monkeypatch):
    # In this process: importing everything again takes most of the time
    monkeypatch.setattr(scale, "in_own_process", lambda *command: scale.measured(command[-1]))
    arguments = ["--sides", "160", "--volume", "--cluster-side", "0"]
    scale.main([*arguments, "--json", str(tmp_path / "scale.json")])
    (row,) = json.loads((tmp_path / "scale.json").read_text())["images"]
    assert row["pixels"] == 160**2
    assert row["seconds"] >= sum(row["stages"].values()) * 0.99 > 0
    assert row["processor"] > 0
    assert {"encode", "tree", "views"} <= set(row["peaks"])
    assert all(seconds > 0 for seconds in row["views"].values())
    assert "bar 256" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are Linux's")
def test_the_peak_counts_memory_that_was_given_back():
    scale._forget_peak()
    before = scale._memory("VmRSS")
    np.ones(8 * 2**20)  # 64 MiB
    assert scale._memory("VmHWM") - before > 60
