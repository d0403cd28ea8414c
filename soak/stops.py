"""Work that is stopped, closed or broken, at every event and at every place of the code.

It ends at once with `StoppedError` (or the error itself, or the part that is promised), leaves no
thread and no temporary file, and done again it has the same result.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import napari_aeseg as aeseg
from napari_aeseg import api as pipeline
from napari_aeseg.autoencoder import model as inspect
from napari_aeseg.autoencoder import training
from napari_aeseg.batch import Batch
from napari_aeseg.errors import AesegError, StoppedError
from napari_aeseg.io.labels import write_labels_steps

sys.path.insert(0, str(Path(__file__).parent))
from ends import told
from injecting import CallFaults, first_of_each, nothing_left_behind
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

Steps = Generator[Any, None, Any]


def _train(folder: Path, stop: Any) -> Steps:
    return pipeline.train_steps(image(), PARAMS.updated(steps=3), device="cpu", stop=stop)


def _hierarchy(folder: Path, stop: Any) -> Steps:
    params = SEGMENTATION.updated(tile_size=32)
    return pipeline.hierarchy_steps(image(), model(), params, device="cpu", stop=stop)


def _blockwise(folder: Path, stop: Any) -> Steps:
    return pipeline.hierarchy_steps(
        image(), model(), SEGMENTATION, device="cpu", stop=stop, blocks=BLOCKS
    )


def _error(folder: Path, stop: Any) -> Steps:
    return inspect.error_steps(model(), model().read(image()), "cpu", 32, stop)


def _features(folder: Path, stop: Any) -> Steps:
    read = model().read(image())
    return inspect.feature_steps(model(), read, (1, 2), device="cpu", tile_size=32, stop=stop)


def _batch(folder: Path, stop: Any) -> Steps:
    batch = Batch(
        files=[Path(file) for file in image_files()],
        output=folder / "results",
        model=model(),
        cut=aeseg.Cut(n_regions=4),
        params=SEGMENTATION,
        device="cpu",
        existing="skip",
    )
    return batch.steps(stop)


def _zarr(folder: Path, stop: Any) -> Steps:
    return write_labels_steps(LABELS, folder / "labels.ome.zarr", stop=stop)


def _tif(folder: Path, stop: Any) -> Steps:
    return write_labels_steps(LABELS, folder / "labels.tif", stop=stop)


def _labels_of(tree: Any) -> list[Any]:
    return np.asarray(tree.regions(7)).tolist()


#: How each work begins, and what of its result must be the same the next time.
WORKS: dict[str, tuple[Callable[[Path, Any], Steps], Callable[[Any], Any]]] = {
    "training": (_train, lambda found: (found.fingerprint, found.losses)),
    "hierarchy": (_hierarchy, _labels_of),
    "blockwise": (_blockwise, _labels_of),
    "error": (_error, lambda found: found.tolist()),
    "features": (_features, lambda found: found.tolist()),
    "batch": (_batch, lambda report: len(report.files) - len(report.failed)),
    "labels.zarr": (_zarr, lambda path: OUTPUTS["labels.zarr"].state(path)),
    "labels.tif": (_tif, lambda path: OUTPUTS["labels.tif"].state(path)),
}


def drained(work: Steps, at: float = float("inf"), then: Callable[[], object] = int) -> Any:
    """Do some work and something at one of its events, counted from 1; return the result."""
    number = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return number, end.value
        number += 1
        if number == at:
            then()


def stopped_at(name: str, at: int) -> str:
    """Stop some work at an event; return how it ended, or fail."""
    begin, stop = WORKS[name][0], threading.Event()
    with tempfile.TemporaryDirectory() as folder, small_parts():
        work = begin(Path(folder), stop)
        with nothing_left_behind(Path(folder)):
            try:
                seen, found = drained(work, at, stop.set)
            except StoppedError:
                end = "StoppedError"
            else:
                end = _part(name, found, seen, at)
                del found
        return _again(name, Path(folder), end)


def _part(name: str, found: Any, seen: int, at: int) -> str:
    """What is there of work that was stopped and has a result all the same."""
    if name == "training":
        whole = found.record.steps == 3
        assert whole or (found.unfinished and "Stopped after" in found.record.notes[-1])
        return "whole" if whole else "model so far"
    if name == "batch":
        assert all(file.status in ("done", "stopped") for file in found.files)
        return "report"
    assert seen == at, f"{seen - at} events after the stop"  # only the last event is too late
    return "whole"


def closed_at(name: str, at: int) -> str:
    """Close some work at an event; return how it ended, or fail."""
    with tempfile.TemporaryDirectory() as folder, small_parts():
        work = WORKS[name][0](Path(folder), None)
        with nothing_left_behind(Path(folder)):
            for _ in range(at):
                next(work)
            work.close()
        return _again(name, Path(folder), "closed")


class Broken(Exception):
    """An error that nothing of the package knows."""


def broken_at(name: str, at: int) -> str:
    """Raise an error at a call; return how it ended, or fail."""
    with tempfile.TemporaryDirectory() as folder, small_parts():
        with nothing_left_behind(Path(folder)):
            work, faults = WORKS[name][0](Path(folder), None), CallFaults(at, Broken)
            try:
                with faults:
                    _, found = drained(work)
            except Broken:
                end = "the error itself"
            except AesegError as error:
                assert "Broken" in repr(error.__cause__), repr(error)
                end = "an error with its cause"
            else:
                told = name == "batch" and any(file.text for file in found.failed)
                assert told or not faults.raised, "an error that nobody was told of"
                end = "told in the report" if told else "no fault"
                del found
            del work
        return _again(name, Path(folder), end)


def _again(name: str, folder: Path, end: str) -> str:
    """Do work once more, where its first run ended early."""
    begin, part = WORKS[name]
    if name == "labels.tif" and (folder / "labels.tif").exists():
        return end
    if name == "labels.zarr" and OUTPUTS[name].state(folder / "labels.ome.zarr") == "new":
        return end
    found = part(drained(begin(folder, None))[1])
    assert found == undisturbed(name)[1], "the second run has another result"
    return end


_known: dict[str, tuple[int, Any]] = {}


def undisturbed(name: str) -> tuple[int, Any]:
    """Return how many events there are, and what must be the same."""
    if name not in _known:
        with tempfile.TemporaryDirectory() as folder, small_parts():
            number, found = drained(WORKS[name][0](Path(folder), None))
            _known[name] = number, WORKS[name][1](found)
    return _known[name]


def _calls(name: str, every: bool) -> tuple[list[int], list[str]]:
    with tempfile.TemporaryDirectory() as folder, small_parts():
        work = WORKS[name][0](Path(folder), None)
        with CallFaults() as counting:
            drained(work)
    sites = counting.sites
    return list(range(len(sites))) if every else first_of_each(sites), sites


def tried(
    how: str, every: bool = False, only: str = "", stride: int = 1,
    report: Callable[[str], None] = print,
) -> Counter[str]:  # fmt: skip
    """Disturb all works, at every event ("stopped", "closed") or place of the code ("broken")."""
    ends = Counter[str]()
    make_ready()
    what = {"stopped": stopped_at, "closed": closed_at, "broken": broken_at}[how]
    with mock.patch.object(training, "_SECONDS_BETWEEN_EVENTS", 0):
        for name in [only] if only else WORKS:
            places: Any = range(1, undisturbed(name)[0] + 1)
            sites: list[str] = []
            if how == "broken":
                places, sites = _calls(name, every)
            for at in places[::stride]:
                try:
                    end = what(name, at)
                except Exception as error:
                    end = "failed"
                    where = sites[at] if sites else ""
                    report(f"{name} {how} at {at} {where}: {type(error).__name__}: {error}")
                ends[f"{name} {how}: {end}"] += 1
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1, help="rounds")
    parser.add_argument("--seed", type=int, default=0, help="not used: all places are tried")
    parser.add_argument("--every", action="store_true", help="break every call, not each line once")
    parser.add_argument("--how", choices=["stopped", "closed", "broken"])
    parser.add_argument("--only", default="", choices=["", *WORKS])
    parser.add_argument("--stride", type=int, default=1, help="leave out all but every n-th place")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start, ends = time.perf_counter(), Counter[str]()
    for _ in range(options.number):
        for how in [options.how] if options.how else ["stopped", "closed", "broken"]:
            ends += tried(how, options.every, options.only, options.stride)
    return told(ends, "disturbances", start, options.json)


if __name__ == "__main__":
    sys.exit(main())
