from __future__ import annotations

import numpy as np

import borders


def test_distance_of_equal_and_of_shifted_borders() -> None:
    truth = np.repeat([[1] * 20 + [2] * 20], 30, axis=0)
    assert borders.border_distance(truth, truth) == 0
    assert borders.border_distance(truth, np.repeat([[1] * 23 + [2] * 17], 30, axis=0)) == 3


def test_mosaics_are_measured_with_their_truth(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(borders.mosaics, "__defaults__", (1,))
    borders.main(["--json", str(tmp_path / "out.json")])
    row = next(line for line in capsys.readouterr().out.splitlines() if "mosaics" in line)
    coarse, refined = (float(cell) for cell in row.split("|")[2:4])
    assert 0.3 < coarse <= 1
    assert 0.3 < refined <= 1
