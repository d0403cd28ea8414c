from __future__ import annotations

import numpy as np
import pytest
from skimage.io import imsave

import strokes


def test_strokes_stay_in_their_class_and_reach_every_class() -> None:
    truth = np.kron([[1, 2], [3, 1]], np.ones((40, 40), int))
    truth[:3, :3] = 4
    marks = strokes.drawn(truth, 2, np.random.default_rng(0))
    assert set(np.unique(marks)) == {0, 1, 2, 3, 4}
    assert np.array_equal(marks[marks > 0], truth[marks > 0])
    assert np.count_nonzero(marks == 1) <= 2 * 3 * (strokes.LENGTH + 3)


def test_score_is_the_mean_over_classes() -> None:
    assert strokes.mean_iou(np.array([1, 1, 1, 2]), np.array([1, 1, 2, 2])) == pytest.approx(7 / 12)


def test_own_images_in_a_folder_are_measured(tmp_path, capsys) -> None:
    truth = np.repeat([[3, 7]], 64, axis=0).repeat(32, axis=1).astype(np.uint8)
    image = 20 * truth + np.random.default_rng(0).integers(0, 9, truth.shape, np.uint8)
    for kind, pixels in (("images", image), ("labels", truth)):
        (tmp_path / "cells" / kind).mkdir(parents=True)
        imsave(tmp_path / "cells" / kind / "a.png", pixels, check_contrast=False)
    result = ["--json", str(tmp_path / "out.json")]
    strokes.main([str(tmp_path / "cells"), "--strokes", "1", "--repeats", "1", *result])
    row = next(line for line in capsys.readouterr().out.splitlines() if "cells" in line)
    ours, forest = (float(cell) for cell in row.split("|")[2:4])
    assert min(ours, forest) > 0.8
