"""Blocks on the workers of a cluster: dask schedules, and starts again what a lost worker had."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_aeseg.autoencoder.model import Model
from napari_aeseg.blockwise.work import BlockWork, work_on
from napari_aeseg.events import Clock, Progress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_aeseg.events import StopFlag
    from napari_aeseg.images.blocks import Block

# Times that a block is tried again when working on it fails, and seconds between looks at `stop`.
_RETRIES, _LOOK = 2, 0.2


def active_client() -> Any:
    """Return the `distributed.Client` that is in use in this process, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()  # type: ignore[no-untyped-call]
    except ValueError:
        return None


def done_on_cluster(
    client: Any, work: BlockWork, todo: list[Block], stop: StopFlag | None = None
) -> Generator[Progress, None, list[str]]:
    """Have workers do what is to be done with blocks; return what the user should know.

    Parameters
    ----------
    client : distributed.Client
    work : BlockWork
        Its store is in a folder that all workers see; the model is sent there as a file, so that
        each worker loads it once.
    todo : list of Block
    stop : StopFlag, optional
        Looked at five times a second; blocks that have not begun are taken back.

    Yields
    ------
    Progress

    Raises
    ------
    StoppedError
        When asked to stop.
    """
    from distributed import wait

    if isinstance(work.model, Model):
        path = work.store.folder / f"{work.model.fingerprint}.aeseg.safetensors"
        work.model.save(path)
        work = replace(work, model=str(path))
    shared = client.scatter(work, broadcast=True, hash=False)
    waiting = {
        client.submit(work_on, shared, block, retries=_RETRIES, pure=False) for block in todo
    }
    clock, notes, total = Clock(len(todo)), [], len(todo)
    try:
        while waiting:
            raise_if_stopped(stop, "encode")
            try:
                ready, waiting = wait(  # type: ignore[no-untyped-call]
                    waiting, timeout=_LOOK, return_when="FIRST_COMPLETED"
                )
            except TimeoutError:
                continue
            for future in ready:
                if message := future.result():
                    notes.append(message)
                    yield Progress("encode", total - len(waiting), total, message=message)
            done = total - len(waiting)
            yield Progress("encode", done, total, "cluster", clock.seconds_left(done))
    finally:
        client.cancel(list(waiting))
    return notes
