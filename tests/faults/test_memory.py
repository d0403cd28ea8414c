"""Memory that runs out; a short version of soak/memory.py, and what it found."""

import math
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import tifffile
import torch

import napari_aeseg as aeseg
from napari_aeseg import api as pipeline
from napari_aeseg.autoencoder import preview
from napari_aeseg.autoencoder.device import is_out_of_memory
from napari_aeseg.cli import main
from napari_aeseg.errors import DeviceError
from napari_aeseg.images.parallel import in_threads


def test_memory_that_runs_out_at_any_place_is_told_and_changes_nothing_else():
    from memory import tried

    failures = []
    ends = tried(every=False, report=failures.append, stride=7)
    assert not failures
    assert sum(n for end, n in ends.items() if "same, and told" in end) > 10
    assert any("training on a GPU: done, and told" in end for end in ends)


@pytest.mark.parametrize(("gpu", "times"), [(False, math.inf), (True, 5), (True, math.inf)])
def test_a_training_without_memory_keeps_what_it_has(gpu, times):
    from injecting import TorchFaults, pretended_gpu
    from memory import Told, check_training, train

    with pretended_gpu() if gpu else nullcontext():
        with TorchFaults() as counting:
            train(Told())
        half = len(counting.sites) // 2
        end = check_training(TorchFaults(half, times=times), finished=False)
    assert end == ("on the CPU" if gpu and times == 5 else "unfinished, not to be resumed")


def all_texts():
    from injecting import OUT_OF_MEMORY

    return OUT_OF_MEMORY.items()


def test_all_allocators_are_understood():
    for who, error in all_texts():
        assert is_out_of_memory(error()), who


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
    from injecting import TorchFaults, place_of, pretended_gpu

    expected = aeseg.train(stripes, tiny_params, device="cpu")
    with pretended_gpu():
        with TorchFaults() as counting:
            aeseg.train(stripes, tiny_params.updated(steps=1), device="cuda")
        way = ("crops.py", "trainer.py", "network.py")
        forward = place_of(counting.sites, *(f"autoencoder/{file}" for file in way))
        with TorchFaults(forward, lambda: RuntimeError("MPS backend out of memory"), 3):
            model = aeseg.train(stripes, tiny_params, device="mps")
    assert model.record.device == "cpu"
    assert model.record.notes[-1].endswith("going on with the CPU, with batches of 4.")
    assert model.losses == expected.losses
    assert model.fingerprint == expected.fingerprint


def test_blocks_that_needed_smaller_tiles_say_so_after_work_went_on(tmp_path, model):
    """Notes of a block were lost when work stopped, and with a cluster always."""
    from injecting import TorchFaults, place_of, pretended_gpu

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
        first = place_of(counting.sites, "autoencoder/encoding.py")
        with pytest.raises(aeseg.StoppedError), TorchFaults(first):
            aeseg.build_hierarchy(image, model, progress=look, stop=stop, **options)
        told = [event.message for event in events if event.message]
        assert told == ["cpu:0 ran out of memory: going on with the CPU."]
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
    real, seen = pipeline.region_graph, []

    def scarce(*arguments):
        seen.append(1)
        if len(seen) == 1:
            raise MemoryError("Unable to allocate 9. TiB for an array")
        return real(*arguments)

    monkeypatch.setattr(pipeline, "region_graph", scarce)
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
