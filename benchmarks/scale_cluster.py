"""Two workers beside one, and one of two killed at half time; prints JSON. Called by scale.py.

    python benchmarks/scale_cluster.py IMAGE.zarr

Workers are processes of this machine with one thread each, so that two can at best take half the
time where two cores are free. Reading intensities, joining and the merge tree are not shared out;
they are in the times. Each run has a store of its own, and workers have loaded the model before.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client, LocalCluster

import napari_aeseg as aeseg

N_REGIONS = 50


def hashed(tree: aeseg.Hierarchy) -> str:
    """A hash of the patches and of two cuts."""
    import hashlib

    found = hashlib.blake2b(tree.statistics.mean.tobytes())
    for array in (tree.patches, tree.regions(n_regions=N_REGIONS), tree.classes(3)):
        found.update(np.ascontiguousarray(np.asarray(array)).tobytes())
    return found.hexdigest()


def timed(path: str, client: Client, store: Path, *, kill: bool = False) -> tuple[float, str]:
    """Segment on a cluster; the seconds, and the hash. A worker is killed at half time if asked."""
    image, workers = zarr.open_array(path, mode="r"), client.run(os.getpid)
    client.run(warm_up, str(path))
    killed: list[int] = []

    def at_half_time(event: Any) -> None:
        if kill and not killed and event.stage == "encode" and event.done >= event.total / 2:
            killed.append(next(iter(workers.values())))
            os.kill(killed[0], signal.SIGKILL)

    start = time.perf_counter()
    tree = aeseg.build_hierarchy(
        image,
        "base",
        device="cpu",
        blocks=aeseg.BlockParams(),
        store=store,
        client=client,
        progress=at_half_time,
    )
    seconds = time.perf_counter() - start
    assert bool(killed) == kill
    return seconds, hashed(tree)


def warm_up(path: str) -> None:
    """Import what a worker imports at its first block."""
    part = zarr.open_array(path, mode="r")[:128, :128]
    aeseg.build_hierarchy(part, "base", device="cpu")


def main() -> None:
    path = sys.argv[1]
    found: dict[str, Any] = {}
    hashes = set()
    with tempfile.TemporaryDirectory() as folder:
        for name, workers, kill in (("one", 1, False), ("two", 2, False), ("killed", 2, True)):
            with (
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address=":0",
                    local_directory=folder,
                ) as cluster,
                Client(cluster) as client,
            ):
                found[name], known = timed(path, client, Path(folder) / name, kill=kill)
                hashes.add(known)
    print(json.dumps({**found, "same": len(hashes) == 1}))


if __name__ == "__main__":
    main()
