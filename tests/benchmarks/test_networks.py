import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image

import napari_aeseg as aeseg
from napari_aeseg.autoencoder import network, trainer
from napari_aeseg.autoencoder import trainer as building
from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.network import Autoencoder
from napari_aeseg.autoencoder.patch_moments import pooling_steps
from napari_aeseg.progress import drain
from napari_aeseg.regions.patches.superpixels import make_patches
from network_report import Curve, kind_of, picture_of, summary, table
from network_variants import DEFAULT, VARIANTS, VariantNetwork, installed

EVERY = pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).random((100, 130))


def encoder_of(variant, channels=1):
    """Return a network of a variant, as training builds it."""
    torch.manual_seed(0)
    with installed(variant):
        p = variant.params()
        shape = building.Architecture(channels, p.levels, p.width, p.convolutions, p.decoder)
        return trainer.Autoencoder(shape)


def test_the_default_variant_is_the_default_network():
    torch.manual_seed(0)
    usual, x = Autoencoder(Architecture(1)), torch.rand(1, 1, 32, 32)
    assert torch.equal(encoder_of(DEFAULT)(x), usual(x))


@EVERY
def test_tiles_do_not_change_what_a_variant_sees(variant, image):
    with installed(variant):
        params = variant.params(steps=1, batch_size=1)
        model = aeseg.train(image, params, "YX", device="cpu")
        assert isinstance(model.network, VariantNetwork)
        read = model.read(image, "YX")
        patches = make_patches(read.pixels, 8)
        whole, tiled = (
            drain(pooling_steps(model, read, patches, device="cpu", tile_size=size))
            for size in (512, 48)
        )
    np.testing.assert_allclose(tiled.mean, whole.mean, atol=1e-4)
    assert len(np.unique(whole.level)) == variant.levels + 1
    assert np.ptp(whole.mean, axis=0).max() > 0


@EVERY
def test_a_variant_decodes_to_the_image_and_has_the_levels_that_it_says(variant):
    net, x = encoder_of(variant), torch.rand(1, 1, 64, 64)
    assert net(x).shape == x.shape
    sizes = [f.shape[-1] for f in net.encoder_features(x)]
    assert sizes == [64, *(64 // variant.stem // 2**i for i in range(variant.levels))]


def test_variants_differ_in_what_they_are_named_after():
    x = torch.rand(1, 1, 64, 64)
    usual = encoder_of(DEFAULT)
    for variant in VARIANTS.values():
        if variant != DEFAULT:
            other = encoder_of(variant)
            assert not torch.equal(other(x), usual(x)), variant.name
    kinds = {type(m) for m in encoder_of(VARIANTS["GELU"]).modules()}
    assert torch.nn.GELU in kinds
    assert torch.nn.LeakyReLU not in kinds


def test_the_package_is_as_before_when_a_variant_is_gone():
    before = network.Autoencoder, trainer.Autoencoder, building.Architecture
    with pytest.raises(KeyError), installed(VARIANTS["half resolution"]):
        assert trainer.Autoencoder is not before[1]
        assert building.Architecture(1).cell(3) == (8, 8)
        raise KeyError
    assert before == (
        network.Autoencoder,
        trainer.Autoencoder,
        building.Architecture,
    )


def timing(name, seconds):
    times = {"encode_seconds": seconds, "encode_faster": 1 / seconds}
    steps = {"step_seconds": seconds, "step_faster": 1 / seconds}
    return {"variant": name, **times, **steps, "parameters": 1, "multiplications": 1, "side": 64}


def score(name, seed, where, scores):
    return {"variant": name, "seed": seed, "set": where, "scores": scores, "unexplained": 0.5}


ROWS = [
    score(DEFAULT.name, 0, "a", {"x": 0.5, "y": 0.7}),
    score(DEFAULT.name, 0, "b", {"z": 0.2}),
    score(DEFAULT.name, 1, "a", {"x": 0.7, "y": 0.7}),
    score("width 8", 0, "a", {"x": 0.6, "y": 0.6}),
    score("width 8", 0, "b", {"z": 0.5}),
    score("ReLU", 0, "a", {"x": 1, "y": 1}),
]
TIMES = [timing("width 8", 0.5), timing(DEFAULT.name, 1.0), timing("ReLU", 1.0)]


def test_a_variant_is_compared_on_the_same_images_and_seeds():
    default, narrow = summary(TIMES, ROWS)  # ReLU has not been scored on b
    assert (default["variant"], narrow["variant"]) == (DEFAULT.name, "width 8")
    assert (default["gain"], default["chance"], default["seeds"]) == (0, 0, 2)
    assert default["sets"] == pytest.approx({"a": 0.65, "b": 0.2})
    assert narrow["mean"] == pytest.approx((0.6 + 0.5) / 2)
    differences = [0.1, -0.1, 0.3]
    assert narrow["gain"] == pytest.approx(np.mean(differences))
    assert narrow["chance"] == pytest.approx(np.std(differences, ddof=1) / 3**0.5)


def test_the_table_has_a_line_for_each():
    lines = table(summary(TIMES, ROWS)).splitlines()
    assert len(lines) == 4
    assert "+0.100 ± 0.115" in lines[-1]
    assert table([]) == "Nothing is complete yet."


def test_the_picture_shows_points_where_they_belong(tmp_path):
    rows = summary(TIMES, ROWS)
    curve = Curve(rows)
    fast, slow = curve.at(0.5, 0), curve.at(1, 0.05)
    assert fast[0] < slow[0]
    assert fast[1] > slow[1]
    assert curve.at(1, -9) == curve.at(1, curve.y[0])
    assert kind_of("means") != kind_of("width 8")
    picture_of(rows, tmp_path / "new" / "curve.png")
    pixels = np.asarray(Image.open(tmp_path / "new" / "curve.png"))
    assert (pixels == (20, 20, 20)).all(axis=-1).any()


def test_work_ends_at_its_time_limit_and_keeps_what_is_there(tmp_path, capsys):
    networks = pytest.importorskip("networks", reason="needs the group bench", exc_type=ImportError)
    assert networks.measured(["--data", str(tmp_path)], 0.05) == []
    assert "Ended after 0.05 s" in capsys.readouterr().err
    file = tmp_path / "networks.json"
    networks.Results(file).add([timing(DEFAULT.name, 1.0), {**ROWS[0], "steps": 2}])
    again = networks.Results(file)
    assert again.has({"variant": DEFAULT.name, "seed": 0, "set": "a", "steps": 2})
    assert not again.has({"variant": DEFAULT.name, "seed": 0, "set": "a", "steps": 3})
    now = {"steps": 2, "batch": 4, "limit": 1}
    again.add([{**ROWS[0], **now}, {**ROWS[0], **now, "steps": 3}, {**ROWS[1], **now}])
    assert again.alike(Namespace(sets=["a"], **now)) == [{**ROWS[0], **now}]
    assert json.loads(file.read_text())["times"] == again.times
