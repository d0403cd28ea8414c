"""What may be done to an image, or to how it is worked on, without any bit of the result changing.

docs/how_it_works.md says so under "What changes nothing".
"""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import random_images
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import napari_aeseg as aeseg

MODEL = random_images.any_model()
alike_in_all_sizes = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here"
)
SIZES = {"T": 3, "C": 2, "Z": 5, "Y": 22, "X": 27}
FINE = random_images.PARAMS


def texture(shape, seed=0):
    """Smooth noise: patches of all shapes."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 0.7)


def everything(tree):
    """All numbers that cuts follow from."""
    known = tree.statistics
    return [
        tree.patches,
        known.mean,
        known.second,
        known.intensity,
        tree.tree.cost,
        tree.classes(2),
    ]


def same(one, other):
    return all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(everything(one), everything(other), strict=True)
    )


def build(image, params=FINE, model=MODEL, axes=None):
    return aeseg.build_hierarchy(image, model, params, axes, "cpu")


@given(
    st.sampled_from(["YX", "CYX", "ZYX", "TYX", "CZYX", "TCYX", "TZYX"]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=12)
def test_the_order_of_axes(letters, random):
    image = texture([SIZES[a] for a in letters])
    turned = "".join(random.sample(letters, len(letters)))
    tree = build(image, axes=letters)
    other = build(image.transpose([letters.index(a) for a in turned]), axes=turned)

    space, turned_space = tree.axes.space, other.axes.space
    back = [turned_space.index(a) for a in space]
    for cut in (lambda t: t.regions(5), lambda t: t.regions(40), lambda t: t.classes(3)):
        assert np.array_equal(cut(other).transpose(back), cut(tree))


@given(st.integers(-60, 60), st.sampled_from(["f4", "f8", ">f8"]))
@settings(max_examples=10)
def test_a_power_of_two_as_factor(power, dtype):
    image = texture((30, 33)).astype(dtype)
    found, expected = build(image * 2.0**power), build(image)
    scaled = expected.statistics.intensity * 2.0**power
    assert np.array_equal(found.statistics.intensity, scaled)
    assert same(found, expected) or power  # intensities are in the units of the image
    assert np.array_equal(found.statistics.mean, expected.statistics.mean)
    assert np.array_equal(found.tree.cost, expected.tree.cost)
    assert np.array_equal(found.regions(9), expected.regions(9))


@alike_in_all_sizes
@pytest.mark.parametrize("decoder", ["transposed", "unpooling"])
@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("source", ["encoder", "decoder"])
def test_the_size_of_tiles(make_model, decoder, levels, source):
    model = make_model(levels=levels, decoder=decoder)
    image = texture((75, 101))
    whole = build(image, FINE.updated(source=source), model)
    for tile_size in (32, 40):
        tiled = build(image, FINE.updated(source=source, tile_size=tile_size), model)
        assert same(tiled, whole), tile_size


@alike_in_all_sizes
@pytest.mark.parametrize("z_levels", [0, 1])
def test_the_size_of_tiles_of_volumes(make_model, z_levels):
    model = make_model(dimensions=3, z_levels=z_levels)
    image = texture((19, 30, 41))
    whole = build(image, model=model, axes="ZYX")
    assert same(build(image, FINE.updated(tile_size=40), model, "ZYX"), whole)


@alike_in_all_sizes
@pytest.mark.parametrize("patches", ["watershed", "grid"])
def test_tiles_of_stacks_with_patches_across_slices(patches):
    image = texture((6, 40, 45))
    whole = build(image, FINE.updated(patches=patches), axes="ZYX")
    assert same(build(image, FINE.updated(patches=patches, tile_size=32), axes="ZYX"), whole)


@alike_in_all_sizes
def test_what_lies_around_a_window_as_far_as_the_network_cannot_see(make_model):
    """A window that begins at a whole cell has the features of the image, but for its margin."""
    params = random_images.TRAINING.updated(normalisation="training")
    intensity = aeseg.train([np.array([[0.0, 1.0]])], params, device="cpu").intensity
    model = make_model(levels=3, intensity=intensity)
    reach, image = model.architecture.receptive_radius(decoded=False)[0], texture((120, 136))
    features = model.features(image, [1], device="cpu")
    y, x = 16, 24
    window = model.features(image[y : y + 88, x : x + 96], [1], device="cpu")
    inner = (slice(None), slice(reach, 88 - reach), slice(reach, 96 - reach))
    expected = features[:, y : y + 88, x : x + 96][inner]
    assert expected.size
    assert np.array_equal(window[inner], expected)


SCRIPT = """
import sys, numpy as np
sys.path[:0] = sys.argv[1:3]
import test_sameness
print(*test_sameness.fingerprints(np.load(sys.argv[3])))
"""


def fingerprints(image):
    """Of a hierarchy by as many threads as there are, and of a model trained by one of them."""
    tree = build(image, FINE.updated(tile_size=32), aeseg.load_model("base"))
    numbers = [*everything(tree), tree.regions(9), tree.objects()]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in numbers))
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # gradients are added in as many parts as there are threads
    try:
        params = aeseg.TrainingParams(levels=2, width=4, crop_size=16, batch_size=4, steps=4)
        return digest.hexdigest(), aeseg.train(image, params, device="cpu").fingerprint
    finally:
        torch.set_num_threads(before)


def test_the_process_and_the_number_of_threads(tmp_path):
    image = texture((70, 85))
    np.save(tmp_path / "image.npy", image)
    folders = [os.path.dirname(__file__), os.path.dirname(random_images.__file__)]
    command = [sys.executable, "-c", SCRIPT, *folders, str(tmp_path / "image.npy")]
    threads = torch.get_num_threads() % 3 + 2  # 2, 3 or 4, and not as many as here
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    said = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert said.stdout.split() == list(fingerprints(image))
