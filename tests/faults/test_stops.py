"""Work that is stopped, closed or broken: it ends, leaves nothing, and can be done again.

It ends with `StoppedError`, the error itself or the part that is promised. No thread and no
temporary file is left. The next run has the result of an undisturbed one.
"""

from __future__ import annotations

import tempfile
import threading
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from injected import CallFaults, first_of_each, nothing_left_behind

import napari_aeseg as aeseg
from napari_aeseg import api
from napari_aeseg.autoencoder import training_loop
from napari_aeseg.autoencoder.model import error_steps, feature_steps
from napari_aeseg.batch import Batch
from napari_aeseg.errors import AesegError, StoppedError
from napari_aeseg.io.labels import write_labels_steps
from outputs import (
    BLOCKS,
    LABELS,
    OUTPUTS,
    PARAMS,
    SEGMENTATION,
    image,
    image_files,
    make_ready,
    model,
    small_parts,
)

STEPS = 3


@pytest.fixture(autouse=True, scope="module")
def small_and_ready():
    make_ready()
    with small_parts(), mock.patch.object(training_loop, "_SECONDS_BETWEEN_EVENTS", 0):
        yield


def begin(name, folder, stop=None):
    """Return the generator of some work, whose results are written to a folder if they are."""
    tiles = SEGMENTATION.updated(tile_size=32)
    if name == "training":
        return api.train_steps(image(), PARAMS.updated(steps=STEPS), device="cpu", stop=stop)
    if name == "hierarchy":
        return api.hierarchy_steps(image(), model(), tiles, device="cpu", stop=stop)
    if name == "blocks":
        return api.hierarchy_steps(
            image(), model(), SEGMENTATION, device="cpu", stop=stop, blocks=BLOCKS
        )
    if name == "error":
        return error_steps(model(), model().read(image()), "cpu", 32, stop)
    if name == "features":
        read = model().read(image())
        return feature_steps(model(), read, (1, 2), device="cpu", tile_size=32, stop=stop)
    if name == "batch":
        batch = Batch(
            files=image_files(),
            output=folder / "results",
            model=model(),
            cut=aeseg.Cut(n_regions=4),
            params=SEGMENTATION,
            device="cpu",
            existing="skip",
        )
        return batch.steps(stop)
    return write_labels_steps(LABELS, folder / OUTPUTS[name].name, stop=stop)


def content(name, result):
    """Return what must be the same in every run."""
    if name == "training":
        return result.fingerprint, result.losses
    if name in ("hierarchy", "blocks"):
        return np.asarray(result.regions(7)).tolist()
    if name == "batch":
        return len(result.files) - len(result.failed)
    return OUTPUTS[name].state(result) if name in OUTPUTS else result.tolist()


def drained(work, at=float("inf"), then=int):
    """Do some work, and something after event `at`; return the number of events and the result."""
    number = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return number, end.value
        number += 1
        if number == at:
            then()


@cache
def undisturbed(name):
    """Return the number of events of some work, and the content of its result."""
    with tempfile.TemporaryDirectory() as folder:
        number, result = drained(begin(name, Path(folder)))
        return number, content(name, result)


def check_next_run(name, folder):
    """Do work again where its first run ended early; the result must be that of one run."""
    if name in OUTPUTS and OUTPUTS[name].state(folder / OUTPUTS[name].name) == "new":
        return
    assert content(name, drained(begin(name, folder))[1]) == undisturbed(name)[1]


def check_part(name, result, n_later):
    """Check what work returns that was stopped and has a result all the same."""
    if name == "training":
        is_part = result.unfinished and "Stopped after" in result.record.notes[-1]
        assert is_part or result.record.steps == STEPS
    elif name == "batch":
        assert all(file.status in ("done", "stopped") for file in result.files)
    else:
        assert n_later == 0, "there were events after the stop"


WORKS = ["training", "hierarchy", "blocks", "error", "features", "batch"]
WORKS += ["labels.zarr", "labels.tif"]


@pytest.mark.parametrize("name", WORKS)
def test_work_that_is_stopped_ends_and_can_be_done_again(name, tmp_path):
    number = undisturbed(name)[0]
    for at in sorted({1, (1 + number) // 2, number}):
        folder, stop = tmp_path / str(at), threading.Event()
        folder.mkdir()
        with nothing_left_behind(folder):
            try:
                n_events, result = drained(begin(name, folder, stop), at, stop.set)
            except StoppedError:
                pass
            else:
                check_part(name, result, n_events - at)
                del result
        check_next_run(name, folder)


@pytest.mark.parametrize("name", WORKS)
def test_work_that_is_closed_ends_and_can_be_done_again(name, tmp_path):
    number = undisturbed(name)[0]
    for at in sorted({1 + number // 3, 1 + 2 * number // 3} - {number + 1}):
        folder = tmp_path / str(at)
        folder.mkdir()
        work = begin(name, folder)
        with nothing_left_behind(folder):
            for _ in range(at):
                next(work)
            work.close()
        check_next_run(name, folder)


class UnknownError(Exception):
    """An error that nothing in the package expects."""


@pytest.mark.parametrize("name", ["training", "hierarchy", "blocks", "batch"])
def test_an_unknown_error_at_any_place_surfaces_and_leaves_nothing(name, tmp_path):
    (tmp_path / "first").mkdir()
    with CallFaults() as counting:
        drained(begin(name, tmp_path / "first"))
    places = first_of_each(counting.lines)
    surfaced = 0
    for at in places[len(places) // 8 :: len(places) // 4]:
        folder = tmp_path / str(at)
        folder.mkdir()
        with nothing_left_behind(folder):
            work, faults = begin(name, folder), CallFaults(at, UnknownError)
            try:
                with faults:
                    result = drained(work)[1]
            except UnknownError:
                surfaced += 1
            except AesegError as error:
                assert "UnknownError" in repr(error.__cause__), repr(error)
            else:
                is_reported = name == "batch" and any(file.text for file in result.failed)
                assert is_reported or not faults.raised, counting.lines[at]
                surfaced += is_reported
                del result
            del work
        check_next_run(name, folder)
    assert surfaced > 1
