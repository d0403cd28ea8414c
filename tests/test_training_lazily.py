"""Training on images that are not loaded."""

import threading

import dask.array as da
import numpy as np
import pytest
import zarr

import napari_aeseg as aeseg
from napari_aeseg import InputError, samples
from napari_aeseg import api as pipeline
from napari_aeseg.images import training_windows
from napari_aeseg.images.blocks import BlockImage
from napari_aeseg.images.training_windows import WindowSample, window_sample_steps
from napari_aeseg.io.images import open_file

BLOCKS = aeseg.BlockParams()


@pytest.fixture(scope="module")
def image():
    return samples.tissue()[:300, :360]


@pytest.fixture(autouse=True)
def small_samples(monkeypatch):
    """Fewer windows: filling 64 MB takes most of the time of a short training."""
    monkeypatch.setattr(training_windows, "_BYTES", 2**23)


def pool_of(image, **options):
    return pipeline.drain(
        window_sample_steps(BlockImage.of(image), **{"crop": 32, "seed": 1, **options})
    )


def same(a, b):
    return a.losses == b.losses and a.fingerprint == b.fingerprint


def test_windows_are_parts_of_the_image(image):
    pool = pool_of(image)
    scaled = BlockImage.of(image)
    whole = scaled.scaled(scaled.raw((slice(None), slice(None)))).pixels
    assert pool.pixels.shape[0] == 3
    assert pool.pixels.shape[2:] == (128, 128)
    assert pool.space_shape == (300, 360)
    views = np.lib.stride_tricks.sliding_window_view(whole[0], (128, 128))
    for window in pool.pixels[0, :3]:
        assert (views[:, :, ::50, ::50] == window[::50, ::50]).all(axis=(2, 3)).any()


def test_memory_is_bounded():
    huge = da.zeros((50_000, 60_000), chunks=4096, dtype=np.uint8)
    pool = pool_of(huge, crop=64)
    assert training_windows._BYTES / 2 < pool.pixels.nbytes <= training_windows._BYTES
    assert pool_of(huge, crop=64, images=64).pixels.nbytes <= 4 * 2**20


def test_the_same_seed_gives_the_same_model(image, tiny_params):
    lazy = da.from_array(image, chunks=(70, 90, 3))
    first, again, other = (
        aeseg.train(lazy, tiny_params.updated(seed=s), device="cpu", blocks=BLOCKS)
        for s in (1, 1, 2)
    )
    assert same(first, again)
    assert not same(first, other)
    assert first.record.images[0]["shape"] == [300, 360, 3]
    # It does not depend on how the image is kept.
    assert same(first, aeseg.train(image, tiny_params.updated(seed=1), device="cpu", blocks=BLOCKS))


def test_a_large_file_is_trained_on_without_being_loaded(tmp_path, tiny_params, monkeypatch):
    path = tmp_path / "a.zarr"
    stored = zarr.create_array(
        store=str(path), shape=(4096, 4096), chunks=(256, 256), dtype=np.uint8
    )
    stored[1000:1500] = np.random.default_rng(0).integers(0, 255, (500, 4096))
    opened, read = open_file(path).array, []
    get = type(opened).__getitem__
    monkeypatch.setattr(
        type(opened),
        "__getitem__",
        lambda self, index: read.append(get(self, index)) or read[-1],
    )
    model = aeseg.train(opened, tiny_params, device="cpu")
    assert model.record.images[0]["shape"] == [4096, 4096]
    assert 0 < max(part.size for part in read) <= 256**2


def test_resumed_training_equals_one_without_a_stop(image, tiny_params):
    params = tiny_params.updated(steps=6, seed=3)
    looks = []

    class Later:
        """Says stop at the third look after all is read."""

        def is_set(self):
            looks.extend([0] * bool(looks))
            return len(looks) > 3

    def progress(event):
        if event.stage == "read" and event.done == event.total > 1:
            looks.append(0)

    def train(**more):
        return aeseg.train(image, device="cpu", blocks=BLOCKS, **more)

    part = train(params=params, stop=Later(), progress=progress)
    assert part.unfinished
    assert same(train(init=part, resume=True), train(params=params))


@pytest.mark.parametrize("axes", ["YXC", "CYX", "XYC"])
def test_previews_are_those_of_an_image_in_memory(image, tiny_params, axes):
    moved = image.transpose([{"Y": 0, "X": 1, "C": 2}[a] for a in axes])
    model = aeseg.train(moved, tiny_params, axes, "cpu")
    from napari_aeseg.autoencoder.preview import TrainingPreviewer

    lazy = BlockImage.of(moved, axes)
    pool = pipeline.drain(window_sample_steps(lazy, 32, 0))
    whole = pipeline.read_image(moved, axes, lazy.intensity)
    a, b = (TrainingPreviewer(i, model.architecture).preview(model.network) for i in (pool, whole))
    assert (a.axes, a.offset) == (b.axes, b.offset)
    np.testing.assert_allclose(a.pixels, b.pixels, rtol=1e-5)


def test_previews_come_with_the_events(image, tiny_params):
    events = []
    aeseg.train(
        image, tiny_params, device="cpu", blocks=BLOCKS, preview_seconds=0, progress=events.append
    )
    assert events[-1].preview.pixels.shape == image.shape


def test_intensities_in_common(image, tiny_params):
    params = tiny_params.updated(normalisation="training")
    bright = image // 2 + 100
    model = aeseg.train([image, bright], params, device="cpu", blocks=BLOCKS)
    ranges = [BlockImage.of(i).intensity for i in (image, bright)]
    assert model.intensity.low == tuple(map(min, *(r.low for r in ranges)))
    assert model.intensity.high == tuple(map(max, *(r.high for r in ranges)))


def test_a_window_sample_counts_as_its_whole_image(image, tiny_params):
    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.autoencoder.crops import CropSampler
    from napari_aeseg.images.intensity import read_image

    noise = np.random.default_rng(0).integers(0, 99, (3000, 2000, 3), np.uint8)
    pool = pool_of(da.from_array(noise, chunks=500))
    assert isinstance(pool, WindowSample)
    planes = Architecture(3, levels=2)
    sampler = CropSampler([pool, read_image(image)], tiny_params, planes)
    assert sampler.probabilities[0] / sampler.probabilities[1] == pytest.approx(6e6 / (300 * 360))


def test_unreadable_parts_are_errors_or_skipped(image, tiny_params):
    bad = image.astype(float)
    bad[100:104] = np.nan
    with pytest.raises(InputError, match="NaN"):
        aeseg.train(bad, tiny_params, device="cpu", blocks=BLOCKS)
    skip = aeseg.BlockParams(unreadable="skip")
    assert aeseg.train(bad, tiny_params, device="cpu", blocks=skip).losses
    with pytest.raises(InputError, match="NaN"):
        aeseg.train(bad * np.nan, tiny_params, device="cpu", blocks=skip)


def test_it_stops_while_it_reads(image, tiny_params):
    stop = threading.Event()
    with pytest.raises(aeseg.StoppedError, match="read"):
        aeseg.train(
            image,
            tiny_params,
            device="cpu",
            blocks=BLOCKS,
            stop=stop,
            progress=lambda event: stop.set(),
        )


def test_images_that_differ_are_listed(image, tiny_params):
    grey = image[..., 0]
    params = tiny_params.updated(normalisation="training")
    with pytest.raises(InputError) as told:
        aeseg.train([image, grey, grey.astype(np.float32)], params, device="cpu")
    assert str(told.value).splitlines() == [
        "The images have different numbers of channels and dtypes: name the axes if they were "
        "misread and convert them to one, or train on them one by one.",
        "  image 1: shape (300, 360, 3), uint8, 3 channels (YXC)",
        "  image 2: shape (300, 360), uint8, 1 channel (YX)",
        "  image 3: shape (300, 360), float32, 1 channel (YX)",
    ]


def test_dtypes_may_differ_unless_intensities_are_in_common(image, tiny_params):
    grey = image[..., 0]
    mixed = [grey, grey.astype(np.float32)]
    assert aeseg.train(mixed, tiny_params, device="cpu").losses
    with pytest.raises(InputError, match="different dtypes"):
        aeseg.train(mixed, tiny_params.updated(normalisation="training"), device="cpu")


def test_large_images_are_streamed_as_2d_windows(tiny_params):
    volume = np.random.default_rng(0).integers(0, 255, (20, 64, 64), dtype=np.uint8)

    def train(dimensions, blocks=BLOCKS, init=None):
        return aeseg.train(
            volume, tiny_params.updated(dimensions=dimensions), "ZYX", "cpu", init,
            blocks=blocks, voxel_size=(1, 1, 1),
        )  # fmt: skip

    assert train("auto").architecture.dimensions == 2
    deep = train("auto", blocks=None)
    assert deep.architecture.dimensions == 3
    with pytest.raises(InputError, match="2D windows: choose dimensions = '2D'"):
        train("3D")
    with pytest.raises(InputError, match="model to start from is 3D, but image 1 is large"):
        train("auto", init=deep)


def test_ragged_stacks_are_refused(image, tiny_params):
    stack = [image[:10, :10, 0].tolist(), image[:12, :10, 0].tolist()]
    with pytest.raises(InputError, match=r"image 1 is a list .*\(10, 10\) and \(12, 10\)"):
        aeseg.train([stack], tiny_params, device="cpu")
    with pytest.raises(InputError, match=r"\(10, 10, 3\) and \(12, 10, 3\)"):
        aeseg.build_hierarchy([image[:10, :10], image[:12, :10]], "base", device="cpu")
