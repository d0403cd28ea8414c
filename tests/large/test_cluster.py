"""Blocks on a cluster: the same labels, whatever becomes of a worker."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest

import napari_aeseg as aeseg
from napari_aeseg import samples
from napari_aeseg.images.blocks import Block
from napari_aeseg.large import block as work
from napari_aeseg.large.block_store import BlockStore
from napari_aeseg.large.cluster import _result, active_client

distributed = pytest.importorskip("distributed")

GRID = aeseg.SegmentationParams(patches="grid", patch_size=8)
BLOCKS = aeseg.BlockParams(block_size=64)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        local_directory=str(folder),
    ) as found:
        yield found


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as found:
        found.wait_for_workers(2, timeout=60)
        yield found


@pytest.fixture(scope="module")
def image():
    return samples.tissue()[:192, :192]


@pytest.fixture(scope="module")
def expected(image):
    return aeseg.build_hierarchy(image, "base", GRID, device="cpu", blocks=BLOCKS)


def built(image, store, client=None, **options):
    return aeseg.build_hierarchy(
        image, "base", GRID, device="cpu", blocks=BLOCKS, store=store, client=client, **options
    )


def assert_same(tree, expected):
    assert np.array_equal(tree.patches.compute(), expected.patches.compute())
    assert np.array_equal(tree.statistics.mean, expected.statistics.mean)
    for number in (2, 9, 200):
        labels = (t.regions(n_regions=number, refine=False).compute() for t in (tree, expected))
        assert np.array_equal(*labels)


def loads(client):
    """How often each worker has loaded a model."""
    return client.run(lambda: work._loaded.cache_info().misses)


def wait_until_idle(client):
    while any(client.processing().values()):
        time.sleep(0.05)


def test_workers_find_what_one_process_finds(image, expected, client, tmp_path):
    before = loads(client)
    events = []
    tree = built(image, tmp_path / "blocks", client, progress=events.append)
    assert_same(tree, expected)
    assert [e.done for e in events if e.stage == "encode"] == list(range(1, 10))
    assert {e.device for e in events if e.stage == "encode"} == {"cluster"}
    # Both have worked, and loaded the model once for all of their blocks.
    assert [n - before[worker] for worker, n in loads(client).items()] == [1, 1]


def test_the_active_client_is_taken_when_there_is_a_store(image, expected, client, tmp_path):
    assert active_client() is client
    events = []
    assert_same(built(image, tmp_path / "blocks", progress=events.append), expected)
    assert "cluster" in {e.device for e in events}


def test_there_may_be_no_client():
    assert active_client() is None


def test_a_client_needs_a_store(image, client):
    with pytest.raises(aeseg.InputError, match="give store"):
        built(image, None, client)


def test_lazy_images_are_read_by_the_workers(image, expected, client, tmp_path):
    here = os.getpid()

    def elsewhere(block, block_info=None):
        # Intensities are looked at here, before there are blocks.
        if (tmp_path / "blocks" / "run.json").exists():
            assert os.getpid() != here
        return block

    lazy = da.from_array(image, chunks=(100, 100, 3)).map_blocks(elsewhere, dtype=image.dtype)
    assert_same(built(lazy, tmp_path / "blocks", client), expected)


def test_images_kept_by_workers_are_refused(image, client, tmp_path):
    kept = da.from_array(image, chunks=(64, 64, 3)).persist()
    with pytest.raises(aeseg.InputError, match="before persist"):
        built(kept, tmp_path / "blocks", client)


def test_work_goes_on_after_a_stop(image, expected, client, tmp_path):
    store, stop = tmp_path / "blocks", threading.Event()

    def stop_soon(event):
        if event.stage == "encode" and event.done >= 2:
            stop.set()

    def slowly(block):
        time.sleep(0.2)
        return block

    slow = da.from_array(image, chunks=(64, 64, 3)).map_blocks(slowly, dtype=image.dtype)
    with dask.config.set(scheduler="threads"), pytest.raises(aeseg.StoppedError):
        built(slow, store, client, progress=stop_soon, stop=stop)
    # What has begun is finished, the rest is taken back.
    wait_until_idle(client)
    assert 2 <= len(list((store / "blocks").glob("*.npz"))) < 9
    assert_same(built(image, store, client), expected)


def test_an_error_in_a_block_comes_with_its_text(image, client, tmp_path):
    here = os.getpid()

    def broken(block, block_info=None):
        if os.getpid() != here and block_info[0]["chunk-location"][:2] == (1, 2):
            raise OSError("tile-7.tif: unexpected end of file")
        return block

    # Read here while intensities are looked at, so that the error is the workers'.
    lazy = da.from_array(image, chunks=(64, 64, 3)).map_blocks(broken, dtype=image.dtype)
    named = pytest.raises(aeseg.InputError, match=r"Y \d+ to \d+, X \d+ to \d+ .*tile-7.tif")
    with dask.config.set(scheduler="threads"), named:
        built(lazy, tmp_path / "blocks", client)
    wait_until_idle(client)
    built(image, tmp_path / "blocks", client)


def test_parts_that_cannot_be_read_are_left_out_on_a_cluster_too(image, client, tmp_path):
    bad = image.astype(float)
    bad[92:100, 154:166] = np.nan
    skip = aeseg.BlockParams(block_size=64, unreadable="skip")
    tree = aeseg.build_hierarchy(
        bad, "base", GRID, device="cpu", blocks=skip, store=tmp_path / "blocks", client=client
    )
    assert len(tree.notes) == 1
    assert "left out" in tree.notes[0]
    labels = tree.regions(n_regions=6, refine=False).compute()
    assert np.array_equal(np.argwhere(labels == 0)[[0, -1]], [[64, 128], [127, 191]])


def test_a_block_that_ends_workers_is_named():
    class Lost:
        def result(self):
            raise distributed.KilledWorker(
                "process_block", SimpleNamespace(address="tcp://node7"), 3
            )

    block = Block((0, 1), (slice(0, 64), slice(64, 128)), (slice(0, 88), slice(40, 152)))
    with pytest.raises(aeseg.DeviceError, match=r"0 to 64, 64 to 128 was lost.*node7"):
        _result(Lost(), block)


def test_an_image_in_memory_is_written_once(image, tmp_path):
    store = BlockStore(tmp_path)
    kept = store.image(image[:, ::-1])
    assert np.array_equal(kept[...], image[:, ::-1])
    before = sorted(tmp_path.rglob("*"))
    store.image(image[:, ::-1].copy())
    assert sorted(tmp_path.rglob("*")) == before
    assert not np.array_equal(store.image(image)[...], kept[...])
    # Chunks of a volume are small in all directions.
    assert store.image(np.zeros((70, 300, 300), np.uint8)).chunks == (64, 128, 128)


# The last one: the lost worker does not come back, which would take seconds.
def test_a_worker_may_be_lost(image, expected, cluster, client, tmp_path):
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
    pids = client.run(os.getpid)
    killed = []

    def kill_one(event):
        if event.stage == "encode" and event.done >= 4 and not killed:
            killed.append(next(iter(pids.values())))
            os.kill(killed[0], getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no SIGKILL

    tree = built(image, tmp_path / "blocks", client, progress=kill_one)
    assert killed
    assert_same(tree, expected)
