"""Memory that runs out, at every operation of torch and at every call of small runs.

A run either has the result that it has anyway, and says what it did for it, or ends with a
`DeviceError`; a training never loses what was learnt.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import napari_aeseg as aeseg
from napari_aeseg.errors import DeviceError

sys.path.insert(0, str(Path(__file__).parent))
from ends import told
from injecting import (
    OUT_OF_MEMORY,
    CallFaults,
    TorchFaults,
    first_of_each,
    nothing_left_behind,
    pretended_gpu,
)

PARAMS = aeseg.TrainingParams(
    levels=2, width=4, convolutions=1, crop_size=16, batch_size=4, steps=3
)
SEGMENTATION = aeseg.SegmentationParams(patch_size=4, tile_size=128)


@dataclass
class Told:
    """Collects what events tell the user."""

    messages: list[str] = field(default_factory=list)
    events: int = 0

    def __call__(self, event: Any) -> None:
        self.events += 1
        if event.message:
            self.messages.append(event.message)


def image() -> np.ndarray:
    """A small image of two textures."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 3, (48, 40))
    pixels[:, 20:] += np.where(np.arange(48) % 4 < 2, 40, -40)[:, np.newaxis]
    return pixels.astype(np.uint8)


def train(told: Told, **more: Any) -> Any:
    """Train, with copies and pictures at every event."""
    return aeseg.train(
        image(), PARAMS, device="auto", progress=told, snapshot_seconds=0, preview_seconds=0, **more
    )


@dataclass(frozen=True)
class Work:
    """Something that is tried with little memory: what it does, and whether results are alike."""

    do: Callable[[Any, Told], Any]
    same: Callable[[Any, Any], bool]


def _same_labels(tree: Any, expected: Any) -> bool:
    return np.array_equal(np.asarray(tree.regions(9)), np.asarray(expected.regions(9)))


def _hierarchy(model: Any, told: Told, **more: Any) -> Any:
    return aeseg.build_hierarchy(image(), model, SEGMENTATION, progress=told, **more)


#: What becomes of an image with a model.
WORKS = {
    "hierarchy": Work(_hierarchy, _same_labels),
    "blockwise": Work(
        lambda model, told: _hierarchy(
            model, told, blocks=aeseg.BlockParams(block_size=32, max_patches=60)
        ),
        _same_labels,
    ),
    "features": Work(lambda m, told: m.features(image(), progress=told), np.array_equal),
    "reconstruct": Work(lambda m, told: m.reconstruct(image(), progress=told), np.array_equal),
    "error": Work(lambda m, told: m.reconstruction_error(image(), progress=told), np.array_equal),
}


def check_training(faults: Any, finished: bool) -> str:
    """Train with faults; return how it ended, or raise AssertionError."""
    told = Told()
    with nothing_left_behind() as folder:
        try:
            with faults:
                model = train(told)
        except DeviceError as error:
            assert not any("step" in m for m in told.messages), f"a model was lost: {error}"
            return "DeviceError"
        except MemoryError:
            assert not told.events
            return "MemoryError before any work"
        path = folder / "a.aeseg.safetensors"
        model.save(path)
        kept = aeseg.load_model(path)
    assert kept.fingerprint == model.fingerprint
    assert all(math.isfinite(loss) for loss in model.losses)
    assert all(bool(torch.isfinite(w).all()) for w in model.network.state_dict().values())
    if not faults.raised:
        return "no fault"
    record = kept.record
    if record.steps < PARAMS.steps:
        assert not finished, f"only {record.steps} steps"
        said = " ".join(record.notes)
        assert f"that of step {record.steps}." in said, said
        if not kept.unfinished:  # nothing at all could be copied
            assert faults.times == math.inf and "needed to resume" in said, said
            return "unfinished, not to be resumed"
        return "unfinished"
    assert record.notes or told.messages, "nobody was told"
    assert record.device in ("cpu", "cpu:0")
    if any("CPU" in note for note in record.notes):
        assert record.device == "cpu"
        return "on the CPU"
    return "done, and told"


def check_work(name: str, model: Any, expected: tuple[Any, Any], faults: Any) -> str:
    """Do some work with faults; return how it ended, or raise AssertionError.

    `expected` is what the CPU finds, and what the device finds.
    """
    work, told = WORKS[name], Told()
    with nothing_left_behind():
        try:
            with faults:
                found = work.do(model, told)
        except DeviceError:
            return "DeviceError"
        except MemoryError:
            assert not told.events
            return "MemoryError before any work"
        if not faults.raised:
            return "no fault"
        said = " ".join(told.messages)
        # dask passes over errors of a function that it calls to learn what comes out of it.
        assert said or isinstance(faults, CallFaults), "nobody was told"
        assert work.same(found, expected["the CPU." not in said]), "the result is another"
        if isinstance(found, aeseg.Hierarchy):
            assert bool(found.notes) == bool(said), "the hierarchy does not say it"
            assert all(note in said for note in found.notes), "a note that no event told"
        del found
    return "same, and told" if said else "same"


def tried(
    every: bool, seed: int = 0, report: Callable[[str], None] = print, stride: int = 1
) -> Counter[str]:
    """Let memory run out in all works: once at each place, or in four ways at each operation.

    With a stride, only every so many-th is tried.

    Returns
    -------
    Counter
        How often each work ended how; "failed" for what must not be.
    """
    rng, ends = random.Random(seed), Counter[str]()
    model = train(Told())
    on_cpu = {name: work.do(model, Told()) for name, work in WORKS.items()}
    for gpu in (False, True):
        with pretended_gpu() if gpu else nullcontext():
            here = {name: work.do(model, Told()) for name, work in WORKS.items()}
            for name in ("training", *WORKS):
                with TorchFaults() as counting:
                    train(Told()) if name == "training" else WORKS[name].do(model, Told())
                sites = counting.sites
                for at in (range(len(sites)) if every else first_of_each(sites))[::stride]:
                    for times in (1, 3, 5, math.inf) if every else (1,):
                        who = rng.choice(list(OUT_OF_MEMORY))
                        faults = TorchFaults(at, OUT_OF_MEMORY[who], times)
                        try:
                            if name == "training":
                                end = check_training(faults, finished=times == 1)
                            else:
                                end = check_work(name, model, (on_cpu[name], here[name]), faults)
                        except Exception as error:
                            end = "failed"
                            report(
                                f"{name}, {times} faults ({who}) from {at} on, {sites[at]}: "
                                f"{type(error).__name__}: {error}"
                            )
                        ends[f"{name} on a {'GPU' if gpu else 'CPU'}: {end}"] += 1
    return ends


def host_tried(every: bool, report: Callable[[str], None] = print, stride: int = 1) -> Counter[str]:
    """Let memory of the host run out at calls of the package: once at each place, or at each."""
    ends = Counter[str]()
    model = train(Told())
    expected = {name: work.do(model, Told()) for name, work in WORKS.items()}
    for name in ("training", "hierarchy", "blockwise"):
        with CallFaults() as counting:
            train(Told()) if name == "training" else WORKS[name].do(model, Told())
        sites = counting.sites
        for at in (range(len(sites)) if every else first_of_each(sites))[::stride]:
            faults = CallFaults(at)
            try:
                if name == "training":
                    end = check_training(faults, finished=False)
                else:
                    end = check_work(name, model, (expected[name],) * 2, faults)
            except Exception as error:
                end = "failed"
                report(f"{name}, a fault at {at}, {sites[at]}: {type(error).__name__}: {error}")
            ends[f"{name}, host: {end}"] += 1
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1, help="rounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", action="store_true", help="only once at each line of code")
    parser.add_argument("--stride", type=int, default=1, help="leave out all but every n-th")
    parser.add_argument("--host", action="store_true", help="only memory of the host")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start, ends = time.perf_counter(), Counter[str]()
    for number in range(options.number):
        if not options.host:
            ends += tried(not options.places, options.seed + number, stride=options.stride)
        ends += host_tried(not options.places, stride=options.stride)
    return told(ends, "faults", start, options.json)


if __name__ == "__main__":
    sys.exit(main())
