"""Memory that runs out: results are the same and the user is told, or a `DeviceError` says why."""

import itertools
import math
import threading
from contextlib import nullcontext
from unittest import mock

import numpy as np
import pytest
import tifffile
import torch
from injected import (
    OUT_OF_MEMORY,
    CallFaults,
    TorchFaults,
    first_of_each,
    nothing_left_behind,
    place_of,
    pretended_gpu,
)

import napari_aeseg as aeseg
from napari_aeseg import api
from napari_aeseg.autoencoder import preview, training_loop
from napari_aeseg.cli import main
from napari_aeseg.errors import DeviceError, is_out_of_memory
from napari_aeseg.images.parallel import in_threads
from outputs import image

SEGMENTATION = aeseg.SegmentationParams(patch_size=4, tile_size=128)
BLOCKS = aeseg.BlockParams(block_size=40, max_patches=60)


class Reported:
    """Collects the messages of events."""

    def __init__(self):
        self.messages, self.events = [], 0

    def __call__(self, event):
        self.events += 1
        if event.message:
            self.messages.append(event.message)


def train(progress=None):
    """Train with a copy of the model and a preview at every event."""
    more = {"snapshot_seconds": 0, "preview_seconds": 0}
    # An event at every step, however fast the machine is: faults are placed by counting lines.
    with mock.patch.object(training_loop, "_SECONDS_BETWEEN_EVENTS", 0):
        return aeseg.train(image(), PARAMS, device="auto", progress=progress, **more)


PARAMS = aeseg.TrainingParams(
    levels=2, width=4, convolutions=1, crop_size=16, batch_size=4, steps=3
)


def hierarchy(model, progress=None, **more):
    return aeseg.build_hierarchy(image(), model, SEGMENTATION, progress=progress, **more)


def features(model, progress=None):
    return model.features(image(), progress=progress)


def error(model, progress=None):
    return model.reconstruction_error(image(), progress=progress)


def blocks(model, progress=None):
    return hierarchy(model, progress, blocks=BLOCKS)


def content(result):
    """What must be the same whatever memory there was."""
    is_hierarchy = isinstance(result, aeseg.Hierarchy)
    return np.asarray(result.regions(9) if is_hierarchy else result)


def check_training(faults, finished=False):
    """Train with faults; return how it ended."""
    reported = Reported()
    with nothing_left_behind() as folder:
        try:
            with faults:
                model = train(reported)
        except DeviceError:
            assert not any("step" in message for message in reported.messages), "a model was lost"
            return "DeviceError"
        except MemoryError:
            assert not reported.events
            return "MemoryError before any work"
        model.save(folder / "a.aeseg.safetensors")
        saved = aeseg.load_model(folder / "a.aeseg.safetensors")
    assert faults.raised
    assert saved.fingerprint == model.fingerprint
    assert all(math.isfinite(loss) for loss in model.losses)
    assert all(bool(torch.isfinite(w).all()) for w in model.network.state_dict().values())
    record, notes = saved.record, " ".join(saved.record.notes)
    if record.steps < PARAMS.steps:
        assert not finished
        assert f"that of step {record.steps}." in notes
        if saved.unfinished:
            return "unfinished"
        assert faults.times == math.inf  # nothing at all could be copied
        assert "needed to resume" in notes
        return "unfinished, not to be resumed"
    assert notes or reported.messages
    return "on the CPU" if "CPU" in notes and record.device == "cpu" else "done"


def check_work(work, model, expected, faults):
    """Do some work with faults; return how it ended. `expected` is of the CPU and the device."""
    reported = Reported()
    with nothing_left_behind():
        try:
            with faults:
                result = work(model, reported)
        except DeviceError:
            return "DeviceError"
        except MemoryError:
            assert not reported.events
            return "MemoryError before any work"
        assert faults.raised
        messages = " ".join(reported.messages)
        # dask ignores errors of a function that it calls to learn the type of its result.
        assert messages or isinstance(faults, CallFaults)
        assert np.array_equal(content(result), expected["the CPU." not in messages])
        if isinstance(result, aeseg.Hierarchy):
            assert bool(result.notes) == bool(messages)
            assert all(note in messages for note in result.notes)
        del result
    return "same"


def some(lines, number):
    """Return a few of the positions at which lines of code come first."""
    places = first_of_each(lines)
    return places[:: -(-len(places) // number)]


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_a_training_goes_on_where_memory_of_torch_runs_out_once(gpu):
    texts = itertools.cycle(OUT_OF_MEMORY.values())
    with pretended_gpu() if gpu else nullcontext():
        with TorchFaults() as counting:
            train()
        ends = [
            check_training(TorchFaults(at, next(texts)), finished=True)
            for at in some(counting.lines, 8)
        ]
    assert "done" in ends


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("work", [hierarchy, blocks, features, error])
def test_results_are_the_same_where_memory_of_torch_runs_out(gpu, work, model):
    texts = itertools.cycle(OUT_OF_MEMORY.values())
    on_cpu = content(work(model))
    with pretended_gpu() if gpu else nullcontext():
        with TorchFaults() as counting:
            on_device = content(work(model))
        ends = [
            check_work(work, model, (on_cpu, on_device), TorchFaults(at, next(texts)))
            for at in some(counting.lines, 4)
        ]
    assert "same" in ends or not gpu  # the CPU may have no smaller tile to try


@pytest.mark.parametrize("work", [hierarchy, blocks])
def test_results_are_the_same_where_memory_of_the_host_runs_out(work, model):
    expected = content(work(model))  # what the first call imports or keeps is not counted
    with CallFaults() as counting:
        work(model)
    for at in some(counting.lines, 6):
        check_work(work, model, (expected, expected), CallFaults(at))


def test_a_training_keeps_its_model_where_memory_of_the_host_runs_out():
    with CallFaults() as counting:
        train()
    ends = [check_training(CallFaults(at)) for at in some(counting.lines, 8)]
    assert len(ends) > 5


@pytest.mark.parametrize(("gpu", "times"), [(False, math.inf), (True, 5), (True, math.inf)])
def test_a_training_without_memory_keeps_what_it_has(gpu, times):
    with pretended_gpu() if gpu else nullcontext():
        with TorchFaults() as counting:
            train()
        end = check_training(TorchFaults(len(counting.lines) // 2, times=times))
    assert end == ("on the CPU" if gpu and times == 5 else "unfinished, not to be resumed")


@pytest.mark.parametrize("allocator", OUT_OF_MEMORY)
def test_out_of_memory_is_recognised_in_the_words_of_every_allocator(allocator):
    assert is_out_of_memory(OUT_OF_MEMORY[allocator]())


def test_without_memory_for_the_moments_of_adamw_no_step_is_taken(
    monkeypatch, stripes, tiny_params
):
    """AdamW took half of them for the whole, and the next step ended in a KeyError."""
    zeros_like, made = torch.zeros_like, []

    def scarce(*arguments, **options):
        made.append(1)
        if len(made) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return zeros_like(*arguments, **options)

    monkeypatch.setattr(torch, "zeros_like", scarce)
    with pytest.raises(DeviceError, match="not enough memory for the images"):
        aeseg.train(stripes, tiny_params, device="cpu")


def test_a_step_that_is_tried_again_on_the_cpu_is_the_step_of_the_cpu(stripes, tiny_params):
    expected = aeseg.train(stripes, tiny_params, device="cpu")
    with pretended_gpu():
        with TorchFaults() as counting:
            aeseg.train(stripes, tiny_params.updated(steps=1), device="cuda")
        way = ("crops.py", "trainer.py", "network.py")
        forward = place_of(counting.lines, *(f"autoencoder/{file}" for file in way))
        with TorchFaults(forward, lambda: RuntimeError("MPS backend out of memory"), 3):
            model = aeseg.train(stripes, tiny_params, device="mps")
    assert model.record.device == "cpu"
    assert model.record.notes[-1].endswith("going on with the CPU, with batches of 4.")
    assert model.losses == expected.losses
    assert model.fingerprint == expected.fingerprint


def test_blocks_that_needed_smaller_tiles_say_so_after_work_went_on(tmp_path, model):
    """Notes of a block were lost when work stopped, and with a cluster always."""
    image = np.random.default_rng(0).random((48, 72))
    stop, events = threading.Event(), []
    options = {
        "params": aeseg.SegmentationParams(patch_size=4),
        "blocks": aeseg.BlockParams(block_size=32, max_patches=60),
        "store": tmp_path / "store",
    }

    def look(event):
        events.append(event)
        if event.stage == "encode" and event.done == 2:
            stop.set()

    with pretended_gpu():
        with TorchFaults() as counting:
            aeseg.build_hierarchy(image, model, **{**options, "store": None})
        # In the parts from which it is known how patches are joined.
        first = place_of(counting.lines, "autoencoder/encoding.py")
        with pytest.raises(aeseg.StoppedError), TorchFaults(first):
            aeseg.build_hierarchy(image, model, progress=look, stop=stop, **options)
        told = [event.message for event in events if event.message]
        assert told == ["cpu:0 ran out of memory: going on with tiles of 128."]
        tree = aeseg.build_hierarchy(image, model, **options)
    assert tree.notes == tuple(told)
    tree.save(tmp_path / "a.aeseg.zarr")
    assert aeseg.load_hierarchy(tmp_path / "a.aeseg.zarr").notes == tuple(told)


def test_a_block_without_memory_is_not_left_out_as_unreadable(model):
    """With unreadable="skip", a MemoryError was taken for a damaged part."""

    class Scarce:
        shape, dtype, ndim, chunks = (48, 72), np.dtype(np.float32), 2, (48, 72)

        def __getitem__(self, part):
            raise MemoryError

    with pytest.raises(DeviceError, match="not enough memory for image"):
        aeseg.build_hierarchy(Scarce(), model, blocks=aeseg.BlockParams(unreadable="skip"))


def test_a_file_that_needs_too_much_memory_does_not_end_the_batch(
    monkeypatch, tmp_path, stripes, model
):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", stripes)
    real, seen = api.region_graph, []

    def scarce(*arguments):
        seen.append(1)
        if len(seen) == 1:
            raise MemoryError("Unable to allocate 9. TiB for an array")
        return real(*arguments)

    monkeypatch.setattr(api, "region_graph", scarce)
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    report = aeseg.segment_files(files, tmp_path / "out", model, device="cpu")
    assert [file.status for file in report.files] == ["failed", "done"]
    assert "There is not enough memory for a.tif." in report.failed[0].text


def test_the_command_line_says_that_memory_ran_out(monkeypatch, tmp_path, stripes, capsys):
    tifffile.imwrite(tmp_path / "a.tif", stripes)

    def scarce(*_):
        raise MemoryError

    monkeypatch.setattr("napari_aeseg.io.images.open_file", scarce)
    assert main(["train", str(tmp_path / "a.tif"), "--output", str(tmp_path / "m")]) == 1
    assert "out of memory" in capsys.readouterr().err


@pytest.mark.parametrize("failing", ["prepare", "start"])
def test_threads_that_cannot_be_started_are_an_error_and_no_hang(monkeypatch, failing):
    """Those that were there already waited for the others for ever."""
    started = []

    def prepare():
        started.append(1)
        if failing == "prepare" and len(started) == 2:
            raise RuntimeError("can't start new thread")

    if failing == "start":
        start, begun = threading.Thread.start, []

        def scarce(thread):
            begun.append(thread)
            if len(begun) == 3:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(DeviceError, match=r"3 threads cannot be started.*OMP_NUM_THREADS"):
        list(in_threads(abs, [1, 2, 3], 3, prepare))
    assert not any(t.name.startswith("aeseg") for t in threading.enumerate())


def test_a_picture_that_cannot_be_read_does_not_end_the_training(monkeypatch, stripes, tiny_params):
    def unreadable(*_):
        raise aeseg.InputError("image 1: the part Y 0 to 9 cannot be read.")

    monkeypatch.setattr(preview.TrainingPreviewer, "preview", unreadable)
    events = []
    model = aeseg.train(
        stripes, tiny_params, device="cpu", preview_seconds=0, progress=events.append
    )
    assert model.record.steps == tiny_params.steps
    assert sum("without previews" in event.message for event in events) == 1
