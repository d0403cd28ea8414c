"""Networks of volumes: what holds for planes holds for them, along every axis."""

import threading
from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

import napari_aeseg as aeseg
from napari_aeseg.autoencoder import encoding, patch_moments, training_loop
from napari_aeseg.autoencoder import preview as preview_module
from napari_aeseg.autoencoder.architecture import Architecture, architecture_for, z_levels_for
from napari_aeseg.autoencoder.crops import CropSampler
from napari_aeseg.autoencoder.encoding import map_tiles
from napari_aeseg.autoencoder.model_file import read_header
from napari_aeseg.autoencoder.network import Autoencoder, channels_last, max_pool
from napari_aeseg.autoencoder.patch_moments import patch_moments_steps
from napari_aeseg.autoencoder.preview import TrainingPreviewer
from napari_aeseg.errors import InputError, ModelFileError
from napari_aeseg.images.intensity import read_image
from napari_aeseg.progress import drain

CPU = torch.device("cpu")
DECODERS = ["transposed", "unpooling"]
VOLUME = np.random.default_rng(0).random((16, 32, 29))


def covering(truth, labels):
    """Each truth region's best intersection over union, weighted by its size."""
    best = 0.0
    for region in np.unique(truth):
        inside = truth == region
        overlap = [
            (inside & (labels == k)).sum() / (inside | (labels == k)).sum()
            for k in np.unique(labels[inside])
        ]
        best += inside.mean() * max(overlap)
    return best


@pytest.fixture(scope="session")
def make_volume_model(make_model):
    """Return a function that makes an untrained model of volumes with fixed random weights."""

    def make(levels=2, decoder="transposed", z_levels=0, channels=1, **more):
        return make_model(channels, levels, 2, 1, decoder, dimensions=3, z_levels=z_levels, **more)

    return make


@pytest.fixture(scope="session")
def volume_params(tiny_params):
    """Training on volumes that takes a blink."""
    return tiny_params.updated(dimensions="3D", width=2, steps=8)


def grey_stripes(shape=(16, 32, 32)):
    """Half of the rows striped along Z, the other half along X."""
    z, y, x = np.indices(shape)
    along = np.where(y < shape[1] // 2, z, x) % 4 < 2
    return along + np.random.default_rng(0).normal(0, 0.1, shape)


# The network


@pytest.mark.parametrize(
    ("levels", "z_levels", "reduction", "cells"),
    [
        (3, 0, (8, 8, 8), [(1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 4, 4)]),
        (3, 2, (2, 8, 8), [(1, 1, 1), (1, 1, 1), (1, 2, 2), (1, 4, 4)]),
        (2, 2, (1, 4, 4), [(1, 1, 1), (1, 1, 1), (1, 2, 2)]),
    ],
)
def test_first_levels_leave_z_alone(levels, z_levels, reduction, cells):
    architecture = Architecture(1, levels, 2, 1, dimensions=3, z_levels=z_levels)
    assert architecture.total_stride == reduction
    assert [architecture.stride(level) for level in range(levels + 1)] == cells
    x = torch.zeros(1, 1, *(2 * n for n in reduction))
    with torch.no_grad():
        features = Autoencoder(architecture).encoder_features(x)
    for level, found in enumerate(features):
        expected = tuple(2 * n // c for n, c in zip(reduction, cells[level], strict=True))
        assert found.shape[2:] == expected


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("levels", "z_levels"), [(1, 0), (2, 0), (3, 1), (2, 2)])
def test_reconstruction_has_the_shape_of_the_volume(decoder, levels, z_levels):
    architecture = Architecture(2, levels, 2, 1, decoder, dimensions=3, z_levels=z_levels)
    volumes = torch.rand(
        2, 2, *(m * n for m, n in zip(architecture.total_stride, (1, 2, 3), strict=True))
    )
    with torch.no_grad():
        network = Autoencoder(architecture)
        assert network(volumes).shape == volumes.shape
        decoded, encoded = network.decoder_features(volumes), network.encoder_features(volumes)
    assert [d.shape[2:] for d in decoded] == [e.shape[2:] for e in encoded]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("z_levels", [0, 1, 2])
def test_a_voxel_beyond_reach_changes_nothing(make_volume_model, decoder, z_levels):
    network = make_volume_model(2, decoder, z_levels).network
    architecture = network.architecture
    sides = [
        2 * g * -(-(r + g) // g)
        for r, g in zip(
            architecture.receptive_radius(decoded=True), architecture.total_stride, strict=True
        )
    ]
    volume = torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(0))
    for offset in product(*(range(0, n, 3) for n in architecture.total_stride)):
        at = [n // 2 + o for n, o in zip(sides, offset, strict=True)]
        changed = volume.clone()
        changed[(0, 0, *at)] += 100
        for decoded in (False, True):
            features_of = network.decoder_features if decoded else network.encoder_features
            with torch.no_grad():
                for before, after in zip(features_of(volume), features_of(changed), strict=True):
                    differs = (before != after).any(1, keepdim=True).float()
                    grown = F.interpolate(differs, size=sides, mode="trilinear")[0, 0] > 0
                    places = grown.nonzero() - torch.tensor(at)
                    reached = places.abs().max(0).values.tolist()
                    reach = architecture.receptive_radius(decoded=decoded)
                    assert all(a <= b for a, b in zip(reached, reach, strict=True))


@pytest.mark.parametrize("window", [(2, 2, 2), (1, 2, 2)])
def test_max_pool_equals_that_of_torch_with_and_without_gradient(window):
    volumes = channels_last(torch.rand(2, 3, 4, 6, 10))
    expected = F.max_pool3d(volumes, window)
    assert torch.equal(max_pool(volumes, window), expected)
    with torch.no_grad():
        assert torch.equal(max_pool(volumes, window), expected)
        assert max_pool(volumes, window).is_contiguous(memory_format=torch.channels_last_3d)


def test_slices_are_independent_where_all_levels_leave_z_alone(make_volume_model):
    model = make_volume_model(z_levels=2)
    features = model.features(VOLUME, axes="ZYX", device="cpu")
    changed = VOLUME.copy()
    changed[8] = changed[8, ::-1]
    differs = (model.features(changed, axes="ZYX", device="cpu") != features).any(axis=(0, 2, 3))
    assert np.flatnonzero(differs).tolist() == [8]


@pytest.mark.parametrize(("ratio", "expected"), [(0.2, 0), (1.4, 0), (1.5, 1), (4, 2), (99, 3)])
def test_levels_that_leave_z_alone_are_those_of_the_voxels(ratio, expected):
    assert z_levels_for(ratio, 3) == expected


# Tiles


def encoded(model, volume, source, tile_size):
    """Features of each level at its own resolution, put together from tiles, and their number."""
    read = model.read(volume, "ZYX")
    levels = model.levels(None)
    out = {}
    tiles = list(map_tiles(model.network, lambda t: t, read.pixels, levels, source, CPU, tile_size))
    for tile in tiles:
        for level, features in tile.features.items():
            cell = model.architecture.stride(level)
            inner, keep = (
                tuple(slice(s.start // n, -(-s.stop // n)) for s, n in zip(part, cell, strict=True))
                for part in (tile.tile.inner, tile.tile.keep)
            )
            shape = [-(-n // c) for n, c in zip(volume.shape, cell, strict=True)]
            whole = out.setdefault(level, np.full((len(features), *shape), np.nan, np.float32))
            whole[(slice(None), *inner)] = features[(slice(None), *keep)].numpy()
    return out, len(tiles)


@pytest.mark.parametrize("source", ["encoder", "decoder"])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("z_levels", [0, 1, 3])
def test_features_of_tiles_are_those_of_the_whole_bit_for_bit(
    make_volume_model, source, decoder, z_levels
):
    model = make_volume_model(3, decoder, z_levels)
    whole, one = encoded(model, VOLUME, source, 2048)
    tiled, many = encoded(model, VOLUME, source, 64)
    assert one == 1
    assert many >= 4
    for level, features in whole.items():
        assert np.array_equal(tiled[level], features)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 2), (17, 5, 33)])
@pytest.mark.parametrize("decoder", DECODERS)
def test_any_size_has_features_a_reconstruction_and_an_error(make_volume_model, shape, decoder):
    model = make_volume_model(3, decoder, 1)
    volume = np.random.default_rng(0).random(shape)
    assert model.features(volume, axes="ZYX", device="cpu").shape == (2 + 4 + 8, *shape)
    rebuilt = model.reconstruct(volume, axes="ZYX", device="cpu")
    error = model.reconstruction_error(volume, axes="ZYX", device="cpu")
    assert rebuilt.shape == error.shape == shape
    read = model.read(volume, "ZYX")
    low, high = read.intensity.low[0], read.intensity.high[0]
    if high > low:
        expected = ((rebuilt - low) / (high - low) - read.pixels[0]) ** 2
        np.testing.assert_allclose(error, expected, atol=1e-4 * error.max())


def test_order_of_axes_does_not_matter_and_volumes_of_a_series_are_each_by_itself(
    make_volume_model,
):
    model = make_volume_model(channels=2)
    series = np.random.default_rng(0).random((2, 2, 9, 12, 11))
    found = model.features(series, axes="TCZYX", device="cpu")
    moved = model.features(np.moveaxis(series, 1, -1), axes="TZYXC", device="cpu")
    assert np.array_equal(found, moved)
    turned = model.features(series.swapaxes(2, 4), axes="TCXYZ", device="cpu")
    assert np.array_equal(found, turned.swapaxes(2, 4))
    changed = series.copy()
    changed[0, :, 4] = changed[0, :, 4, ::-1]
    differs = model.features(changed, axes="TCZYX", device="cpu") != found
    assert differs[:, 0].any()
    assert not differs[:, 1].any()


# Patches


def as_accelerator(monkeypatch):
    for module in (encoding, patch_moments):
        monkeypatch.setattr(module, "is_accelerator", lambda device: True)


def moments_of(model, patches, axes="ZYX", image=VOLUME, **options):
    work = patch_moments_steps(model, model.read(image, axes), patches, device="cpu", **options)
    return drain(work)


def random_patches(shape, number=300):
    """Patches of voxels anywhere: some without the centre of any coarse cell."""
    rng = np.random.default_rng(0)
    return rng.permutation(np.arange(np.prod(shape)) % number).reshape(shape)


def expected_moments(model, patches, level, source):
    """Mean and mean square per patch, the plain way; patches without a cell centre are NaN."""
    features, _ = encoded(model, VOLUME, source, 512)
    cell = model.architecture.stride(level)
    centres = [
        np.minimum(np.arange(-(-n // c)) * c + c // 2, n - 1)
        for n, c in zip(VOLUME.shape, cell, strict=True)
    ]
    ids = patches[np.ix_(*centres)]
    with np.errstate(invalid="ignore"):
        means = [
            np.stack(
                [
                    np.bincount(ids.ravel(), f.ravel() ** power, patches.max() + 1)
                    for f in features[level]
                ],
                1,
            )
            / np.bincount(ids.ravel(), minlength=patches.max() + 1)[:, np.newaxis]
            for power in (1, 2)
        ]
    return means


@pytest.mark.parametrize("source", ["encoder", "decoder"])
@pytest.mark.parametrize("z_levels", [0, 1])
@pytest.mark.parametrize(("tile_size", "accelerator"), [(64, False), (512, True)])
def test_a_cell_belongs_to_the_patch_at_its_centre(
    monkeypatch, make_volume_model, source, z_levels, tile_size, accelerator
):
    model, patches = make_volume_model(3, z_levels=z_levels), random_patches(VOLUME.shape)
    if accelerator:
        as_accelerator(monkeypatch)
    found = moments_of(model, patches, source=source, tile_size=tile_size)
    assert np.isfinite(found.mean).all()
    for level in range(4):
        of_level = found.level == level
        mean, second = expected_moments(model, patches, level, source)
        known = np.isfinite(mean[:, 0])
        assert known.any()
        assert (level < 3) or not known.all()
        scale = np.nanmax(second)
        for there, here in ((found.mean, mean), (found.second, second)):
            np.testing.assert_allclose(
                there[known][:, of_level], here[known], atol=1e-5 * max(scale, scale**0.5)
            )


@pytest.mark.parametrize(("shape", "axes"), [((16, 21, 35), "ZYX"), ((2, 5, 19, 33), "TZYX")])
def test_a_gpu_sums_as_the_cpu_does_in_any_tiles(monkeypatch, make_volume_model, shape, axes):
    model, patches = make_volume_model(3, z_levels=1), random_patches(shape, 700)
    image = np.random.default_rng(0).random(shape)
    expected = moments_of(model, patches, axes, image)
    others = [moments_of(model, patches, axes, image, tile_size=64)]
    as_accelerator(monkeypatch)
    others += [moments_of(model, patches, axes, image, tile_size=n) for n in (64, 512)]
    for found in others:
        for name in ("mean", "second"):
            there, here = getattr(found, name), getattr(expected, name)
            assert (np.abs(there - here) <= 1e-5 * np.abs(here).max(axis=0)).all()


# Training


def test_training_on_volumes_learns(volume_params):
    params = volume_params.updated(steps=60, width=4)
    model = aeseg.train(grey_stripes(), params, axes="ZYX", device="cpu")
    assert model.architecture.dimensions == 3
    assert np.mean(model.losses[-5:]) < 0.7 * np.mean(model.losses[:5])


@pytest.mark.parametrize(
    ("shape", "voxel_size", "dimensions", "expected"),
    [
        ((16, 32, 32), None, "auto", (2, 0)),
        ((16, 32, 32), (1, 1, 1), "auto", (3, 0)),
        ((15, 32, 32), None, "auto", (2, 0)),
        ((16, 32, 32), (2, 1, 1), "auto", (3, 1)),
        ((16, 32, 32), (1.5, 0.5, 0.5), "auto", (2, 0)),
        ((16, 32, 32), (1.5, 0.5, 0.5), "3D", (3, 2)),
        ((16, 32, 32), (1, 1, 1), "2D", (2, 0)),
        ((3, 32, 32), (1, 4, 1), "3D", (3, 0)),
    ],
)
def test_dimensions_are_those_asked_for_or_suit_the_volume(
    tiny_params, shape, voxel_size, dimensions, expected
):
    volume = read_image(np.random.default_rng(0).random(shape), "ZYX")
    found, _ = architecture_for(
        [volume], tiny_params.updated(dimensions=dimensions), voxel_size=voxel_size
    )
    assert (found.dimensions, found.z_levels) == expected


def test_one_plane_among_volumes_makes_auto_2d_and_is_refused_in_3d(tiny_params):
    images = [read_image(VOLUME, "ZYX", name="a"), read_image(VOLUME[0], "YX", name="b")]
    assert architecture_for(images, tiny_params)[0].dimensions == 2
    with pytest.raises(InputError, match=r"dimensions = '3D', but b has no slices"):
        architecture_for(images, tiny_params.updated(dimensions="3D"))


@pytest.mark.parametrize(
    ("voxel_size", "message"),
    [
        ((1, 1), "give 3 numbers, for Z, Y, X"),
        ((1, 0, 1), "above 0"),
        ((1, float("nan"), 1), "above 0"),
        (("a", 1, 1), "number above 0"),
        (2.0, "number above 0"),
    ],
)
def test_impossible_voxels_are_refused_before_training(volume_params, voxel_size, message):
    with pytest.raises(InputError, match=message):
        aeseg.train(VOLUME, volume_params, axes="ZYX", device="cpu", voxel_size=voxel_size)


def test_anisotropic_voxels_are_recorded_and_kept(volume_params, tmp_path):
    model = aeseg.train(VOLUME, volume_params, axes="ZYX", device="cpu", voxel_size=(2.0, 1.0, 1.0))
    assert model.architecture.z_levels == 1
    assert model.record.voxel_size == (2.0, 1.0, 1.0)
    assert model.record.notes == ()
    model.save(tmp_path / "m.aeseg.safetensors")
    loaded = aeseg.load_model(tmp_path / "m.aeseg.safetensors")
    assert loaded.record == model.record
    assert loaded.fingerprint == model.fingerprint
    assert loaded.architecture == model.architecture
    assert np.array_equal(
        loaded.features(VOLUME, axes="ZYX", device="cpu"),
        model.features(VOLUME, axes="ZYX", device="cpu"),
    )
    further = aeseg.train(
        VOLUME,
        volume_params.updated(steps=1),
        axes="ZYX",
        device="cpu",
        init=loaded,
        voxel_size=[8, 1, 1],
    )
    assert further.architecture.z_levels == 1
    assert any("made for voxels about 2 times as long" in note for note in further.record.notes)


def test_a_file_names_the_dimensions_of_a_model_of_volumes(make_volume_model, tmp_path):
    make_volume_model(z_levels=1).save(tmp_path / "deep")
    architecture = read_header(tmp_path / "deep")["architecture"]
    assert (architecture["dimensions"], architecture["z_levels"]) == (3, 1)


def test_weights_of_volumes_do_not_pass_for_those_of_planes(
    make_volume_model, tmp_path, monkeypatch
):
    model = make_volume_model()
    monkeypatch.setattr(
        Architecture,
        "as_dict",
        lambda self: {"channels": 1, "levels": 2, "width": 2, "convolutions": 1},
    )
    model.save(tmp_path / "odd")
    with pytest.raises(ModelFileError, match="do not fit its architecture"):
        aeseg.load_model(tmp_path / "odd")


@pytest.mark.parametrize(
    "odd",
    [
        {"dimensions": 4},
        {"dimensions": 2.0},
        {"z_levels": 3},
        {"z_levels": -1},
        {"z_levels": 1, "dimensions": 2},
    ],
)
def test_odd_dimensions_in_a_file_are_refused(make_volume_model, tmp_path, monkeypatch, odd):
    model = make_volume_model()
    values = model.architecture.as_dict() | odd
    monkeypatch.setattr(Architecture, "as_dict", lambda self: values)
    model.save(tmp_path / "odd")
    with pytest.raises(ModelFileError, match=next(iter(odd))):
        aeseg.load_model(tmp_path / "odd")


@pytest.mark.parametrize("decoder", DECODERS)
def test_resumed_training_is_that_of_one_that_never_stopped(
    monkeypatch, volume_params, tmp_path, decoder
):
    monkeypatch.setattr(training_loop, "_SECONDS_BETWEEN_EVENTS", 0)
    params = volume_params.updated(decoder=decoder)
    whole = aeseg.train(VOLUME, params, axes="ZYX", device="cpu", voxel_size=(2, 1, 1))
    stop = threading.Event()
    part = aeseg.train(
        VOLUME,
        params,
        axes="ZYX",
        device="cpu",
        voxel_size=(2, 1, 1),
        stop=stop,
        progress=lambda e: stop.set() if e.stage == "train" and e.done == 3 else None,
    )
    assert part.unfinished
    part.save(tmp_path / "part")
    further = aeseg.train(VOLUME, init=tmp_path / "part", resume=True, device="cpu")
    assert further.losses == whole.losses
    assert further.fingerprint == whole.fingerprint
    assert further.record.voxel_size == (2.0, 1.0, 1.0)


def test_resume_accepts_only_the_dimensions_that_were_chosen(monkeypatch, volume_params):
    monkeypatch.setattr(training_loop, "_SECONDS_BETWEEN_EVENTS", 0)
    stop = threading.Event()
    params = volume_params.updated(dimensions="auto")
    part = aeseg.train(
        VOLUME,
        params,
        axes="ZYX",
        device="cpu",
        voxel_size=(1, 1, 1),
        stop=stop,
        progress=lambda e: stop.set() if e.stage == "train" else None,
    )
    assert part.unfinished
    for named in ("auto", "3D"):
        model = aeseg.train(
            VOLUME,
            params.updated(dimensions=named),
            init=part,
            resume=True,
            device="cpu",
            voxel_size=(1, 1, 1),
        )
        assert model.architecture.dimensions == 3
    with pytest.raises(InputError, match="dimensions = '2D', not 'auto'"):
        aeseg.train(
            VOLUME,
            params.updated(dimensions="2D"),
            init=part,
            resume=True,
            device="cpu",
            voxel_size=(1, 1, 1),
        )


def test_a_model_to_start_from_has_to_suit_what_is_asked_for(
    volume_params, make_volume_model, make_model
):
    with pytest.raises(InputError, match=r"'3D', but the model to start from is 2D"):
        aeseg.train(VOLUME, volume_params, axes="ZYX", device="cpu", init=make_model())
    auto = volume_params.updated(dimensions="auto", steps=1)
    with pytest.raises(InputError, match=r"start from is 3D, but image 1 has no slices"):
        aeseg.train(VOLUME[0], auto, device="cpu", init=make_volume_model())
    kept = aeseg.train(VOLUME, auto, axes="ZYX", device="cpu", init=make_model())
    assert kept.architecture.dimensions == 2


def test_a_plane_is_no_image_for_a_model_of_volumes(make_volume_model):
    with pytest.raises(InputError, match=r"tissue has no slices.*trained on volumes"):
        make_volume_model().read(VOLUME[0], name="tissue")


def test_a_model_for_any_number_of_channels_takes_volumes_too(make_volume_model):
    model = make_volume_model(channels=3, any_channels=True)
    colour = np.repeat(VOLUME[..., np.newaxis], 3, -1)
    np.testing.assert_allclose(
        model.features(VOLUME, axes="ZYX", device="cpu"),
        model.features(colour, axes="ZYXC", device="cpu"),
        atol=1e-5,
    )


# Crops and previews


def drawn(volume, params, architecture, number=300):
    sampler = CropSampler([read_image(volume, "ZYX")], params, architecture)
    return sampler, sampler.draw(number, np.random.default_rng(0)).numpy()[:, 0]


def test_crops_have_the_same_physical_length_along_every_axis(volume_params):
    architecture = Architecture(1, 2, 2, dimensions=3, z_levels=1)
    sampler, crops = drawn(VOLUME, volume_params, architecture, 3)
    assert sampler.shape == (8, 16, 16)
    assert crops.shape == (3, 8, 16, 16)
    assert drawn(VOLUME[:3], volume_params, architecture, 2)[1].shape == (2, 4, 16, 16)


def test_a_step_looks_at_as_many_voxels_as_pixels_of_planes(volume_params):
    architecture = Architecture(1, 2, 2, dimensions=3)
    for batch_size, expected in ((64, 4), (17, 1), (1, 1)):
        sampler, _ = drawn(VOLUME, volume_params.updated(batch_size=batch_size), architecture, 1)
        assert sampler.batch_size == expected


@pytest.mark.parametrize(("z_levels", "depth", "ways"), [(0, 16, 48), (0, 12, 16), (1, 8, 16)])
def test_crops_are_turned_in_every_way_that_voxels_allow(volume_params, z_levels, depth, ways):
    volume = np.random.default_rng(0).random((depth, 16, 16))
    architecture = Architecture(1, 2, 2, dimensions=3, z_levels=z_levels)
    plain = read_image(volume, "ZYX").pixels[0]
    _, crops = drawn(volume, volume_params.updated(augment=False), architecture, 5)
    assert (crops == plain).all()
    _, crops = drawn(volume, volume_params, architecture, 1000)
    assert len({crop.tobytes() for crop in crops}) == ways
    assert all(
        np.array_equal(np.sort(crop, axis=None), np.sort(plain, axis=None)) for crop in crops
    )


def preview_of(model, volume, axes):
    return TrainingPreviewer(read_image(volume, axes), model.architecture).preview(model.network)


@pytest.mark.parametrize("shape", [(1, 5, 7), (9, 130, 7)])
def test_previews_show_the_middle_slice(make_volume_model, shape):
    model = make_volume_model(2)
    volume = np.random.default_rng(0).random((2, *shape))
    preview = TrainingPreviewer(read_image(volume, "TZYX"), model.architecture).preview(
        model.network
    )
    assert preview.axes == "YX"
    assert preview.offset == (1, shape[0] // 2, 0, 0)
    assert preview.pixels.shape == (min(shape[1], 128), shape[2])


def test_preview_shows_the_middle_of_a_large_volume(monkeypatch, make_volume_model):
    monkeypatch.setattr(preview_module, "_BLOCK", (36, 44, 40))
    model = make_volume_model(2, z_levels=1)
    volume = np.random.default_rng(0).random((50, 61, 60))
    preview = TrainingPreviewer(read_image(volume, "ZYX"), model.architecture).preview(
        model.network
    )
    assert preview.offset == (25, 8, 8)
    assert preview.pixels.shape == (44, 40)
    # Where nothing from beyond the block is seen, it is as in the whole.
    far = model.architecture.receptive_radius(decoded=True)[1]
    whole = model.reconstruct(volume, axes="ZYX", device="cpu")[25, 8:52, 8:48]
    seen = (slice(far, 44 - far), slice(far, 40 - far))
    assert whole[seen].size
    np.testing.assert_allclose(preview.pixels[seen], whole[seen], rtol=1e-4)
    assert not np.allclose(preview.pixels, whole, rtol=1e-4)


# What it is for


def slices_alike(seed):
    """A volume whose slices are all alike, but only on the left like those beside them."""
    noise = np.random.default_rng(seed).normal(size=(32, 48, 48))
    halves = [gaussian_filter(noise, (z, 0.7, 0.7), mode="wrap") for z in (2.0, 0.0)]
    truth = np.indices(noise.shape)[2] >= 24
    return np.where(truth, *(h / h.std() for h in reversed(halves))), truth.astype(np.int32)


@pytest.mark.parametrize(("dimensions", "tells"), [("3D", True), ("2D", False)])
def test_textures_that_differ_along_z_are_told_apart_in_3d_only(dimensions, tells):
    params = aeseg.TrainingParams(
        dimensions=dimensions, width=4, levels=2, crop_size=16, batch_size=32, steps=60
    )
    volume, truth = slices_alike(0)
    model = aeseg.train(volume, params, axes="ZYX", device="cpu")
    grid = aeseg.SegmentationParams(patches="grid")
    tree = aeseg.build_hierarchy(volume, model, grid, axes="ZYX", device="cpu")
    found = covering(truth, tree.regions(n_regions=2))
    assert found >= 0.9 if tells else found < 0.7
