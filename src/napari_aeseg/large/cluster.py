"""Blocks on the workers of a cluster: dask schedules them, and again those of a lost worker."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.autoencoder.model import Model
from napari_aeseg.errors import DeviceError, InputError
from napari_aeseg.large.block import BlockWork, process_block
from napari_aeseg.params import MODEL_SUFFIX
from napari_aeseg.progress import Clock, Progress, StopFlag, raise_if_stopped

if TYPE_CHECKING:
    from napari_aeseg.images.blocks import Block

# Times that a block is tried again when working on it fails, seconds between looks at `stop`, and
# seconds without a finished block after which the number of workers is checked.
_RETRIES, _LOOK, _LONG = 2, 0.2, 5.0


def active_client() -> Any:
    """Return the `distributed.Client` that is in use in this process, or None."""
    if "distributed" not in sys.modules:  # then there is no client, and no need to import it
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:  # how distributed says that there is none
        return None


def process_on_cluster(
    client: Any, work: BlockWork, todo: list[Block], stop: StopFlag | None = None
) -> Generator[Progress, None, list[str]]:
    """Have the workers of a distributed.Client process blocks; return notes for the user.

    The store is in a folder that all workers see. The model is put there as a file, so that each
    worker loads it once, and so is an image that is in memory: workers read their parts. After a
    stop or an error, blocks that have not begun are cancelled. Raises InputError if the image lies
    in the memory of the workers, or a block cannot be read, and DeviceError if every worker that
    takes a block is lost.
    """
    if not todo:
        return []
    # A task, and not scattered: dask makes it again when the workers that had it are lost.
    shared = client.submit(lambda work: work, _sendable(work), pure=False)
    # Not pure, else dask gives the results of an earlier call, whose blocks may be deleted.
    futures = client.map(process_block, [shared] * len(todo), todo, retries=_RETRIES, pure=False)
    block_of = dict(zip(futures, todo, strict=True))
    notes: list[str] = []
    clock, done = Clock(len(todo)), 0
    try:
        for future in _as_done(client, futures, stop):
            if future is None:
                messages = ["The cluster has no worker: waiting for one."]
            else:
                messages = _result(future, block_of[future])
                done += 1
                notes += messages
            left = clock.seconds_left(done)
            yield Progress("encode", done, len(todo), "cluster", left, message=" ".join(messages))
    finally:
        # Blocks that are being processed are finished and saved.
        client.cancel([f for f in futures if not f.done()])
    return notes


def _sendable(work: BlockWork) -> BlockWork:
    """The same work with the model, and an image that is in memory, as files in the store."""
    from distributed import futures_of

    if isinstance(work.model, Model):
        path = work.store.folder / f"{work.model.fingerprint}{MODEL_SUFFIX}"
        if not path.exists():  # the name says what is in it
            work.model.save(path)
        work = replace(work, model=str(path))
    if futures_of(work.image.array):
        raise InputError(
            f"{work.image.name} lies in the memory of the workers and is lost with one of them. "
            "Give the array as it was before persist()."
        )
    if isinstance(work.image.array, np.ndarray):
        on_disk = work.store.image(work.image.array)
        work = replace(work, image=replace(work.image, array=on_disk))
    return work


def _as_done(client: Any, futures: list[Any], stop: StopFlag | None) -> Iterator[Any]:
    """Futures as they are done; None when there has been no worker for a while."""
    from distributed import as_completed

    completed: Any = as_completed(futures)
    quiet = time.monotonic()
    while not completed.is_empty():
        raise_if_stopped(stop, "encode")
        batch = completed.next_batch(block=False)  # a wait would not hear `stop`
        yield from batch
        if batch:
            quiet = time.monotonic()
        elif time.monotonic() - quiet > _LONG:
            quiet = time.monotonic()
            if not client.scheduler_info()["workers"]:
                yield None
        else:
            time.sleep(_LOOK)


def _result(future: Any, block: Block) -> list[str]:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        where = ", ".join(f"{s.start} to {s.stop}" for s in block.inner)
        raise DeviceError(
            f"Every worker that took the block {where} was lost: most often they have too little "
            "memory. Give them more, or take smaller blocks (block_size), in another folder. "
            f"{error}"
        ) from error
