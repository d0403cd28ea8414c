from __future__ import annotations

import numpy as np
import pytest

import ablations
import napari_aeseg as aeseg
from ours import Ours

IMAGE = np.random.default_rng(0).random((48, 64)).astype(np.float32)
IMAGE[:, 32:] += 1


def test_features_that_are_constant_replace_all_levels_but_the_image() -> None:
    def constant(pixels: np.ndarray) -> list[np.ndarray]:
        return [np.ones((2, *pixels.shape[1:]), np.float32)]

    before = Ours(aeseg.load_model("base")).hierarchy(IMAGE)
    after = ablations.Replaced(constant).hierarchy(IMAGE)
    np.testing.assert_array_equal(after.patches, before.patches)
    assert after.statistics.level.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(after.statistics.mean[:, 0], before.statistics.mean[:, 0])
    np.testing.assert_allclose(after.statistics.mean[:, 1:], 1, rtol=1e-5)


def test_the_encoders_own_features_give_the_encoders_regions() -> None:
    ours = Ours(aeseg.load_model("base"))
    network = ours.model.fitted(1).network

    def encoder(pixels: np.ndarray) -> list[np.ndarray]:
        import torch

        with torch.inference_mode():
            levels = network.encoder_features(torch.from_numpy(pixels)[None])
        return [level[0].numpy() for level in levels[1:]]

    before, after = ours.hierarchy(IMAGE), ablations.Replaced(encoder).hierarchy(IMAGE)
    np.testing.assert_allclose(after.statistics.mean, before.statistics.mean, atol=1e-3)


def test_table_has_the_mean_of_each_kind() -> None:
    results = [
        {"method": "m", "set": name, "scores": {"score": {"value": value}}}
        for name, value in [("wbc_small", 0.2), ("glas", 0.6), ("texture_brodatz", 0.9)]
    ]
    lines = ablations.table(results).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[2:-1]] == [
        *("0.200", "0.600", "0.900", "0.400", "0.900")
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_banks_have_a_level_for_each_scale(channels) -> None:
    pixels = np.random.default_rng(0).random((channels, 32, 40)).astype(np.float32)
    for bank, features in ((ablations.filter_bank, 5 * channels), (ablations.gabor_bank, 6)):
        assert [level.shape for level in bank(pixels)] == 4 * [(features, 32, 40)]


def test_the_untrained_network_is_the_same_network_with_other_weights() -> None:
    base = aeseg.load_model("base")
    models = [ablations.untrained(base) for _ in range(2)]
    assert models[0].architecture == base.architecture
    assert models[0].fingerprint == models[1].fingerprint != base.fingerprint
    assert models[0].fitted(5).architecture.channels == 5


def test_the_table_says_that_the_teacher_is_not_installed(monkeypatch) -> None:
    monkeypatch.setattr(ablations, "find_spec", lambda _: None)
    assert ablations.TEACHER not in ablations.rows(["base"])
    results = [{"method": "m", "set": "glas", "scores": {"score": {"value": 0.5}}}]
    last = ablations.table(results).splitlines()[-1]
    assert ablations.TEACHER in last
    assert "not installed" in last
