import inspect
import threading

import dask.array
import numpy as np
import pytest

import napari_aeseg as aeseg
from napari_aeseg import InputError, SegmentationParams, StoppedError, TrainingParams
from napari_aeseg import api as module

FINE = SegmentationParams(patch_size=4)


def train(images, params, **options):
    return aeseg.train(images, params, device="cpu", **options)


def build(image, model, params=FINE, **options):
    return aeseg.build_hierarchy(image, model, params, device="cpu", **options)


@pytest.fixture(scope="module")
def rgb_model(stripes, tiny_params):
    return train(np.stack([stripes, stripes[::-1], stripes[:, ::-1]], axis=-1), tiny_params)


# -- the contract


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            aeseg.train,
            {
                "images": inspect.Parameter.empty,
                "params": None,
                "axes": None,
                "device": "auto",
                "init": None,
                "progress": None,
                "stop": None,
            },
        ),
        (
            aeseg.build_hierarchy,
            {
                "image": inspect.Parameter.empty,
                "model": inspect.Parameter.empty,
                "params": None,
                "axes": None,
                "device": "auto",
                "progress": None,
                "stop": None,
            },
        ),
        (
            aeseg.segment,
            {
                "image": inspect.Parameter.empty,
                "model": None,
                "n_regions": None,
                "n_classes": None,
            },
        ),
        (aeseg.load_model, {"path": inspect.Parameter.empty}),
        (aeseg.Model.save, {"path": inspect.Parameter.empty}),
        (aeseg.Model.reconstruct, {"image": inspect.Parameter.empty}),
        (aeseg.Model.features, {"image": inspect.Parameter.empty, "levels": None}),
        (aeseg.Hierarchy.regions, {"n_regions": None, "threshold": None}),
        (aeseg.Hierarchy.classes, {"n_classes": 3, "prototypes": None}),
        (aeseg.Hierarchy.from_markers, {"markers": inspect.Parameter.empty}),
        (
            aeseg.Hierarchy.table,
            {
                "labels": inspect.Parameter.empty,
                "classes": None,
                "spacing": None,
                "unit": "pixel",
                "image": None,
                "pieces": False,
                "maps": inspect.Parameter.empty,
            },
        ),
        (aeseg.Hierarchy.suggest_n_regions, {}),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signature_is_that_of_the_design(function, parameters):
    found = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    }
    assert list(found) == list(parameters)
    assert found == parameters


def test_reweighted_takes_balance_and_scale():
    assert {"balance", "scale"} <= set(inspect.signature(aeseg.Hierarchy.reweighted).parameters)


def test_the_whole_workflow(stripes, tiny_params, tmp_path):
    model = train(stripes, tiny_params)
    model.save(tmp_path / "stripes.aeseg.safetensors")
    model = aeseg.load_model(tmp_path / "stripes.aeseg.safetensors")
    assert model.reconstruct(stripes).shape == stripes.shape
    assert model.features(stripes, levels=[1]).shape == (4, *stripes.shape)
    tree = build(stripes, model)
    tree = tree.reweighted(balance=1, scale=1)
    labels = tree.regions(n_regions=12)
    assert labels.shape == stripes.shape
    assert tree.table(labels)["index"].tolist() == list(range(1, 13))
    assert tree.regions(threshold=0.2).min() == 1
    assert tree.classes(n_classes=3).max() == 3
    assert 1 <= tree.suggest_n_regions() <= tree.n_patches


# -- segment


def test_segment_with_a_number_of_regions(stripes, model):
    labels = aeseg.segment(stripes, model, n_regions=5, params=FINE, device="cpu")
    assert np.array_equal(labels, build(stripes, model).regions(5))


def test_segment_with_a_number_of_classes(stripes, model):
    labels = aeseg.segment(stripes, model, n_classes=4, params=FINE, device="cpu")
    assert np.array_equal(labels, build(stripes, model).classes(4))
    assert len(np.unique(labels)) == 4


def test_segment_takes_the_suggested_number_by_itself(stripes, model):
    tree = build(stripes, model)
    labels = aeseg.segment(stripes, model, params=FINE, device="cpu")
    assert np.array_equal(labels, tree.regions(tree.suggest_n_regions()))


def test_segment_compares_patches_as_asked(stripes, model):
    comparison = aeseg.ComparisonParams(balance=0.0, scale=4.0)
    labels = aeseg.segment(
        stripes, model, n_regions=5, params=FINE, comparison=comparison, device="cpu"
    )
    assert np.array_equal(labels, build(stripes, model, comparison=comparison).regions(5))
    assert not np.array_equal(labels, build(stripes, model).regions(5))


def test_segment_trains_a_model_when_there_is_none(monkeypatch, stripes, tiny_params):
    monkeypatch.setattr(module, "TrainingParams", lambda: tiny_params)
    stages = []
    labels = aeseg.segment(
        stripes, n_regions=4, device="cpu", progress=lambda event: stages.append(event.stage)
    )
    assert labels.shape == stripes.shape
    assert labels.max() == 4
    assert {"train", "encode"} <= set(stages)


def test_segment_refuses_two_numbers_before_any_work(stripes):
    with pytest.raises(InputError, match="n_regions or n_classes, not both"):
        aeseg.segment(stripes, n_regions=2, n_classes=2)


def test_model_may_be_given_as_a_file(stripes, model, tmp_path):
    path = tmp_path / "m.aeseg.safetensors"
    model.save(path)
    expected = build(stripes, model).regions(5)
    assert np.array_equal(build(stripes, path).regions(5), expected)
    assert np.array_equal(build(stripes, str(path)).regions(5), expected)
    further = train(stripes, TrainingParams(steps=1, crop_size=16), init=path)
    assert further.architecture == model.architecture


# -- images


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "<i4", "f2", ">f8", "u8"])
def test_any_dtype_is_trained_on_and_segmented(stripes, tiny_params, dtype):
    image = (stripes > 100) if dtype == "?" else stripes.astype(dtype)
    image.flags.writeable = False
    labels = build(image, train(image, tiny_params.updated(steps=1))).regions(3)
    assert labels.shape == image.shape
    assert labels.max() == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda a: dask.array.from_array(a, chunks=16),
        np.asfortranarray,
        lambda a: a.astype(">i4"),
        lambda a: a.astype(float) * 20 + 1000,
    ],
    ids=["dask", "fortran", "big-endian", "brighter"],
)
def test_the_same_picture_gives_the_same_regions(stripes, model, change):
    assert np.array_equal(
        build(change(stripes), model).regions(6), build(stripes, model).regions(6)
    )


@pytest.mark.parametrize(
    ("axes", "order"), [("YXC", (0, 1, 2)), ("CYX", (2, 0, 1)), ("YCX", (0, 2, 1))]
)
def test_channels_may_lie_anywhere(stripes, rgb_model, axes, order):
    image = np.stack([stripes, stripes[::-1], stripes[:, ::-1]], axis=-1)
    tree = build(image.transpose(order), rgb_model, axes=axes)
    assert np.array_equal(tree.regions(6), build(image, rgb_model).regions(6))
    assert tree.axes.letters == axes
    assert not tree.axes.inferred
    means = [name for name in tree.table(tree.regions(2)) if name.startswith("mean_")]
    assert means == ["mean_1", "mean_2", "mean_3"]


def test_labels_lie_like_the_image_whatever_the_order_of_its_axes(stripes, model):
    turned = build(stripes.T, model, axes="XY")
    labels = turned.regions(6)
    assert labels.shape == stripes.T.shape
    expected = build(stripes, model)
    assert np.array_equal(labels, expected.regions(6).T)
    table, expected_table = turned.table(labels), expected.table(labels.T)
    assert table["centroid_x"].tolist() == expected_table["centroid_x"].tolist()


def test_inferred_axes_are_returned(stripes, tiny_params):
    image = np.stack([stripes, stripes.copy()])
    model = train(image, tiny_params)
    assert model.record.images[0]["axes"] == "CYX"
    assert build(image, model).axes.inferred
    assert "inferred" in str(build(image, model).axes)


def test_images_of_different_sizes_are_trained_on_together(stripes, tiny_params):
    images = [stripes, stripes[:20, :18].astype(float), dask.array.from_array(stripes[:5])]
    model = train(images, tiny_params)
    assert [i["shape"] for i in model.record.images] == [[48, 40], [20, 18], [5, 40]]
    assert train(tuple(images), tiny_params).fingerprint == model.fingerprint


def test_one_image_is_a_list_of_one(stripes, tiny_params):
    assert train(stripes, tiny_params).fingerprint == train([stripes], tiny_params).fingerprint


def test_range_of_all_training_images_is_kept_when_asked_for(stripes, tiny_params):
    params = tiny_params.updated(normalisation="training")
    dark, bright = stripes.astype(float), stripes + 300.0
    model = train([dark, bright], params)
    assert model.intensity.low[0] < 70
    assert model.intensity.high[0] > 430
    found = [model.features(image, [0], device="cpu") for image in (dark, bright)]
    assert found[0].max() < found[1].min()
    assert train([dark, bright], tiny_params).intensity is None


def test_statistics_of_patches_are_in_the_units_of_the_image(stripes, model):
    tree = build(stripes, model)
    for i in (0, 7):
        inside = tree.patches == i
        assert tree.statistics.intensity[i, 0] == pytest.approx(stripes[inside].mean())
        assert tree.statistics.count[i] == inside.sum()


def test_hierarchy_remembers_model_and_params(stripes, model):
    tree = build(stripes, model)
    assert tree.model_fingerprint == model.fingerprint
    assert tree.params == FINE
    assert tree.notes == ()


# -- each image is read once, and its axes are


class Counted:
    """An image that counts how often it is read."""

    ndim = 2

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, 0

    def __array__(self, dtype=None, copy=None):
        self.reads += 1
        return np.array(self.array, dtype)


@pytest.fixture
def axes_read(monkeypatch):
    """Shapes of which the axes were read."""
    from napari_aeseg.images import checks

    read, shapes = checks.read_axes, []

    def counted(shape, *arguments):
        shapes.append(shape)
        return read(shape, *arguments)

    monkeypatch.setattr(checks, "read_axes", counted)
    return shapes


@pytest.mark.parametrize("normalisation", ["image", "training"])
def test_training_reads_each_image_and_its_axes_once(
    stripes, tiny_params, axes_read, normalisation
):
    images = [Counted(stripes), Counted(stripes[:30])]
    train(images, tiny_params.updated(normalisation=normalisation))
    assert [image.reads for image in images] == [1, 1]
    assert axes_read == [(48, 40), (30, 40)]


@pytest.mark.parametrize("normalisation", ["image", "training"])
@pytest.mark.parametrize(
    "work",
    [
        build,
        lambda image, model: model.features(image, device="cpu"),
        lambda image, model: model.reconstruct(image, device="cpu"),
        lambda image, model: model.reconstruction_error(image, device="cpu"),
        lambda image, model: aeseg.segment(image, model, 4, device="cpu", voxel_size=(1, 1)),
    ],
    ids=["build_hierarchy", "features", "reconstruct", "error", "segment"],
)
def test_a_model_reads_an_image_and_its_axes_once(
    stripes, tiny_params, axes_read, normalisation, work
):
    model = train(stripes, tiny_params.updated(steps=1, normalisation=normalisation))
    image = Counted(stripes)
    axes_read.clear()
    work(image, model)
    assert image.reads == 1
    assert axes_read == [(48, 40)]


def test_segment_without_a_model_reads_the_image_once(monkeypatch, stripes, tiny_params):
    monkeypatch.setattr(module, "TrainingParams", lambda: tiny_params)
    image = Counted(stripes)
    assert aeseg.segment(image, n_regions=4, device="cpu").max() == 4
    assert image.reads == 1


# -- parameters


@pytest.mark.parametrize("change", [{"patches": "grid"}, {"patch_size": 8}])
def test_patches_are_those_of_the_params(stripes, model, change):
    assert not np.array_equal(
        build(stripes, model, FINE.updated(**change)).patches, build(stripes, model).patches
    )


@pytest.mark.parametrize(
    ("change", "levels"),
    [
        ({}, [0, 1, 2]),
        ({"levels": (1,)}, [1]),
        ({"levels": (2, 0)}, [0, 2]),
        ({"source": "decoder"}, [0, 1, 2]),
    ],
)
def test_features_are_those_of_the_params(stripes, model, change, levels):
    tree = build(stripes, model, FINE.updated(**change))
    assert sorted(set(tree.statistics.level.tolist())) == levels
    assert tree.regions(3).max() == 3


def test_encoder_and_decoder_describe_differently(stripes, model):
    encoder, decoder = (
        build(stripes, model, FINE.updated(source=s)).statistics.mean
        for s in ("encoder", "decoder")
    )
    assert encoder.shape != decoder.shape or not np.allclose(encoder, decoder)


def test_tiles_make_no_difference_to_the_hierarchy(model):
    image = np.random.default_rng(0).random((70, 100))
    whole, tiled = (build(image, model, FINE.updated(tile_size=n)) for n in (512, 32))
    assert np.array_equal(whole.patches, tiled.patches)
    assert np.array_equal(whole.statistics.mean, tiled.statistics.mean)
    assert np.array_equal(whole.tree.cost, tiled.tree.cost)


def test_unknown_level_is_refused_before_the_image_is_read(model):
    with pytest.raises(InputError, match=r"\[7\] are not in this model"):
        build(np.full((9, 10), np.nan), model, FINE.updated(levels=(7,)))


# -- events and stopping


def test_every_stage_reports_up_to_its_end(stripes, tiny_params):
    events = []
    model = train([stripes, stripes[:30]], tiny_params, progress=events.append)
    build(np.tile(stripes, (2, 2)), model, FINE.updated(tile_size=32), progress=events.append)
    last = {event.stage: event for event in events}
    assert list(dict.fromkeys(e.stage for e in events)) == [
        "read",
        "train",
        "patches",
        "encode",
        "graph",
        "tree",
    ]
    for stage, event in last.items():
        assert event.done == event.total, stage
    for stage in last:
        done = [e.done for e in events if e.stage == stage]
        if stage != "read":  # which there is one of for training and one for the hierarchy
            assert done == sorted(done)


class StopAt(threading.Event):
    """Asks to stop at the first event of a stage."""

    def __init__(self, stage):
        super().__init__()
        self.stage, self.seen = stage, []

    def __call__(self, event):
        self.seen.append(event.stage)
        if event.stage == self.stage:
            self.set()


@pytest.mark.parametrize("stage", ["read", "patches", "encode", "graph"])
def test_stop_is_checked_in_every_stage_of_the_hierarchy(stripes, model, stage):
    stop = StopAt(stage)
    with pytest.raises(StoppedError, match=f"'{stage}'"):
        build(stripes, model, progress=stop, stop=stop)
    assert stop.seen[-1] == stage


def test_stop_before_training_begins(stripes, tiny_params):
    for stage in (None, "read"):
        stop = StopAt(stage)
        if stage is None:
            stop.set()
        with pytest.raises(StoppedError):
            train(stripes, tiny_params, progress=stop, stop=stop)
        assert "train" not in stop.seen


def test_stop_while_training_keeps_the_model_so_far(stripes, tiny_params):
    stop = StopAt("train")
    model = train(stripes, tiny_params.updated(steps=100_000), progress=stop, stop=stop)
    assert 0 < model.record.steps < 100_000
    assert f"Stopped after {model.record.steps} of 100000 steps." in model.record.notes
    assert build(stripes, model).regions(2).max() == 2


def test_notes_of_a_fallback_are_kept(monkeypatch, stripes, model):
    from napari_aeseg.autoencoder import patch_moments

    map_tiles, failed = patch_moments.map_tiles, []

    def fails_once(*arguments):
        if not failed:
            failed.append(True)
            raise MemoryError
        return map_tiles(*arguments)

    monkeypatch.setattr(patch_moments, "map_tiles", fails_once)
    assert build(stripes, model).notes == ("cpu ran out of memory: going on with tiles of 192.",)


# -- input that cannot be used: each error names the value and the fix

BAD = [
    (np.zeros((0, 10)), None, [r"\(0, 10\)", "empty"]),
    (np.zeros((9, 10, 0)), None, [r"\(9, 10, 0\)", "empty"]),
    (np.zeros(10), None, [r"\(10,\)", "2 to 5"]),
    (np.array(3.0), None, [r"\(\)", "2 to 5"]),
    (np.eye(10, dtype=complex), None, ["complex", r"np\.abs"]),
    (np.eye(10).astype(object), None, ["object", "pass numbers"]),
    (np.where(np.eye(10), np.nan, 1), None, ["10 NaN", "nan_to_num"]),
    (np.where(np.eye(10), np.inf, 1), None, ["10 NaN or infinite", "nan_to_num"]),
    (np.eye(10), "YXC", ["'YXC'", r"\(10, 10\)", "'YX'"]),
    (np.eye(10), "XX", ["'XX'", "used once"]),
    (np.eye(10), "AB", ["'AB'", "T, C, Z, Y, X"]),
]


@pytest.mark.parametrize(("image", "axes", "words"), BAD, ids=lambda v: str(v)[:20])
def test_unusable_image_is_explained(tiny_params, model, image, axes, words):
    import re

    for work in (
        lambda: train(image, tiny_params, axes=axes),
        lambda: build(image, model, axes=axes),
        lambda: aeseg.segment(image, model, axes=axes, device="cpu"),
    ):
        with pytest.raises(InputError) as error:
            work()
        for word in words:
            assert re.search(word, str(error.value)), word


def test_the_bad_image_of_a_list_is_named(stripes, tiny_params):
    with pytest.raises(InputError, match="image 2 has 1 NaN"):
        train([stripes, np.where(np.arange(90).reshape(9, 10) == 3, np.nan, 1)], tiny_params)
    with pytest.raises(InputError, match="list is empty"):
        train([], tiny_params)


@pytest.mark.parametrize("value", [0, 7.5, True])
@pytest.mark.parametrize("shape", [(1, 1), (30, 30)])
def test_constant_image_cannot_be_learnt_from(tiny_params, shape, value):
    with pytest.raises(InputError, match=r"Nothing to learn from.*image 1"):
        train(np.full(shape, value), tiny_params)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 2), (30, 30)])
def test_constant_or_tiny_image_is_cut_by_a_model_learnt_elsewhere(model, shape):
    tree = build(np.full(shape, 7), model)
    assert tree.n_patches == max(1, round(shape[0] / 4)) * max(1, round(shape[1] / 4))
    assert tree.suggest_n_regions() == 1
    assert tree.regions(tree.n_patches).shape == shape
    assert tree.table(tree.regions(1))["area"].tolist() == [np.prod(shape)]
    assert tree.table(tree.regions(1))["mean_1"].tolist() == [7]


@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (12, 70)])
def test_image_smaller_than_a_crop_is_trained_on_and_cut(tiny_params, shape):
    image = np.random.default_rng(0).random(shape)
    params = tiny_params.updated(crop_size=64, steps=2)
    tree = build(image, train(image, params))
    assert tree.regions(tree.n_patches).max() == tree.n_patches


def test_channels_that_differ_are_explained(stripes, tiny_params, model, rgb_model):
    rgb = np.stack([stripes] * 3, axis=-1)
    with pytest.raises(InputError, match=r"3 channel.*YXC.*trained on 1.*train a model"):
        build(rgb, model)
    with pytest.raises(InputError, match=r"1 channel.*trained on 3"):
        build(stripes, rgb_model)
    with pytest.raises(InputError, match="different numbers of channels"):
        train([stripes, rgb], tiny_params)
    with pytest.raises(InputError, match="different numbers of channels"):
        train([stripes, rgb], tiny_params.updated(normalisation="training"))
    with pytest.raises(InputError, match=r"3 channel.*has 1; start without it"):
        train(rgb, tiny_params, init=model)


def test_device_that_is_not_there_is_explained(stripes, tiny_params, model):
    for work in (
        lambda: aeseg.train(stripes, tiny_params, device="cuda:99"),
        lambda: aeseg.build_hierarchy(stripes, model, device="cuda:99"),
    ):
        with pytest.raises(aeseg.DeviceError, match=r"'cuda:99'.*choose one of"):
            work()


def test_parameters_of_another_kind_are_refused_by_name():
    with pytest.raises(InputError, match=r"is not a TrainingParams. Give TrainingParams"):
        train(np.eye(32), params={"steps": 2})
    with pytest.raises(InputError, match=r"is not a TrainingParams. Give TrainingParams"):
        train(np.eye(32), params=SegmentationParams())


def test_record_has_the_network_that_was_built(tiny_params):
    first = train(np.eye(32), params=tiny_params)
    second = train(np.eye(32), params=tiny_params.updated(width=9), init=first)
    assert second.record.params["width"] == first.architecture.width == 4


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n_regions": 0}, "n_regions = 0: give a whole number of 1 or more"),
        ({"n_regions": 2.5}, "n_regions"),
        ({"n_classes": True}, "n_classes"),
        ({"params": {"patch_size": 4}}, "is not a SegmentationParams"),
    ],
)
def test_segment_refuses_wrong_values_before_it_trains(stripes, wrong, words):
    stages = []
    with pytest.raises(InputError, match=words):
        aeseg.segment(stripes, device="cpu", progress=stages.append, **wrong)
    assert not stages


def test_axes_for_another_number_of_images_are_refused(stripes, tiny_params):
    for axes in (["YX"], [], 7):
        with pytest.raises(InputError, match=r"one for each of the 2"):
            train([stripes, stripes], tiny_params, axes=axes)


def test_ragged_lists_are_refused_everywhere(model):
    for work in (
        lambda image: build(image, model),
        lambda image: aeseg.segment(image, model, voxel_size=(1, 1)),
        lambda image: model.features(image),
        lambda image: model.reconstruct(image),
    ):
        with pytest.raises(InputError, match="different shapes"):
            work([[1, 2], [3]])
