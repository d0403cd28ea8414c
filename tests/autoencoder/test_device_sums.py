"""The path of GPUs, taken by the CPU: the same moments as the CPU's own path."""

import threading

import numpy as np
import pytest
import torch

from napari_aeseg.autoencoder import encoding
from napari_aeseg.autoencoder import patch_moments as pooling
from napari_aeseg.autoencoder.patch_moments import GpuMoments, pooling_steps
from napari_aeseg.errors import InputError, StoppedError
from napari_aeseg.progress import drain
from napari_aeseg.regions.patches.superpixels import make_patches

IMAGE = np.random.default_rng(0).random((75, 101))


@pytest.fixture
def as_accelerator(monkeypatch):
    """Let the CPU be taken for a GPU, from now on."""

    def switch():
        for module in (encoding, pooling):
            monkeypatch.setattr(module, "is_accelerator", lambda device: True)

    return switch


def pooled(model, patches, image=IMAGE, axes=None, **options):
    work = pooling_steps(model, model.read(image, axes), patches, device="cpu", **options)
    return drain(work)


def assert_same(found, expected):
    assert found.level.tolist() == expected.level.tolist()
    for name in ("mean", "second"):
        there, here = getattr(found, name), getattr(expected, name)
        assert there.dtype == here.dtype == np.float32
        scale = np.abs(here).max(axis=0)
        assert (np.abs(there - here) <= 1e-5 * scale).all()


@pytest.mark.parametrize("levels", [None, (3, 0)])
@pytest.mark.parametrize("tile_size", [32, 512])
@pytest.mark.parametrize(("size", "kind"), [(6, "watershed"), (2, "grid"), (30, "grid")])
@pytest.mark.parametrize("source", ["encoder", "decoder"])
def test_moments_are_those_of_the_cpu(
    as_accelerator, make_model, source, size, kind, tile_size, levels
):
    model = make_model(levels=3)
    patches = make_patches(model.read(IMAGE).pixels, size, kind)
    options = {"source": source, "tile_size": tile_size, "levels": levels}
    expected = pooled(model, patches, **options)
    as_accelerator()
    assert_same(pooled(model, patches, **options), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 70), (17, 23)])
def test_patches_smaller_than_a_cell_are_those_of_the_cpu(as_accelerator, make_model, shape):
    model = make_model(levels=3)
    image = np.random.default_rng(0).random(shape)
    patches = make_patches(model.read(image).pixels, 2, "grid")
    expected = pooled(model, patches, image, tile_size=32)
    as_accelerator()
    assert_same(pooled(model, patches, image, tile_size=32), expected)


@pytest.mark.parametrize(("shape", "axes"), [((3, 41, 35), "ZYX"), ((2, 2, 19, 33), "TZYX")])
def test_stacks_and_patches_across_planes_are_those_of_the_cpu(
    as_accelerator, make_model, shape, axes
):
    model, rng = make_model(levels=3), np.random.default_rng(0)
    image = rng.random(shape)
    patches = rng.permutation(np.arange(image.size) % 700).reshape(shape)
    expected = pooled(model, patches, image, axes, tile_size=32)
    as_accelerator()
    assert_same(pooled(model, patches, image, axes, tile_size=32), expected)


def test_ids_are_brought_in_blocks(monkeypatch, as_accelerator, make_model):
    model = make_model(levels=2)
    patches = make_patches(model.read(IMAGE).pixels, 6, "watershed")
    expected = pooled(model, patches)
    as_accelerator()
    monkeypatch.setattr("napari_aeseg.autoencoder.patch_moments._BLOCK", 1000)
    assert_same(pooled(model, patches), expected)


def test_stop_is_heard_while_ids_are_brought():
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        GpuMoments(np.zeros((8, 8), int), 1, {1: 4}, {1: (1, 1)}, torch.device("cpu"), stop)


def test_stop_is_heard_at_the_next_tile(as_accelerator, make_model):
    as_accelerator()
    model, stop, events = make_model(), threading.Event(), []
    patches = np.zeros(IMAGE.shape, int)
    work = pooling_steps(model, model.read(IMAGE), patches, device="cpu", tile_size=32, stop=stop)
    threads = threading.active_count()

    def second_tile(event):
        events.append(event)
        if event.done == 2:
            stop.set()

    with pytest.raises(StoppedError):
        drain(work, second_tile)
    assert len(events) == 2
    assert threading.active_count() == threads


def test_out_of_memory_begins_anew_with_smaller_tiles(monkeypatch, as_accelerator, make_model):
    model = make_model(levels=3)
    image = np.random.default_rng(0).random((150, 280))
    patches = make_patches(model.read(image).pixels, 6, "watershed")
    expected = pooled(model, patches, image)
    as_accelerator()
    add, added = GpuMoments.add, []

    def with_little_memory(self, encoded):
        added.append(encoded.tile.size)
        if len(added) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        add(self, encoded)

    monkeypatch.setattr(GpuMoments, "add", with_little_memory)
    assert_same(pooled(model, patches, image, tile_size=128), expected)
    assert len(added) == 2 + 3 * 5


@pytest.mark.parametrize("accelerator", [False, True])
def test_in_bfloat16_moments_are_near(as_accelerator, make_model, accelerator):
    model = make_model(levels=3)
    patches = make_patches(model.read(IMAGE).pixels, 6, "watershed")
    expected = pooled(model, patches)
    weights = model.fingerprint
    if accelerator:
        as_accelerator()
    found = pooled(model, patches, precision="bfloat16")
    assert model.fingerprint == weights
    difference = np.abs(found.mean - expected.mean)
    assert difference.max() <= 0.01 * np.abs(expected.mean).max()
    # The image itself is not rounded, all else is.
    assert (difference[:, expected.level == 0] <= 1e-6).all()
    assert (difference[:, expected.level > 0].max(axis=0) > 0).all()


def test_another_precision_is_refused(make_model):
    model = make_model()
    with pytest.raises(InputError, match="precision = 'float16': give 'float32' or 'bfloat16'"):
        pooled(model, np.zeros(IMAGE.shape, int), precision="float16")
