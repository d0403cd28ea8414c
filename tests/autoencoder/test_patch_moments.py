import threading

import numpy as np
import pytest
import torch

from napari_aeseg.autoencoder import encoding, patch_moments
from napari_aeseg.autoencoder.patch_moments import GpuMoments, patch_moments_steps, sums_of_runs
from napari_aeseg.errors import DeviceError, StoppedError
from napari_aeseg.progress import drain
from napari_aeseg.regions.patches.superpixels import make_patches

IMAGE = np.random.default_rng(0).random((75, 101))


def moments_of(model, image=IMAGE, size=6, kind="watershed", progress=None, axes=None, **options):
    read = model.read(image, axes)
    patches = make_patches(read.pixels, size, kind)
    work = patch_moments_steps(model, read, patches, device="cpu", **options)
    return drain(work, progress), patches


@pytest.fixture
def threads():
    """Sets how many threads torch takes; afterwards it is as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def moments(features, patches):
    """Mean and mean square of (F, *space) features per patch, the plain way."""
    ids = range(patches.max() + 1)
    mean = np.array([features[:, patches == i].mean(1) for i in ids])
    return mean, np.array([(features[:, patches == i] ** 2).mean(1) for i in ids])


@pytest.mark.parametrize("features", [1, 3, 16])
def test_sums_of_runs_are_those_of_their_rows(features):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, features)).astype(np.float32)
    cells, starts = rng.integers(50, size=40), np.array([0, 1, 7, 39])
    runs = [rows[run] for run in np.split(cells, starts[1:])]
    expected = [np.concatenate([r.sum(axis=0), (r**2).sum(axis=0)]) for r in runs]
    found = sums_of_runs(*map(torch.from_numpy, (rows.copy(), cells, starts)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_moments_do_not_depend_on_the_number_of_threads(make_model, threads):
    threads(1)
    alone, _ = moments_of(make_model(), tile_size=32)
    threads(3)
    shared, _ = moments_of(make_model(), tile_size=32)
    assert torch.get_num_threads() == 3
    np.testing.assert_array_equal(shared.mean, alone.mean)
    np.testing.assert_array_equal(shared.second, alone.second)


@pytest.mark.parametrize("source", ["encoder", "decoder"])
def test_moments_at_image_resolution_are_exact(make_model, source):
    model = make_model(levels=2)
    found, patches = moments_of(model, levels=(0, 1), source=source, tile_size=32)
    features = model.features(IMAGE, [0, 1], source=source, device="cpu")
    mean, second = moments(features, patches)
    np.testing.assert_allclose(found.mean, mean, atol=1e-4)
    np.testing.assert_allclose(found.second, second, atol=1e-4)
    assert found.level.tolist() == [0] + [1] * 4


@pytest.mark.parametrize(("border", "cells_left"), [(48, 12), (49, 12), (50, 12), (51, 13)])
def test_a_cell_of_a_coarse_level_belongs_to_the_patch_at_its_centre(
    make_model, border, cells_left
):
    model = make_model(levels=3)
    read = model.read(IMAGE[:64, :96])
    patches = (np.arange(96) >= border).astype(np.int32) * np.ones((64, 1), np.int32)
    found = drain(patch_moments_steps(model, read, patches, (3,), device="cpu", tile_size=32))
    x = torch.from_numpy(np.pad(read.pixels, [(0, 0), (32, 32), (32, 32)], "reflect"))
    with torch.no_grad():
        # Level 3 has a quarter of the resolution: cells of 4 x 4 pixels.
        cells = model.network.encoder_features(x[None])[3][0].numpy()[:, 8:-8, 8:-8]
    mean, second = moments(cells, (np.arange(24) >= cells_left) * np.ones((16, 1), int))
    np.testing.assert_allclose(found.mean, mean, atol=1e-4)
    np.testing.assert_allclose(found.second, second, atol=1e-4)


@pytest.mark.parametrize("source", ["encoder", "decoder"])
@pytest.mark.parametrize("decoder", ["transposed", "unpooling"])
def test_moments_do_not_depend_on_the_tiling(monkeypatch, make_model, source, decoder):
    model = make_model(levels=3, decoder=decoder)
    whole, _ = moments_of(model, source=source)
    monkeypatch.setattr(patch_moments, "_FEW_OPEN", 8)  # sums are added at once
    tiled, _ = moments_of(model, source=source, tile_size=32)
    scale = np.abs(whole.second).max()
    np.testing.assert_allclose(tiled.mean, whole.mean, atol=1e-5 * scale)
    np.testing.assert_allclose(tiled.second, whole.second, atol=1e-5 * scale)
    assert np.array_equal(tiled.level, whole.level)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 70), (17, 23)])
def test_patches_smaller_than_a_cell_are_described_too(make_model, shape):
    model = make_model(levels=3)
    image = np.random.default_rng(0).random(shape)
    found, patches = moments_of(model, image, size=2, tile_size=32)
    assert len(found.mean) == patches.max() + 1
    assert np.isfinite(found.mean).all()
    assert (found.second >= found.mean**2 - 1e-4).all()
    assert (found.second[:, found.level == 3] > 0).any(axis=1).all()


def test_planes_of_a_stack_are_described_each_by_itself(make_model):
    model = make_model(levels=2)
    stack = np.stack([IMAGE[:32, :32], IMAGE[-32:, -32:]])
    patches = np.repeat([0, 1], 32 * 32).reshape(stack.shape)
    read = model.read(stack, "ZYX")
    found = drain(patch_moments_steps(model, read, patches, (1,), device="cpu", tile_size=32))
    features = model.features(stack, [1], axes="ZYX", device="cpu")
    np.testing.assert_allclose(found.mean, features.mean(axis=(2, 3)).T, atol=1e-4)


def test_events_count_the_tiles(make_model):
    events = []
    moments_of(make_model(), progress=events.append, tile_size=32)
    assert [e.done for e in events] == list(range(1, 13))
    assert {(e.stage, e.total, e.device, e.message) for e in events} == {("encode", 12, "cpu", "")}


def test_stop_is_checked_at_every_tile(make_model):
    stop, events = threading.Event(), []

    def second_tile(event):
        events.append(event)
        if event.done == 2:
            stop.set()

    with pytest.raises(StoppedError, match="'encode'"):
        moments_of(make_model(), progress=second_tile, tile_size=32, stop=stop)
    assert len(events) == 2


def out_of_memory_when(monkeypatch, condition, at_tile=1):
    """Let encoding fail at a tile, the second by default, while `condition` holds."""
    map_tiles, tried = patch_moments.map_tiles, []

    def with_little_memory(network, work, pixels, levels, source, device, tile_size):
        tried.append((device.type, tile_size))
        tiles = map_tiles(network, work, pixels, levels, source, CPU, tile_size)
        for number, found in enumerate(tiles):
            if number == at_tile and condition(device.type, tile_size):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            yield found

    monkeypatch.setattr(patch_moments, "map_tiles", with_little_memory)
    return tried


CPU = torch.device("cpu")


def test_out_of_memory_halves_the_tiles_and_changes_nothing_else(monkeypatch, make_model):
    image = np.random.default_rng(0).random((150, 280))
    expected, _ = moments_of(make_model(), image)
    tried = out_of_memory_when(monkeypatch, lambda device, size: size > 64)
    events = []
    found, _ = moments_of(make_model(), image, tile_size=256, progress=events.append)
    assert tried == [("cpu", 256), ("cpu", 128), ("cpu", 64)]
    assert [e.message for e in events if e.message] == [
        "cpu ran out of memory: going on with tiles of 128.",
        "cpu ran out of memory: going on with tiles of 64.",
    ]
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(found.second, expected.second, atol=1e-5)


def test_when_small_tiles_do_not_help_the_cpu_takes_over(monkeypatch, make_model):
    model = make_model()
    expected, patches = moments_of(model)
    # "meta" stands for a device that is not there where the tests run.
    monkeypatch.setattr(patch_moments, "choose_device", lambda device: torch.device("meta"))
    monkeypatch.setattr(patch_moments, "is_accelerator", lambda device: False)
    tried = out_of_memory_when(monkeypatch, lambda device, size: device != "cpu", at_tile=0)
    events = []
    found = drain(
        patch_moments_steps(model, model.read(IMAGE), patches, device="auto", tile_size=128),
        events.append,
    )
    assert tried == [("meta", 128), ("meta", 64), ("cpu", 384)]
    assert "meta ran out of memory: going on with the CPU." in [e.message for e in events]
    assert events[-1].device == "cpu"
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)


def test_cpu_out_of_memory_with_the_smallest_tiles_is_a_device_error(monkeypatch, make_model):
    out_of_memory_when(monkeypatch, lambda device, size: True)
    with pytest.raises(DeviceError, match="CPU ran out of memory with the smallest tiles"):
        moments_of(make_model(), tile_size=64)


def test_other_errors_of_torch_are_not_taken_for_memory(monkeypatch, make_model):
    def broken(*_):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(patch_moments, "map_tiles", broken)
    with pytest.raises(RuntimeError, match="multiplied"):
        moments_of(make_model())


# -- the path of GPUs, taken by the CPU: the same moments as the CPU's own path


@pytest.fixture
def as_accelerator(monkeypatch):
    """Let the CPU be taken for a GPU, from now on."""

    def switch():
        for module in (encoding, patch_moments):
            monkeypatch.setattr(module, "is_accelerator", lambda device: True)

    return switch


def moments_in(model, patches, image=IMAGE, axes=None, **options):
    work = patch_moments_steps(model, model.read(image, axes), patches, device="cpu", **options)
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
    expected = moments_in(model, patches, **options)
    as_accelerator()
    assert_same(moments_in(model, patches, **options), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 70), (17, 23)])
def test_patches_smaller_than_a_cell_are_those_of_the_cpu(as_accelerator, make_model, shape):
    model = make_model(levels=3)
    image = np.random.default_rng(0).random(shape)
    patches = make_patches(model.read(image).pixels, 2, "grid")
    expected = moments_in(model, patches, image, tile_size=32)
    as_accelerator()
    assert_same(moments_in(model, patches, image, tile_size=32), expected)


@pytest.mark.parametrize(("shape", "axes"), [((3, 41, 35), "ZYX"), ((2, 2, 19, 33), "TZYX")])
def test_stacks_and_patches_across_planes_are_those_of_the_cpu(
    as_accelerator, make_model, shape, axes
):
    model, rng = make_model(levels=3), np.random.default_rng(0)
    image = rng.random(shape)
    patches = rng.permutation(np.arange(image.size) % 700).reshape(shape)
    expected = moments_in(model, patches, image, axes, tile_size=32)
    as_accelerator()
    assert_same(moments_in(model, patches, image, axes, tile_size=32), expected)


def test_ids_are_copied_to_a_gpu_in_blocks(monkeypatch, as_accelerator, make_model):
    model = make_model(levels=2)
    patches = make_patches(model.read(IMAGE).pixels, 6, "watershed")
    expected = moments_in(model, patches)
    as_accelerator()
    monkeypatch.setattr("napari_aeseg.autoencoder.patch_moments._BLOCK", 1000)
    assert_same(moments_in(model, patches), expected)


def test_stop_is_checked_while_ids_are_copied():
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        GpuMoments(np.zeros((8, 8), int), {1: 4}, {1: (1, 1)}, torch.device("cpu"), stop)


def test_stop_is_checked_at_every_tile_of_a_gpu(as_accelerator, make_model):
    as_accelerator()
    model, stop, events = make_model(), threading.Event(), []
    patches = np.zeros(IMAGE.shape, int)
    work = patch_moments_steps(
        model, model.read(IMAGE), patches, device="cpu", tile_size=32, stop=stop
    )
    threads = threading.active_count()

    def second_tile(event):
        events.append(event)
        if event.done == 2:
            stop.set()

    with pytest.raises(StoppedError):
        drain(work, second_tile)
    assert len(events) == 2
    assert threading.active_count() == threads


def test_out_of_memory_on_a_gpu_repeats_with_smaller_tiles(monkeypatch, as_accelerator, make_model):
    model = make_model(levels=3)
    image = np.random.default_rng(0).random((150, 280))
    patches = make_patches(model.read(image).pixels, 6, "watershed")
    expected = moments_in(model, patches, image)
    as_accelerator()
    add, added = GpuMoments.add, []

    def with_little_memory(self, encoded):
        added.append(encoded.tile.size)
        if len(added) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        add(self, encoded)

    monkeypatch.setattr(GpuMoments, "add", with_little_memory)
    assert_same(moments_in(model, patches, image, tile_size=128), expected)
    assert len(added) == 2 + 3 * 5
