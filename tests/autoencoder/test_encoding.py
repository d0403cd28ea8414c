"""What can be tested of GPUs without one: how they are fed, and how much."""

from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch

from napari_aeseg.autoencoder import encoding
from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.encoding import bytes_per_pixel, device_tile_size, to_device
from napari_aeseg.images.tiles import plan_tiles, read_tile, tile_view

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
DEFAULT = Architecture(channels=3)


@pytest.fixture
def cuda(monkeypatch):
    """Stands in for torch's streams; returns what was done, in order."""
    done = []

    class Event:
        def __init__(self, number):
            self.number = number

        def synchronize(self):
            done.append(f"wait for {self.number}")

    class Stream:
        def __init__(self, name):
            self.name, self.events = name, 0

        def wait_stream(self, other):
            done.append(f"{self.name} waits for {other.name}")

        def record_event(self):
            self.events += 1
            return Event(self.events)

    class OnDevice(torch.Tensor):
        def to(self, device, non_blocking=False):
            done.append(f"copy to {device}, {'' if non_blocking else 'not '}at the same time")
            return self

        def record_stream(self, stream):
            done.append(f"kept for {stream.name}")

    @contextmanager
    def within(stream):
        done.append(f"in {stream.name}")
        yield

    def empty(shape, dtype, pin_memory):
        done.append("pinned" if pin_memory else "plain")
        return torch.zeros(shape, dtype=dtype).as_subclass(OnDevice)

    main = Stream("main")
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("aside"))
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(encoding, "in_threads", in_order)
    return done


def in_order(work, items, number):
    yield from map(work, items)


def test_arrays_are_copied_from_pinned_memory_in_a_stream_of_their_own(cuda):
    arrays = [np.arange(6, dtype=np.int32).reshape(2, 3), np.ones((2, 1), np.float32)]
    found = list(to_device(arrays.__getitem__, [0, 1], CUDA))
    assert [t.tolist() for t in found] == [a.tolist() for a in arrays]
    assert [t.dtype for t in found] == [torch.int32, torch.float32]
    once = [
        "pinned",
        "in aside",
        "copy to cuda:0, at the same time",
        "main waits for aside",
        "kept for main",
    ]
    assert cuda == 2 * once


def test_no_more_than_two_tiles_are_under_way(cuda):
    def encoded(place, x):
        cuda.append(f"encode {place}")
        return place

    work = encoding._map_ahead(encoded, lambda place: np.zeros(1), [1, 2, 3, 4], CUDA)
    assert list(work) == [1, 2, 3, 4]
    steps = [step for step in cuda if step.startswith(("encode", "wait"))]
    assert steps == [
        "encode 1", "encode 2", "wait for 1", "encode 3", "wait for 2", "encode 4", "wait for 3",
    ]  # fmt: skip


def test_arrays_come_in_order_and_threads_end():
    rows = np.arange(600, dtype=np.float32).reshape(200, 3)
    work = to_device(lambda i: rows[i, ::2], range(200), CPU)
    assert next(work).tolist() == [0, 2]
    assert torch.stack(list(work)).numpy().tolist() == rows[1:, ::2].tolist()


def test_errors_of_the_reader_are_raised():
    with pytest.raises(ZeroDivisionError):
        list(to_device(lambda i: np.ones(1) * (1 // i), [1, 0], CPU))


@pytest.mark.parametrize(
    ("free", "tile_size", "expected"),
    [
        (139 * 2**30, 512, 2048),
        (2 * 2**30, 512, 1024),
        (2**20, 512, 512),
        (139 * 2**30, 4096, 4096),
        (139 * 2**30, 264, 2112 // 2),
    ],
)
def test_tiles_are_as_large_as_free_memory_allows(monkeypatch, free, tile_size, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 141 * 2**30))
    assert device_tile_size(tile_size, CUDA, DEFAULT) == expected
    assert device_tile_size(tile_size, CPU, DEFAULT) == tile_size
    assert device_tile_size(tile_size, torch.device("mps"), DEFAULT) == tile_size


def test_memory_of_a_tile_grows_with_the_network():
    sizes = [bytes_per_pixel(Architecture(3, width=width)) for width in (8, 16, 32)]
    assert sizes == sorted(sizes)
    # What one tile's features of all levels take, twice, is a part of it.
    assert sizes[1] > 2 * 4 * (3 + 16 + 32 / 4 + 64 / 16)


def test_a_view_of_a_tile_is_what_is_read_of_it():
    plane = np.random.default_rng(0).random((2, 70, 90))
    tiles = plan_tiles((70, 90), tile=16, margin=5, align=4)
    views = [tile_view(plane, tile) for tile in tiles]
    for tile, view in zip(tiles, views, strict=True):
        np.testing.assert_array_equal(view, read_tile(plane, tile))
    inside = [np.shares_memory(view, plane) for view in views]
    assert 0 < sum(inside) < len(inside)


def test_encoding_never_uses_tf32(monkeypatch, make_model):
    model, within = make_model(), []

    @contextmanager
    def collect_messages(device):
        within.append(device)
        yield
        within.append("out")

    monkeypatch.setattr(encoding, "without_tf32", collect_messages)
    seen = []
    for level in (*model.network.encoder, *model.network.decoder):
        level.register_forward_hook(lambda *_: seen.append(within[-1]))
    model.reconstruct(np.eye(40), device="cpu")
    assert seen == [CPU] * 4


@pytest.mark.parametrize("source", ["encoder", "decoder"])
def test_features_on_the_path_of_gpus_equal_those_of_the_cpu(monkeypatch, make_model, source):
    model, image = make_model(levels=2, channels=3), np.random.default_rng(0).random((3, 70, 45))
    features = partial(model.features, image, source=source, axes="CYX", device="cpu")
    expected = features()
    monkeypatch.setattr(encoding, "is_accelerator", lambda device: True)
    np.testing.assert_allclose(features(), expected, rtol=1e-5, atol=1e-6)
